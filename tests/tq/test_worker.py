"""The worker: a real process over its two socket pairs; the test plays the pool."""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgpack
import pytest

from tq import output
from tq.board import Board, start_ticks
from tq.model import Header, Spec, error_in
from tq.output import ERR, NOTE, OUT
from tq.worker import Worker

APPLICATION = """
import asyncio, logging, os, signal, subprocess, sys, threading, time
from pathlib import Path
from tq.app import task
from tq.context import Cancel, Permanent, Retry, Snooze, current

logging.basicConfig(format="%(levelname)s %(message)s", level="INFO")
print("imported")

@task("email", queue="mail", retries=5, timeout="30s")
def send(to, subject="none"):
    return {"to": to, "subject": subject}

@task
def noop(*args): return None
@task
def echo(value): return value
@task
def add(*numbers): return sum(numbers)
@task
async def later(seconds):
    print("asleep")
    await asyncio.sleep(seconds)
    print("awake", current().id)
    return seconds
@task
def sleep(seconds):
    time.sleep(seconds)
@task
def until(path):
    while not os.path.exists(path): time.sleep(0.005)
@task
def until_with_a_broken_stop(path):
    def stop(): raise RuntimeError("no stopping")
    current().stop = stop
    print("ready")
    while not os.path.exists(path): time.sleep(0.005)
@task
def until_cancelled():
    while not current().cancelled: time.sleep(0.005)
    return "stopped early"
@task
def who():
    here = current()
    return [here.id, here.attempt, here.type, here.queue, here.label, here.correlation_id]
@task
def say(lines=1, end=True):
    for n in range(lines): print("line", n, end="\\n" if end else "", flush=False)
@task
def say_and_wait(text, path):
    sys.stdout.write(text)
    os.write(2, b"raw " + text.encode())
    until(path)
@task
def everywhere():
    print("print"); print("error", file=sys.stderr); logging.info("log"); os.write(1, b"fd1\\n"); os.write(2, b"fd2\\n")
    subprocess.run(["sh", "-c", "echo child; echo child-error >&2"])
    sys.stdout.buffer.write(b"\\xff binary\\n"); print("lone \\udcff")
    thread = threading.Thread(target=lambda: print("thread")); thread.start(); thread.join()
@task
def big(size): return "x" * size
@task
def unpackable(): return {"when": {1, 2}}
@task
def changing():
    class Changing(dict):
        def items(self): raise RuntimeError("dictionary changed size during iteration")
    return Changing(a=1)
@task
def forks(path):
    child = os.fork()
    if not child: return "not the worker's to say"
    Path(path).write_text(str(child))
    return os.waitpid(child, 0)[1]
@task
async def leaves_the_loop(how, path):
    async def leave():
        asyncio.get_running_loop().stop() if how == "stop" else sys.exit(3)
    asyncio.get_running_loop().call_later(0.02, asyncio.ensure_future, leave())
    while not os.path.exists(path): await asyncio.sleep(0.005)
    Path(path + ".seen").touch()
@task
def surrogate(): return "\\ud800"
@task
def wish(kind):
    if kind == "snooze": return Snooze("5m")
    if kind == "cancel": return Cancel("no longer needed")
    if kind == "retry": raise Retry("busy", after=30)
    raise Permanent("gone for good")
@task
def fail(kind):
    if kind == "exit": sys.exit(3)
    if kind == "interrupt": raise KeyboardInterrupt
    if kind == "deep": return fail("deep")
    if kind == "unprintable":
        class Bad(Exception):
            def __str__(self): raise ValueError("no")
        raise Bad
    if kind == "long": raise ValueError("x" * 100_000)
    if kind == "chain":
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    raise ValueError("plain \\ud800")
@task
def die(): os.kill(os.getpid(), signal.SIGKILL)
@task
async def afail(kind="error"):
    if kind == "exit": sys.exit(3)
    raise ValueError("async")
@task
def close(): sys.stdout.close(); sys.stderr.close()
"""


