"""The process of a page: its command, and that it ends with its parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.living import unmeasured, wait_until
from tui.web import Look
from tui.web.child import command, main


@pytest.mark.parametrize("read_only", [True, False])
def test_the_command_has_the_instance_the_role_and_the_look(read_only: bool) -> None:
    *_, module, wish = command("/a place/'x", Look(theme="tq-mono", ascii=True), read_only=read_only)
    assert module == "tui.web.child"
    assert json.loads(wish) == {
        "data_dir": "/a place/'x", "parent": os.getpid(), "read_only": read_only,
        "look": {
            "theme": "tq-mono", "charts": None, "ascii": True, "color": True, "mouse": True, "reduce_motion": False, "demo": False,
        },
    }  # fmt: skip


def test_modules_of_the_current_directory_count_only_where_they_do_for_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "-P" in command("x", Look(), read_only=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "-P" not in command("x", Look(), read_only=True)


def test_one_whose_parent_has_gone_before_it_began_does_nothing() -> None:
    wish = json.dumps({"data_dir": "x", "parent": 1 if os.getppid() != 1 else 2, "read_only": True, "look": {}})
    code = f"import sys; from tui.web.child import main; sys.exit(main([{wish!r}]))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False, env=unmeasured()).returncode == 1


def test_one_whose_parent_is_killed_is_killed_with_it() -> None:
    child = "import os, sys, time; from tui.web.child import end_with; print(end_with(int(sys.argv[1])), flush=True); time.sleep(60)"
    parent = (
        "import os, subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]);"
        "print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True, env=unmeasured()) as one:
        assert one.stdout is not None
        words = {one.stdout.readline().strip(), one.stdout.readline().strip()}
        assert "True" in words
        (pid,) = words - {"True"}
        other = psutil.Process(int(pid))
        assert other.is_running()
        one.kill()
    wait_until(lambda: not other.is_running() or other.status() == psutil.STATUS_ZOMBIE, 10, "the child's end")


def test_settings_that_went_wrong_meanwhile_are_one_line_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    (tmp_path / "tq.toml").write_text("[monitor]\ntheme = 7\n")
    monkeypatch.setattr("tui.web.child.end_with", lambda parent: True)
    wish = json.dumps({"data_dir": str(tmp_path), "parent": 1, "read_only": True, "look": {}})
    assert main([wish]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "theme: expected a text, got 7" in err
