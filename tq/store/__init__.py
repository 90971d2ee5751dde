"""What a store is: the operations in which a task queue remembers, each taking a batch, each given ``now``.

For: the protocol that memory and LMDB (later Redis and PostgreSQL) carry out, and the values it speaks in.
Not for: deciding what becomes of a task (lifecycle), clocks, sockets, processes, log lines.
Runs in: the daemon, on the thread of its one loop (and in ``tq verify``, read-only).
Promises, and the conformance suite tests each of them on every store:

1. A turn is all or nothing: what was written between ``begin`` and ``commit`` is durable when ``commit`` returns
   and gone after ``abort`` (or a crash); nothing outside a turn writes.
2. Every operation checks all of its input before it changes anything: an operation that raises ``Refused`` or
   ``UsageError`` has changed nothing, so one request's refusal never touches its neighbours in the turn.
3. A guard that does not hold is an answer (None), never an exception, and changes nothing.
4. A store never decides: no clock, no policy, no randomness. Ids and sequence numbers are its own.
5. Ids and sequences rise by commit; an id is never given twice, even if the turn after it was lost.
6. Who is claimed first: queues share by weight, those that run as many tasks as they have slots left out; within a
   queue its tenants that have a task that may go share by weight (shares.py; those without a tenant are one); within a tenant
   the highest level, then the lowest sequence. But while a head below the tenant's highest level has waited longer than
   the queue's ``aging_ms``, one claim in ``aging_share`` of that tenant is the longest-waiting such head's. Claiming
   never reads past a task it may not take. A task that needs more slots or resources than are free is passed over; but once
   it has waited longer than ``aging_ms``, and longest of those that need one of these things, only ``aging_share`` - 1 others
   take of that before it: then what becomes free of it is kept for this task. One whose queue, type, tenant or flow key has reached
   a limit is passed over, and keeps nothing from others, until an end or time lets it go.
7. Reads see the turn they stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tq.lifecycle import Transition
from tq.model import Header, State, Task
from tq.store.batches import BatchInfo as BatchInfo
from tq.store.chore import RELEASE as RELEASE
from tq.store.chore import Chore as Chore
from tq.store.chore import release as release
from tq.store.full import Limits as Limits
from tq.store.full import NoRoom as NoRoom
from tq.store.full import QueueFull as QueueFull
from tq.store.full import admit as admit
from tq.store.full import arriving as arriving
from tq.store.full import bounds as bounds
from tq.store.limits import Limit as Limit
from tq.store.limits import Used as Used
from tq.store.orders import Orders
from tq.store.queues import QueueInfo as QueueInfo
from tq.store.queues import checked as checked
from tq.store.queues import queue_of as queue_of
from tq.store.schedule import Schedule as Schedule
from tq.store.tally import Tally as Tally
from tq.store.tenants import Account as Account
from tq.store.tenants import QuotaReached as QuotaReached
from tq.store.tenants import Tenant as Tenant

SCAN_MOST = 500
"""Tasks that one operation may touch; a verb that may touch more writes a chore."""


class Draft(NamedTuple):
    """A task to be accepted. ``due_at`` and ``expires_at`` are instants in ms, 0 for none.

    ``digest`` tells requests with the same idempotency key apart; it is kept beside ``header.key``. ``waits`` are those of its
    parents for whose end it is blocked. ``pace`` is the broker's: stores do not look at it.
    """

    header: Header
    payload: bytes
    due_at: int = 0
    expires_at: int = 0
    digest: bytes = b""
    waits: tuple[int, ...] = ()
    pace: Pace | None = None


class LetGo(NamedTuple):
    """Blocked tasks that heard of ends: those that wait no more, those that wait on, and those to be looked at one by one, since a
    parent did not end as it should or a record cannot be read."""

    unblocked: list[int]
    waiting: list[int]
    rest: list[int]


class KeyRef(NamedTuple):
    """A name that one task of a type holds: ``kind`` is "key" (the request that sent it), "unique" (what it is about) or "pace" (what is
    sent again and again about one thing: see ``hold_names``)."""

    kind: str
    type: str
    name: str


class Pace(NamedTuple):
    """How often tasks about one thing are accepted: of a ``debounce`` (True) the last, ``period_ms`` after nothing more came, at the
    latest ``most_ms`` after the first (0: never); of a throttle the first, and none for ``period_ms`` from then on."""

    name: KeyRef
    debounce: bool
    period_ms: int
    most_ms: int = 0


class Loan(NamedTuple):
    """A name that a task holds until an instant, whatever becomes of the task; ``digest`` is kept beside it."""

    name: KeyRef
    id: int
    digest: bytes
    until: int


class Holder(NamedTuple):
    """Which task holds a name, and the digest of the request that sent it."""

    id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class RequestId:
    """(client nonce, request number): repeating an enqueue whose answer was lost returns the same ids.

    ``again`` says that it may have been sent before; only then is the store asked whether it was.
    """

    nonce: bytes
    number: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """A claim: who asks, for how many, of what.

    ``costs`` gives the mean run time of types in ms: the claim stops before their sum passes ``budget_ms``, but
    always takes one; a type that is not in it costs more than any budget but an infinite one. ``queues`` and ``types`` None: any.
    External queues are only given to a want that names them. ``lease_ms`` 0: held by a local worker process.

    Of a worker of the pool ``at_once`` says how many of these tasks it begins now (0: what it gets waits in line behind others,
    so it gets none that needs anything), and of the pool's ``slots`` in all so many were ``free`` before the turn's first claim. None: the
    consumer is no worker of the pool, and heavy tasks take no slots of it.
    """

    worker: str
    limit: int
    budget_ms: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)
    queues: frozenset[str] | None = None
    types: frozenset[str] | None = None
    lease_ms: int = 0
    at_once: int | None = None
    free: int = 0
    slots: int = 0
    fill: Mapping[str, int] = field(default_factory=dict)
    """By type: where the last that is given is of it, this many in all are asked for in a second claim. Stores do not look at it."""


class Claimed(NamedTuple):
    """A task handed out: ``record`` is its specification as stored, checked; ``attempt`` how often it ran before."""

    id: int
    claim: int
    attempt: int
    crashes: int
    header: Header
    record: bytes
    failures: int = 0


class Peeked(NamedTuple):
    """A task that a claim would take, and why it goes first: "priority", "aged" (it waited longer than its queue's
    ``aging_ms``) or "share" (its queue's or tenant's turn came before that of one with a higher level)."""

    id: int
    why: str


class Success(NamedTuple):
    """An attempt that succeeded; times in ms, ``result`` packed msgpack or None."""

    id: int
    claim: int
    started_at: int
    finished_at: int
    output: bool
    result: bytes | None


SuccessRow = tuple[int, int, int, int, bool, bytes | None]
"""A Success, or a plain tuple like it: the hot path makes no object of its own for each."""


class Running(NamedTuple):
    """A task that runs. ``plain``: neither its time to live nor a cancel has a say in what becomes of it."""

    claim: int
    header: Header
    failures: int
    plain: bool


class Failure(NamedTuple):
    """An attempt that failed and will be retried at ``due_at``; ``details`` holds ``error`` and ``exit_code``."""

    id: int
    claim: int
    started_at: int
    finished_at: int
    output: bool
    details: Mapping[str, Any]
    due_at: int


@dataclass(frozen=True, slots=True)
class Held:
    """A task that is claimed: by whom, since when, under which lease (0: a local worker)."""

    id: int
    claim: int
    worker: str
    claimed_at: int
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """What the store knows of a type: the defaults its handler declared (None: not declared), its ``schedule``, in the words
    of ``tq.wire``'s ``set_schedule``, and its ``breaker``, in those of ``tq.breakers``."""

    name: str
    queue: str | None = None
    retries: int | None = None
    timeout_ms: int | None = None
    backoff: Sequence[Any] | None = None
    priority: int | None = None
    once: bool | None = None
    retry_for_ms: int | None = None
    schedule: Mapping[str, Any] | None = None
    slots: int | None = None
    uses: Mapping[str, int] | None = None
    batch: int | None = None
    batch_wait_ms: int | None = None
    breaker: str | None = None

    def row(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]


