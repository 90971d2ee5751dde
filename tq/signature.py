"""Signatures: calls that are not made yet, and how they are joined: chains, groups, and what comes after a whole group.

For: ``add.s(1, 2)``, ``a.s() | b.s()``, ``tq.group``, ``tq.chord``, ``add.map(...)``; giving a task the results of those before it.
Not for: named graphs that are looked at and run again as a whole (workflows), which task waits for which (the daemon).
Runs in: programs that enqueue; ``fed`` in the worker.
Promises: a flow is sent in one request, so it is stored whole or not at all; a call that does not fit its function fails at the
sender, as a plain call does; nothing is read from the daemon until a task asks for what those before it gave.

The words and their meaning are those of Celery. ``s`` makes a signature that takes the result of what stands before it as its *first*
argument, ``si`` an immutable one that does not::

    (fetch.s(url) | parse.s(strict=True) | notify.si("done")).enqueue()     # parse(<result of fetch>, strict=True)
    (tq.group(area.s(n) for n in range(10)) | total.s()).enqueue().result()   # total([<ten results, in order>])
    tq.chord(area.map(range(10)), total.s())                                  # the same

A task of a chain runs if the one before it succeeded, one behind a group if all of the group did; else it is cancelled, unless
``b.s().set(on_parent_failure="run")`` says otherwise: then the results of those that succeeded come, or None for a single one. Groups in
groups give one flat list. Results travel through the store: one that was too large to be kept is None.

``tq.Task`` classes have the same words: ``Pay.s(Order(17)) | Mail.s()``. Such a task has one argument, its payload: ``s()`` takes the
result of what stands before it as that, ``s(payload)`` stands first, and ``si(payload)`` anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, cast

from tq.errors import PayloadError
from tq.middleware import AroundSend, arows_through, rows_through

if TYPE_CHECKING:
    from typing import Unpack

    from tq.client import AsyncHandle, Handle
    from tq.client.core import Duration, Options
    from tq.context import Context

R = TypeVar("R")
T = TypeVar("T")
INTO = "tq.into"
"""The key in a task's extras that says which argument comes from the tasks before it: [name or place, how many; 0: one alone].
Without a name or place it is the whole payload."""
RESULTS_A_CALL = 100
FED: Any = object()
"""Stands for the argument that is not there yet."""


class Sending(Protocol):
    """What a signature needs to know of an application."""

    @property
    def sending(self) -> Sequence[AroundSend]: ...


class Callee(Protocol):
    """What a signature needs to know of the task that it calls."""

    @property
    def name(self) -> str: ...
    @property
    def app(self) -> Sending: ...
    @property
    def reads(self) -> Callable[[Any], Any] | None:
        """Makes of a stored result what its handler returned; None: it is that."""

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The arguments as one value; TypeError if they do not fit. ``FED`` may be the first of them, or all there is."""


class Ends(NamedTuple):
    """Behind what the next part of a flow stands: the places ``after`` which it runs, of which the first ``giving`` give their
    results; ``many``: as a list, even of one or none. ``loose`` may end in any way, ``failed`` must fail."""

    after: tuple[int, ...] = ()
    giving: int = 0
    many: bool = False
    loose: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()


