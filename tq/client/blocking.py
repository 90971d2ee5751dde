"""The blocking face of the client: ``Client`` and ``Handle``.

For: programs, scripts and handlers that call and wait.
Not for: event loops (aio), starting daemons (start).
Runs in: any process but the daemon, on any of its threads.
Promises: a thread that waits never holds up another's call (each borrows a connection of its own); a forked child
never uses its parent's connections; a lost connection is made again once per call, and what was unanswered repeated.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

from tq import wire
from tq.client.acting import (
    EVENTS_MOST,
    READ_WITHIN,
    Act,
    Changes,
    LimitSettings,
    QueueSettings,
    Which,
    act_args,
    chore_goes_on,
    chore_of,
    end_of,
    pauses,
    which_args,
    wire_settings,
)
from tq.client.core import (
    ANSWER_WITHIN,
    BACK_WITHIN,
    FRAMES_IN_FLIGHT,
    WAIT_SLICE,
    Body,
    Core,
    Duration,
    Ids,
    Lost,
    Options,
    Room,
    WireTask,
    claim_args,
    decode,
    decoded,
    encode,
    ended,
    enqueue_args,
    error_of,
    groups,
    ids_of,
    no_such_task,
    not_over,
    watch_args,
    wire_options,
    wire_results,
    wire_tasks,
)
from tq.client.graphs import GraphVerbs
from tq.client.handle import Handle
from tq.client.link import Link, socket_path
from tq.client.schedules import ScheduleVerbs
from tq.client.tenants import TenantVerbs
from tq.client.views import ViewVerbs
from tq.errors import DaemonError, DaemonNotRunning, NoSuchTask, Refused, TqError
from tq.model import duration_ms

if TYPE_CHECKING:
    from tq.middleware import AroundSend

R = TypeVar("R")
Rows = list[Body]
Found = list[Body | None]
"""Rows of tasks; None stands where there is no such task."""


class Client(ScheduleVerbs, ViewVerbs, GraphVerbs, TenantVerbs):
    """A client of one daemon, by its data directory; see ``connect``. Close it, or use it in a ``with``.

    Methods raise DaemonNotRunning if nobody answers, DaemonError after ``timeout`` seconds without an answer, and
    the errors that the daemon answers with. ``around_send`` are functions around each task it sends (``tq.middleware``);
    ``wait_for_room`` is for how long tasks that are refused for now are sent again, where they do not say. One that is ``read_only``
    gets NotAllowed for whatever would change something. Tasks are maps as ``tq.model.Task.row`` makes them, payload and result decoded.
    """

    def __init__(
        self, data_dir: str | Path, *, autostart: bool = False, started: Callable[[int], None] | None = None,
        timeout: float = ANSWER_WITHIN, around_send: Iterable[AroundSend] = (), wait_for_room: Duration = 0, read_only: bool = False,
    ) -> None:  # fmt: skip
        self.data_dir, self.timeout, self.wait_for_room = str(data_dir), timeout, wait_for_room
        self._around = tuple(around_send)
        self._autostart, self._started, self._met, self._read_only = autostart, started, False, read_only
        self.path = socket_path(self.data_dir)
        self._idle: deque[Link] = deque()
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close what is connected; a later call connects again."""
        while self._idle:
            self._idle.pop().close()

    # connections

    def _borrow(self) -> Link:
        if self._pid != os.getpid():
            self.close()  # after a fork they are the parent's: two readers would take each other's answers
            self._pid = os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._opened()

    def _opened(self) -> Link:
        link = Link(self.path, self.timeout, Core(read_only=self._read_only), BACK_WITHIN if self._autostart else 0.0)
        try:
            if self._met:
                link.open_again()
            else:
                link.open()
        except DaemonNotRunning:
            if self._met or not self._autostart:
                raise
            from tq.client.start import start_if_needed

            pid = start_if_needed(self.data_dir)
            if pid is not None and self._started is not None:
                self._started(pid)
            link.open()
        self._met = True
        return link

    def _on_a_link(self, work: Callable[[Link], R]) -> R:
        link = self._borrow()
        try:
            answer = work(link)
        except TqError:
            # A link with nothing on its way may be used again; any other is in the middle of something.
            if link.core.unanswered:
                link.close()
            else:
                self._idle.append(link)
            raise
        except BaseException:
            link.close()
            raise
        self._idle.append(link)
        return answer

    def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        """Any verb of ``tq.wire``, as it stands there. ``timeout``: seconds until the answer must be there."""
        within = self.timeout if timeout is None else timeout
        return self._on_a_link(lambda link: link.answer(link.send(verb, args or {}), within))

    # sending

    def enqueue(self, type: str, payload: object = None, **options: Unpack[Options]) -> Handle[Any]:  # noqa: A002
        """Store one task; when this returns it is on disk. Raises PayloadError, UnknownType, UsageError, Conflict, Refused."""
        if not self._around:
            return self._enqueue(type, payload, options)
        from tq.middleware import Outgoing, send_through

        handle: Handle[Any] = send_through(
            self._around, Outgoing(type, payload, options), lambda task: self._enqueue(task.type, task.payload, task.options)
        )
        return handle

    def _enqueue(self, type: str, payload: object, options: Options) -> Handle[Any]:  # noqa: A002
        args = {"tasks": [(type, encode(payload), wire_options(options))], "again": False}
        wait = options.get("wait_for_room", self.wait_for_room)
        if not wait:
            return Handle(self, self.call("enqueue", args)["ids"][0])
        room = Room(wait)
        while True:
            try:
                return Handle(self, self.call("enqueue", args)["ids"][0])
            except Refused as refused:
                pause = room.pause(refused)
                if pause is None:
                    raise
            time.sleep(pause)

    def enqueue_many(self, rows: Iterable[Sequence[Any]]) -> list[int]:
        """Store many ``(type, payload)`` or ``(type, payload, options)`` rows, in groups; their ids, in order.

        A group is stored whole or not at all. If one is refused, and stays so for the client's ``wait_for_room``, its error
        is raised once the groups on their way are answered; ``details["ids"]`` holds the ids of all that was stored,
        ``details["refused"]`` the groups that were not, as [place of their first task, how many].
        """
        if self._around:
            from tq.middleware import rows_through

            rows = rows_through(self._around, rows)
        return [task_id for ids in self.enqueue_groups(wire_tasks(rows)) for task_id in ids]

    def enqueue_groups(self, tasks: Iterable[WireTask | None], existing: list[int] | None = None) -> Iterator[list[int]]:
        """As ``enqueue_many``, for tasks in wire form: yields each group's ids as soon as it is stored; None: see ``groups``.

        ``existing`` gets the ids of those that were there already, by their key or unique name.
        """
        link = self._borrow()
        waiting: deque[tuple[int, int, list[WireTask]]] = deque()  # request, place of its first task, tasks
        room = Room(self.wait_for_room)
        done: list[int] = []
        refused: list[list[int]] = []
        failed: TqError | None = None
        place = 0

        def next_ids() -> list[int]:
            number, first, group = waiting.popleft()
            room.begin()
            while True:
                try:
                    body = link.answer(number, self.timeout)
                except TqError as error:
                    if failed is None and room.halves(error, group):
                        group, rest = group[: len(group) // 2], group[len(group) // 2 :]
                        number = link.send("enqueue", enqueue_args(group))
                        waiting.appendleft((link.send("enqueue", enqueue_args(rest)), first + len(group), rest))
                        continue
                    pause = room.pause(error) if isinstance(error, Refused) and failed is None else None
                    if pause is None:
                        refused.append([first, len(group)])
                        raise
                    time.sleep(pause)
                    number = link.send("enqueue", enqueue_args(group))
                else:
                    ids: list[int] = body["ids"]
                    done.extend(ids)
                    if existing is not None:
                        existing.extend(ids[at] for at in body.get("existing", ()))
                    return ids

        try:
            for group in groups(tasks):
                if group:
                    waiting.append((link.send("enqueue", enqueue_args(group)), place, group))
                    place += len(group)
                while waiting and (not group or len(waiting) >= FRAMES_IN_FLIGHT):
                    yield next_ids()
            while waiting:
                yield next_ids()
        except (TqError, ValueError) as error:
            failed = error if isinstance(error, TqError) else TqError(str(error))
            while waiting and not isinstance(error, DaemonError):
                try:
                    yield next_ids()
                except DaemonError:
                    break
                except TqError:
                    continue
        finally:
            if link.core.unanswered:
                link.close()
            else:
                self._idle.append(link)
        if failed is not None:
            failed.details.update(ids=done, refused=refused)
            raise failed

    # reading

    def get(self, task_id: int) -> Body:
        """The task; NoSuchTask if there is none."""
        task = self.get_many([task_id])[0]
        if task is None:
            raise NoSuchTask(no_such_task(task_id))
        return task

    def get_many(self, ids: Ids) -> Found:
        return [decoded(row) for row in self.call("get", {"ids": ids_of(ids)})["tasks"]]

    def list(self, *, limit: int = 50, before: bytes | None = None, **filters: object) -> Rows:
        """The newest tasks that match ``where`` (a filter: ``tq.query``), ``states``, ``queue``, ``type``, ``tenant``, ``label``."""
        rows = self.call("find", {**which_args(filters), "limit": limit, "before": before}, READ_WITHIN)["tasks"]
        return [cast(Body, decoded(row)) for row in rows]

    def peek(self, limit: int = 10, queue: str | None = None, tenant: str | None = None) -> Rows:
        """The next tasks to run, in order."""
        return [cast(Body, decoded(row)) for row in self.call("peek", {"limit": limit, "queue": queue, "tenant": tenant})["tasks"]]

    def wait(self, ids: Ids, timeout: Duration | None = None, any_one: bool = False) -> Found:
        """The tasks once all (``any_one``: one) of them are over. TaskTimeout if ``timeout`` passes first; None: no limit."""
        wanted = ids_of(ids)
        rows, done = self._wait(wanted, timeout, any_one)
        if not done:
            raise not_over(wanted, timeout)
        return [decoded(row) for row in rows]

    def _wait(self, ids: Sequence[int], timeout: Duration | None, any_one: bool) -> tuple[Any, bool]:
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout) / 1000
        while True:
            left = WAIT_SLICE if deadline is None else min(max(deadline - time.monotonic(), 0.0), WAIT_SLICE)
            args = {"ids": list(ids), "timeout_ms": int(left * 1000) or 1, "any": any_one}
            body = self.call("wait", args, left + self.timeout)
            if body["done"] or (deadline is not None and time.monotonic() >= deadline):
                return body["tasks"], body["done"]

    def result(self, task_id: int, timeout: Duration | None = None) -> Any:
        """The decoded result, once the task is over; TaskFailed, TaskCancelled or TaskTimeout if it has none."""
        rows, done = self._wait([task_id], timeout, False)
        if rows[0] is None:
            raise NoSuchTask(no_such_task(task_id))
        if not done:
            raise not_over([task_id], timeout)
        return ended(rows[0])

    def send_input(self, task_id: int, data: bytes = b"", *, end: bool = False, size: tuple[int, int] = (0, 0)) -> str:
        """Send bytes (at most 32 KiB) to the input of a running command that was added as interactive, or with a terminal.

        taken, full (it reads slowly: try again), closed (it reads no more), waiting (it does not run yet), over, or no_input (it
        has none). ``end``: that was all. ``size``: (rows, columns) of its terminal from now on.
        """
        rows, columns = size
        body = self.call("input", {"id": task_id, "data": data, "end": end, "rows": rows, "columns": columns})
        return cast(str, body["outcome"])

    def log_chunks(self, task_id: int, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """What a task has written so far: (ms since the epoch, stream, bytes); stream 1 is out, 2 err, 0 a note of tq's."""
        while True:
            body = self.call("log", {"id": task_id, "offset": offset, "limit": 256 * 1024})
            yield from body["chunks"]
            if body["end"] or not body["chunks"]:
                return
            offset = body["next"]

    def log(self, task_id: int) -> str:
        """What a task has written so far, as text; not cleaned for a terminal (``tq.model.safe_text`` does that)."""
        return b"".join(data for _, stream, data in self.log_chunks(task_id) if stream).decode("utf-8", "replace")

    def watch(self, topics: Sequence[str], ids: Sequence[int] | None = None, *, hz: int = 4, offset: int = 0) -> Generator[Body]:
        """Events as they come, from this call on, until the caller closes it; DaemonNotRunning when the connection is lost."""
        link = self._opened()
        try:
            number = link.send("watch", watch_args(topics, ids, hz, offset))
            seen: deque[tuple[int, int, Any]] = deque()
            while not any(got == number and kind != wire.EVENT for got, kind, _ in seen):
                seen += link.receive(self.timeout)
        except Lost:
            link.close()
            raise DaemonNotRunning(f"the daemon at {self.path} ended the connection. Start one with `tq daemon start`.") from None
        except BaseException:
            link.close()
            raise
        events = self._events(link, seen)
        next(events)
        return events

    def _events(self, link: Link, seen: Iterable[tuple[int, int, Any]]) -> Generator[Body]:
        try:
            yield {}  # to ``watch``: closing a generator that was never begun would not close the link
            while True:
                for _, kind, body in seen:
                    if kind == wire.ERROR:
                        raise error_of(body)
                    if kind == wire.EVENT:
                        yield body
                seen = link.receive(0.0)
        except Lost:
            raise DaemonNotRunning(f"the daemon at {self.path} ended the connection. Start one with `tq daemon start`.") from None
        finally:
            link.close()

    def dead(self, **which: Unpack[Which]) -> Sequence[Body]:
        """What failed for good, grouped by what went wrong, the largest group first: group (its name), type, error, message, count,
        first_at, last_at (ms), last_id, queues."""
        return cast("Sequence[Body]", self.call("dead", which_args(which), READ_WITHIN)["groups"])

    def why(self, task_id: int) -> Sequence[tuple[str, Body]]:
        """Why a task is where it is: words of ``tq.wire`` with their details, the most telling first. NoSuchTask if there is none."""
        return [(word, details) for word, details in self.call("why", {"id": task_id})["reasons"]]

    def events(self, limit: int = 50, before: int | None = None, after: int | None = None) -> Sequence[Body]:
        """What operators and the daemon did, newest first: number, at (ms), who, what, target, before, after. ``before``: a number; so is
        ``after``, from which on they are given oldest first."""
        return cast("Sequence[Body]", self.call("events", {"limit": limit, "before": before, "after": after})["events"])

    def stats(self) -> Body:
        return self.call("stats")

    def history(self, step_s: int, queue: str | None = None, limit: int = 720, until: int | None = None) -> Body:
        """How the counts went, of all or of a queue: ``step_s`` (1, 10, 60 or 600: kept are 10 minutes, 2 hours, a day, 30 days),
        ``until`` (ms, the end of the last bucket) and ``series``, as ``tq.wire`` has it; of the last ``limit`` buckets, or of those that
        were over by ``until`` (ms). UsageError: there is no such queue."""
        return self.call("history", {"step_s": step_s, "queue": queue, "limit": limit, "until": until})

    def attention(self) -> Sequence[Body]:
        """What somebody should look at, the weightiest first: key, weight (bad, warn, note), about [kind, name], what, since and
        muted_until (ms, 0: none)."""
        return cast("Sequence[Body]", self.call("attention")["lines"])

    def mute(self, key: str, duration: Duration) -> None:
        """Take the weight from a line of ``attention`` for a minute to seven days, or until the daemon ends. UsageError: there is none."""
        self.call("mute", {"key": key, "for_ms": duration_ms(duration)})

    def queues(self) -> Sequence[Body]:
        return cast("Sequence[Body]", self.call("queues")["queues"])

    def types(self) -> Sequence[Body]:
        return cast("Sequence[Body]", self.call("types")["types"])

    def workers(self) -> Sequence[Body]:
        return cast("Sequence[Body]", self.call("workers")["workers"])

    def status(self) -> Body:
        """Who the daemon is: pid, boot, version, started_at (ms), data_dir, app, ..."""
        return self.call("status")

    # acting

    def cancel(self, ids: Ids) -> Sequence[str]:
        """For each id (one task or several, by ids or handles): cancelled, asked (it runs, and was told), over, or unknown."""
        return cast("Sequence[str]", self.call("cancel", {"ids": ids_of(ids)})["outcomes"])

    def retry(self, ids: Ids, **changes: Unpack[Changes]) -> Sequence[str]:
        """Run finished tasks again, changed if you like. For each id: retried, waiting, running, taken (another live task has its
        unique name), or unknown."""
        return cast("Sequence[str]", self.call("retry", act_args({"ids": ids_of(ids)}, changes))["outcomes"])

    def edit(self, ids: Ids, **changes: Unpack[Changes]) -> Sequence[str]:
        """Change tasks that wait. For each id: edited, running, over, or unknown."""
        return cast("Sequence[str]", self.call("edit", act_args({"ids": ids_of(ids)}, changes))["outcomes"])

    def remove(self, ids: Ids) -> Sequence[str]:
        """Forget tasks that are over, and those that wait (they are cancelled first). For each id: removed, running, or unknown."""
        return cast("Sequence[str]", self.call("remove", {"ids": ids_of(ids)})["outcomes"])

    def suspend(self, ids: Ids) -> Sequence[str]:
        """Stop running commands where they stand. For each id: suspended, not_running, over, function (never), or unknown."""
        return cast("Sequence[str]", self.call("suspend", {"ids": ids_of(ids)})["outcomes"])

    def resume(self, ids: Ids) -> Sequence[str]:
        """Let suspended commands go on. For each id: resumed, not_suspended, over, function, or unknown."""
        return cast("Sequence[str]", self.call("resume", {"ids": ids_of(ids)})["outcomes"])

    def start_chore(self, verb: Act, which: Which, expected: int | None = None, **changes: Unpack[Changes]) -> int:
        """Do ``verb`` to all tasks that match, however many: the id of the chore that does it in the daemon. See ``wait_chore``.
        ``expected``: Refused if there are by now more or fewer than ``dry_run`` said, by over a tenth or over 100."""
        return cast(int, self.call(verb, act_args(which, changes, expected), READ_WITHIN)["chore"])

    def dry_run(self, verb: Act, which: Which, **changes: Unpack[Changes]) -> tuple[int, Sequence[int]]:
        """How many tasks such a chore would change now, and the ids of some."""
        body = self.call(verb, {**act_args(which, changes), "dry_run": True}, READ_WITHIN)
        return body["count"], body["some"]

    def chores(self) -> Sequence[Body]:
        """Chores that are under way: id, verb, where, seen, changed, left (how many could not be changed, by why)."""
        return cast("Sequence[Body]", self.call("chores")["chores"])

    def wait_chore(self, chore: int, timeout: Duration | None = None, progress: Callable[[Body], object] | None = None) -> Body | None:
        """What a chore did once it is done: seen, changed, left (None: that is too long ago). TaskTimeout if ``timeout`` passes first.

        ``progress`` is told where it stands, now and then.
        """
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout) / 1000
        for pause in pauses():
            state = chore_of(chore, self.chores())
            if state is None:
                break
            if progress is not None:
                progress(state)
            if deadline is not None and time.monotonic() >= deadline:
                raise chore_goes_on(chore, timeout)
            time.sleep(pause)
        return end_of(chore, self.events(EVENTS_MOST))

    def set_queue(self, name: str, **settings: Unpack[QueueSettings]) -> bool:
        """Change settings of a queue, in the words of ``tq queue set``; absent ones stay. Whether there was no such queue before."""
        return bool(self.call("set_queue", {"name": name, **wire_settings(settings)}).get("new"))

    def resources(self) -> Sequence[Body]:
        """Named resources: name, amount, in_use, tasks (some that use it), kept_for (a task for which what is free is kept)."""
        return cast("Sequence[Body]", self.call("resources")["resources"])

    def set_resource(self, name: str, amount: int) -> bool:
        """How much there is of a named resource from now on; what runs goes on. Whether it is new."""
        return bool(self.call("set_resource", {"name": name, "amount": amount})["new"])

    def limits(self) -> Sequence[Body]:
        """Limits: name, scope, of, rate, per_ms, burst, running, used (of whom, running, tokens, reached, opens_at)."""
        return cast("Sequence[Body]", (self.call("limits"))["limits"])

    def set_limit(self, name: str, **rule: Unpack[LimitSettings]) -> bool:
        """How many tasks of whom may begin in a time, and run at a time; what is absent stays. Whether it is new."""
        return bool((self.call("set_limit", {"name": name, **rule}))["new"])

    def remove_limit(self, name: str) -> None:
        """What it held goes on."""
        self.call("remove_limit", {"name": name})

    def remove_resource(self, name: str) -> None:
        """Tasks that need it wait until it is there again."""
        self.call("remove_resource", {"name": name})

    def stop(self, now: bool = False) -> None:
        """Ask the daemon to drain and end (``now``: without draining); see ``stop_daemon`` to wait for it."""
        self.call("stop", {"now": now})

    # consuming from outside the pool

    def claim(
        self, queues: Sequence[str], types: Sequence[str] | None = None, *, limit: int = 1, wait: Duration = 0, lease: Duration = 30
    ) -> Sequence[Body]:
        """Take at most ``limit`` tasks under a lease; waits up to ``wait`` for one. Payloads are decoded."""
        args = claim_args(queues, types, limit, wait, lease)
        body = self.call("claim", args, args["wait_ms"] / 1000 + self.timeout)
        return [{**task, "payload": decode(task["payload"])} for task in body["tasks"]]

    def extend(self, task_id: int, claim: int, lease: Duration = 30) -> bool:
        """Push the lease out; False: the claim is over, stop working."""
        return bool(self.call("extend", {"id": task_id, "claim": claim, "lease_ms": duration_ms(lease)})["ok"])

    def settle(self, results: Sequence[Sequence[Any]]) -> Sequence[bool]:
        """End claims: ``(id, claim, "succeeded", {"result": value})`` or ``(id, claim, "failed", {"error": {...}})``.

        False: somebody else holds the task, or it is over (also when the answer to this very settle was lost).
        """
        return cast("Sequence[bool]", self.call("settle", {"results": wire_results(results)})["settled"])

    def release(self, claims: Sequence[tuple[int, int]]) -> Sequence[bool]:
        """Give ``(id, claim)`` back unstarted, uncharged."""
        return cast("Sequence[bool]", self.call("release", {"claims": [[*claim] for claim in claims]})["released"])


