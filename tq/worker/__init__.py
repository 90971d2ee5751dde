"""The worker: the process that runs handlers, and the only one that runs anybody's code.

For: taking tasks from the pool's socket, running them, answering.
Not for: deciding what an answer leads to (lifecycle, in the daemon), reading the store, staying alive without its daemon.
Runs in: child processes of the pool, spawned as ``python -c "from tq.worker import main; main()" TASKS CONTROL BOARD JSON``
(three descriptors and the settings); the protocol stands at the end of ``tq/wire.py``.
Promises: a claim is on the board before its handler runs; a result that was gathered waits at most 1 ms or until
the next task that is not quick; whatever a handler does short of ending the process is an answer; when the daemon is
gone the worker ends at once, and its commands with it.

With one slot a handler runs on the main thread: ``slots`` is for more. A helper thread listens to the daemon.

A task that is asked to end (its time is up, or a cancel) sees ``current().cancelled`` at once; a coroutine is cancelled
and a command's group gets TERM. A function that still runs after half the grace, at most SOFT_S, has Stopped raised in its
thread. What ends within the grace, by whatever it raises, leaves the worker alive, unless processes had to be killed that it
left: then the worker says that it leaves, and begins nothing more. A command is killed here after the grace, with all it
started; for anything else the pool ends the process: TERM, and KILL of all that is left.

JSON: {"worker": name, "data_dir": path, "app": name or null, "slots": 1, "log_limit": bytes, "result_limit": bytes,
"grace_ms": 5000, "watch": whether the hello names the application's files, "files": descriptors that a worker of one slot may
have, and with it its commands, 0: as many as the daemon}.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgpack

from tq import app as apps
from tq.app import Handler
from tq.board import Board, end_command, start_ticks
from tq.context import run_alone
from tq.errors import ConfigError, TqError
from tq.model import MAX_RESULT, SHELL, spec_of
from tq.output import LIMIT
from tq.worker import calls
from tq.worker.capture import Descriptors, Run, aside, install, libc, listen
from tq.worker.results import GATHER_MOST, GATHER_NS, RESULT_MOST, SEND_MOST, Results
from tq.worker.slots import Slots
from tq.worker.stopping import Stopping, end_what_it_started
from tq.worker.together import CALL, Call
from tq.worker.together import begin as begin_together

if TYPE_CHECKING:
    import asyncio


RECORD_MOST = 256 * 1024
LOOK_MS = 250
"""How often what a running task printed without a line end, or past Python, is looked for."""
SOFT_S = 1.0
"""How long a function may take, at most, to see by itself that it was asked to end."""
FILES_MOST = 500
AGAIN_S = 0.02
"""Until Stopped is tried again where it could not be raised."""
REFUSED = 3
OOM_MORE = 300
"""How much sooner than the daemon, in thousandths of the memory, a worker and what it starts are ended when there is none left."""
_DEATHSIG = 1  # PR_SET_PDEATHSIG

AnyRun = TypeVar("AnyRun", bound=Run)
Item = list[Any]
"""[id, claim, how often it ran before, specification, how often it failed]"""


@dataclass(frozen=True)
class Settings:
    """What the pool tells a worker; see the module's JSON."""

    worker: str
    data_dir: str
    app: str | None = None
    slots: int = 1
    log_limit: int = LIMIT
    result_limit: int = MAX_RESULT
    grace_ms: int = 5000
    watch: bool = False
    files: int = 0