class Plan:
    """The rows of a flow as it is laid out; places count from -1 downwards, as ``enqueue_graph`` has them."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Any, Options]] = []
        self.apps: list[Sending] = []
        self.reads: list[Callable[[Any], Any] | None] = []

    def add(self, task: Callee, payload: object, options: Options) -> int:
        """Its place."""
        self.rows.append((task.name, payload, options))
        self.apps.append(task.app)
        self.reads.append(task.reads)
        return -len(self.rows)

    def through(self) -> Iterator[tuple[str, Any, Options]]:
        """The rows, each through the middleware of its application."""
        for app, row in zip(self.apps, self.rows, strict=True):
            yield from rows_through(app.sending, [row]) if app.sending else [row]

    async def athrough(self) -> list[tuple[str, Any, Options]]:
        found: list[tuple[str, Any, Options]] = []
        for app, row in zip(self.apps, self.rows, strict=True):
            found += await arows_through(app.sending, [row]) if app.sending else [row]
        return found


class Flow(Generic[R]):
    """Something that can be sent, and stand before or behind others. ``R`` is its result: of a chain that of its last part, of a group
    the list of all."""

    def lay(self, plan: Plan, before: Ends) -> Ends:
        """Put its tasks into the plan, behind ``before``; what the next has to stand behind."""
        raise NotImplementedError

    def plan(self, *beside: Flow[Any]) -> Plan:
        """All of it laid out, and those beside it, behind nothing."""
        plan = Plan()
        for flow in (self, *beside):
            flow.lay(plan, Ends())
        return plan

    def __or__(self, then: Flow[T]) -> Flow[T]:
        return _Chain(self, then)

    def enqueue(self) -> Sent[R]:
        """Send all of it; returns when it is on disk. UsageError: more than 10,000 tasks; PayloadError: more than fits a frame."""
        from tq.client import Handle, default

        plan = Plan()
        ends = self.lay(plan, Ends())
        client = default()
        ids = client.enqueue_graph(plan.through()) if plan.rows else []
        return Sent([Handle(client, one, read) for one, read in zip(ids, plan.reads, strict=True)], ends)

    async def aenqueue(self) -> AsyncSent[R]:
        """``enqueue`` for programs with an event loop."""
        from tq.client import AsyncHandle, adefault

        plan = Plan()
        ends = self.lay(plan, Ends())
        client = await adefault()
        ids = await client.enqueue_graph(await plan.athrough()) if plan.rows else []
        return AsyncSent([AsyncHandle(client, one, read) for one, read in zip(ids, plan.reads, strict=True)], ends)


class Signature(Flow[R]):
    """One call of one task, with options of its own."""

    def __init__(
        self, task: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Options, immutable: bool = False
    ) -> None:  # fmt: skip
        self._task, self._args, self._kwargs, self._options, self._immutable = task, args, kwargs, options, immutable

    def __repr__(self) -> str:
        words = [*map(repr, self._args), *(f"{name}={value!r}" for name, value in self._kwargs.items())]
        return f"{self._task.name}.{'si' if self._immutable else 's'}({', '.join(words)})"

    def set(self, **options: Unpack[Options]) -> Signature[R]:
        """The same call with these options too: ``load.s().set(queue="db", timeout="5m")``."""
        merged: Options = {**self._options, **options}
        return Signature(self._task, self._args, self._kwargs, merged, self._immutable)

    def lay(self, plan: Plan, before: Ends) -> Ends:
        from tq.client.core import ids_of

        options: Options = {**self._options}
        if before.after:
            options["after"] = [*before.after, *ids_of(options.get("after", ()))]
        if before.loose:
            options["after_any"] = [*before.loose, *ids_of(options.get("after_any", ()))]
        if before.failed:
            options["after_failure"] = [*before.failed, *ids_of(options.get("after_failure", ()))]
        args = self._args
        fed = not self._immutable and (before.many or before.giving > 0)
        if fed:
            args = (FED if before.giving else [], *args)
        payload = self._task.bind(args, self._kwargs)
        if fed and before.giving:
            payload, into = _without_fed(payload)
            options["extras"] = {**options.get("extras", {}), INTO: [into, before.giving if before.many else 0]}
        return Ends((plan.add(self._task, payload, options),), 1)


def _without_fed(payload: Any) -> tuple[Any, str | int | None]:
    """The payload without the argument that is still to come, and where that goes; None: it is the payload."""
    if payload is FED:
        return None, None
    if isinstance(payload, dict):
        (name,) = (name for name, value in payload.items() if value is FED)
        return {one: value for one, value in payload.items() if one != name}, name
    return (payload or [])[1:], 0


class _Chain(Flow[R]):
    def __init__(self, first: Flow[Any], then: Flow[R]) -> None:
        self._first, self._then = first, then

    def __repr__(self) -> str:
        return f"{self._first!r} | {self._then!r}"

    def lay(self, plan: Plan, before: Ends) -> Ends:
        return self._then.lay(plan, self._first.lay(plan, before))


class Group(Flow[list[R]]):
    """Flows side by side."""

    def __init__(self, members: Iterable[Flow[R]]) -> None:
        self._members = tuple(members)

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self._members))})"

    def lay(self, plan: Plan, before: Ends) -> Ends:
        ends = [member.lay(plan, before) for member in self._members]
        found = tuple(place for end in ends for place in end.after[: end.giving])
        return Ends(found or before.after, len(found), many=True)


def group(*members: Flow[R] | Iterable[Flow[R]]) -> Group[R]:
    """Flows side by side: ``group(a.s(1), a.s(2))``, or of a list or a generator. Its result is the list of theirs, in order."""
    flat: list[Flow[R]] = []
    for member in members:
        flat += [member] if isinstance(member, Flow) else member
    return Group(flat)


def chain(first: Flow[Any], *rest: Flow[Any]) -> Flow[Any]:
    """Flows one after the other: the same as ``first | second | ...``, which types better."""
    for then in rest:
        first = first | then
    return first


def chord(header: Iterable[Flow[Any]] | Flow[Any], callback: Flow[T]) -> Flow[T]:
    """``callback`` after a whole group, with the list of its results: ``group(header) | callback``."""
    return (header if isinstance(header, Flow) else group(header)) | callback


class _SentTo(Generic[R]):
    """Which of the tasks that were sent are the ends of the flow."""

    def __init__(self, tasks: Sequence[Any], ends: Ends) -> None:
        self._many = ends.many
        self._ends: list[Any] = [tasks[-1 - place] for place in ends.after[: ends.giving]]


class Sent(_SentTo[R]):
    """A flow that was sent: ``tasks`` are all of its tasks, ``ends`` those whose results are its result."""

    def __init__(self, tasks: Sequence[Handle[Any]], ends: Ends) -> None:
        super().__init__(tasks, ends)
        self.tasks = list(tasks)

    @property
    def ends(self) -> list[Handle[Any]]:
        return self._ends

    def wait(self, timeout: Duration | None = None) -> list[str]:
        """The final states of its ends. TaskTimeout if they are not over in time, NoSuchTask if one was removed."""
        return [end.wait(timeout) for end in self.ends]

    def result(self, timeout: Duration | None = None) -> R:
        """What its ends returned, once they are over; TaskFailed, TaskCancelled or TaskTimeout for the first that did not succeed."""
        values = [end.result(timeout) for end in self.ends]
        return cast("R", values if self._many else values[0])

    def cancel(self) -> None:
        """Cancel what waits of it, and ask what runs to end."""
        for start in range(0, len(self.tasks), RESULTS_A_CALL):
            self.tasks[0].client.cancel(self.tasks[start : start + RESULTS_A_CALL])


class AsyncSent(_SentTo[R]):
    """The same for programs with an event loop."""

    def __init__(self, tasks: Sequence[AsyncHandle[Any]], ends: Ends) -> None:
        super().__init__(tasks, ends)
        self.tasks = list(tasks)

    @property
    def ends(self) -> list[AsyncHandle[Any]]:
        return self._ends

    async def wait(self, timeout: Duration | None = None) -> list[str]:  # noqa: ASYNC109 - as handles have it
        return [await end.wait(timeout) for end in self.ends]

    async def result(self, timeout: Duration | None = None) -> R:  # noqa: ASYNC109 - as handles have it
        values = [await end.result(timeout) for end in self.ends]
        return cast("R", values if self._many else values[0])

    async def cancel(self) -> None:
        for start in range(0, len(self.tasks), RESULTS_A_CALL):
            await self.tasks[0].client.cancel(self.tasks[start : start + RESULTS_A_CALL])


# in the worker


def results_of(ids: Sequence[int]) -> dict[int, Any]:
    """The results of those of these tasks that succeeded and are still there, by the daemon of this process."""
    from tq.client import default
    from tq.client.core import decode

    call = default().call
    found: dict[int, Any] = {}
    for start in range(0, len(ids), RESULTS_A_CALL):
        for row in call("get", {"ids": [*ids[start : start + RESULTS_A_CALL]]})["tasks"]:
            whole = call("get", {"ids": [row["id"]]})["tasks"][0] if row is not None and row.get("cut") else row
            if whole is not None and whole["state"] == "succeeded":
                found[whole["id"]] = decode(whole.get("result"))
    return found


def fed(context: Context, value: Any) -> Any:
    """A task's payload with the argument that comes from the tasks before it. PayloadError if that is not to be had any more."""
    head = context.spec.header
    try:
        into, count = (head.extras or {})[INTO]
        ids = head.parents[: count or 1]
        loose = {*head.parents_any, *head.parents_failed}
        results = context.parents
        gone = next((one for one in ids if one not in results and one not in loose), None)
        if gone is not None:
            raise PayloadError(
                f"expected the result of task {gone}, which this one is called with, but that was removed or runs again. Send both anew."
            )
        given = [results[one] for one in ids if one in results] if count else results.get(ids[0])
        if into is None:
            return given
        if isinstance(into, str):
            return {**(value or {}), into: given}
        return [*(value or [])[:into], given, *(value or [])[into:]]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise PayloadError(f"expected extras of a chained task, [argument, how many], got others: {error}") from None