@dataclass(frozen=True, slots=True)
class Query:
    """Which tasks a list shows, newest first (pending ones by queue, level and sequence; ``peek`` knows how tenants share). None: any.

    ``before`` is the cursor of the page before, as it was given; ``limit`` the most tasks of one page. ``oldest`` gives the
    oldest first instead, pending ones among them: for work that has to keep their order. ``ids`` are the smallest and the
    greatest id: others are not looked at.
    """

    states: frozenset[State] | None = None
    queue: str | None = None
    type: str | None = None
    tenant: str | None = None
    label: str | None = None
    limit: int = 50
    before: bytes | None = None
    oldest: bool = False
    ids: tuple[int, int] | None = None


class Resource(NamedTuple):
    """A named resource: how much of it there is for tasks that run to share."""

    name: str
    amount: int

    def row(self) -> list[Any]:
        return [self.name, self.amount]


class InUse(NamedTuple):
    """What tasks that run hold: ``resources`` by name, ``slots`` by queue, and the ``workers``' slots that heavy tasks take beside their
    own. ``kept`` says for which task something is kept (promise 6): resources by name, slots of a queue as (name,), of workers as ""."""

    resources: Mapping[str, int]
    slots: Mapping[str, int]
    workers: int
    kept: Mapping[str | tuple[str], int]