class Pool:
    """One worker, and the daemon's ends of its sockets."""

    def __init__(self, root: Path, app: str | None = "jobs", **settings: Any) -> None:
        self.root = root
        self.logs = root / "logs"
        (root / "run").mkdir(exist_ok=True)
        (root / "jobs.py").write_text(APPLICATION)
        self.board = Board.create(root / "run" / "w1.board")
        self.tasks, tasks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs = tasks
        for end in (self.tasks, self.control):
            end.settimeout(20)
        fds = (tasks.fileno(), control.fileno(), self.board.fd)
        told = json.dumps({"worker": "w1", "data_dir": str(root), "app": app, "slots": 1, **settings})
        argv = [sys.executable, "-c", "from tq.worker import main; main()", *map(str, fds), told]
        here = str(Path(__file__).resolve().parents[2])
        env = {**os.environ, "PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1"}
        with open(root / "stderr", "wb") as stderr:
            self.process = subprocess.Popen(argv, pass_fds=fds, cwd=root, env=env, stdout=stderr, stderr=stderr, start_new_session=True)
        control.close()
        self.hello = msgpack.unpackb(self.control.recv(1 << 18))

    def send(self, *tasks: tuple[Any, ...], quick: bool = False) -> None:
        """Send one record of (id, type, payload, header fields) tasks."""
        items = []
        for task_id, kind, payload, *rest in tasks:
            header = Header(kind, **(rest[0] if rest else {}))
            items.append([task_id, 1, 0, Spec(task_id, header, b"" if payload is None else msgpack.packb(payload), 1).record(), 0])
        self.tasks.send(msgpack.packb([quick, items]))

    def answer(self) -> Any:
        """The next record: rows of ends, or one note; errors as their readers see them."""
        record = msgpack.unpackb(self.tasks.recv(1 << 18))
        for row in record:
            if isinstance(row, list) and row[2] == "failed":
                row[6]["error"] = error_in(row[6]["error"])
        return record

    def run(self, kind: str, payload: Any = None, task_id: int = 1, **header: Any) -> list[Any]:
        """Run one task and give its row."""
        self.send((task_id, kind, payload, header))
        answer = self.answer()
        row: list[Any] = answer[0] if isinstance(answer[0], list) else answer
        assert row[:2] == [task_id, 1]
        return row

    def result(self, kind: str, payload: Any = None) -> Any:
        row = self.run(kind, payload)
        assert row[2] == 0, row
        return None if row[6] is None else msgpack.unpackb(row[6])

    def tell(self, *message: Any) -> None:
        self.control.send(msgpack.packb(list(message)))

    def said(self, task_id: int = 1, stream: int = OUT) -> bytes:
        return b"".join(data for _, which, data in output.read(self.logs, task_id, 0, 1 << 20)[0] if which == stream)

    def begun(self, task_id: int) -> bool:
        return Board.token(task_id, 1) in self.board.begun()

    @property
    def stderr(self) -> str:
        return (self.root / "stderr").read_text()

    def close(self) -> None:
        for pgid, ticks, _ in [*self.board.commands(), (self.process.pid, start_ticks(self.process.pid) or 0, 0)]:
            if start_ticks(pgid) == ticks:
                os.kill(pgid, signal.SIGKILL)
        self.process.wait(10)
        for end in (self.tasks, self.theirs, self.control):
            end.close()
        self.board.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def begin(app: str | None = "jobs", **settings: Any) -> Pool:
        pools.append(Pool(tmp_path, app, **settings))
        return pools[-1]

    yield begin
    for pool in pools:
        pool.close()


@pytest.fixture
def pool(start: Callable[..., Pool]) -> Pool:
    return start()


def until(condition: Callable[[], Any], within: float = 10) -> Any:
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


# hello and refusal


def test_the_hello_names_the_types_with_their_defaults(pool: Pool) -> None:
    word, body = pool.hello
    assert word == "hello"
    assert body["pid"] == pool.process.pid == pool.board.worker()[0]
    assert ["email", "mail", 5, 30_000, None, None, None, None] in body["types"]
    assert start_ticks(pool.process.pid) == pool.board.worker()[1]
    assert pool.stderr == "imported\n"  # outside of a task


