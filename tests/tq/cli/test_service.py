"""``tq service``: the units as systemd reads them, what is asked of ``systemctl``, and machines without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tq.cli import service

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def units(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where units of a user go."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(data_dir.parent / f"{data_dir.name}.config"))
    yield data_dir.parent / f"{data_dir.name}.config" / "systemd" / "user"
    shutil.rmtree(data_dir.parent / f"{data_dir.name}.config", ignore_errors=True)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd, whose ``systemctl`` writes down what it was asked (``calls``) and answers what ``answer`` says."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n. {tmp_path}/answer\n')
    (tools / "systemctl").chmod(0o755)
    (tmp_path / "answer").write_text("")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(service, "BOOTED", tmp_path)
    monkeypatch.setattr(service, "LINGERING", tmp_path / "linger")
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "units")
    return tmp_path


def printed(out: str) -> dict[str, str]:
    """The units of a dry run, by their paths."""
    parts = re.split(r"^# (/.*\.(?:socket|service))\n", out, flags=re.MULTILINE)[1:]
    return {path: text[:-1] for path, text in zip(parts[::2], parts[1::2], strict=True)}


def test_a_dry_run_prints_both_units_and_changes_nothing(run: Run, data_dir: Path, units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQ_WORKERS", "3")
    monkeypatch.setenv("TQ_TASK_ID", "9")  # no setting
    code, out, err = run("service", "install", "--user", "--dry-run", "--app", "my tasks.py")
    assert (code, err) == (0, "")
    found = printed(out)
    assert list(found) == [f"{units}/tq.socket", f"{units}/tq.service"]
    sock, text = found.values()
    assert f"\nListenStream={data_dir}/tq.sock\n" in sock
    assert {"SocketMode=0600", "DirectoryMode=0700", "RemoveOnStop=yes", "WantedBy=sockets.target"} <= set(sock.splitlines())
    lines = text.splitlines()
    assert {"Type=notify", "NotifyAccess=main", "WatchdogSec=120", "KillMode=mixed", "Restart=on-failure", "Requires=tq.socket",
            "TimeoutStopSec=90", "OOMPolicy=continue", "WantedBy=default.target", 'Environment="TQ_WORKERS=3"',
            f"WorkingDirectory={os.getcwd()}"} <= set(lines)  # fmt: skip
    assert f'ExecStart={sys.executable} -m tq.daemon --data-dir {data_dir} --foreground --app "my tasks.py"' in lines
    assert "TASK_ID" not in text
    assert not units.exists()
    assert not list(data_dir.iterdir())


def test_a_system_unit_of_another_users_directory_runs_as_that_user(run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(data_dir, 1, 1)
    code, out, err = run("service", "install", "--system", "--dry-run")
    assert (code, err) == (0, "")
    sock, text = printed(out).values()
    assert "\nSocketUser=daemon\n" in sock
    assert "\nUser=daemon\n" in text
    assert "\nWantedBy=multi-user.target\n" in text
    assert run("service", "install", "--user", "--dry-run")[0] == 2  # and no unit of ours for it
    os.chown(data_dir, 0, 0)
    assert "User=" not in run("service", "install", "--system", "--dry-run")[1]


def test_odd_paths_and_words_reach_the_daemon_as_they_are(data_dir: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = data_dir / "a b%c$d'e"
    odd.mkdir(mode=0o700)
    monkeypatch.setenv("TQ_APP", 'x"y\\z%')
    sock, text = printed(run("--data-dir", str(odd), "service", "install", "--user", "--dry-run")[1]).values()
    assert f"ListenStream={data_dir}/a b%%c$d'e/tq.sock" in sock
    assert f'--data-dir "{data_dir}/a b%%c$$d\'e"' in text
    assert 'Environment="TQ_APP=x\\"y\\\\z%%"' in text
    code, _, err = run("--data-dir", f"{data_dir}/a\nb", "service", "install", "--user", "--dry-run")
    assert (code, "line breaks" in err) == (2, True)
    assert run("service", "install", "--name", "a/b", "--dry-run")[0] == 2
    assert run("service", "install", "--user", "--system", "--dry-run")[0] == 2


@pytest.mark.parametrize("scope", ["--user", "--system"])
def test_systemd_itself_finds_nothing_wrong_with_the_units(run: Run, data_dir: Path, scope: str, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("there is no systemd-analyze to ask; the text of the units is checked by the others")
    odd = data_dir / "a b%c"
    odd.mkdir(mode=0o700)
    found = printed(run("--data-dir", str(odd), "service", "install", scope, "--dry-run", "--app", "tasks of mine.py")[1])
    paths = [tmp_path / Path(path).name for path in found]
    for path, text in zip(paths, found.values(), strict=True):
        path.write_text(text)
    (tmp_path / "run").mkdir(mode=0o700)
    done = subprocess.run(
        [tool, "verify", *(["--user"] if scope == "--user" else []), *paths], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_without_systemd_nothing_is_written_and_the_error_says_what_does_the_same(
    run: Run, data_dir: Path, units: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(service, "BOOTED", tmp_path / "not there")
    code, out, err = run("service", "install", "--user")
    assert (code, out) == (69, "")
    assert "Nothing was written" in err
    assert "`tq daemon start`" in err
    assert f"@reboot {sys.executable} -m tq --data-dir {data_dir} daemon start" in err
    assert not units.exists()
    code, out, _ = run("service", "status", "--json")
    assert (code, json.loads(out)["installed"]) == (69, False)


def test_a_service_is_installed_shown_and_taken_away(run: Run, data_dir: Path, units: Path, systemd: Path) -> None:
    code, out, err = run("service", "install", "--user")
    assert (code, out) == (0, "")
    assert "journalctl --user -u tq" in err
    assert "loginctl enable-linger" in err
    assert (systemd / "calls").read_text().splitlines() == ["--user daemon-reload", "--user enable --now tq.socket tq.service"]
    assert sorted(path.name for path in units.iterdir()) == ["tq.service", "tq.socket"]
    assert (units / "tq.service").stat().st_mode & 0o777 == 0o644
    (systemd / "answer").write_text('case "$*" in *is-active*) echo inactive; exit 3;; *is-enabled*) echo enabled;; esac\n')
    code, out, _ = run("service", "status", "--json")
    found = json.loads(out)
    assert (code, found["scope"], found["enabled"], found["active"], found["daemon"]) == (69, "user", "enabled", "inactive", None)
    assert found["data_dir"] == str(data_dir)
    assert run("service", "install", "--user")[0] == 0  # again: the same
    code, _, err = run("service", "uninstall")
    assert (code, f"what is stored in {data_dir} stays" in err) == (0, True)
    assert "--user disable --now tq.socket tq.service" in (systemd / "calls").read_text()
    assert list(units.iterdir()) == []
    assert run("service", "uninstall")[0] == 2


def test_a_unit_of_somebody_else_is_left_alone(run: Run, data_dir: Path, units: Path, systemd: Path) -> None:
    units.mkdir(parents=True)
    (units / "tq.service").write_text("[Service]\nExecStart=/bin/true\n")
    for verb in ("install", "uninstall"):
        code, _, err = run("service", verb, "--user")
        assert (code, "expected a unit that `tq service install` wrote" in err) == (2, True)
    assert (units / "tq.service").read_text() == "[Service]\nExecStart=/bin/true\n"
    assert run("service", "install", "--user", "--name", "tq-mine")[0] == 0
    other = data_dir / "other"
    code, _, err = run("--data-dir", str(other), "service", "install", "--user", "--name", "tq-mine")
    assert (code, f"is for {data_dir}." in err) == (75, True)


def test_what_systemctl_cannot_do_is_said_in_its_own_words(run: Run, units: Path, systemd: Path) -> None:
    (systemd / "answer").write_text('echo "Failed to connect to bus: \\033[31mNo medium found" >&2; exit 1\n')
    code, _, err = run("service", "install", "--user")
    assert (code, "\x1b" in err, "Failed to connect to bus" in err) == (69, False, True)
    assert f"The units lie in {units}" in err


def test_a_daemon_that_was_started_by_hand_is_not_fought(run: Run, fake: Any, units: Path, systemd: Path) -> None:
    fake.verbs["status"] = lambda _: {"pid": 7}
    code, _, err = run("service", "install", "--user")
    assert (code, "Stop it first: tq daemon stop" in err) == (75, True)
    assert not units.exists()
    fake.verbs["status"] = lambda _: {"pid": 7, "supervised": True}
    assert run("service", "install", "--user")[0] == 0
    code, out, _ = run("service", "status")
    assert (code, '"pid": 7' in out) == (0, True)


def test_a_service_of_the_machine_is_roots(run: Run, systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = run("service", "install", "--system")
    assert (code, "expected root" in err) == (77, True)
