"""History: buckets hold what happened in them, whenever somebody looks; what is kept is bounded; the past outlives a daemon, or says so."""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq import history as module
from tq.history import COUNTS, KEPT, MAGIC, ROW, ROWS_MOST, STEPS, WHOLE, History, sealed
from tq.model import State
from tq.store import Tally
from tq.store.tally import bucket_of, bucket_top

START = 1_700_000_400  # a multiple of 600


class World:
    """Tallies, a history of them, and a clock in seconds: ``work`` is one turn."""

    def __init__(self, **bounds: int) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.second: float = START
        self.history = History(**bounds)
        self.turn()

    def turn(self) -> None:
        self.history.turn(int(self.second * 1000), lambda: list(self.tallies.values()))

    def of(self, queue: str = "q", kind: str = "t") -> Tally:
        return self.tallies.setdefault((queue, kind), Tally(queue, kind))

    def work(self, queue: str = "q", kind: str = "t", runs: tuple[int, ...] = (), **counts: int) -> None:
        """A turn in which ``counts`` were added to a tally, by its fields or by names of states, and runs of so many ms ended."""
        self.turn()
        tally = self.of(queue, kind)
        for name, count in counts.items():
            if hasattr(tally, name):
                setattr(tally, name, getattr(tally, name) + count)
            else:
                tally.states[State[name.upper()]] += count
        for ms in runs:
            tally.ran(ms)

    def at(self, seconds: float) -> World:
        self.second = START + seconds
        return self

    def series(self, step: int, limit: int, queue: str = WHOLE) -> dict[str, list[int | None]]:
        self.turn()
        return self.history.series(queue, step, limit, int(self.second * 1000))[1]

    def again(self, **bounds: int) -> World:
        """The next daemon, with what this one packs; its tallies count on, but for what came."""
        self.turn()
        data = sealed(self.history.packed(self.tallies.values()))
        later = World.__new__(World)
        later.tallies, later.second, later.history = self.tallies, self.second, History(**bounds)
        for tally in self.tallies.values():
            tally.added = 0
        later.history.restore(data)
        return later


def test_what_a_turn_did_counts_for_its_second_whenever_the_next_one_comes() -> None:
    world = World()
    world.at(3.9).work(added=5, pending=5)
    world.at(3.95).work(added=2, pending=2)
    found = world.at(3600.2).series(1, 3600)
    assert [at for at, count in enumerate(found["added"]) if count] == [3]
    assert found["added"][3] == 7
    assert found["pending"][2:] == [0] + [7] * 3597


def test_the_bucket_that_is_not_over_is_not_shown() -> None:
    world = World()
    world.at(9.0).work(added=1)
    assert world.at(9.9).series(10, 1)["added"] == [None]  # before the daemon
    assert world.at(10).series(10, 1)["added"] == [1]
    assert world.history.series(WHOLE, 10, 1, int(world.second * 1000))[0] == (START + 10) * 1000