@pytest.mark.parametrize(("app", "reason"), [("broken", "ZeroDivisionError"), ("absent", "expected a module")])
def test_an_application_that_does_not_import_is_refused_with_the_reason(
    start: Callable[..., Pool], tmp_path: Path, app: str, reason: str
) -> None:
    (tmp_path / "broken.py").write_text("1/0\n")
    pool = start(app)
    assert pool.hello[0] == "refused"
    assert reason in pool.hello[1]
    assert pool.process.wait(10) == 3


# calling


def test_payloads_become_arguments_and_values_results(pool: Pool) -> None:
    assert pool.result("email", {"to": "a@b.c"}) == {"to": "a@b.c", "subject": "none"}
    assert pool.result("email", ["a", "b"]) == {"to": "a", "subject": "b"}
    assert pool.result("echo", [{"deep": [1, None, b"x", 1.5]}]) == {"deep": [1, None, b"x", 1.5]}
    assert pool.result("echo", 7) == 7
    assert pool.result("add", []) == 0
    assert pool.result("noop") is None
    assert pool.result("who") == [1, 1, "who", "default", None, None]


def test_a_task_knows_its_number_attempt_and_header(pool: Pool) -> None:
    header = Header("who", "mail", label="l", correlation_id="c")
    pool.tasks.send(msgpack.packb([False, [[9, 4, 2, Spec(9, header, b"", 1).record(), 0]]]))
    ((task_id, claim, kind, started, finished, printed, result),) = pool.answer()
    assert (task_id, claim, kind, printed) == (9, 4, 0, False)
    assert msgpack.unpackb(result) == [9, 3, "who", "mail", "l", "c"]
    assert abs(started - time.time() * 1000) < 60_000
    assert finished >= started


def test_a_large_task_comes_as_a_file_beside_its_record(pool: Pool) -> None:
    payload = {"value": "x" * 60_000}
    record = Spec(5, Header("echo", label="y" * 60_000), msgpack.packb(payload), 1).record()
    fd = os.memfd_create("task")
    os.write(fd, record)
    socket.send_fds(pool.tasks, [msgpack.packb([False, [[5, 1, 0, None, 0]]])], [fd])
    os.close(fd)
    assert msgpack.unpackb(pool.answer()[0][6]) == payload["value"]
    assert pool.result("noop") is None
    assert not any("memfd" in os.readlink(f"/proc/{pool.process.pid}/fd/{n}") for n in os.listdir(f"/proc/{pool.process.pid}/fd"))


def test_a_coroutine_is_awaited(pool: Pool) -> None:
    assert pool.result("later", [0.01]) == 0.01
    assert pool.said() == b"asleep\nawake 1\n"
    assert pool.run("afail")[6]["error"]["message"] == "async"
    assert pool.run("afail", ["exit"])[6]["error"]["type"] == "SystemExit"
    assert pool.result("later", [0]) == 0


@pytest.mark.parametrize(
    ("kind", "event", "details"),
    [
        ("snooze", "snoozed", {"delay_ms": 300_000}),
        ("cancel", "stopped", {"error": {"type": "Cancel", "message": "no longer needed"}}),
    ],
)
def test_what_a_handler_wishes_is_said(pool: Pool, kind: str, event: str, details: dict[str, Any]) -> None:
    row = pool.run("wish", [kind])
    assert (row[2], row[6]) == (event, details)


def test_what_a_handler_raises_to_steer_is_said(pool: Pool) -> None:
    row = pool.run("wish", ["retry"])
    assert (row[2], row[6]["delay_ms"], row[6]["error"]["type"], row[6]["error"]["message"]) == ("failed", 30_000, "Retry", "busy")
    row = pool.run("wish", ["permanent"])
    assert (row[2], row[6]["permanent"], row[6]["error"]["message"]) == ("failed", True, "gone for good")


# failing


