"""The pager: the person's own, without a shell, and no end of the monitor."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.tui.jobs import ERROR, at_tasks, task
from tui.pager import command_of, show


def script(where: Path, text: str) -> Path:
    path = where / "my pager"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_pager_is_the_persons_or_a_usual_one(tmp_path: Path) -> None:
    assert command_of({"PAGER": "less -R '+G now'"}) == ["less", "-R", "+G now"]
    (tmp_path / "more").write_text("#!/bin/sh\n")
    (tmp_path / "more").chmod(0o755)
    assert command_of({"PAGER": " ", "PATH": str(tmp_path)}) == ["more"]
    for environ in ({"PATH": "/nowhere"}, {"PAGER": "less '"}):
        with pytest.raises(ValueError, match="PAGER"):
            command_of(environ)


def test_it_gets_all_of_the_text_and_may_leave_early_or_be_interrupted(tmp_path: Path) -> None:
    path = script(tmp_path, f'cat > {tmp_path}/out; kill -INT {os.getpid()}; echo "$A" > {tmp_path}/env')
    show("é\n" * 200_000, [str(path)], {"A": "b; c", "PATH": os.environ["PATH"]})
    assert (tmp_path / "out").read_text() == "é\n" * 200_000
    assert (tmp_path / "env").read_text() == "b; c\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    show("x" * 10_000_000, ["true"], {"PATH": os.environ["PATH"]})
    with pytest.raises(ValueError, match="no-such-pager: No such file"):
        show("x", ["no-such-pager"], {"PATH": os.environ["PATH"]})


@pytest.mark.asyncio
async def test_o_shows_the_pane_in_front_as_it_reads_there(where: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path, f"cat > {tmp_path}/out")
    evil = task(1, "failed", error={**ERROR, "message": "gone\x1b[2J\x9b31m\u202e"})
    environ = {"PAGER": f"'{path}'", "PATH": os.environ["PATH"]}
    async with at_tasks(where, [evil], environ=environ) as (monitor, _, _screen):
        await monitor.press("enter")
        await monitor.shows(1)
        assert "this terminal cannot be left for a pager" in await monitor.press("o")
        monkeypatch.setattr(monitor.app, "suspend", nullcontext)
        monitor.app.action_do("task.show", "trace")
        await monitor.shows(1)
        await monitor.press("o")
        shown = (tmp_path / "out").read_text()
        assert "TimeoutError: gone\\x1b[2J" in shown
        assert "hooks.py" in shown
        assert all(one.isprintable() or one == "\n" for one in shown)
        monitor.app.action_do("task.show", "result")
        await monitor.shows(1)
        await monitor.press("o")
        assert (tmp_path / "out").read_text().strip() == "null"
