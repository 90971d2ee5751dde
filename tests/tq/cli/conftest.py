"""The command line in this process, against a daemon of paper.

For: tests of commands: ``run("list", "--json")`` gives (exit code, stdout, stderr).
Not for: the thin path as a process (test_fast), a real daemon (test_with_a_daemon).
Runs in: pytest.
Promises: no daemon is started.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tq.cli import app


@pytest.fixture
def run(data_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Typer's path in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("TQ_DATA_DIR", str(data_dir))
    monkeypatch.setenv("TQ_AUTOSTART", "0")

    def act(*argv: str) -> tuple[int, str, str]:
        code = app.main(argv)
        out, err = capfd.readouterr()
        return code, out, err

    return act
