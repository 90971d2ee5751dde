"""The pool with real workers: who is fed, what a death means, and that what was not begun is never charged."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tq.board import SIZE, STARTING, Board
from tq.child import Child
from tq.environment import environment_of
from tq.errors import StoreDamaged
from tq.loop import Loop
from tq.model import SHELL, Header, Spec, error_in, pack
from tq.pool import LOOKAHEAD, SLOW_MS, STALL_MS, Means, Pool
from tq.pool.costs import COMMAND_MS, OVERHEAD_MS, Costs
from tq.pool.crew import HELLO_MS
from tq.store import Claimed, Want

NAP = f"4243.{os.getpid()}"
"""Seconds, by which the sleepers of this process's tests are told from any other."""
APP = """
import os, signal, subprocess, time
import tq

@tq.task
def quick(value=None):
    return value

@tq.task
def slow(seconds):
    time.sleep(seconds)
    return "slept"

@tq.task
def gate(path):
    while not os.path.exists(path): time.sleep(0.005)

@tq.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)

@tq.task
def leave_a_child(seconds):
    subprocess.Popen(["sleep", "NAP"])
    time.sleep(seconds)

@tq.task
def boom():
    raise ValueError("no")
""".replace("NAP", NAP)
Until = Callable[..., Any]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Yard:
    """A pool and its loop; ``rows`` are the results that came, by task."""

    def __init__(
        self, folder: Path, workers: int = 1, slots: int = 1, app: str = APP, grace_ms: int = 200, most: int = 0, **rest: Any
    ) -> None:
        (folder / "logs").mkdir(exist_ok=True)
        (folder / "app.py").write_text(app)
        told = {
            "data_dir": str(folder), "app": str(folder / "app.py"), "slots": slots, "log_limit": 1 << 20, "result_limit": 1 << 16,
            "grace_ms": grace_ms,
        }  # fmt: skip
        self.loop = Loop()
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.pool = Pool(
            self.loop, told, (workers, most or workers), lambda event, level="info", **more: self.log.append((event, more)), **rest
        )
        self.loop.woke = lambda: self.pool.wake(now_ms())
        self.rows: dict[int, list[Any]] = {}
        self.last = 0

    def turn(self) -> None:
        self.loop.poll(0.01)
        self.pool.tick(now_ms())
        self.pool.wants(now_ms())
        for row in self.pool.settled():
            assert row[0] not in self.rows, row
            self.rows[row[0]] = list(row)
        self.pool.scale(now_ms())

    def until(self, condition: Callable[[], Any], what: str, within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, (what, self.rows, self.log)
            self.turn()

    def start(self) -> None:
        self.pool.start(now_ms())
        self.until(lambda: self.pool.workers and all(child.state == "ready" for child in self.pool.workers), "all workers are ready")

    def give(self, kind: str, *args: Any, worker: str | None = None, count: int = 1, crashes: int = 0, **header_fields: Any) -> list[int]:
        """Hand tasks of one kind to a worker (the first); their ids. The claim number of each is 1."""
        tasks = []
        for _ in range(count):
            self.last += 1
            header = Header(kind, **header_fields)
            record = Spec(self.last, header, pack({"argv": args} if kind == "shell" else [*args]), now_ms(), 1).record()
            tasks.append(Claimed(self.last, 1, 0, crashes, header, record))
        self.pool.hand_out(Want(worker or self.pool.workers[0].name, count), tasks, now_ms(), now_ms())
        return [task.id for task in tasks]

    def results(self, *ids: int) -> list[Any]:
        """What became of the tasks: 0 or the word, once each has come back."""
        self.until(lambda: all(task_id in self.rows for task_id in ids), f"{ids} come back")
        return [self.rows[task_id][2] for task_id in ids]

    def run(self, kind: str, *args: Any, count: int = 1, **given: Any) -> list[int]:
        """Give tasks until so many have come back begun; their ids. On a busy machine a worker may stand still so long that what it has
        not begun is taken back."""
        ran: list[int] = []
        while len(ran) < count:
            ids = self.give(kind, *args, count=count - len(ran), **given)
            ran += [task_id for task_id, end in zip(ids, self.results(*ids), strict=True) if end != "released"]
        return ran

    def begun(self, task_id: int) -> None:
        """Wait until a worker has begun it."""

        def has() -> bool:
            return any(child.has_begun(child.jobs[task_id], child.board.begun()) for child in self.pool.workers if task_id in child.jobs)

        self.until(has, f"{task_id} has begun")

    def end(self) -> list[int]:
        """End the pool; the pids that outlived it."""
        pids = [child.process.pid for child in self.pool.workers]
        self.pool.kill()
        self.until(lambda: self.pool.empty, "all workers are gone")
        self.loop.close()
        return [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.fixture
def yard(data_dir: Path) -> Iterator[Callable[..., Yard]]:
    made: list[Yard] = []

    def make(**options: Any) -> Yard:
        made.append(Yard(data_dir, **options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        assert one.end() == []
    # A dead worker's board stays, under a name of its own, until what it says is stored: the daemon removes it then.
    assert {path for path in (data_dir / "run").iterdir() if path.name != "broken.board"} == {
        board for one in made for board in one.pool.closed
    }


def first(yard: Yard) -> Child:
    return yard.pool.workers[0]


def test_results_come_back_once_each_and_the_pool_learns_what_a_type_costs(yard: Callable[..., Yard]) -> None:
    one = yard()
    assert one.pool.slots == (0, 1)
    (want,) = one.pool.wants(now_ms())
    assert (want.limit, want.types) == (LOOKAHEAD, frozenset({"shell", "quick", "slow", "gate", "die", "leave_a_child", "boom"}))
    assert "quick" not in want.costs
    ids = one.give("quick", 7, count=50)
    assert one.pool.slots == (1, 1)
    assert set(one.results(*ids)) <= {0, "released"}, "a busy machine may take back what is not begun"
    assert one.rows[ids[0]][6] == pack(7)
    assert one.pool.slots == (0, 1)
    (want,) = one.pool.wants(now_ms())
    assert want.costs["quick"] < 1
    (bad,) = one.give("boom")
    assert one.results(bad) == ["failed"]
    assert (error_in(one.rows[bad][6]["error"]) or {})["type"] == "ValueError"


def test_a_payload_larger_than_a_record_arrives_whole(yard: Callable[..., Yard]) -> None:
    one = yard()
    big = "x" * 250_000
    ids = [*one.give("quick", [len(big)]), *one.give("quick", big), *one.give("quick", "after")]
    assert one.results(*ids) == [0, 0, 0] or one.rows[ids[1]][2] == "failed"
    assert one.rows[ids[2]][6] == pack("after")


def test_a_worker_that_dies_is_replaced_and_only_the_task_it_had_begun_has_crashed(yard: Callable[..., Yard]) -> None:
    one = yard()
    one.run("quick", 1, count=5)
    pid = first(one).process.pid
    (fatal,) = one.give("die")
    behind = one.give("quick", 1, count=20)
    assert one.results(fatal) == ["crashed"]
    assert set(one.results(*behind)) == {"released"}
    error = one.rows[fatal][6]
    assert (error["error"]["type"], error["exit_code"], error["worker"]) == ("WorkerDied", 137, "w1")
    assert "SIGKILL" in error["error"]["message"]
    one.until(lambda: [c.state for c in one.pool.workers] == ["ready"], "another one is ready")
    assert first(one).process.pid != pid
    assert one.results(*one.give("quick", 2)) == [0]
    assert [event for event, _ in one.log] == ["worker_started", "worker_died", "worker_started"]


def test_a_stopped_worker_loses_what_it_has_not_begun_to_one_that_is_idle(yard: Callable[..., Yard]) -> None:
    one = yard(workers=2)
    stopped, idle = one.pool.workers
    (begun,) = one.give("slow", 20, worker=stopped.name)
    one.begun(begun)
    behind = one.give("quick", 1, worker=stopped.name, count=10)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    assert set(one.results(*behind)) == {"released"}
    assert begun not in one.rows
    assert [want.worker for want in one.pool.wants(now_ms() + STALL_MS)] == [idle.name]
    os.kill(stopped.process.pid, signal.SIGCONT)


def test_what_a_type_costs_is_known_while_it_is_quick_and_a_command_is_never_believed_to_cost_nothing() -> None:
    costs = Costs()
    assert (costs.known, costs.mean("quick")) == ({}, None)
    for _ in range(40):
        costs.add("quick", 10, 10)
        costs.add(SHELL, 0, 10)
    assert costs.known["quick"] == pytest.approx(1.0 + OVERHEAD_MS + 2 / 400)
    assert costs.known[SHELL] == COMMAND_MS
    costs.add("quick", 0, 0)
    assert costs.mean("quick") == 1.0
    costs.add("quick", 2000, 1)  # one of two seconds weighs as one of the last 256: 1 + 1999/256
    assert costs.known == {SHELL: COMMAND_MS}, "what is slow on the average is known no more"
    while "quick" not in costs.known:
        costs.add("quick", 256, 256)
    costs.add("new", 3, 1)
    assert "new" not in costs.known, "after one run two more milliseconds are allowed for"
    costs.add("new", 3, 1)
    assert costs.known["new"] == pytest.approx(3.0 + OVERHEAD_MS + 1.0)


def test_quick_commands_are_fed_ahead_until_long_ones_come_and_a_long_one_hoards_nothing(yard: Callable[..., Yard]) -> None:
    one = yard(workers=2)
    busy, idle = one.pool.workers
    costs = one.pool.wants(now_ms())[0].costs
    assert "shell" not in costs
    took = runs = 0
    while runs < 400:
        ran = [one.rows[task_id] for task_id in one.run("shell", "true", count=20)]
        assert {row[2] for row in ran} == {0}
        took, runs = took + sum(row[4] - row[3] for row in ran), runs + len(ran)
    assert ("shell" in costs) == (took / runs + 0.02 < SLOW_MS), "a machine may be so busy that true takes long"
    (long,) = one.give("shell", "sleep", "4244", worker=busy.name)
    one.begun(long)
    behind = one.give("shell", "true", worker=busy.name, count=5)
    assert set(one.results(*behind)) == {"released"}
    assert one.results(*one.run("shell", "true", worker=idle.name, count=5)) == [0] * 5
    one.pool.cancel(long)
    assert one.results(long) == ["stopped"]
    for _ in range(2):  # of the last 256 commands
        one.results(*one.give("shell", "sleep", "0.7", worker=idle.name))
    assert "shell" not in costs


def test_what_stands_behind_a_long_task_waits_in_the_store_also_where_nobody_is_idle(yard: Callable[..., Yard]) -> None:
    one = yard()
    (long,) = one.give("slow", 20)
    one.begun(long)
    behind = one.give("quick", 1, count=5)
    assert set(one.results(*behind)) == {"released"}
    assert one.pool.wants(now_ms()) == [], "or it would be given them again"
    one.pool.cancel(long)
    assert one.results(long) == ["stopped"]


def test_commands_that_could_not_be_started_leave_those_after_them_their_environment(yard: Callable[..., Yard]) -> None:
    key, packed = environment_of({"PATH": os.environ["PATH"]})
    one = yard(environment={key: packed}.get)
    for _ in range(3):
        assert set(one.results(*one.run("shell", count=200, extras={"cwd": 5}))) == {"failed"}
    assert one.pool.wants(now_ms())[0].costs["shell"] >= 0.5
    assert one.results(*one.run("shell", "true", count=3, extras={"env": key})) == [0, 0, 0]


def test_a_task_over_its_timeout_is_stopped_or_its_worker_killed_and_its_neighbours_are_not_blamed(yard: Callable[..., Yard]) -> None:
    one = yard()
    (late,) = one.give("slow", 60, timeout_ms=300)
    one.begun(late)
    behind = one.give("quick", 1, count=3)
    assert one.results(late) == ["timed_out"]
    error = one.rows[late][6]["error"]
    assert (error["type"], error["message"]) == ("TimedOut", "it ran longer than its timeout of 0.3 s")
    assert error["frames"][-1][3] == "time.sleep(seconds)"
    assert set(one.results(*behind)) <= {"released", 0}
    one.until(lambda: [c.state for c in one.pool.workers] == ["ready"], "a worker is ready")
    assert one.results(*one.give("quick", 2)) == [0]


def test_a_cancel_ends_what_runs_and_takes_back_what_does_not(yard: Callable[..., Yard]) -> None:
    one = yard()
    (running,) = one.give("slow", 60)
    one.begun(running)
    (waiting,) = one.give("slow", 60)
    one.pool.cancel(waiting)
    assert one.results(waiting) == ["released"]
    one.pool.cancel(running)
    one.pool.cancel(running)  # asking twice is asking once
    one.pool.cancel(12345)
    assert one.results(running) == ["stopped"]


def test_a_drain_gives_back_what_is_not_begun_and_lets_the_rest_finish(yard: Callable[..., Yard]) -> None:
    one = yard()
    (running,) = one.give("slow", 0.3)
    one.begun(running)
    behind = one.give("quick", 1, count=5)
    one.pool.drain()
    assert set(one.results(*behind)) == {"released"}
    assert one.results(running) == [0]
    one.until(lambda: one.pool.empty, "the worker has left")
    assert [event for event, _ in one.log] == ["worker_started"]
    one.pool.hand_out(Want("w1", 1), [Claimed(99, 1, 0, 0, Header("quick"), b"")], now_ms(), now_ms())
    one.turn()
    assert one.rows[99][2] == "released"  # came too late for a worker that is gone


def test_a_kill_interrupts_what_had_begun(yard: Callable[..., Yard]) -> None:
    one = yard()
    (running,) = one.give("slow", 60)
    one.begun(running)
    behind = one.give("slow", 60, count=2)
    one.pool.kill()
    assert one.results(running, *behind) == ["interrupted", "released", "released"]
    one.until(lambda: one.pool.empty, "the worker is gone")


def test_a_worker_is_recycled_after_so_many_tasks(yard: Callable[..., Yard]) -> None:
    one = yard(recycle=10)
    pid = first(one).process.pid
    assert set(one.results(*one.run("quick", 1, count=10))) == {0}
    one.until(lambda: [c.process.pid for c in one.pool.workers if c.state == "ready"] not in ([], [pid]), "a fresh one is ready")
    assert [event for event, _ in one.log] == ["worker_started", "worker_started"]


def test_a_check_imports_the_application_again_and_leaves_the_workers_alone(yard: Callable[..., Yard], data_dir: Path) -> None:
    one = yard()
    pid = first(one).process.pid
    for text, types, says in (
        (APP + "\n@tq.task\ndef fresh(): ...\n", {"quick", "slow", "gate", "die", "leave_a_child", "boom", "fresh"}, None),
        ("import nothing_here\n", set(), "nothing_here"),
        ("import os; os._exit(4)\n", set(), "exit code 4 before its hello"),
    ):  # fmt: skip
        (data_dir / "app.py").write_text(text)
        one.pool.spawn(now_ms(), only_checks=True)
        one.until(lambda: one.pool.checked, "the check is over")
        ((_, infos, refused),) = one.pool.checked
        one.pool.checked.clear()
        assert (refused is None) == (says is None)
        assert says is None or (refused and says in refused)
        assert says is not None or {info.name for info in infos} == types
    assert [child.process.pid for child in one.pool.workers] == [pid]
    assert one.results(*one.give("quick", 2)) == [0]


def test_what_a_dead_daemon_left_is_ended_and_what_had_begun_is_known(data_dir: Path) -> None:
    dead = Yard(data_dir)
    dead.start()
    (running,) = dead.give("slow", 60)
    dead.begun(running)
    (waiting,) = dead.give("slow", 60)
    child = first(dead)
    os.kill(child.process.pid, signal.SIGSTOP)  # so that it cannot leave by itself
    dead.until(lambda: psutil.Process(child.process.pid).status() == psutil.STATUS_STOPPED, "it has stopped")
    for end in (child.tasks, child._theirs, child.control):
        end.close()  # the daemon is gone
    heir = Yard(data_dir)
    begun = heir.pool.bury()
    assert child.process.wait(10) == -signal.SIGKILL
    assert [event for event, _ in heir.log] == ["orphan_ended"]
    assert (begun(running, 1), begun(waiting, 1), begun(running, 2)) == (True, False, False)
    Board.create(data_dir / "run" / "w1.board").close()  # the first worker of the heir has the same name
    assert heir.pool.bury()(running, 1)  # what a board says is there until it is stored
    for board in heir.pool.closed:
        board.unlink(missing_ok=True)
    assert not heir.pool.bury()(running, 1)
    for yard in (dead, heir):
        yard.loop.close()
    os.close(child.pidfd)
    child.board.close()


@pytest.mark.parametrize("left", [b"", bytes(SIZE), b"no board"])
def test_a_board_that_a_power_cut_left_stops_nobody_and_all_counts_as_begun(data_dir: Path, left: bytes) -> None:
    yard = Yard(data_dir)
    broken = data_dir / "run" / "w1.board"
    broken.write_bytes(left)
    begun = yard.pool.bury()
    assert (begun(1, 1), begun(2, 7)) == (True, True)
    (kept,) = yard.pool.closed
    assert kept.read_bytes() == left
    assert not broken.exists()  # a new worker of that name makes its own
    yard.loop.close()


def test_with_more_slots_a_task_that_crashed_before_runs_alone(yard: Callable[..., Yard]) -> None:
    one = yard(slots=4)
    slow = one.give("slow", 0.3, count=2)
    (suspect,) = one.give("slow", 0.01, crashes=1)
    for task_id in slow:
        one.begun(task_id)
    child = first(one)
    assert not child.has_begun(child.jobs[suspect], child.board.begun())
    assert one.pool.wants(now_ms()) == []  # and nothing new beside it
    assert one.results(*slow, suspect) == [0, 0, 0]
    assert len(one.pool.wants(now_ms())) == 1


def test_what_a_handler_started_ends_with_its_worker(yard: Callable[..., Yard]) -> None:
    one = yard()
    (task_id,) = one.give("leave_a_child", 60, timeout_ms=200)
    assert one.results(task_id) == ["timed_out"]
    assert not [process for process in psutil.process_iter(["name", "cmdline"]) if process.info["cmdline"] == ["sleep", NAP]]


@pytest.mark.parametrize("runs", [1, 10, 300])
def test_a_mean_follows_what_is_recent_and_starts_with_a_margin(runs: int) -> None:
    means = Means()
    means.add(10 * runs, runs)
    assert means.mean == 10
    assert means.cost >= 10 + 2 / runs
    for _ in range(20):
        means.add(100, 100)
    assert means.mean < 2


# recycling, restarts, size


def ready(yard: Yard) -> list[str]:
    return [child.name for child in yard.pool.workers if child.state == "ready"]


def test_a_successor_is_ready_before_the_recycled_worker_is_gone(yard: Callable[..., Yard]) -> None:
    one = yard(recycle=10)
    old = first(one)
    assert set(one.results(*one.run("quick", 1, count=10))) == {0}
    fewest = 1

    def replaced() -> bool:
        nonlocal fewest
        fewest = min(fewest, len(ready(one)))
        return old not in one.pool.workers

    one.until(replaced, "the old one is gone")
    assert fewest == 1
    assert [event for event, _ in one.log] == ["worker_started", "worker_started"]


def test_a_worker_that_takes_too_much_memory_is_replaced_after_its_task(yard: Callable[..., Yard]) -> None:
    one = yard(max_rss=200 << 20, app=APP + "\nkept = []\n@tq.task\ndef eat(mib):\n    kept.append(b'x' * (mib << 20))\n")
    old = first(one)
    one.results(*one.give("eat", 1))
    one.turn()
    assert not old.retiring
    old.weighed_at = 0  # as if a second had passed
    assert one.results(*one.give("eat", 250)) == [0]
    one.until(lambda: old not in one.pool.workers and ready(one), "another one has its place")


def test_a_worker_on_which_so_many_different_tasks_fail_in_a_row_is_replaced_but_not_one_after_the_other(yard: Callable[..., Yard]) -> None:
    app = APP + "\n@tq.task\ndef may(fails):\n    if fails:\n        raise OSError('broken')\n"
    one, told = yard(failing=3, app=app), []
    one.pool.failing = lambda name, failures: told.append((name, failures))
    old = first(one)
    for fails in (True, True, False, True, True):
        one.results(*one.give("may", fails))
    assert (old.failed and len(old.failed), told) == (2, []), "a success between them counts"
    one.results(*one.give("may", True))
    assert told == [(old.name, 3)]
    one.until(lambda: old not in one.pool.workers and ready(one), "another one has its place")
    (new,) = one.pool.workers
    for _ in range(4):
        one.results(*one.give("may", True))
    one.turn()
    assert (new.worn, new.retiring, len(new.failed), len(told)) == (False, False, 3, 1), "all fail, so it is not the worker"


def test_a_restart_replaces_all_one_after_the_other_and_interrupts_nothing(yard: Callable[..., Yard]) -> None:
    one = yard(workers=2)
    old = set(one.pool.workers)
    (running,) = one.give("slow", 0.5)
    one.begun(running)
    one.pool.restart([child.name for child in old], now_ms())
    most = 0

    def replaced() -> bool:
        nonlocal most
        most = max(most, sum(child.retiring and child.state != "draining" for child in one.pool.workers))
        return not old & set(one.pool.workers)

    one.until(replaced, "all are replaced")
    assert most == 1
    assert one.rows[running][2] == 0
    one.until(lambda: len(ready(one)) == 2, "both successors are ready")
    assert "worker_died" not in [event for event, _ in one.log]


def test_a_long_task_does_not_keep_the_other_workers_from_being_restarted(yard: Callable[..., Yard]) -> None:
    one = yard(workers=2)
    busy, other = one.pool.workers
    (running,) = one.give("slow", 60, worker=busy.name)
    one.begun(running)
    one.pool.restart([busy.name, other.name], now_ms())
    one.until(lambda: other not in one.pool.workers and len(ready(one)) == 2, "the other one is replaced")
    assert busy.state == "draining"
    assert running not in one.rows


def test_from_nobody_at_all_workers_start_for_what_the_last_ones_knew(data_dir: Path) -> None:
    one = Yard(data_dir, workers=0)
    try:
        one.pool.start(now_ms())
        assert one.pool.workers == []
        one.pool.set_sizes(0, 2, now_ms())
        one.until(lambda: len(ready(one)) == 1, "one to tell what the application has")
        one.pool.set_sizes(0, 0, now_ms())
        one.until(lambda: one.pool.empty, "nobody is left")
        one.pool.set_sizes(0, 2, now_ms())
        one.until(lambda: True, "a turn")
        assert one.pool.empty
        one.pool.backlog = lambda types: int("quick" in types)  # type: ignore[assignment]
        one.until(lambda: len(ready(one)) == 1, "one for the task that waits")
    finally:
        assert one.end() == []


def test_where_no_successor_can_start_the_old_ones_work_on(yard: Callable[..., Yard], data_dir: Path) -> None:
    one = yard(workers=2)
    old = list(one.pool.workers)
    (data_dir / "app.py").write_text("import nothing_here\n")
    one.pool.restart([child.name for child in old], now_ms())
    one.until(lambda: "workers_kept" in [event for event, _ in one.log], "the attempt is given up")
    one.until(lambda: one.pool.workers == old, "the failed one is gone")
    assert [child.retiring for child in old] == [False, False]
    assert set(one.results(*one.run("quick", 1, count=5))) == {0}


def test_the_number_follows_the_work_and_nobody_with_a_task_is_let_go(yard: Callable[..., Yard]) -> None:
    one = yard(most=3, cooldown_ms=300)
    waiting = [100]
    seen: list[frozenset[str]] = []
    one.pool.backlog = lambda types: (seen.append(frozenset(types)), waiting[0])[1]  # type: ignore[assignment]
    (running,) = one.give("slow", 2)
    one.until(lambda: len(one.pool.workers) == 2, "a second one")
    assert "slow" in seen[0]
    for child in one.pool.workers[1:]:
        one.until(lambda child=child: child.state == "ready", "it is ready")  # type: ignore[misc]
        one.give("slow", 2, worker=child.name)
    one.until(lambda: len(one.pool.workers) == 3, "a third one")
    waiting[0] = 0
    one.until(lambda: len(one.pool.workers) == 2, "the third, which has nothing, is let go")
    assert one.results(running, running + 1) == [0, 0]
    one.until(lambda: len(one.pool.workers) == 1, "one is enough")
    assert "worker_died" not in [event for event, _ in one.log]


def test_an_operators_size_is_reached_at_once_and_what_runs_finishes(yard: Callable[..., Yard]) -> None:
    one = yard(workers=3)
    (running,) = one.give("slow", 0.4)
    one.begun(running)
    one.pool.set_sizes(1, 1, now_ms())
    one.until(lambda: len(one.pool.workers) == 1, "two are gone")
    assert running in one.pool.workers[0].jobs  # those without a task went
    one.pool.set_sizes(2, 2, now_ms())
    one.pool.set_sizes(1, 1, now_ms())  # before the second was ready
    one.until(lambda: len(one.pool.workers) == 1, "one is left")
    assert one.results(running) == [0]
    assert "worker_died" not in [event for event, _ in one.log]


def test_a_worker_that_is_dismissed_finishes_its_task_and_has_no_successor(yard: Callable[..., Yard]) -> None:
    one = yard(workers=2)
    (running,) = one.give("slow", 0.3)
    one.begun(running)
    assert one.pool.dismiss(first(one).name)
    assert not one.pool.dismiss("w99")
    assert one.pool.sizes == (1, 1)
    assert one.results(running) == [0]
    one.until(lambda: len(one.pool.workers) == 1, "it has gone")
    one.turn()
    assert len(one.pool.workers) == 1


# what running tasks say, and being suspended


def test_progress_is_known_while_a_task_runs_and_forgotten_with_its_end(yard: Callable[..., Yard]) -> None:
    app = APP + "\n@tq.task\ndef work():\n    tq.current().progress(0.25, 'a quarter')\n    time.sleep(0.4)\n"
    one = yard(app=app)
    (task,) = one.give("work")
    one.until(lambda: task in one.pool.progress, "it has said something")
    assert one.pool.progress == {task: (0.25, "a quarter")}
    assert one.results(task) == [0]
    assert one.pool.progress == {}


@pytest.mark.parametrize("said", [["progress", 1], ["progress", 1, 1, "much", "x"], ["progress", 1, 1, None, "x"]])
def test_a_worker_that_talks_nonsense_of_its_progress_is_ended_and_only_that(yard: Callable[..., Yard], said: list[Any]) -> None:
    one = yard()
    (task,) = one.give("slow", 60)
    one.begun(task)
    first(one)._theirs.send(pack(said))
    assert one.results(task) == ["interrupted"]
    one.until(lambda: len(ready(one)) == 1, "another one is ready")


def test_progress_that_is_no_share_is_made_one(yard: Callable[..., Yard]) -> None:
    one = yard()
    (task,) = one.give("slow", 0.5)
    one.begun(task)
    for fraction, share in ((7, 1.0), (-1, 0.0), (float("nan"), 0.0)):
        first(one)._theirs.send(pack(["progress", task, 1, fraction, "x" * 900]))
        one.pool.progress.clear()
        one.until(lambda: one.pool.progress, "it came")
        assert one.pool.progress == {task: (share, "x" * 200)}
    first(one)._theirs.send(pack(["progress", task, 2, 0.5, "another claim"]))
    first(one)._theirs.send(pack(["progress", 999, 1, 0.5, "another task"]))
    assert one.results(task) == [0]


def command_of(yard: Yard) -> psutil.Process:
    """The process of the command that the worker runs, which may write before the worker knows its number."""
    yard.until(lambda: first(yard).board.commands()[0][0] != STARTING, "its number is known")
    return psutil.Process(first(yard).board.commands()[0][0])


def test_a_suspended_command_stands_still_and_so_does_its_timeout(yard: Callable[..., Yard], data_dir: Path) -> None:
    one = yard()
    ticking = f"while :; do echo . >> {data_dir}/ticks; done"  # forks nothing: a shell that waits for a stopped child sleeps otherwise
    (task,) = one.give("shell", "sh", "-c", ticking, timeout_ms=1500)
    one.until((data_dir / "ticks").exists, "it runs")
    assert one.pool.suspend(task)
    assert one.pool.suspend(task)  # twice is once
    assert one.pool.suspended == {task}
    command = command_of(one)
    one.until(lambda: command.status() == psutil.STATUS_STOPPED, "it has stopped")
    ticks = (data_dir / "ticks").stat().st_size
    stopped = time.monotonic()
    one.until(lambda: time.monotonic() > stopped + 2, "more than its timeout passes")
    assert (data_dir / "ticks").stat().st_size == ticks
    assert task not in one.rows
    assert one.pool.time_left(task) == math.inf
    assert one.pool.resume(task)
    assert not one.pool.resume(task)
    assert 500 < (one.pool.time_left(task) or 0) <= 1500  # not what the wall clock says
    assert one.pool.time_left(12345) is None
    resumed = time.monotonic()
    assert one.results(task) == ["timed_out"]  # what is left of its time
    assert time.monotonic() - resumed > 0.5
    assert (data_dir / "ticks").stat().st_size > ticks
    assert one.pool.suspended == set()


def test_a_cancel_of_a_suspended_command_lets_it_go_on_to_clean_up(yard: Callable[..., Yard], data_dir: Path) -> None:
    one = yard(grace_ms=5000)
    script = f"trap 'echo bye > {data_dir}/bye; exit 9' TERM; touch {data_dir}/up; while :; do :; done"
    (task,) = one.give("shell", "sh", "-c", script)
    one.until((data_dir / "up").exists, "it runs")
    assert one.pool.suspend(task)
    command = command_of(one)
    one.until(lambda: command.status() == psutil.STATUS_STOPPED, "it has stopped")
    one.pool.cancel(task)
    assert not one.pool.suspend(task)  # not any more
    assert one.results(task) == ["stopped"]
    assert (data_dir / "bye").read_text() == "bye\n"
    assert one.rows[task][6]["exit_code"] == 9


def test_only_a_running_command_can_be_suspended(yard: Callable[..., Yard]) -> None:
    one = yard()
    (function,) = one.give("slow", 0.2)
    one.begun(function)
    assert not one.pool.suspend(function)
    assert not one.pool.suspend(12345)
    assert not one.pool.resume(function)
    (behind,) = one.give("shell", "true")
    assert not one.pool.suspend(behind)  # it has not begun
    assert one.results(function, behind) == [0, "released"]


def test_a_worker_that_gives_no_sign_of_life_while_it_works_keeps_its_task(
    yard: Callable[..., Yard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lease has to be renewed by a process that is busy: what has begun is judged by its own timeout and by nothing else."""
    monkeypatch.setattr("tq.pool.jobs.DEAF_MS", 100)
    monkeypatch.setattr("tq.pool.DEAF_MS", 100)
    app = "import ctypes\nimport tq\n@tq.task\ndef computes(seconds):\n    ctypes.PyDLL(None).usleep(int(seconds * 1e6))\n"
    one = yard(app=app)  # PyDLL keeps the interpreter's lock: no thread of the worker runs meanwhile
    pid = first(one).process.pid
    (task,) = one.give("computes", 0.8)
    assert one.results(task) == [0]
    assert (first(one).process.pid, [event for event, _ in one.log]) == (pid, ["worker_started"])


def test_who_looks_gets_a_sign_of_life_from_each_that_can_give_one(yard: Callable[..., Yard]) -> None:
    one = yard(workers=2)
    one.until(lambda: now_ms() > max(child.heard_at for child in one.pool.workers), "a moment")
    since = now_ms()
    one.pool.wake(since)
    assert one.pool.silent(since)
    one.pool.ask()
    one.until(lambda: not one.pool.silent(since), "both have answered")
    stopped = first(one)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    since = now_ms() + 1
    one.until(lambda: now_ms() > since, "a moment")
    one.pool.ask()
    one.until(lambda: one.pool.workers[1].heard_at >= since, "the other has answered")
    assert one.pool.silent(since)
    assert stopped.heard_at < since
    os.kill(stopped.process.pid, signal.SIGCONT)


def test_a_pool_that_drains_while_work_waits_has_no_timer_that_is_over(yard: Callable[..., Yard]) -> None:
    one = yard(most=3)
    one.pool.backlog = lambda _: 5
    (begun,) = one.give("slow", 60)
    one.begun(begun)
    now = now_ms()
    one.pool.scale(now)  # which sees that work waits, and would look again
    assert one.pool.next_due is not None
    one.pool.drain()
    one.pool.scale(now + 10_000)
    one.pool.wake(now + 10_000)
    assert one.pool.next_due is None or one.pool.next_due > now + 10_000


def test_a_pool_that_drains_does_not_wait_to_replace_a_worker_that_died_a_moment_ago(yard: Callable[..., Yard]) -> None:
    one = yard(workers=2)
    os.kill(first(one).process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while len(one.pool.workers) == 2:  # without a tick, which would replace it
        assert time.monotonic() < deadline
        one.loop.poll(0.1)
    one.pool.drain()
    one.pool.tick(now_ms())
    assert one.pool.next_due is None or one.pool.next_due > now_ms()


def test_a_worker_that_never_says_hello_is_ended_when_its_time_is_up_and_not_a_moment_later(yard: Callable[..., Yard]) -> None:
    one = yard()
    child = one.pool.spawn(now_ms())
    due = one.pool.next_due
    assert due == child.started_at + HELLO_MS
    one.pool.tick(int(due))
    assert child.state == "ending"


def test_a_command_gets_the_environment_that_the_store_keeps_for_it(yard: Callable[..., Yard], data_dir: Path) -> None:
    large = {"PATH": os.environ["PATH"], "MARK": "here", **{f"V{number}": "x" * 1000 for number in range(120)}}
    (small, plain), (big, packed) = environment_of({"PATH": os.environ["PATH"], "MARK": "here"}), environment_of(large)
    one = yard(environment={small: plain, big: packed}.get)
    assert len(packed) > 100_000, "near the most"
    for key in (small, big):
        (task_id,) = one.give("shell", "sh", "-c", f"echo $MARK > {data_dir}/said", extras={"env": key})
        assert one.results(task_id) == [0]
        assert (data_dir / "said").read_text() == "here\n"
        (data_dir / "said").unlink()


def test_a_command_whose_environment_is_lost_or_damaged_fails_for_good_and_runs_nothing(yard: Callable[..., Yard], data_dir: Path) -> None:
    def find(key: bytes) -> bytes | None:
        if key == b"d" * 16:
            raise StoreDamaged("it is damaged.")
        return None

    one = yard(environment=find)
    for key in (b"d" * 16, b"l" * 16):
        (task_id,) = one.give("shell", "touch", str(data_dir / "ran"), extras={"env": key})
        assert one.results(task_id) == ["failed"]
        assert (one.rows[task_id][6]["error"]["type"], one.rows[task_id][6]["permanent"]) == ("StoreDamaged", True)
    assert not (data_dir / "ran").exists()
    assert first(one).jobs == {}
