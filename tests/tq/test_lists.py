"""Lists under way: few are read at once whoever asks, connections take turns, and too many are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tq import wire
from tq.errors import Refused
from tq.lists import AT_ONCE, MOST, Lists
from tq.model import Header, Spec, State, Status, Task
from tq.query import from_options
from tq.waiting import Request

EVERYTHING = from_options()
TASK = Task(Spec(1, Header("t", "q"), b"", 0), Status(State.PENDING))


class Counting:
    """Takes so many tasks."""

    def __init__(self, enough: int) -> None:
        self.left = enough

    def take(self, task: Task, cursor: bytes) -> bool:
        self.left -= 1
        return not self.left

    def body(self) -> dict[str, object]:
        return {}


class Slices:
    """A list from a store that says when it is first read; a pause after each task."""

    begun: list[tuple[int, int]]

    def __init__(self) -> None:
        self.begun = []
        self.seconds = 0.0

    def clock(self) -> float:
        self.seconds += 0.001
        return self.seconds

    def found(self, conn: int, number: int) -> Iterator[tuple[Task, bytes] | None]:
        self.begun.append((conn, number))
        while True:
            yield TASK, b""
            yield None


def test_few_are_read_at_once_and_connections_take_turns() -> None:
    slices = Slices()
    lists = Lists(slices.clock)
    for conn, count in ((1, 60), (2, 1), (3, 2)):
        for number in range(count):
            lists.add(Request(conn, number, "find", {}), slices.found(conn, number), EVERYTHING, Counting(20))
    answers: list[tuple[int, int]] = []
    for _ in range(10_000):
        answers += [(conn, wire.message(data[4:])[0]) for conn, data in lists.read_on(0.002, 0)]
        assert len(slices.begun) - len(answers) <= AT_ONCE
        if not lists:
            break
    assert not lists
    assert sorted(answers) == sorted(slices.begun)
    assert len(answers) == 63
    assert {(2, 0), (3, 0), (3, 1)} <= {*slices.begun[:6]}  # they did not wait for the sixty


def test_who_is_gone_is_forgotten_whether_its_lists_have_begun_or_not() -> None:
    slices = Slices()
    lists = Lists(slices.clock)
    for number in range(2 * AT_ONCE):
        for conn in (1, 2):
            lists.add(Request(conn, number, "find", {}), slices.found(conn, number), EVERYTHING, Counting(3))
    assert list(lists.read_on(0.002, 0)) == []
    assert lists.holds(1)
    lists.gone(1)
    assert not lists.holds(1)
    while lists:
        assert {conn for conn, _ in lists.read_on(0.002, 0)} <= {2}
    assert not lists.holds(2)


def test_too_many_are_refused_even_if_they_are_asked_for_in_one_turn() -> None:
    slices = Slices()
    lists = Lists(slices.clock)
    for _ in range(MOST):
        lists.check()
    with pytest.raises(Refused, match=f"at most {MOST}"):
        lists.check()  # each of them is added at the turn's end
    assert list(lists.read_on(0.002, 0)) == []  # but the turn came to nothing
    for number in range(MOST):
        lists.check()
        lists.add(Request(1, number, "find", {}), slices.found(1, number), EVERYTHING, Counting(3))
        assert list(lists.read_on(0.0, 0)) == []
    with pytest.raises(Refused):
        lists.check()
