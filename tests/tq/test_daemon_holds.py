"""Queues that are held: what is read comes from the test, probes are real children, the broker is a real one on both stores."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.living import wait_until
from tests.tq.broker_driver import Driver
from tq.daemon.holds import EACH_MS, LIMIT_MS, Holds, Reading, read
from tq.loop import Loop

GIB = 1 << 30


class House:
    """A daemon's loop around a broker: ``round`` is one turn of it, ``run`` lets time pass as it would sleep."""

    def __init__(self, d: Driver, place: Path) -> None:
        self.d = d
        self.ticks = 1_000_000
        self.load: float | None = 0.5
        self.memory: int | None = 8 * GIB
        self.readings = 0
        self.loop = Loop()
        self.holds = Holds(self.loop, d.broker, d.store, place, {"PATH": os.environ["PATH"]}, self._sight)

    def _sight(self) -> Reading:
        self.readings += 1
        return Reading(self.load, self.memory)

    def let_pass(self, ms: int) -> None:
        self.ticks += ms
        self.d.now += ms

    def round(self, ms: int = 0) -> list[int]:
        """Time passes, and then comes one turn, in which a worker wants tasks; the ids of those it gets."""
        self.let_pass(ms)
        self.loop.poll(0)
        self.holds.look(self.ticks, self.d.now)
        return [task.id for task in self.d.grant(9)]

    def rounds(self, ms: int = 0) -> list[int]:
        """The same, until there is nothing to do at once."""
        got = self.round(ms)
        while (self.holds.due_at or 1e9) <= self.ticks or self.d.turns[-1].busy:
            got += self.round()
        return got

    def run(self, ms: int) -> int:
        """So much time passes; how often the loop turned."""
        end, turns = self.ticks + ms, 0
        while self.ticks < end and turns < 1000:
            self.round()
            turns += 1
            due = end if self.holds.due_at is None else min(self.holds.due_at, end)
            if not self.d.turns[-1].busy:
                self.let_pass(max(int(due) - self.ticks, 0))
        return turns

    def until(self, condition: Callable[[], object], within_s: float = 10.0) -> None:
        """Turn, while no time passes by the clock of the loop, until something is so."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline
            self.loop.poll(0.05)
            self.holds.look(self.ticks, self.d.now)

    def known(self) -> None:
        """What the probe of the queue q says is known."""
        self.until(lambda: "q" not in self.held or self.held["q"].rules)

    @property
    def held(self) -> Any:
        return self.d.broker.desk.held

    def why(self, queue: str = "q") -> str:
        return str(self.held[queue].why)

    def set(self, **settings: Any) -> None:
        self.d.ask("set_queue", name="q", **settings)
        self.holds.look(self.ticks, self.d.now)

    def events(self) -> list[tuple[str, str]]:
        """Oldest first."""
        self.d.turn()
        found = [(one.what, one.after["why"]) for one in self.d.store.events(None, 99) if one.what in ("held", "let_go") and one.after]
        return found[::-1]


@pytest.fixture
def house(d: Driver, tmp_path: Path) -> Iterator[House]:
    (tmp_path / "run").mkdir()
    one = House(d, tmp_path)
    yield one
    one.holds.close()
    one.loop.close()


# -- load and memory ---------------------------------------------------------------------------------------------------


def test_nothing_of_a_queue_starts_while_the_load_is_its_limit_or_more(house: House, d: Driver) -> None:
    house.set(hold_load=4)
    house.load = 4.0
    held, other = d.add(2, queue="q"), d.add(1, queue="other")
    assert house.rounds() == other
    assert house.why() == "the load is 4.00, it starts below 4"
    assert house.rounds(EACH_MS) == []
    house.load = 3.99
    assert house.rounds(EACH_MS - 1) == []
    assert house.rounds(1) == held


def test_nothing_of_a_queue_starts_while_less_memory_is_available_than_it_wants(house: House, d: Driver) -> None:
    house.set(hold_memory=2 * GIB)
    house.memory = 2 * GIB - 1
    held = d.add(2, queue="q")
    assert house.rounds() == []
    assert house.why() == "the memory available is 2.0 GiB, it starts from 2.0 GiB on"
    house.memory = 2 * GIB
    assert house.rounds(EACH_MS) == held


def test_both_are_told_if_both_hold_and_what_cannot_be_read_holds(house: House, d: Driver) -> None:
    house.set(hold_load=2.5, hold_memory=500 << 20)
    house.load, house.memory = 7.256, 100 << 20
    d.add(queue="q")
    house.rounds()
    assert house.held["q"].rules == ("load", "memory")
    assert house.why() == "the load is 7.26, it starts below 2.5; the memory available is 100.0 MiB, it starts from 500.0 MiB on"
    house.load, house.memory = None, None
    house.rounds(EACH_MS)
    assert house.why() == "the load cannot be read; the memory cannot be read"
    house.load, house.memory = 1.0, None
    house.rounds(EACH_MS)
    assert (house.held["q"].rules, house.why()) == (("memory",), "the memory cannot be read")


def test_the_first_task_waits_for_one_look_and_no_longer(house: House, d: Driver) -> None:
    house.set(hold_load=4)
    (task,) = d.add(queue="q")
    assert house.holds.due_at is not None
    assert house.holds.due_at <= house.ticks
    assert house.round() == [task]
    assert house.readings == 1
    more = d.add(3, queue="q")  # within a second what was seen counts
    assert house.round(EACH_MS - 1) == more
    assert house.readings == 1
    (late,) = d.add(queue="q", delay_ms=10 * EACH_MS)
    assert house.round(10 * EACH_MS) == []  # what was seen is too old: it is looked at before what came due is given out
    house.load = 9.0
    assert house.rounds() == []
    assert d.states(late) == ["pending"]


def test_it_is_looked_at_once_a_second_and_never_unless_a_task_could_start(house: House, d: Driver) -> None:
    house.set(hold_load=4)
    assert house.run(60_000) <= 3
    assert (house.readings, house.holds.due_at) == (0, None)
    house.load = 9.0
    d.add(5, queue="q")
    turns = house.run(60_000)
    assert 59 <= house.readings <= 61
    assert turns <= house.readings + 3  # a held queue with ready tasks keeps no loop busy
    before = house.readings
    d.ask("set_queue", name="q", paused=True)
    assert house.run(60_000) <= 3
    d.ask("set_queue", name="q", paused=False, slots=1)
    house.load = 0.0
    assert len(house.rounds(EACH_MS)) == 1
    assert house.run(60_000) <= 3  # its slot is taken
    assert house.readings == before + 1


def test_an_idle_daemon_is_not_woken_by_a_rule(house: House, d: Driver) -> None:
    house.set(hold_load=4, hold_memory=1, hold_probe="true")
    (task,) = d.add(queue="q")
    house.until(lambda: "q" not in house.held)
    assert house.rounds() == [task]
    assert house.holds.due_at is None


def test_a_rule_holds_from_the_turn_on_in_which_it_is_set(house: House, d: Driver) -> None:
    house.load = 9.0
    d.add(queue="q")
    d.submit("set_queue", name="q", hold_load=4)
    assert d.grant(9) == []
    assert d.store.queues()["q"].hold_load == 4.0
    assert house.rounds() == []
    assert house.why() == "the load is 9.00, it starts below 4"


def test_a_rule_whose_turn_is_lost_holds_nothing(house: House, d: Driver) -> None:
    (task,) = d.add(queue="q")
    d.broker.desk.holds_changed("q")  # as a verb does whose turn is then aborted
    assert d.grant(9) == []
    assert house.rounds() == [task]


def test_a_queue_without_rules_any_more_is_let_go_at_once(house: House, d: Driver) -> None:
    house.set(hold_load=4)
    house.load = 9.0
    (task,) = d.add(queue="q")
    assert house.rounds() == []
    d.ask("set_queue", name="q", unset=["hold_load"])
    assert house.holds.due_at is not None
    assert house.holds.due_at <= house.ticks  # no matter when it would have been looked at
    assert house.rounds() == [task]
    assert house.held == {}
    assert house.holds.due_at is None
    assert house.events() == [("held", "the load is 9.00, it starts below 4"), ("let_go", "it has no rule any more")]


def test_becoming_held_and_being_let_go_are_one_event_each_however_often_it_is_looked_at(house: House, d: Driver) -> None:
    house.set(hold_load=4)
    house.load = 5.0
    (first,) = d.add(queue="q")
    for load in (5.0, 6.0, 5.0):
        house.load = load
        house.rounds(EACH_MS)
    d.ask("cancel", ids=[first])
    house.run(10 * EACH_MS)  # nobody waits, so nobody looks
    (second,) = d.add(queue="q")
    house.rounds(EACH_MS)
    assert house.events() == [("held", "the load is 5.00, it starts below 4")]
    house.load = 1.0
    assert house.rounds(EACH_MS) == [second]
    house.rounds(EACH_MS)
    assert house.events()[1:] == [("let_go", "the load is 1.00, it starts below 4")]


def test_what_holds_when_the_daemon_starts_is_known_before_the_first_task_is_given_out(house: House, d: Driver, tmp_path: Path) -> None:
    house.set(hold_load=4)
    (task,) = d.add(queue="q")
    d.reopen()
    again = House(d, tmp_path)
    again.load = 5.0
    assert again.rounds() == []
    again.load = 1.0
    assert again.rounds(EACH_MS) == [task]
    again.holds.close()
    again.loop.close()


# -- what others see ---------------------------------------------------------------------------------------------------


def test_held_tasks_start_no_workers(house: House, d: Driver) -> None:
    house.set(hold_load=4)
    house.load = 9.0
    d.add(3, queue="q")
    d.add(2, queue="other")
    house.holds.look(house.ticks, d.now)
    assert d.broker.backlog({"t"}) == 2
    house.load = 1.0
    house.let_pass(EACH_MS)
    house.holds.look(house.ticks, d.now)
    assert d.broker.backlog({"t"}) == 5


def test_a_consumer_that_waits_is_held_too_and_served_when_the_queue_is_let_go(house: House, d: Driver) -> None:
    house.set(hold_load=4, external=True)
    house.load = 9.0
    (task,) = d.add(queue="q")
    asked = d.submit("claim", queues=["q"], wait_ms=60_000)
    house.rounds()
    assert d.answer(asked) is None
    house.load = 1.0
    house.rounds(EACH_MS)
    assert [row["id"] for row in d.answer(asked)["tasks"]] == [task]
    house.run(10 * EACH_MS)
    asked = d.submit("claim", queues=["q"], wait_ms=60_000)
    house.rounds()
    (task,) = d.add(queue="q")
    assert d.answer(asked) is None
    house.rounds()  # it is looked at for the first time, and nothing holds it
    assert [row["id"] for row in d.answer(asked)["tasks"]] == [task]


def test_why_and_the_list_of_queues_say_what_holds_it_and_when_that_was_seen(house: House, d: Driver) -> None:
    house.set(hold_load=4)
    house.load = 9.0
    (task,) = d.add(queue="q")
    house.rounds()
    house.let_pass(700)
    hold = {"rules": ["load"], "why": "the load is 9.00, it starts below 4", "age_ms": 700}
    reasons = dict(d.ask("why", id=task)["reasons"])
    assert reasons["queue_held"] == {"queue": "q", **hold}
    assert "estimate_ms" not in reasons["place"]
    (row,) = [row for row in d.ask("queues")["queues"] if row["name"] == "q"]
    assert (row["held"], row["hold_load"]) == (hold, 4.0)
    d.ask("set_queue", name="q", paused=True)
    house.rounds(EACH_MS)
    assert list(dict(d.ask("why", id=task)["reasons"])) == ["queue_paused", "no_workers", "place"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hold_load": 0}, "hold_load: expected a load average above 0"),
        ({"hold_load": -1.5}, "hold_load: expected a load average above 0"),
        ({"hold_load": float("nan")}, "hold_load: expected a load average above 0 and at most 100000, such as 4, got nan"),
        ({"hold_load": float("inf")}, "hold_load: expected a load average above 0"),
        ({"hold_load": True}, "hold_load: expected float, got True"),
        ({"hold_load": "4"}, "hold_load: expected float, got '4'"),
        ({"hold_memory": 0}, "hold_memory: expected a number from 1"),
        ({"hold_memory": 1.5}, "hold_memory: expected int, got 1.5"),
        ({"hold_every_ms": 99}, "hold_every_ms: expected a number from 100"),
        ({"hold_probe": ""}, "hold_probe: expected a line for /bin/sh of 1 to 4096 bytes, got ''"),
        ({"hold_probe": "é" * 2049}, "hold_probe: expected a line for /bin/sh of 1 to 4096 bytes"),
        ({"hold_probe": "true\0"}, "hold_probe: expected a line for /bin/sh"),
        ({"hold_probe": b"true"}, "hold_probe: expected str"),
    ],
)
def test_rules_that_make_no_sense_are_refused(house: House, d: Driver, settings: dict[str, Any], says: str) -> None:
    code, message = d.refusal("set_queue", name="q", **settings)
    assert code == "usage"
    assert says in message
    assert "q" not in d.store.queues()


# -- probes ------------------------------------------------------------------------------------------------------------


def test_a_probe_is_run_while_tasks_wait_and_its_exit_code_decides(house: House, d: Driver, tmp_path: Path) -> None:
    go = tmp_path / "go"
    line = 'test "$TQ_QUEUE" = q && test -e "$TQ_DATA_DIR/go" && test "$PWD" -ef "$TQ_DATA_DIR" || exit 3'
    house.set(hold_probe=line, hold_every_ms=5000)
    tasks = d.add(2, queue="q")
    assert house.round() == []
    assert house.why() == "its probe has not answered yet"
    assert house.holds.due_at == house.ticks + LIMIT_MS
    house.known()
    assert (house.held["q"].rules, house.why()) == (("probe",), "its probe says no (exit code 3)")
    go.touch()
    assert house.holds.due_at == house.ticks + 5000
    assert house.rounds(4999) == []
    house.round(1)
    assert house.why() == "its probe says no (exit code 3)"  # until it has answered again
    house.until(lambda: "q" not in house.held)
    assert house.rounds() == tasks
    assert house.events() == [("held", "its probe says no (exit code 3)"), ("let_go", "its probe says go")]


def test_no_probe_runs_unless_a_task_could_start(house: House, d: Driver, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    house.set(hold_probe=f"echo x >> {ran}", hold_every_ms=100)
    house.run(10_000)
    d.ask("set_queue", name="q", paused=True)
    tasks = d.add(2, queue="q")
    house.run(10_000)
    assert not ran.exists()
    d.ask("set_queue", name="q", paused=False)
    house.until(lambda: "q" not in house.held)
    assert house.rounds() == tasks
    house.run(10_000)
    assert ran.read_text() == "x\n"


def test_an_answer_for_which_nobody_has_waited_since_it_became_old_counts_no_more(house: House, d: Driver, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    house.set(hold_probe="test -e go", hold_every_ms=1000)
    (first,) = d.add(queue="q")
    house.until(lambda: "q" not in house.held)
    assert house.rounds() == [first]
    (second,) = d.add(queue="q")
    assert house.rounds(999) == [second]  # it is young enough
    go.unlink()
    house.round(5000)
    (third,) = d.add(queue="q")
    assert house.rounds() == []
    house.known()
    assert house.why() == "its probe says no (exit code 1)"
    assert d.states(third) == ["pending"]


def children(place: Path) -> list[psutil.Process]:
    """Living processes whose directory is this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(place):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_probe_that_does_not_end_is_killed_at_its_limit_with_all_that_it_started(house: House, d: Driver, tmp_path: Path) -> None:
    house.set(hold_probe="sleep 300 & sleep 300; true")
    d.add(queue="q")
    house.rounds()
    wait_until(lambda: len(children(tmp_path)) == 3)
    assert house.rounds(LIMIT_MS - 1) == []
    assert house.why() == "its probe has not answered yet"
    house.round(1)
    assert house.why() == "its probe did not end within 10 s"
    wait_until(lambda: not children(tmp_path))
    house.until(lambda: house.holds.due_at == house.ticks + 10_000)  # it was reaped: the next one may come
    house.round(10_000)
    wait_until(lambda: len(children(tmp_path)) == 3)