def test_an_exception_travels_with_its_frames_and_source(pool: Pool) -> None:
    row = pool.run("fail", ["plain"])
    error = row[6]["error"]
    assert (row[2], error["type"], error["message"]) == ("failed", "ValueError", "plain \\ud800")
    ((file, line, function, source),) = error["frames"]
    assert (Path(file).name, function) == ("jobs.py", "fail")
    assert source == (pool.root / "jobs.py").read_text().splitlines()[line - 1].strip()


def test_the_chain_of_causes_travels(pool: Pool) -> None:
    error = pool.run("fail", ["chain"])[6]["error"]
    assert (error["message"], [cause["type"] for cause in error["chain"]]) == ("outer", ["KeyError"])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("deep", "RecursionError"),
        ("unprintable", "Bad"),
        ("long", "ValueError"),
    ],
)
def test_whatever_is_raised_is_an_answer_and_the_worker_goes_on(pool: Pool, kind: str, name: str) -> None:
    row = pool.run("fail", [kind])
    assert (row[2], row[6]["error"]["type"]) == ("failed", name)
    assert len(msgpack.packb(row[6]["error"])) <= 4096
    assert len(row[6]["error"]["frames"]) <= 20
    assert len(row[6]["error"]["message"]) <= 2001
    assert pool.result("add", [1, 2]) == 3


@pytest.mark.parametrize(("kind", "what"), [("unpackable", "dict"), ("surrogate", "str"), ("changing", "Changing")])
def test_a_result_that_is_no_data_fails_naming_its_type(pool: Pool, kind: str, what: str) -> None:
    row = pool.run(kind)
    assert row[2] == "failed"
    assert f"got {what}" in row[6]["error"]["message"]
    assert pool.result("echo", [1]) == 1


def test_a_result_over_the_limit_is_dropped_with_a_note(start: Callable[..., Pool]) -> None:
    pool = start(result_limit=1000)
    assert len(pool.result("big", [900])) == 900
    row = pool.run("big", [2000], task_id=2)
    assert (row[2], row[5], row[6]) == (0, True, None)
    assert b"the result was dropped: expected at most 1000 bytes, got 2003" in pool.said(2, NOTE)


def test_an_unknown_type_fails_for_good_and_names_the_known(pool: Pool) -> None:
    row = pool.run("emial")
    assert (row[2], row[6]["permanent"]) == ("failed", True)
    assert "email" in row[6]["error"]["message"]
    assert "'emial'" in row[6]["error"]["message"]


def test_a_wrong_call_fails(pool: Pool) -> None:
    assert pool.run("email", {"nobody": 1})[6]["error"]["type"] == "TypeError"


def test_a_damaged_record_fails_and_is_not_begun(pool: Pool) -> None:
    record = bytearray(Spec(3, Header("noop"), b"", 1).record())
    record[20] ^= 1
    pool.tasks.send(msgpack.packb([False, [[3, 1, 0, bytes(record), 0]]]))
    (row,) = pool.answer()
    assert (row[0], row[2], row[6]["permanent"], row[6]["error"]["type"]) == (3, "failed", True, "StoreDamaged")
    assert not pool.begun(3)


# the board, gathering


def test_a_killed_worker_leaves_what_it_had_begun_and_only_that(pool: Pool) -> None:
    pool.send((1, "noop", None), (2, "die", None), (3, "noop", None), quick=True)
    pool.send((4, "noop", None), quick=True)
    assert pool.process.wait(10) == -signal.SIGKILL
    assert [pool.begun(n) for n in (1, 2, 3, 4)] == [True, True, False, False]
    record = msgpack.unpackb(pool.theirs.recv(1 << 18, socket.MSG_DONTWAIT))
    assert record[1][0][0] == 4  # never read, so the pool takes it back


def test_quick_results_are_gathered_and_sent_when_there_is_nothing_more(pool: Pool) -> None:
    pool.send(*((n, "noop", None) for n in range(1, 31)), quick=True)
    ids: list[int] = []
    records = 0
    while len(ids) < 30:
        ids += [row[0] for row in pool.answer()]
        records += 1
    assert ids == list(range(1, 31))
    assert records < 15


