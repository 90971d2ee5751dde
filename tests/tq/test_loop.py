"""The loop: readiness, signals as events, and handlers that change what is listened to while they run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tq.loop import READ, WRITE, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    before = signal.getsignal(signal.SIGUSR1)
    one = Loop()
    yield one
    one.close()
    signal.signal(signal.SIGUSR1, before)


def test_what_was_not_read_is_offered_again_and_what_is_removed_is_not(loop: Loop) -> None:
    reader, writer = os.pipe()
    seen: list[int] = []
    loop.add(reader, seen.append)
    os.write(writer, b"x")
    loop.poll(1)
    loop.poll(1)
    assert seen == [READ, READ]
    loop.remove(reader)
    loop.remove(reader)  # unknown ones are ignored
    loop.poll(0)
    assert len(seen) == 2
    loop.add(writer, seen.append, WRITE)
    loop.poll(1)
    loop.change(writer, READ)
    loop.poll(0)
    assert seen[2:] == [WRITE]
    loop.remove(writer)
    os.close(reader)
    os.close(writer)


def test_a_handler_may_remove_another_that_is_ready_in_the_same_round(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    calls: list[int] = []

    def only_one(fd: int) -> None:
        calls.append(fd)
        for reader, _ in pipes:
            loop.remove(reader)

    for reader, writer in pipes:
        loop.add(reader, only_one)
        os.write(writer, b"x")
    loop.poll(1)
    loop.poll(0)
    assert len(calls) == 1
    for pair in pipes:
        for fd in pair:
            os.close(fd)


def test_a_signal_ends_the_sleep_and_is_handled_by_the_loop_not_in_the_middle_of_work(loop: Loop) -> None:
    told: list[str] = []
    loop.on_signal(signal.SIGUSR1, lambda: told.append("usr1"))
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0)  # the interpreter runs its own handler here; ours waits for the loop
    assert told == []
    began = time.monotonic()
    loop.poll(30)
    assert told == ["usr1"]
    assert time.monotonic() - began < 5


def test_a_flood_of_signals_wakes_and_never_blocks(loop: Loop) -> None:
    told: list[int] = []
    loop.on_signal(signal.SIGUSR1, lambda: told.append(1))
    for _ in range(100_000):
        signal.raise_signal(signal.SIGUSR1)
    while not told or len(told) < 256:
        loop.poll(1)
    for _ in range(400):
        loop.poll(0)
    count = len(told)
    loop.poll(0)
    assert len(told) == count


def test_a_time_that_is_past_does_not_sleep_and_none_is_for_ever(loop: Loop) -> None:
    began = time.monotonic()
    loop.poll(-5)
    loop.poll(0)
    loop.poll(0.02)
    assert time.monotonic() - began < 5
    reader, writer = os.pipe()
    loop.add(reader, lambda _: loop.remove(reader))
    os.write(writer, b"x")
    loop.poll(None)
    os.close(reader)
    os.close(writer)
