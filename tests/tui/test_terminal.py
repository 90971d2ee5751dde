"""The terminal below the monitor: what is typed arrives, and one that is gone ends it."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from textual.app import App

from tui.app import MonitorApp
from tui.terminal import GONE, Output, TerminalDriver

WITHIN_S = 20.0


class Listener(App[int]):
    """Says which keys came."""

    def __init__(self) -> None:
        super().__init__(driver_class=TerminalDriver)
        self.keys: list[str] = []
        self.came = asyncio.Event()

    def on_key(self, event: Any) -> None:
        self.keys.append(event.key)
        self.came.set()

    async def heard(self, *keys: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while self.keys != list(keys):
                self.came.clear()
                await self.came.wait()


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The end of a terminal at which a person sits; the other is this process's own. Empty it to close it."""
    outer, inner = pty.openpty()
    ends = [outer]
    with open(inner, "rb", 0, closefd=False) as given, open(inner, "w", encoding="utf-8", closefd=False) as shown:
        monkeypatch.setattr(sys, "__stdin__", given)
        monkeypatch.setattr(sys, "__stderr__", shown)
        yield ends
    os.close(inner)
    for end in ends:
        os.close(end)


@pytest.mark.asyncio
async def test_what_is_typed_arrives_also_an_escape_that_stands_for_itself(ours: list[int]) -> None:
    app = Listener()
    running = asyncio.create_task(app.run_async())
    os.write(ours[0], b"a")
    await app.heard("a")
    os.write(ours[0], b"\x1b")
    await app.heard("a", "escape")
    os.write(ours[0], "ö\x1b[A".encode())
    await app.heard("a", "escape", "ö", "up")
    app.exit(3)
    assert await running == 3


@pytest.mark.asyncio
async def test_a_terminal_that_closes_ends_the_application_with_a_code(ours: list[int]) -> None:
    app = Listener()
    running = asyncio.create_task(app.run_async())
    os.write(ours[0], b"a")
    await app.heard("a")
    os.close(ours.pop())
    async with asyncio.timeout(WITHIN_S):
        assert await running == GONE


@pytest.mark.asyncio
async def test_output_that_cannot_be_written_is_told_once_and_then_dropped() -> None:
    reads, writes = os.pipe()
    told: list[str] = []
    file: Any = SimpleNamespace(fileno=lambda: writes, encoding="ascii")
    output = Output(file, lambda: told.append("gone"))
    output.write("one ")
    output.write("✓")
    output.flush()
    assert os.read(reads, 100) == b"one \\u2713"
    os.close(reads)
    for _ in range(100):
        output.write("two")
        output.flush()
    assert told == ["gone"]
    os.close(writes)


def test_the_monitor_uses_it_on_a_terminal_and_not_in_a_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    assert MonitorApp(str(tmp_path), environ={}).driver_class is TerminalDriver
    monkeypatch.setattr("textual.constants.DRIVER", "textual.drivers.web_driver:WebDriver")
    assert MonitorApp(str(tmp_path), environ={}).driver_class is not TerminalDriver