def test_gathered_results_go_out_before_a_task_that_may_take_long(pool: Pool) -> None:
    pool.send((1, "noop", None), quick=True)
    pool.send((2, "until", [str(pool.root / "go")]))
    assert pool.answer()[0][0] == 1
    assert not (pool.root / "go").exists()
    (pool.root / "go").touch()
    assert pool.answer()[0][0] == 2


def test_a_flush_sends_what_waits_behind_a_task_that_was_thought_quick(pool: Pool) -> None:
    pool.send((1, "noop", None), (2, "until", [str(pool.root / "go")]), quick=True)
    until(lambda: pool.begun(2))
    pool.tell("flush")
    assert pool.answer()[0][0] == 1
    (pool.root / "go").touch()
    assert pool.answer()[0][0] == 2


def test_large_results_are_split_over_records_that_the_socket_takes(pool: Pool) -> None:
    pool.send(*((n, "big", [60_000]) for n in range(1, 31)), quick=True)
    ids: list[int] = []
    while len(ids) < 30:
        record = pool.tasks.recv(1 << 18)
        assert len(record) <= 128 * 1024
        ids += [row[0] for row in msgpack.unpackb(record)]
    assert sorted(ids) == list(range(1, 31))


# output


def test_everything_a_task_prints_is_its_output(pool: Pool) -> None:
    row = pool.run("everywhere")
    assert (row[2], row[5]) == (0, True), row
    assert sorted(pool.said(1, OUT).splitlines()) == sorted([b"print", b"fd1", b"child", b"\xff binary", b"lone \\udcff", b"thread"])
    assert sorted(pool.said(1, ERR).splitlines()) == [b"INFO log", b"child-error", b"error", b"fd2"]
    assert pool.stderr == "imported\n"


def test_output_belongs_to_the_task_that_printed_it_also_in_one_record(pool: Pool) -> None:
    pool.send((1, "say", [2]), (2, "noop", None), (3, "say_and_wait", ["x", "."]), (4, "say", {"lines": 1, "end": False}), quick=True)
    flags: dict[int, bool] = {}
    while len(flags) < 4:
        flags |= {row[0]: row[5] for row in pool.answer()}
    assert flags == {1: True, 2: False, 3: True, 4: True}
    assert (pool.said(1), pool.said(3), pool.said(3, ERR), pool.said(4)) == (b"line 0\nline 1\n", b"x", b"raw x", b"line 0")


def test_a_long_task_can_be_followed_while_it_runs(pool: Pool) -> None:
    pool.send((1, "say_and_wait", ["no line end", str(pool.root / "go")]))
    until(lambda: pool.said(1) == b"no line end" and pool.said(1, ERR) == b"raw no line end")
    (pool.root / "go").touch()
    assert pool.answer()[0][5] is True


def test_a_handler_that_closes_its_streams_does_not_silence_the_next(pool: Pool) -> None:
    assert pool.result("close") is None
    pool.run("say", task_id=2)
    assert pool.said(2) == b"line 0\n"


def test_output_of_a_function_is_bounded_to_its_head_and_tail(start: Callable[..., Pool]) -> None:
    pool = start(log_limit=10_000)
    pool.run("say", [5000])
    assert sum(path.stat().st_size for path in pool.logs.rglob("1.*")) < 10_200
    assert pool.said().startswith(b"line 0\n")
    assert pool.said().endswith(b"line 4999\n")


@pytest.mark.parametrize("slots", [1, 4])
def test_large_output_is_packed_when_no_run_is_left(start: Callable[..., Pool], slots: int) -> None:
    pool = start(slots=slots)
    pool.run("say", [5000])
    pool.run("shell", {"argv": ["sh", "-c", "seq 20000; exit 3"]}, task_id=2, retries=0)
    pool.run("shell", {"argv": ["sh", "-c", "seq 20000; exit 3"]}, task_id=3, retries=1)
    pool.run("say", [50], task_id=4)
    packed = {path.name: path.read_bytes()[:4] == output.PACKED for path in pool.logs.rglob("*.*")}
    assert packed == {"1.head": True, "2.head": True, "3.head": False, "4.head": False}
    assert pool.said(1).endswith(b"line 4999\n")
    assert pool.said(2) == pool.said(3)