@pytest.mark.parametrize("step", STEPS)
def test_every_step_counts_the_same_and_gauges_stand_as_at_the_end(step: int) -> None:
    world, rng = World(), random.Random(7)
    steps: dict[int, list[int]] = {}
    second, live = 0, 0
    for _ in range(300):
        second += rng.randrange(1, 9)
        came, ended = rng.randrange(5), rng.randrange(live + 1)
        live += came - ended
        world.at(second).work(added=came, succeeded=ended, pending=came - ended)
        bucket = steps.setdefault(second // step, [0, 0, 0])
        steps[second // step] = [bucket[0] + came, bucket[1] + ended, live]
    end = second // step
    found = world.at(second).series(step, end)
    kept = max(end - KEPT[step], 0)
    expected, stood = [], 0
    for at in range(end):
        came, ended, stood = steps.get(at, [0, 0, stood])
        expected.append((came, ended, stood))
    assert list(zip(found["added"], found["succeeded"], found["pending"], strict=True))[kept:] == expected[kept:]


def test_percentiles_are_of_the_runs_that_ended_in_the_bucket_alone() -> None:
    world = World()
    world.at(1).work(succeeded=3, runs=(1000, 1000, 1000))
    world.at(2).work(succeeded=100, runs=(10,) * 98 + (500, 5000))
    world.at(3).work(added=1)
    found = world.at(5).series(1, 4)
    top = [bucket_top(bucket_of(ms)) for ms in (10, 500, 1000, 5000)]
    assert (found["p50"], found["p95"]) == ([top[2], top[0], None, None], [top[2], top[0], None, None])
    assert found["p99"] == [top[2], top[1], None, None]
    assert world.at(10).series(10, 1)["p99"] == [top[2]]  # 103 runs, the 102nd


def test_the_whole_is_the_sum_of_its_queues() -> None:
    world = World()
    world.at(1).work("a", "x", added=1, running=1)
    world.work("a", "y", added=2, running=2)
    world.work("b", "x", added=4, failed=1, retried=8, retrying=4)
    world.of("b", "x").states[State.FAILED] += 1
    both = [world.at(2).series(1, 1, name) for name in ("a", "b", WHOLE)]
    for name in (*COUNTS, "running", "retrying", "dead"):
        a, b, whole = (one[name][0] for one in both)
        assert (a or 0) + (b or 0) == whole, name
    assert (both[0]["added"], both[1]["retried"], both[1]["dead"]) == ([3], [8], [1])


def test_a_tally_that_is_counted_anew_after_a_given_up_turn_takes_nothing_away() -> None:
    world = World()
    world.at(1).work(added=10)
    world.at(2).turn()
    world.of().added = 0  # the store was read again
    world.at(2).work(added=3)
    assert world.at(4).series(1, 3)["added"] == [10, 3, 0]


def test_nothing_is_known_of_before_the_first_turn_nor_of_a_queue_before_its_first_task() -> None:
    world = World()
    world.at(5).work("late", added=1)
    assert world.at(7).series(1, 9)["added"] == [None, None, 0, 0, 0, 0, 0, 1, 0]
    assert world.series(1, 3, "late")["added"] == [None, 1, 0]
    assert set(world.series(1, 3, "none")["added"]) == {None}
    assert ("late" in world.history, "none" in world.history) == (True, False)


def test_old_rows_go_and_what_stood_before_stays_known() -> None:
    world = World()
    world.at(0).work(added=9, pending=9)
    for second in range(1, 2000):
        world.at(second).work(added=1)
    line = world.history._lines["q"]
    assert len(line.grains[1]) <= KEPT[1] + 2
    assert world.at(2000).series(1, KEPT[1])["pending"] == [9] * KEPT[1]
    world.at(2_000_000).work(added=1)
    found = world.at(2_000_600).series(600, 3)
    assert (found["added"], found["pending"]) == ([0, 0, 1], [9, 9, 9])


def test_memory_is_bounded_whatever_there_is_and_the_whole_stays() -> None:
    world = World(rows_most=4000, queues_most=20)
    for second in range(1200):
        for queue in range(15):
            world.at(second).work(f"q{queue}", added=1)
        world.work(f"other{second % 300}", added=1)
        assert world.history._rows == sum(len(grain) for line in world.history._lines.values() for grain in line.grains.values())
    assert world.history._rows <= 4000
    assert len(world.history._lines) == 21
    assert world.at(1200).series(10, 119)["added"] == [160] * 119
    assert world.series(1, 20, "q3")["added"] == [1] * 20
    assert ROWS_MOST * ROW.size <= 12_000_000


def test_a_queue_gives_way_to_another_only_when_it_is_quiet() -> None:
    world = World(queues_most=2)
    for second in range(1, 5):
        world.at(second)
        for queue in ("a", "b", "c"):
            world.work(queue, added=1)
    assert [name for name in ("a", "b", "c") if name in world.history] == ["a", "b"]
    for second in range(5, 8):
        world.at(second).work("b", added=1)
        world.work("c", added=1)
    world.turn()
    assert [name for name in ("a", "b", "c") if name in world.history] == ["b", "c"]
    assert world.at(9).series(1, 1)["added"] == [0]


def test_the_next_daemon_goes_on_from_the_minutes_and_the_time_between_is_a_gap() -> None:
    world = World()
    for minute in range(30):
        world.at(60 * minute + 5).work(added=minute, pending=1, succeeded=1, runs=(100,))
    later = world.at(1800).again()
    later.at(3600).work(added=4, pending=4)
    found = later.at(3720).series(60, 62)
    assert found["added"] == [*range(30), 0, *[None] * 29, 4, 0]
    assert found["pending"] == [*range(1, 31), 30, *[None] * 29, 34, 34]
    assert found["p50"][:30] == [bucket_top(bucket_of(100))] * 30
    assert later.series(600, 6)["added"] == [sum(range(at, at + 10)) for at in (0, 10, 20)] + [0, None, None]
    assert set(later.series(1, 600)["added"][:400]) == {None}


def test_a_bucket_in_which_the_daemon_was_replaced_has_what_both_counted() -> None:
    world = World()
    world.at(61).work(added=2, pending=2)
    later = world.at(62).again().at(70)
    later.work(added=3, pending=3)
    twice = later.at(80).again().at(90)
    twice.work(added=5, pending=5)
    found = twice.at(120).series(60, 2)
    assert (found["added"], found["pending"]) == ([0, 10], [0, 10])


def test_a_daemon_that_is_there_again_within_the_same_second_loses_nothing() -> None:
    world = World()
    world.at(61).work(added=2, pending=2, failed=1)
    later = world.at(61.2).again().at(61.4)
    later.work(added=3, pending=3)
    found = later.at(120).series(60, 1)
    assert (found["added"], found["pending"], found["failed"]) == ([5], [5], [1])


def test_packing_changes_nothing_of_what_is_shown() -> None:
    world, same = World(), World()
    for second in range(1, 400, 3):
        for one in (world, same):
            one.at(second).work(added=second % 5, running=1)
        world.history.packed(world.tallies.values())
    for one in (world, same):
        one.at(400)
    assert [world.series(step, 40) for step in STEPS] == [same.series(step, 40) for step in STEPS]


def test_a_queue_that_is_gone_stands_at_zero_with_the_next_daemon() -> None:
    world = World()
    world.at(1).work("gone", added=3, pending=3)
    later = world.at(60).again()
    later.tallies = {}
    found = later.at(120).series(60, 2, "gone")
    assert later.at(240).series(60, 1, "gone")["pending"] == [0]
    assert found["added"] == [3, 0]


def test_a_clock_that_is_put_back_takes_what_came_after_with_it() -> None:
    world = World()
    for second in range(100):
        world.at(second).work(added=1)
    world.at(50).work(added=7)
    found = world.at(60).series(1, 20)
    assert found["added"] == [1] * 10 + [9] + [0] * 9  # what second 99 had counts for the one to which it was put back
    assert len(world.history._lines["q"].grains[1]) <= 52


@pytest.mark.parametrize("harm", ["cut", "flip", "foreign", "older", "empty", "body", "rows"])
def test_what_is_damaged_or_foreign_is_left_out_whole(harm: str) -> None:
    world = World()
    world.at(1).work(added=3)
    body = world.history.packed(world.tallies.values())
    data = bytearray(sealed(body))
    if harm == "flip":
        data[-5] ^= 1
    harmed: dict[str, Any] = {
        "cut": data[:-1], "flip": data, "foreign": b"\x7fELF" + data, "older": data.replace(b"history 1", b"history 0"), "empty": b"",
        "body": sealed(b"\xc1"), "rows": sealed(module.msgpack.packb([[[1, 2]], [["", b"xyz", b"", b"", b""]]])),
    }  # fmt: skip
    later = History()
    with pytest.raises(ValueError, match=r"^(it|its) "):
        later.restore(bytes(harmed[harm]))
    later.turn(START * 1000, list)
    assert later.series(WHOLE, 60, 5, START * 1000)[1]["added"] == [None] * 5


def test_a_file_that_would_swell_is_not_swallowed() -> None:
    small = zlib.compress(bytes(64 << 20), 9)
    data = MAGIC + zlib.crc32(small).to_bytes(4, "little") + small
    with pytest.raises(ValueError, match="cannot be read"):
        History().restore(data)


def test_lives_of_daemons_that_are_told_apart_are_bounded() -> None:
    world = World()
    for life in range(1, module.RUNS_MOST + 50):
        world = world.at(life * 5).again()
        world.turn()
    assert len(world.history._runs) == module.RUNS_MOST
    assert world.at(life * 5 + 2).series(1, 1)["added"] == [0]


def test_lately_counts_this_minute_and_those_before_it() -> None:
    world = World()
    for minute in range(20):
        world.at(60 * minute + 30).work(succeeded=1, failed=2, retried=3)
    world.turn()
    world.second += 1
    world.turn()
    now = int(world.second * 1000)
    assert world.history.lately("q", 10, now) == [0, 11, 22, 33]
    assert world.history.lately(WHOLE, 60, now) == [0, 20, 40, 60]
    assert world.history.lately("none", 10, now) == [0, 0, 0, 0]


def test_a_quiet_second_costs_no_row_and_looks_at_no_tally() -> None:
    world = World()
    world.at(1).work(added=1)
    world.at(2).turn()
    before = {name: [len(grain) for grain in line.grains.values()] for name, line in world.history._lines.items()}
    for second in range(3, 100):
        world.at(second).turn()
    world.at(99.5)
    world.history.turn(int(world.second * 1000), lambda: pytest.fail("nothing is looked at within a second"))
    assert {name: [len(grain) for grain in line.grains.values()] for name, line in world.history._lines.items()} == before


# the verb


def test_the_verb_shows_what_the_broker_did_of_all_and_of_a_queue(d: Driver) -> None:
    d.turn()
    d.now += 1000 - d.now % 1000
    began = d.now
    d.ask("enqueue", tasks=[["t", b"", {"queue": "mail"}]] * 3 + [["t", b"", None]])
    d.ask("enqueue", tasks=[["t", b"", {"queue": "mail", "delay_ms": 60_000}]])
    d.now += 2000
    body = d.ask("history", step_s=1, limit=2, queue="mail")
    assert (body["step_s"], body["until"]) == (1, began + 2000)
    assert (body["series"]["added"], body["series"]["pending"], body["series"]["scheduled"]) == ([4, 0], [3, 3], [1, 1])
    assert list(body["series"]) == [*COUNTS, *module.GAUGES, *module.TIMES]
    assert d.ask("history", step_s=1, limit=2)["series"]["added"] == [5, 0]
    assert d.ask("history", step_s=1, limit=1, until=began + 1999)["series"]["added"] == [5]
    assert d.ask("history", step_s=1, limit=1, until=1 << 60)["until"] == began + 2000
    assert len(d.ask("history", step_s=600)["series"]["p99"]) == 720


def test_the_verb_refuses_what_it_does_not_have(d: Driver) -> None:
    for args, words in (
        ({}, "step_s"), ({"step_s": 5}, "1, 10, 60, 600"), ({"step_s": 1, "limit": 721}, "720"), ({"step_s": 1, "limit": 0}, "720"),
        ({"step_s": 1, "queue": "nobody"}, "expected one that there is"), ({"step_s": 1, "until": -1}, "until"),
    ):  # fmt: skip
        code, message = d.refusal("history", **args)
        assert code == "usage"
        assert words in message
    d.ask("set_queue", name="new")
    assert set(d.ask("history", step_s=1, queue="new", limit=3)["series"]["added"]) == {None}


def test_a_turn_that_is_given_up_counts_nothing_and_the_next_ones_count(d: Driver) -> None:
    d.ask("enqueue", tasks=[["t", b"", None]] * 5)
    d.now += 1000
    before = d.submit("enqueue", tasks=[["t", b"", None]] * 2)
    d.refusal("enqueue", tasks=[["t", b"", {"key": "k"}], ["t", b"x", {"key": "k"}]])
    assert d.answer(before)
    d.now += 1000
    d.ask("enqueue", tasks=[["t", b"", None]])
    d.now += 1000
    found = d.ask("history", step_s=1, limit=3)["series"]
    assert (found["added"], found["pending"]) == ([5, 2, 1], [5, 7, 8])