def test_what_a_probe_leaves_behind_is_killed_when_it_has_answered(house: House, d: Driver, tmp_path: Path) -> None:
    house.set(hold_probe="sleep 300 & exit 0")
    (task,) = d.add(queue="q")
    house.until(lambda: "q" not in house.held)
    wait_until(lambda: not children(tmp_path))
    assert house.rounds() == [task]


def test_a_probe_that_dies_or_cannot_be_found_or_started_holds(house: House, d: Driver, tmp_path: Path) -> None:
    house.set(hold_probe="kill -9 $$")
    d.add(queue="q")
    house.rounds()
    house.known()
    assert house.why() == "its probe was ended by signal 9"
    house.set(hold_probe="/nowhere/at/all")
    house.rounds()
    house.known()
    assert house.why() == "its probe says no (exit code 127)"
    lost = House(d, tmp_path / "nowhere")
    lost.rounds()
    assert lost.why().startswith("its probe cannot be started: [Errno 2] No such file or directory")
    assert lost.holds.due_at == lost.ticks + 10_000
    large = House(d, tmp_path)
    large.holds._environ["X"] = "x" * (1 << 22)
    large.rounds()
    assert os.strerror(errno.E2BIG) in large.why()
    assert large.holds._board is not None
    assert large.holds._board.commands() == []
    large.holds.close()
    large.loop.close()
    lost.loop.close()