# cancel, drain, death


@pytest.mark.parametrize("slots", [1, 4])
def test_a_cancel_reaches_functions_coroutines_and_commands(start: Callable[..., Pool], slots: int) -> None:
    pool = start(slots=slots)
    pool.send((1, "until_cancelled", None))
    until(lambda: pool.begun(1))
    pool.tell("cancel", 1)
    assert msgpack.unpackb(pool.answer()[0][6]) == "stopped early"
    pool.send((2, "later", [60]))
    until(lambda: pool.said(2))
    pool.tell("cancel", 2)
    (row,) = pool.answer()
    assert (row[2], row[6]["error"]["type"]) == ("failed", "CancelledError")
    pool.send((3, "shell", {"argv": ["sleep", "60"]}))
    until(pool.board.commands)
    pool.tell("cancel", 3)
    (row,) = pool.answer()
    assert (row[2], row[6]["exit_code"]) == ("failed", 143)
    assert pool.board.commands() == []


def test_a_cancel_that_goes_wrong_does_not_make_the_worker_deaf(pool: Pool) -> None:
    pool.send((1, "until_with_a_broken_stop", [str(pool.root / "go")]))
    until(lambda: pool.said(1))
    pool.tell("cancel", 1)
    until(lambda: not unheard(pool))
    pool.tell("drain")
    (pool.root / "go").touch()
    assert pool.answer()[0][:3] == [1, 1, 0]
    assert pool.process.wait(10) == 0
    assert "no stopping" in pool.stderr


def test_a_cancel_at_the_very_end_of_a_coroutine_is_no_error() -> None:
    class Ending:
        """A run whose coroutine ends between two looks."""

        cancelled = False
        asked = 0

        def __init__(self) -> None:
            self._stops: list[Any] = [self._ask]

        def _ask(self) -> None:
            self.asked += 1

        @property
        def stop(self) -> Any:
            return self._stops.pop() if self._stops else None

    run = Ending()
    Worker.cancel(cast(Any, SimpleNamespace(runs={1: run})), 1)
    assert (run.cancelled, run.asked) == (True, 1)


def test_a_cancel_in_the_moment_in_which_a_task_begins_is_heard() -> None:
    run: Any = SimpleNamespace(cancelled=False, asked=0, stop=lambda: setattr(run, "asked", run.asked + 1))
    looks: list[Any] = [None, run]
    cancelled: set[int] = set()
    Worker.cancel(cast(Any, SimpleNamespace(runs=SimpleNamespace(get=lambda _: looks.pop(0)), _cancelled=cancelled)), 1)
    assert (run.cancelled, run.asked, cancelled) == (True, 1, set())

    class Asked(set[int]):
        def __contains__(self, task_id: object) -> bool:
            assert task_id in runs, "the helper must find it from before the last time that it can be given back"
            return super().__contains__(task_id)

    runs: dict[int, Any] = {}
    given: list[Any] = []
    worker = SimpleNamespace(runs=runs, _cancelled=Asked({1}), give_back=given.append)
    item = [1, 7, 0, Spec(1, Header("noop"), b"", 1).record(), 0]
    assert Worker.begin(cast(Any, worker), item) is None
    assert (given, runs) == ([item], {})


def test_a_task_cancelled_before_it_began_is_given_back(pool: Pool) -> None:
    pool.send((1, "until", [str(pool.root / "go")]), (2, "noop", None), (3, "noop", None), quick=True)
    until(lambda: pool.begun(1))
    pool.tell("cancel", 2)
    pool.tell("flush")
    until(lambda: not unheard(pool))
    (pool.root / "go").touch()
    ends: dict[int, Any] = {}
    while len(ends) < 3:
        answer = pool.answer()
        ends |= {row[0]: row[2] for row in (answer if isinstance(answer[0], list) else [answer])}
    assert ends == {1: 0, 2: "released", 3: 0}
    assert not pool.begun(2)


def unheard(pool: Pool) -> bool:
    """Whether the worker has not yet read what it was told on the control pair; the kernel counts such bytes."""
    queued = array.array("i", [0])
    fcntl.ioctl(pool.control.fileno(), termios.TIOCOUTQ, queued)
    return queued[0] > 0


