"""The README is true: every command and every line of Python in it runs, and prints what it says."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
OF_THE_CI = {
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/tq demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/python -m pytest -n 4 --dist worksteal",
}
"""These install and test the whole: `.ci/run` runs the second as it stands, and a wheel test does what the first does."""

pytestmark = [pytest.mark.flow, pytest.mark.slow]


def on_a_terminal(argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run``, with a terminal of its own for all three streams; what it showed, without its escapes."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    shown = bytearray()
    with subprocess.Popen(
        argv, cwd=ROOT, env={**env, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        deadline = time.monotonic() + 200
        try:
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                assert time.monotonic() < deadline, (argv, shown)
                if select.select([ours], [], [], 0.05)[0]:
                    shown += os.read(ours, 1 << 16)
        except OSError:  # the last of those who had it open is gone
            process.wait(20)
        finally:
            process.kill()
            os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown.decode(errors="replace"))
    return subprocess.CompletedProcess(argv, process.returncode, text, "")


@pytest.fixture
def shell(data_dir: Path, tq: Any) -> Callable[[list[str], str], subprocess.CompletedProcess[str]]:
    """Runs a text as a person would: on a terminal, in the instance of this test, from the checkout, with ``tq`` and ``python`` on PATH."""
    tools = data_dir / "bin"
    tools.mkdir()
    for name, command in (("tq", f'"{sys.executable}" -m tq "$@"'), ("python", f'"{sys.executable}" "$@"')):
        (tools / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (tools / name).chmod(0o700)
    instance = data_dir / "tq"
    env = unmeasured(TQ_DATA_DIR=str(instance), PATH=f"{tools}:{os.environ['PATH']}", TMPDIR=str(data_dir))

    def run(argv: list[str], text: str) -> subprocess.CompletedProcess[str]:
        return on_a_terminal([*argv, text], env)

    return run


def test_every_kind_of_block_in_the_readme_is_one_that_is_tested() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "text"}


@pytest.mark.timeout(300)
def test_every_command_of_the_readme_works_in_its_order(shell: Callable[..., subprocess.CompletedProcess[str]], data_dir: Path) -> None:
    ran = 0
    try:
        for kind, text in BLOCKS:
            if kind == "text":
                continue
            lines = [line for line in text.splitlines() if line not in OF_THE_CI]
            done = shell(["bash", "-euo", "pipefail", "-c"] if kind == "bash" else [sys.executable, "-c"], "\n".join(lines))
            assert done.returncode == 0, f"{text}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            at = 0
            for expected in re.findall(r"# → (.*)$", text, re.MULTILINE):
                at = done.stdout.find(expected, at)
                assert at >= 0, f"{text}\nexpected {expected!r} in\n{done.stdout}\n{done.stderr}"
            ran += len(lines)
    finally:
        shell(["bash", "-c"], "tq daemon stop --now")
    assert ran > 40


def test_the_two_commands_stand_at_the_top() -> None:
    first = [text.strip() for _, text in BLOCKS[:2]]
    assert set(first) == OF_THE_CI


def test_the_readmes_first_function_is_the_one_of_the_example() -> None:
    block = next(text for kind, text in BLOCKS if kind == "python")
    example = (ROOT / "examples" / "first_tasks.py").read_text("utf-8")
    assert block.partition("@tq.task")[2].strip() in example