def connect(
    data_dir: str | Path | None = None, autostart: bool | None = None, started: Callable[[int], None] | None = None, *,
    around_send: Iterable[AroundSend] = (), wait_for_room: Duration = 0, read_only: bool = False,
) -> Client:  # fmt: skip
    """A client of the daemon of ``data_dir`` (None: TQ_DATA_DIR, else the default). Connects at the first call.

    ``autostart``: start a daemon if none runs at the first call (None: only if TQ_AUTOSTART is 1); ``started`` is then told
    its pid. A daemon that goes later is waited for, ``BACK_WITHIN`` seconds, and not replaced. The rest is as for ``Client``.
    """
    from tq.config import data_dir_of

    if _instead is not None:
        return _instead(around_send=around_send, wait_for_room=wait_for_room, read_only=read_only)
    wanted = os.environ.get("TQ_AUTOSTART") == "1" if autostart is None else autostart
    more: dict[str, Any] = {"around_send": around_send, "wait_for_room": wait_for_room, "read_only": read_only}
    return Client(data_dir_of(data_dir), autostart=wanted, started=started, **more)


_defaults: dict[str | None, Client] = {}
_lock = threading.Lock()


_instead: Callable[..., Client] | None = None


def stand_in(make: Callable[..., Client] | None) -> Callable[..., Client] | None:
    """From now on ``connect`` and ``default`` give what this makes (None: clients of daemons again); what stood in before.

    For tests of programs that enqueue: see ``tq.testing``. ``make`` takes ``around_send``, ``wait_for_room`` and ``read_only``.
    """
    global _instead
    before, _instead = _instead, make
    return before


def default() -> Client:
    """The client of this process for the data directory of its environment; shared by its threads."""
    if _instead is not None:
        return _instead()
    name = os.environ.get("TQ_DATA_DIR")
    client = _defaults.get(name)
    if client is None:
        with _lock:
            client = _defaults.get(name) or _defaults.setdefault(name, connect())
    return client


@atexit.register
def _close_defaults() -> None:
    for client in _defaults.values():
        client.close()