class Worker:
    """The process's one worker: what it runs, and how each task begins and ends."""

    def __init__(
        self, settings: Settings, tasks: socket.socket, control: socket.socket, board: Board, handlers: Mapping[str, Handler]
    ) -> None:
        self.settings = settings
        self.data_dir = Path(settings.data_dir)
        self.board = board
        self.results = Results(tasks)
        listen(self.results.tell, self.look_soon)
        self.draining = False
        self.forked = False
        self.runs: dict[int, Run] = {}  # by id: what runs, for the helper's eyes
        self._tasks = tasks
        self._control = control
        self._handlers = handlers
        self._alone = settings.slots == 1
        # A packer of one's own is the fastest and for one thread only.
        self._pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack if self._alone else msgpack.packb
        self._environments: dict[int, bytes] = {}  # of commands that were received, by id
        self._cancelled: set[int] = set()  # asked before they began
        self._asked: dict[Run, float] = {}  # functions that were asked to end, and when they are stopped (monotonic seconds)
        self._stopping = Stopping()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # main thread: a drain was asked
        self._look = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # helper: a task runs that may take long
        self._looking = False
        self._mortal = False
        self._buffer = memoryview(bytearray(RECORD_MOST))
        self._runner: asyncio.Runner | None = None
        self._waiter = select.poll()
        self._waiter.register(tasks, select.POLLIN)
        self._waiter.register(self._wake, select.POLLIN)
        self._descriptors = Descriptors(self.data_dir / "run") if self._alone else None
        self._slots = None if self._alone else Slots(self, settings.slots)

    # one task

    def begin(self, item: Item, slot: int = -1, kind: Callable[..., AnyRun] = Run) -> AnyRun | None:  # type: ignore[assignment]
        """The task's run, on the board; None if it was answered instead: cancelled before, or its record is damaged."""
        task_id, claim, before, record, failures = item
        now = time.time_ns() // 1_000_000
        try:
            run = kind(spec_of(task_id, record), before + 1, now, claim, failures)
        except TqError as error:
            self.results.add([task_id, claim, "failed", now, now, False, {"error": calls.error_map(error), "permanent": True}])
            return None
        self.runs[task_id] = run
        if self._cancelled and task_id in self._cancelled:  # asked for since it can be found there, or found here
            run.over = True
            del self.runs[task_id]
            self.give_back(item)
            return None
        self.board.begin(task_id, claim, slot)
        return run

    def begin_call(self, items: list[Item], slot: int = -1) -> Call | None:
        """The same for tasks that one call of their handler takes; None if all of them were answered instead."""
        return begin_together(self, items, slot)

    def unfit(self, run: Run, error: TqError) -> None:
        """Answer for a task that has begun and cannot be called."""
        del self.runs[run.spec.id]
        details = {"error": self._pack(calls.error_map(error)), "permanent": True}
        self.results.add([run.spec.id, run.claim, "failed", run.started_at, run.started_at, False, details])

    def give_back(self, item: Item) -> None:
        """Answer for a task that is not begun."""
        self._environments.pop(item[0], None)
        self.results.add([item[0], item[1], "released", 0, 0, False, {}])

    def call(self, run: Run) -> Any:
        """Run the handler on this thread; its value, or whatever it raises."""
        name = run.spec.header.type
        handler = self._handlers.get(name)
        if handler is None:
            return self.command(run) if name == SHELL else calls.unknown(name, self._handlers)
        if self._alone:
            if not self._mortal:
                self.mortal(True)
            if handler.is_async:
                return self._await(run, handler.call)
            self._stopping.inside = run
            try:
                return handler.call(run)
            finally:
                self._stopping.inside = None
        return self._stopping.call(run, handler.call, run)

    def perform(self, run: Run) -> None:
        """Run the handler on this thread and answer for it."""
        try:
            value = self.call(run)
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything, SystemExit too; the worker goes on
            self.raised(run, error)
        else:
            self.returned(run, value)

    def perform_call(self, call: Call) -> None:
        """Run the handler of many tasks on this thread and answer for them."""
        try:
            value = self.call(call)
        except BaseException as error:  # noqa: BLE001 - as above
            call.raised(error)
        else:
            call.returned(value)

    async def perform_async(self, run: Run) -> None:
        """Run a coroutine's handler on this event loop and answer for it."""
        try:
            value = await awaited(run, self._handlers[run.spec.header.type].call)
        except BaseException as error:  # noqa: BLE001 - as above; raised further, it would end the loop
            self.raised(run, error)
        else:
            self.returned(run, value)

    async def perform_call_async(self, call: Call) -> None:
        """As ``perform_call``, on this event loop."""
        try:
            value = await awaited(call, self._handlers[call.spec.header.type].call)
        except BaseException as error:  # noqa: BLE001 - as above
            call.raised(error)
        else:
            call.returned(value)

    def is_coroutine(self, name: str) -> bool:
        handler = self._handlers.get(name)
        return handler is not None and handler.is_async

    def command(self, run: Run) -> None:
        from tq.launch import launch_of
        from tq.shell import Command

        launch = launch_of(run.spec, self._environments.pop(run.spec.id, None))
        command = Command(run.spec, launch, run.attempt, self.data_dir, run.output(), self.board, self.settings.grace_ms)
        if self._alone:
            self.mortal(False)
        run.pause = command.suspend
        if run.suspended:
            command.suspend(True)
        interruptible(run, command.cancel)
        code, message = command.run()
        if code:
            raise calls.OkCode(code) if code in launch.ok else calls.ExitCode(code, message)

    def _await(self, run: Run, call: Callable[[Run], Any]) -> Any:
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(awaited(run, call))
        finally:
            if run.stop is not None:  # SystemExit in a task beside it has ended the loop, not the coroutine: it must not go on
                runner, self._runner = self._runner, None
                runner.close()

    def returned(self, run: Run, value: Any) -> None:
        """Answer for a handler that returned ``value``."""
        if value is None:
            return self._answer(run, 0, None)
        try:
            kind, last = calls.returned(value, self._pack, min(self.settings.result_limit, RESULT_MOST), run)
        except calls.Unpackable as error:
            return self.failed(run, error)
        return self._answer(run, kind, last)

    def raised(self, run: Run, error: BaseException) -> None:
        """Answer for a handler that raised ``error``."""
        self.look_for_broken(run)
        self.failed(run, error)

    def look_for_broken(self, run: Run) -> None:
        """What a function that was asked to end has left behind is ended, and the worker leaves if there was any."""
        handler = self._handlers.get(run.spec.header.type)
        if run.cancelled and self._alone and handler is not None and not self.forked and end_what_it_started():
            self.draining = True  # what our modules hold of those processes is broken
            self.results.tell(["leaves", run.spec.id, run.claim, 0.0, ""])

    def failed(self, run: Run, error: BaseException) -> None:
        """Answer for a task that ended with ``error``."""
        handler = self._handlers.get(run.spec.header.type)
        self._answer(run, *calls.raised(error, handler, run))

    def _answer(self, run: Run, kind: int | str, last: Any) -> None:
        if self.forked:  # the handler's own copy of this process has come to the handler's end, and is no worker
            os._exit(kind != 0)
        spec = run.spec
        descriptors = self._descriptors
        if descriptors is not None and descriptors.waiting():
            descriptors.drain(run)
        output = run.end()
        ended_at = time.time_ns() // 1_000_000
        if output and (
            kind in (0, "succeeded", "stopped") or (kind == "failed" and ("permanent" in last or run.failures >= spec.header.retries))
        ):
            run.output().pack()  # before it is answered: nobody else writes there yet
        self.runs.pop(spec.id, None)
        if kind == "failed":  # nobody looks into it on its way to a reader
            last["error"] = self._pack(last["error"])
        self.results.add([spec.id, run.claim, kind, run.started_at, ended_at, output, last])

    # the main thread

    def serve(self) -> None:
        """Run tasks until a drain, or until the daemon is gone."""
        if self._slots is not None:
            return self._slots.serve()
        results, oldest = self.results, 0
        while (record := self.receive()) is not None:
            how, items = record
            if how == CALL:
                results.send()
                self._run_together(items)
                results.send()
                continue
            quick = bool(how)
            if not quick:
                results.send()
            for item in items:
                if self.draining:
                    self.give_back(item)
                    continue
                self._run_alone(item, quick)
                if not quick:
                    results.send()
                    continue
                now = time.monotonic_ns()
                waiting = results.waiting()
                if waiting == 1:
                    oldest = now
                elif waiting >= GATHER_MOST or now - oldest >= GATHER_NS:
                    results.send()
        return results.send()

    def _run_alone(self, item: Item, quick: bool) -> None:
        run: Run | None = self.begin(item)
        if run is None:
            return
        run_alone(run)
        if not quick:
            self.look_soon()
        self.perform(run)
        run_alone(None)

    def _run_together(self, items: list[Item]) -> None:
        if self.draining:
            for item in items:
                self.give_back(item)
            return
        call = self.begin_call(items)
        if call is not None:
            run_alone(call)
            self.look_soon()
            self.perform_call(call)
            run_alone(None)

    def receive(self) -> tuple[bool | str, list[Item]] | None:
        """The next record; before waiting for one, what was gathered is sent. None: a drain, or the daemon is gone."""
        while not self.draining:
            try:
                size, rights, flags, _ = self._tasks.recvmsg_into([self._buffer], _RIGHTS, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                self.results.send()
                self._cancelled.clear()  # there is no record that could hold one of them
                self._waiter.poll()
                continue
            if not size or flags & socket.MSG_TRUNC:
                return None
            quick, items, *beside = msgpack.unpackb(self._buffer[:size], raw=False)
            if beside:
                self._environments[items[0][0]] = beside[0]
            if rights and quick == CALL:
                for item, record in zip(items, msgpack.unpackb(_sent_file(rights)), strict=True):
                    item[3] = record
            elif rights:
                items[0][3] = _sent_file(rights)
            return quick, items
        return None

    # the helper thread

    def listen(self) -> None:
        """Hear what the daemon says, and look every 0.25 s at what a long task prints. Never returns."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._look, select.POLLIN)
        while True:
            try:
                self._listen_once(poll)
            except Exception:  # noqa: BLE001 - one message or look that goes wrong must not make the worker deaf
                import traceback

                aside(traceback.format_exc().encode(errors="backslashreplace"))

    def _listen_once(self, poll: select.poll) -> None:
        patience = LOOK_MS if self._looking else None
        if self._asked:
            soonest = max(min(self._asked.values()) - time.monotonic(), 0.0)
            patience = min(math.ceil(soonest * 1000), LOOK_MS)
        for fd, _ in poll.poll(patience):
            if fd == self._look:
                os.eventfd_read(fd)
            else:
                self._hear()
        if self._asked:
            self._insist()
        if self._looking:
            self._looking = False  # before looking, so that a task that begins now asks again
            if self.runs:
                self._looking = True
                self.look()

    def _hear(self) -> None:
        try:
            data = self._control.recv(RECORD_MOST)
        except OSError:
            data = b""
        if not data:
            self._perish()
        verb, *rest = msgpack.unpackb(data, raw=False)
        if verb == "flush":
            self.results.send()
            self.look()
        elif verb == "cancel":
            for task_id in rest:
                self.cancel(task_id)
        elif verb in ("suspend", "resume"):
            self.suspend(rest[0], verb == "suspend")
        elif verb == "ping":
            self._control.send(msgpack.packb(["pong"]))
        elif verb == "drain":
            self.draining = True
            os.eventfd_write(self._wake, 1)
            if self._slots is not None:
                self._slots.wake()

    def look_soon(self) -> None:
        """Have the helper look from now on, as long as something runs."""
        if not self._looking:
            self._looking = True
            os.eventfd_write(self._look, 1)

    def look(self) -> None:
        """Write what running tasks printed and nobody has seen yet."""
        runs = list(self.runs.values())
        for run in runs:
            run.look()
        if self._descriptors is not None and self._descriptors.waiting():
            self._descriptors.drain(runs[0] if runs else None)

    def cancel(self, task_id: int) -> None:
        """Ask a running task to end; one that has not begun is given back when its turn comes."""
        run = self.runs.get(task_id)
        if run is None:
            self._cancelled.add(task_id)
            run = self.runs.get(task_id)  # it may have begun meanwhile, and not have seen that
            if run is None:
                return
            self._cancelled.discard(task_id)
        run.cancelled = True
        stop = run.stop  # once: a coroutine may end meanwhile and take it back
        if stop is not None:
            stop()
        else:
            self.ask(run)

    def ask(self, run: Run) -> None:
        """Give a function some time to see that it was asked to end; then it is stopped."""
        self._asked[run] = time.monotonic() + min(self.settings.grace_ms / 2000, SOFT_S)

    def show(self, run: Run) -> None:
        """Give ``run`` what was printed past Python."""
        if self._descriptors is not None and self._descriptors.waiting():
            self._descriptors.drain(run)

    def _insist(self) -> None:
        """Stop functions that did not end when they were asked."""
        now = time.monotonic()
        for run, at in list(self._asked.items()):
            if run.stop is not None or run.over or (at <= now and self._stopping.stop(run)):
                del self._asked[run]
            elif at <= now:
                self._asked[run] = now + AGAIN_S

    def suspend(self, task_id: int, wanted: bool) -> None:
        """Stop a command where it stands, or let it go on."""
        run = self.runs.get(task_id)
        if run is not None:
            run.suspended = wanted
            pause = run.pause
            if pause is not None:
                pause(wanted)

    def _perish(self) -> None:
        """The daemon is gone: end the commands and the process, now."""
        shell = sys.modules.get("tq.shell")
        if shell is not None:
            shell.SPAWNING.acquire(timeout=5)  # and never released: no command starts any more
        for command in self.board.commands():
            end_command(*command)
        os._exit(0)

    def mortal(self, wanted: bool) -> None:
        """Whether the kernel kills us when the daemon dies. Not while a command runs: somebody has to end that first, and be it one
        that the daemon has just stopped (it does so before it kills): it goes on then.

        For the main thread, whose parent's death it is about.
        """
        if wanted != self._mortal:
            libc.prctl(_DEATHSIG, signal.SIGKILL if wanted else signal.SIGCONT, 0, 0, 0)
            self._mortal = wanted


_RIGHTS = socket.CMSG_SPACE(4)


def _sent_file(rights: list[tuple[int, int, bytes]]) -> bytes:
    """The content of the file that came beside a record."""
    (_, _, data), *_ = rights
    fd = int.from_bytes(data[:4], sys.byteorder)
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def interruptible(run: Run, stop: Callable[[], object]) -> None:
    """From now on a cancel calls ``stop``, also if it came just before."""
    run.stop = stop
    if run.cancelled:
        stop()


async def awaited(run: Run, call: Callable[[Run], Any]) -> Any:
    """An async handler's value; a cancel of the task is a cancellation of the coroutine."""
    import asyncio

    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    interruptible(run, lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        return await call(run)
    finally:
        run.stop = None


def _files() -> list[str]:
    """The files that were imported from the current directory, or from where the application lies; no installed ones."""
    homes = {os.path.join(os.path.abspath(folder), "") for folder in (os.getcwd(), sys.path[0])}
    files = {os.path.abspath(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    return sorted(file for file in files if "site-packages" not in file and file.startswith(tuple(homes)))[:FILES_MOST]


def _first_to_go() -> None:
    """When memory runs out the kernel shall end a worker, whose task is run again, and not the daemon."""
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            score = int(file.read())
            file.seek(0)
            file.write(str(min(score + OOM_MORE, 1000)))
    except OSError:  # a /proc that may not be written
        return


def main() -> None:
    """The process's whole life; see the module."""
    _first_to_go()
    fds = [int(text) for text in sys.argv[1:4]]
    settings = Settings(**json.loads(sys.argv[4]))
    for fd in fds:
        os.set_inheritable(fd, False)
    # A handler rather than SIG_IGN: what handlers start would inherit that, and not a handler.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tasks, control = socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1])
    board = Board.attach(fds[2])
    board.set_worker(os.getpid(), start_ticks(os.getpid()) or 0)
    if settings.files and settings.slots == 1:  # with more, their commands' pipes need what the daemon has
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (settings.files if hard == -1 or 0 < settings.files < hard else hard, hard))
    data_dir = Path(settings.data_dir)
    os.environ["TQ_DATA_DIR"] = settings.data_dir  # what a handler sends goes to the daemon that runs it
    install(data_dir / "logs", settings.log_limit)
    try:
        app = apps.load(settings.app)
        handlers = app.handlers()
    except ConfigError as error:
        control.send(msgpack.packb(["refused", str(error)[:SEND_MOST].encode("utf-8", "backslashreplace").decode()]))
        sys.exit(REFUSED)
    worker = Worker(settings, tasks, control, board, handlers)
    worker.mortal(True)
    os.register_at_fork(after_in_child=lambda: setattr(worker, "forked", True))
    threading.Thread(target=worker.listen, name="tq-control", daemon=True).start()
    gc.freeze()
    hello = {"pid": os.getpid(), "types": [task.row() for task in app.tasks.values()]}
    if settings.watch:
        hello["files"] = _files()
    control.send(msgpack.packb(["hello", hello]))
    worker.serve()