@pytest.mark.parametrize("slots", [1, 4])
def test_a_drain_finishes_what_has_begun_and_begins_nothing_more(start: Callable[..., Pool], slots: int) -> None:
    pool = start(slots=slots)
    pool.send((1, "until", [str(pool.root / "go")]))
    until(lambda: pool.begun(1))
    pool.tell("drain")
    until(lambda: not unheard(pool))
    pool.send((2, "noop", None))
    (pool.root / "go").touch()
    assert pool.answer()[0][0] == 1
    assert pool.process.wait(10) == 0
    assert not pool.begun(2)


def test_a_drain_in_the_middle_of_a_record_gives_back_the_rest_of_it(pool: Pool) -> None:
    pool.send((1, "until", [str(pool.root / "go")]), (2, "noop", None), (3, "noop", None), quick=True)
    until(lambda: pool.begun(1))
    pool.tell("drain")
    until(lambda: not unheard(pool))
    (pool.root / "go").touch()
    assert [(row[0], row[2]) for row in pool.answer()] == [(1, 0), (2, "released"), (3, "released")]
    assert pool.process.wait(10) == 0


@pytest.mark.parametrize("slots", [1, 4])
def test_an_idle_worker_drains_at_once(start: Callable[..., Pool], slots: int) -> None:
    pool = start(slots=slots)
    pool.tell("drain")
    assert pool.process.wait(10) == 0


@pytest.mark.parametrize("slots", [1, 4])
def test_worker_and_command_end_when_the_daemon_is_gone(start: Callable[..., Pool], slots: int) -> None:
    pool = start(slots=slots)
    pool.send((1, "shell", {"argv": ["sh", "-c", "sleep 60 & sleep 60"]}))
    ((pgid, _, _),) = until(pool.board.commands)
    pool.control.close()
    assert pool.process.wait(10) == 0
    until(lambda: not alive(pgid))


def test_a_busy_function_dies_with_its_daemon(tmp_path: Path) -> None:
    """kill -9 of the parent while a handler computes: the kernel ends the worker."""
    (tmp_path / "spin.py").write_text("from tq.app import task\n@task\ndef spin():\n    while True: pass\n")
    here = Path(__file__).resolve()
    code = (
        "import importlib.util, os, sys; from pathlib import Path\n"
        "spec = importlib.util.spec_from_file_location('played', sys.argv[1]); played = importlib.util.module_from_spec(spec)\n"
        "sys.modules['played'] = played; spec.loader.exec_module(played)\n"
        "pool = played.Pool(Path(sys.argv[2]), 'spin'); pool.send((1, 'spin', None)); played.until(lambda: pool.begun(1))\n"
        "print(pool.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    env = {**os.environ, "PYTHONPATH": str(here.parents[2])}
    parent = subprocess.run([sys.executable, "-c", code, str(here), str(tmp_path)], capture_output=True, check=False, env=env)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    until(lambda: not alive(int(parent.stdout)))


def test_interrupt_keys_do_not_hit_a_worker_and_are_not_ignored_by_what_it_starts(pool: Pool) -> None:
    pool.send((1, "until", [str(pool.root / "go")]))
    until(lambda: pool.begun(1))
    os.kill(pool.process.pid, signal.SIGINT)
    (pool.root / "go").touch()
    assert pool.answer()[0][2] == 0
    row = pool.run("shell", {"argv": ["sh", "-c", "kill -INT $$"]}, task_id=2)
    assert row[6]["exit_code"] == 128 + signal.SIGINT


# commands


def test_a_command_runs_with_its_output_and_code(pool: Pool) -> None:
    row = pool.run("shell", {"argv": ["sh", "-c", "echo out $TQ_TASK_ID $TQ_ATTEMPT; echo err >&2; exit 3"]})
    assert (row[2], row[5], row[6]) == ("failed", True, {"error": {"type": "ExitCode", "message": "exit code 3"}, "exit_code": 3})
    assert (pool.said(1, OUT), pool.said(1, ERR)) == (b"out 1 1\n", b"err\n")
    row = pool.run("shell", {"argv": ["true"]}, task_id=2)
    assert (row[2], row[5], row[6]) == (0, False, None)


def test_a_shell_task_without_a_command_fails_for_good(pool: Pool) -> None:
    row = pool.run("shell", {"argv": []})
    assert (row[2], row[6]["permanent"], row[6]["error"]["type"]) == ("failed", True, "PayloadError")


# many slots


def test_slots_run_side_by_side_and_no_more_than_there_are(start: Callable[..., Pool]) -> None:
    pool = start(slots=3)
    for n in range(1, 5):
        pool.send((n, "until", [str(pool.root / "go")]))
    until(lambda: pool.begun(3))
    assert not pool.begun(4)
    (pool.root / "go").touch()
    ids: list[int] = []
    while len(ids) < 4:
        ids += [row[0] for row in pool.answer()]
    assert sorted(ids) == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["sleep", "later"])