class Space(NamedTuple):
    """How much room there is, in bytes: ``free`` on the disk, ``least`` of which new tasks do not get; ``live`` of records, which may
    grow to ``most``, less ``reserve`` for new tasks."""

    free: int
    least: int
    live: int
    reserve: int
    most: int


def places_filled(fresh: Sequence[int], places: Sequence[int]) -> list[int]:
    """The ids that ``Store.enqueue`` gives for ``places`` when its drafts got the ids ``fresh``."""
    new = iter(fresh)
    return [place or next(new) if place >= 0 else fresh[-1 - place] for place in places]


@dataclass(frozen=True, slots=True)
class Event:
    """Something an operator or the system did: ``number`` 0 is one not stored yet, ``at`` in ms.

    ``who`` is "user 1000 (pid 4242)" or "tq"; ``what`` the verb in the past tense; ``target`` what it was done to;
    ``before`` and ``after`` hold only what changed.
    """

    number: int
    at: int
    who: str
    what: str
    target: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None

    def row(self) -> list[Any]:
        return [self.number, self.at, self.who, self.what, self.target, self.before, self.after]


class Store(Orders, Protocol):
    """See the module's promises. ``now`` is in ms since the epoch and never falls between two turns."""

    # the turn
    def begin(self, now: int) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...

    # writes, inside a turn
    def enqueue(self, drafts: Sequence[Draft], request: RequestId | None = None, places: Sequence[int] | None = None) -> Sequence[int]:
        """Store the drafts and give their ids: ``last_id()`` + 1 and on, in order. QueueFull: a queue's limit would be passed.
        QuotaReached: that of a tenant would.

        ``places`` is for requests some of whose tasks exist already, and says what to give (and to remember of the request) for
        each of its tasks: 0 the id of the next draft, above 0 that id, below 0 (-1 - n) the id of the draft at n.

        A draft that waits for others is blocked, one with a due time in the future scheduled, else it is pending. The names in
        ``header.key`` and ``header.unique`` are its own from now on: ask ``holders`` first. A unique name is free again
        in the transaction of the end; a key ``keep_keys_ms`` after it, whether the task is still kept or not.
        """

    def hold_names(self, loans: Sequence[Loan]) -> None:
        """From now on these names are held so, whoever held them before; of a kind that no header names.

        Where another name of the task ends at that instant it is held a millisecond longer, or as many as there are of them.
        """

    def claim(self, want: Want) -> list[Claimed]:
        """Take the next tasks (promise 6) for ``want``; they are running and their claim number has risen."""

    def succeed(self, results: Sequence[SuccessRow]) -> list[bool]:
        """Settle successes: the hot path of ``apply``. False: the claim is over, nothing changed."""

    def awaited(self, ids: Iterable[int]) -> Collection[int]:
        """Those of these tasks for which others wait."""

    def children(self, parent: int, limit: int, after: int = 0) -> list[int]:
        """The blocked tasks that wait for ``parent``, by id, behind the id ``after``."""

    def states(self, ids: Sequence[int]) -> list[State | None]:
        """Where tasks stand, without reading the rest of them; None where there is none."""

    def running(self, ids: Sequence[int]) -> list[Running | None]:
        """What is known of tasks that run, without reading any of them; None: it does not run."""

    def retry_later(self, failures: Sequence[Failure]) -> list[bool]:
        """Settle failures that will be retried, of tasks whose ``Running`` is plain: the hot path of ``apply``, as ``succeed``."""

    def promote(self, limit: int) -> list[int]:
        """Make pending what is scheduled or retrying and due by now (``came_due``), oldest first, in a batch; the ids."""

    def apply(self, transitions: Sequence[Transition]) -> list[Task | None]:
        """Carry out guarded transitions; the task as it is now, or None where the guard did not hold.

        A status that becomes pending with ``seq`` 0 gets the next sequence; one with a ``seq`` keeps its place. A
        transition with a ``spec`` also gives the task that specification (its id, key and unique name are the old ones), one that
        leaves it blocked lets it wait no more for ``parents``, one that makes it blocked lets it wait for ``waits``. A
        finished task comes back to life (``retried``) only if no other holds its unique name: else the guard fails.
        QueueFull: what comes back to life, moves to another queue or grows would pass a queue's limit; no settle ever does.
        """

    def change(self, ids: Sequence[int], decide: Callable[[Task], Transition | None]) -> list[tuple[Transition, Task | None]]:
        """``apply`` what ``decide`` says of each of these tasks that there is (None: nothing), with one look at each: the transitions,
        and what ``apply`` says of them. No id may come twice."""

    def let_go(self, ends: Mapping[int, Mapping[int, State]]) -> LetGo:
        """Blocked tasks hear which of their parents are over, and how (``parent_over``, ``unblocked``): the hot path of ``change``."""

    def due(self, limit: int) -> list[tuple[str, int]]:
        """Take what else is due, oldest first: ("expire" | "lease" | "forget", task id). These timers are gone.

        However much waits for ``promote`` holds up nothing here, nor the other way round, nor timers a lease.
        "forget" is a finished task whose queue keeps it no longer (``QueueInfo.keep_ms``). Keys run out by themselves.
        """

    def extend(self, task_id: int, claim: int, lease_ms: int) -> bool:
        """Push out the lease of a consumer's claim; False: the claim is over."""

    def stepped(self, ms: int) -> None:
        """Between turns: the clock was put forward (or back, if less than 0) by so much; leases last as long as they would have."""

    def remove(self, ids: Sequence[int]) -> list[bool]:
        """Forget tasks that are over or wait; False where there is none or it runs. Names end as by any other end."""

    def retain(self, limits: Limits, most: int) -> list[tuple[int, bool]]:
        """Forget the oldest of what is kept too long, too many or too large, ``most`` at the most: (id, had output).

        In a store that is ``short`` of room those that ended some minutes ago and did not fail are forgotten, too; where others
        could not end, any.
        """

    def short(self) -> bool:
        """In a turn: whether there is so little room that finished tasks go before their time: see ``retain``."""

    def note(self, event: Event) -> Event:
        """Remember an event; with its number. The oldest beyond ``keep_events`` are forgotten."""

    def put_types(self, types: Sequence[TypeInfo]) -> None: ...
    def put_queue(self, queue: QueueInfo) -> None: ...
    def put_resource(self, resource: Resource) -> None:
        """How much there is of it from now on; what runs holds what it has, also if that is more."""

    def drop_resource(self, name: str) -> None: ...
    def put_standing(self, kind: str, name: str, row: Sequence[Any] | None) -> None:
        """Remember where something stands that a room of the broker keeps: ``row`` is that room's (None: forget it). No NUL in ``kind``."""

    def put_limit(self, limit: Limit) -> None:
        """It counts from now on, and what runs counts with it. In the place of one of its name and scope what was begun stays begun."""

    def drop_limit(self, name: str) -> None: ...
    def put_tenant(self, tenant: Tenant) -> None:
        """Its weight and quotas from now on; what is there stays, be it more than they allow."""

    def drop_tenant(self, name: str) -> None:
        """Forget what was put for it; its tasks stay."""

    def put_chore(self, chore: Chore) -> Chore:
        """Write a chore, or where it stands; one with id 0 gets its id."""

    def drop_chore(self, chore_id: int) -> None: ...
    def put_batch(self, batch: BatchInfo) -> BatchInfo:
        """Write a batch, with counts as they were read in this turn; one with number 0 gets its number. It is ``touched``."""

    def drop_batch(self, number: int) -> None: ...
    def touched(self) -> list[int]:
        """In a turn: the batches of which members came to an end, or back from it, and those that were put, since this was asked."""

    def put_schedule(self, schedule: Schedule) -> Schedule:
        """Write a schedule, or where it stands; one with number 0 gets its number. Its timer is that of its ``due_at``."""

    def drop_schedule(self, number: int) -> None: ...
    def slots(self, limit: int) -> list[Schedule]:
        """Schedules that are due by now, oldest first; each stays so until it is put with another ``due_at``."""

    # reads
    def get(self, ids: Sequence[int]) -> list[Task | None]: ...
    def environment(self, key: bytes) -> bytes | None:
        """The packed environment of that key; None: no task has it. It comes with the first task, and goes with the last."""

    def inputs(self) -> set[str]:
        """The names of all inputs (``tq.spool``) of commands that have an environment."""

    def freed(self) -> list[str]:
        """Between turns: the names of inputs whose tasks were forgotten since this was asked last, in turns that were committed."""

    def find(self, query: Query) -> Iterator[tuple[Task, bytes] | None]:
        """Tasks that match, each with the cursor behind it; None marks a place where the reader may be left for
        another turn, since the iterator holds no transaction across it."""

    def walk(self, states: frozenset[State] | None, first: int, last: int, *, oldest: bool = False) -> Iterator[Sequence[int]]:
        """The ids, from the ``first`` to the ``last``, of tasks in ``states`` (None: any), newest first or ``oldest`` first, without
        reading the rest of them; some hundreds at a time, or none, and after each the reader may be left for another turn."""

    def headers(self, ids: Sequence[int]) -> list[Header | None]:
        """What tasks have in common with others of their kind, without reading the rest of them; None: there is none, or it cannot be
        read. Whether a record is sound is not looked at."""

    def peek(self, limit: int, queue: str | None = None, without: Collection[str] = ()) -> list[Peeked]:
        """The next tasks a claim would take, in that order, but for those of types ``without``; nothing changes, none of them is read."""

    def line(self, queue: str, limit: int) -> list[int]:
        """The first ready tasks of a queue in the order in which it gives them, be it paused or all of its slots taken."""

    def oldest(self, queue: str | None, type: str | None) -> int:  # noqa: A002
        """Since when the one waits that is ready longest, of a queue and a type (None: of any); 0 if none is ready."""

    def oldest_of_each(self) -> dict[str, int]:
        """The same of each queue in which one is ready."""

    def coming(self, after: tuple[int, int], until: int, limit: int) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
        """Tasks that come due up to ``until``, (instant, id) in order, behind ``after`` ((0, 0): all), and with what to go on (None: no
        more). It may be fewer than there are: a timer may be one that nobody needs any more, and those of others stand between."""

    def sent(self, request: RequestId) -> Sequence[int] | None:
        """In a turn: the ids that an enqueue gave when it was sent before; None: it was not, or too long ago."""

    def holders(self, names: Sequence[KeyRef]) -> list[Holder | None]:
        """Which task holds each of the names."""

    def events(self, before: int | None, limit: int) -> list[Event]:
        """Events, newest first, those numbered below ``before``."""

    def events_after(self, number: int, limit: int) -> list[Event]:
        """Events numbered above ``number``, oldest first."""

    def held(self) -> list[Held]: ...
    def tallies(self) -> list[Tally]: ...
    def queues(self) -> dict[str, QueueInfo]: ...
    def resources(self) -> dict[str, int]: ...
    def standings(self, kind: str) -> dict[str, Sequence[Any]]:
        """What was put of a kind, by name."""

    def limits(self) -> dict[str, Limit]: ...
    def is_limited(self) -> bool:
        """Whether there is any limit, or any quota of how many tasks of a tenant may run."""

    def tenants(self) -> dict[str, Tenant]: ...
    def account(self, name: str | None) -> Account | None:
        """What there is of a tenant (None: nothing is known of it), or, with None, of all together. To be read in the turn."""

    def accounts(self, after: str, most: int) -> list[Account]:
        """By name, behind ``after``: of those that have tasks, or had some lately, and of those for which something was put."""

    def limited(self, limit: Limit, most: int) -> list[Used]:
        """How far a limit is used, of each of its scope of which some run or are ready; ``most`` at the most, those first that have
        reached it."""

    def reaching(self, most: int) -> list[tuple[Limit, list[Used]]]:
        """The limits that hold back something that is ready, and whom: ``most`` of each at the most."""

    def reached(self, header: Header) -> list[tuple[Limit, Used]]:
        """The limits, and the quota of its tenant, that keep a task of this header from beginning now, and how far each is used."""

    def in_use(self, workers: int = 0) -> InUse:
        """``workers``: how many slots the pool's workers have, if they may be kept for a task, too."""

    def heaviest(self, types: Collection[str]) -> int:
        """The most slots that a ready task of these types would take, of those in queues open to the pool that lack nothing but workers."""

    def types(self) -> dict[str, TypeInfo]: ...
    def chores(self) -> list[Chore]: ...
    def batch(self, number: int) -> BatchInfo | None:
        """A batch as it stands. One that is over is forgotten ``keep_failed_ms`` later, and its members' ends count nowhere then."""

    def batches(self, before: int | None, limit: int, *, oldest: bool = False) -> list[BatchInfo]:
        """Batches, newest first, those numbered below ``before``; or the ``oldest`` ones, oldest first."""

    def batch_count(self) -> int: ...
    def schedules(self) -> dict[str, Schedule]: ...
    def last_id(self) -> int: ...
    def shut(self, queues: Collection[str]) -> None:
        """Until it is called again nothing of these queues, and of these alone, is given out: ``claim``, ``peek`` and ``ready`` do
        as if they were paused. It is not stored, nor undone by ``abort``. In a turn there may only be more of them."""

    def would_start(self, queue: str) -> bool:
        """Whether something of a queue might be given out if that were not shut."""

    def ready(self) -> bool:
        """Whether some task is pending in a queue that is open to the pool."""

    def next_due(self) -> int | None:
        """The instant of the first timer, in ms, or that at which a limit lets go what is ready; None if there is none."""