def test_another_probe_takes_the_place_of_one_that_runs(house: House, d: Driver, tmp_path: Path) -> None:
    house.set(hold_probe="sleep 300")
    (task,) = d.add(queue="q")
    house.rounds()
    wait_until(lambda: children(tmp_path))
    house.set(hold_probe="exit 0")
    house.until(lambda: "q" not in house.held)
    assert house.rounds() == [task]
    wait_until(lambda: not children(tmp_path))
    assert house.holds.due_at is None
    assert house.events() == []


def test_no_probe_runs_while_the_load_holds_and_none_is_believed_from_before(house: House, d: Driver, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    house.set(hold_load=4, hold_probe=f"echo x >> {ran}")
    d.ask("set_queue", name="q", slots=1)
    first, second = d.add(2, queue="q")
    house.load = 9.0
    house.run(30_000)
    assert not ran.exists()
    house.load = 1.0
    assert house.round(EACH_MS) == []
    house.until(lambda: "q" not in house.held)
    assert house.rounds() == [first]
    assert ran.read_text() == "x\n"
    house.load = 9.0
    house.let_pass(EACH_MS)
    d.ask("set_queue", name="q", slots=0)
    house.run(10_000)
    house.load = 1.0
    assert house.round(EACH_MS) == []
    house.until(lambda: "q" not in house.held)
    assert house.rounds() == [second]
    assert ran.read_text() == "x\nx\n"


def test_a_probe_runs_no_more_often_than_it_may_however_the_load_moves_and_tasks_come(house: House, d: Driver, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    house.set(hold_load=4, hold_probe=f"echo x >> {ran}")
    got = []
    for at in range(60):  # a minute, with a task each second that starts at once or waits for the load
        d.add(queue="q")
        house.load = 9.0 if at % 3 == 1 else 1.0
        got += house.rounds(1000)
        house.until(lambda: not house.held or house.held["q"].rules)
        got += house.rounds()
    assert got == list(range(1, 61))
    assert len(ran.read_text().splitlines()) in (6, 7)


def test_the_end_kills_probes_and_begins_no_others(house: House, d: Driver, tmp_path: Path) -> None:
    house.set(hold_probe="sleep 300")
    d.add(queue="q")
    house.rounds()
    wait_until(lambda: children(tmp_path))
    house.holds.stop()
    wait_until(lambda: not children(tmp_path))
    house.run(30_000)
    assert not children(tmp_path)
    assert house.holds.due_at is None
    house.holds.close()


def test_the_end_reaps_a_probe_that_runs(house: House, d: Driver, tmp_path: Path) -> None:
    house.set(hold_probe="sleep 300")
    d.add(queue="q")
    house.rounds()
    wait_until(lambda: children(tmp_path))
    house.holds.close()
    assert not [one for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE]
    assert not list((tmp_path / "run").iterdir())
    wait_until(lambda: not children(tmp_path))


def test_the_kernel_is_read() -> None:
    load, memory = read()
    assert load is not None
    assert load >= 0
    assert memory is not None
    assert abs(memory - psutil.virtual_memory().available) < 4 * GIB