def test_hundreds_of_sleeping_tasks_sleep_at_once(start: Callable[..., Pool], kind: str) -> None:
    pool = start(slots=256)
    started = time.monotonic()
    for n in range(1, 201):
        pool.send((n, kind, [1]))
    got = 0
    while got < 200:
        got += len(pool.answer())
    assert time.monotonic() - started < 10  # one after another it would be 200


def test_with_slots_output_belongs_to_the_task_that_printed_it(start: Callable[..., Pool]) -> None:
    pool = start(slots=8)
    for n in range(1, 9):
        pool.send((n, "later" if n % 2 else "say", [0.05] if n % 2 else [3]))
    got = 0
    while got < 8:
        got += len(pool.answer())
    for n in range(1, 9):
        assert pool.said(n) == (b"asleep\nawake %d\n" % n if n % 2 else b"line 0\nline 1\nline 2\n")


def test_with_slots_failures_commands_and_wishes_are_answered_too(start: Callable[..., Pool]) -> None:
    pool = start(slots=2)
    assert pool.run("fail", ["exit"])[6]["error"]["type"] == "SystemExit"
    assert pool.run("afail")[6]["error"]["message"] == "async"
    assert pool.run("afail", ["exit"])[6]["error"]["type"] == "SystemExit"
    assert pool.run("emial")[6]["permanent"] is True
    assert pool.run("shell", {"argv": ["sh", "-c", "exit 5"]})[6]["exit_code"] == 5
    assert pool.run("wish", ["snooze"])[2] == "snoozed"
    assert pool.result("who") == [1, 1, "who", "default", None, None]
    assert pool.result("big", [60_000]) == "x" * 60_000


# odd handlers


@pytest.mark.parametrize("slots", [1, 3])
def test_a_process_that_a_handler_forks_is_no_second_worker(start: Callable[..., Pool], slots: int) -> None:
    pool = start(slots=slots)
    assert msgpack.unpackb(pool.run("forks", [str(pool.root / "child")])[6]) == 0
    assert not alive(int((pool.root / "child").read_text()))
    assert pool.result("echo", [2]) == 2  # nobody else has answered


@pytest.mark.parametrize("how", ["stop", "exit"])
def test_a_coroutine_whose_loop_was_left_does_not_go_on_beside_the_next_task(pool: Pool, how: str) -> None:
    assert pool.run("leaves_the_loop", [how, str(pool.root / "go")])[2] == "failed"
    (pool.root / "go").touch()
    assert pool.result("later", [0.1]) == 0.1
    assert not (pool.root / "go.seen").exists()


@pytest.mark.parametrize("how", ["stop", "exit"])
def test_with_slots_a_loop_that_was_left_goes_on(start: Callable[..., Pool], how: str) -> None:
    pool = start(slots=3)
    pool.send((1, "leaves_the_loop", [how, str(pool.root / "go")]))
    pool.send((2, "later", [0.1]))
    assert pool.answer()[0][:3] == [2, 1, 0]
    (pool.root / "go").touch()
    assert pool.answer()[0][:3] == [1, 1, 0]
