"""The nouns: what a task is, what has become of it, and the states in between.

For: value objects that every room shares, and the two records a task is kept in.
Not for: I/O, clocks, decisions (lifecycle) or where records lie (store).
Runs in: the daemon, the workers and every client but the thin path of the command line.
Promises: a record that decodes is whole (format version and CRC-32 checked); times are integer milliseconds
since the epoch, named ``_ms`` (durations) or ``_at`` (instants); 0 or None means "none".

A **specification** is written once, when the task is accepted, and hardly ever again:

    >B  format version     >Q created_at  >Q seq  >Q due_at  >Q expires_at  >H length of the header
    header: see below      payload: bytes, never opened here      >I CRC-32

``seq`` is its place in its lane when it was pending from the start, else 0. The header is a msgpack row of everything that
tasks of one kind share, so it is packed once and its bytes serve ten thousand tasks. Where a task has something of its own
(OWN: a tenant, a name, what it waits for) it is

    >B 0xC1      >H length of the next      the row of its kind      a msgpack row of what is its own
    (before store format 6, one row had all of it)

A **status** is written when something has happened: a msgpack row (see ``Status``) and its CRC-32. A task that
nothing has happened to has none: it is pending if its ``seq`` is not 0, else scheduled.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import msgpack

from tq.alike import Alike, altered, joined, parted
from tq.errors import StoreDamaged, StoreTooNew
from tq.words import MAX_DURATION_MS, MAX_NAME, PRIORITIES, brief, duration_ms, is_name, is_pattern, is_resource, priority_of, safe_text

__all__ = [  # rooms above take these from here
    "MAX_DURATION_MS", "MAX_NAME", "PRIORITIES", "brief", "duration_ms", "is_name", "is_pattern", "is_resource", "priority_of", "safe_text",
]  # fmt: skip
FORMAT = 1
HEAD = struct.Struct(">BQQQQH")
CRC = struct.Struct(">I")

DEFAULT_PRIORITY = 1
DEFAULT_QUEUE = "default"
SHELL = "shell"
"""The type of commands: built in, so every store knows it."""

# Limits of design section 3. Each is the default of a setting of the same name.
MAX_PAYLOAD = 256 * 1024
MAX_RESULT = 64 * 1024
MAX_ERROR = 4 * 1024
MAX_ATTEMPTS_KEPT = 10
MAX_CRASHES = 3
MAX_INTERRUPTS = 10
MAX_ENVIRONMENT = 128 * 1024
MAX_SLOTS = 1_000_000
"""And the most that there may be of a resource."""
MAX_NEEDS = 16
"""Resources that one task may ask for."""
MAX_HEADER = 0xFFFF
"""Bytes of a packed header: its length has two bytes in the record."""
OWN = (
    "tenant", "flow", "correlation_id", "key", "unique", "label", "meta", "order", "order_goes_on", "batch",
    "parents", "parents_any", "parents_failed", "strict",
)  # fmt: skip
"""The fields of a header that are a task's own: one that differs from others only in these is read and made for the price of a copy."""
_NONE: tuple[object, ...] = (None, (), False)  # of a task that has nothing of its own there
_OWN_AT, _PLAIN = {name: at for at, name in enumerate(OWN)}, OWN.index("parents") + 1


pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
"""Packs one value; not thread-safe, so for the one busy thread of a process only."""


def unpack(data: bytes | memoryview) -> Any:
    """The value in ``data``; raises ValueError (or a msgpack subclass of it) if it is not exactly one value."""
    try:
        return msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=False)
    except TypeError as error:  # a list as a key of a map
        raise ValueError(str(error)) from None


class State(enum.IntEnum):
    """Where a task stands. The last four are final."""

    SCHEDULED = 0
    BLOCKED = 1
    PENDING = 2
    RUNNING = 3
    RETRYING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    EXPIRED = 8

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def final(self) -> bool:
        return self >= State.SUCCEEDED


STATES = tuple(s.word for s in State)
FINAL = frozenset(s for s in State if s.final)
WAITING = frozenset({State.SCHEDULED, State.BLOCKED, State.PENDING, State.RETRYING})
_SYNONYMS = {"completed": "succeeded", "success": "succeeded", "done": "succeeded", "processing": "running"}
_SYNONYMS |= {"dead": "failed", "ready": "pending", "canceled": "cancelled"}


def state_named(word: str) -> State:
    """The state a word means, synonyms included; ValueError names the words there are."""
    word = word.strip().lower()
    word = _SYNONYMS.get(word, word)
    if word not in STATES:
        raise ValueError(f"expected a state ({', '.join(STATES)}), got {word!r}")
    return State(STATES.index(word))


BACKOFFS = ("fixed", "linear", "exponential")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt: ``base_ms`` for the first, growing, never over ``cap_ms``. One of BACKOFFS."""

    kind: str = "exponential"
    base_ms: int = 1000
    factor: float = 2.0
    cap_ms: int = 300_000
    jitter: bool = True

    @classmethod
    def fixed(cls, delay: object, *, jitter: bool = True) -> Self:
        """Always the same: ``Backoff.fixed("30s")``."""
        return cls("fixed", duration_ms(delay), 1.0, duration_ms(delay), jitter)

    @classmethod
    def linear(cls, step: object, *, most: object = "5m", jitter: bool = True) -> Self:
        """One step more each time, never over ``most``: ``Backoff.linear("10s", most="1h")``."""
        return cls("linear", duration_ms(step), 1.0, max(duration_ms(most), duration_ms(step)), jitter)

    @classmethod
    def exponential(cls, first: object = "1s", *, factor: float = 2.0, most: object = "5m", jitter: bool = True) -> Self:
        """``factor`` times as long each time, never over ``most``: ``Backoff.exponential("5s", most="1h")``."""
        return cls("exponential", duration_ms(first), factor, max(duration_ms(most), duration_ms(first)), jitter)

    @classmethod
    def of(cls, value: object) -> Self:
        """What an option says: a Backoff, or the word for one with the usual delays. ValueError for anything else."""
        if isinstance(value, cls):
            numbers = all(isinstance(one, int | float) for one in (value.base_ms, value.factor, value.cap_ms))
            if value.kind not in BACKOFFS or not numbers:
                raise ValueError(f"expected delays in ms, or a tq.Backoff made as tq.Backoff.fixed('5s'), got {value!r}")
            return value
        if isinstance(value, str) and value in BACKOFFS:
            return cls(value)
        raise ValueError(f"expected {', '.join(BACKOFFS)}, or delays of your own as tq.Backoff.fixed('5s'), got {value!r}")

    def row(self) -> list[Any]:
        return [self.kind, self.base_ms, self.factor, self.cap_ms, self.jitter]


Needs = tuple[tuple[str, int], ...]
"""What a task holds while it runs: names of resources and how much of each, sorted; under the name "" its slots, if more than one."""


def needs_of(slots: int, uses: Mapping[str, int]) -> Needs:
    """The needs of a task that counts as so many slots and uses so much of these resources."""
    return tuple(sorted({**uses, "": slots}.items() if slots > 1 else uses.items()))


def slots_in(needs: Needs) -> int:
    """How many slots a task with these needs counts as."""
    return needs[0][1] if needs and not needs[0][0] else 1


@dataclass(frozen=True)
class Header:
    """What tasks of one kind have in common: a specification without its payload and its times.

    ``retries`` counts runs after the first; ``timeout_ms`` 0 is none; ``once`` makes an attempt that was cut
    short fail the task; ``flow`` is a key that limits count by; ``parents`` are the ids of the tasks after which it runs,
    ``parents_any`` those of them that may end in any way, ``parents_failed`` those that must fail or expire (the others must
    succeed; if one does not end so it is cancelled, or failed if it is ``strict`` and that one should have succeeded); ``extras``
    holds what only some tasks have (for commands: how to run them), never looked at by the daemon.
    ``retry_for_ms`` and ``deadline_ms`` count from when the task was accepted (0: none): no retry begins after
    the first, and after the second it is over, running or not. ``key`` names the request that sent it (idempotency),
    ``unique`` what it is about: of one type at most one live task has it. ``needs`` are what it holds while it runs. ``order`` is an
    ordering key: those of a queue that share it run one after another as they were accepted; one that fails for good, or expires,
    holds up the others unless ``order_goes_on``. ``batch`` is the number of the batch that it is a member of.
    """

    type: str
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    retries: int = 0
    timeout_ms: int = 0
    backoff: Backoff = Backoff()
    once: bool = False
    label: str | None = None
    meta: Mapping[str, str] | None = None
    tenant: str | None = None
    flow: str | None = None
    correlation_id: str | None = None
    parents: tuple[int, ...] = ()
    extras: Mapping[str, Any] | None = None
    retry_for_ms: int = 0
    deadline_ms: int = 0
    key: str | None = None
    unique: str | None = None
    parents_any: tuple[int, ...] = ()
    needs: Needs = ()
    parents_failed: tuple[int, ...] = ()
    strict: bool = False
    order: str | None = None
    order_goes_on: bool = False
    batch: int = 0
    packed: bytes = field(default=b"", repr=False, compare=False)
    lane: tuple[str, str, str | None, str | None, Needs] = field(default=("", "", None, None, ()), repr=False, compare=False)
    """What decides which tasks stop and go together: queue, type, tenant, flow, needs."""
    environment: bytes = field(default=b"", repr=False, compare=False)
    """Of a command that is being sent: its packed environment, whose key stands in ``extras["env"]``. No record of a task has it: the
    store keeps each distinct one once."""

    def __post_init__(self) -> None:
        row: list[Any] = [self.type, self.queue, self.priority, self.retries, self.timeout_ms, self.once]
        row += [None if self.backoff == _DEFAULT_BACKOFF else self.backoff.row(), *[None] * 6]
        row += [self.extras, self.retry_for_ms or None, self.deadline_ms or None, *[None] * 3, self.needs or None]
        while row[-1] is None:
            row.pop()
        kind, own = msgpack.packb(row, use_bin_type=True), {name: value for name in OWN if (value := getattr(self, name)) not in _NONE}
        object.__setattr__(self, "packed", joined(kind, _own_row(own)) if own else kind)
        object.__setattr__(self, "lane", (self.queue, self.type, self.tenant, self.flow, self.needs))

    @property
    def slots(self) -> int:
        """How many slots of its queue, and of the workers, it takes."""
        return slots_in(self.needs)

    @property
    def uses(self) -> dict[str, int]:
        """How much it takes of which resources."""
        return {name: amount for name, amount in self.needs if name}


_DEFAULT_BACKOFF = Backoff()
_ROW = (
    "type", "queue", "priority", "retries", "timeout_ms", "once", "backoff", "label", "meta", "tenant", "flow", "correlation_id", "parents",
    "extras", "retry_for_ms", "deadline_ms", "key", "unique", "parents_any", "needs", "parents_failed", "strict",
)  # fmt: skip
"""The places in the row of a kind; those of OWN are None there."""


class Kind:
    """Tasks of one kind: makes the headers of those that have something of their own. ``header`` has nothing of OWN."""

    __slots__ = ("_alike", "header")

    def __init__(self, header: Header) -> None:
        self.header = header
        self._alike = Alike(header)

    def own(self, own: Mapping[str, Any], packed: bytes | None = None) -> Header:
        """The header with these fields of OWN, at least one; ``packed`` if that is known already."""
        head = self.header
        changed = {**own, "packed": packed or joined(head.packed, _own_row(own))}
        if "tenant" in own or "flow" in own:
            changed["lane"] = (head.queue, head.type, own.get("tenant"), own.get("flow"), head.needs)
        return self._alike.copy(changed)


def _own_row(own: Mapping[str, Any]) -> list[Any]:
    row = [None] * (max([_OWN_AT[name] for name in own]) + 1)
    for name, value in own.items():
        row[_OWN_AT[name]] = value
    return row


@lru_cache(maxsize=4096)
def header_of(packed: bytes) -> Header:
    """The header that is packed so; ValueError, TypeError or IndexError if it is none. Cached: a queue has few kinds and many tasks."""
    kind, row = parted(packed)
    if not row:
        return _kind_of(kind).header
    own = {name: value for name, value in zip(OWN, row, strict=False) if value is not None}
    return _kind_of(kind).own(own if len(row) < _PLAIN else _tuples(own), packed)


BATCH_MARK = "tq.batch"
"""The key in a callback's extras that says about which batch it is, and for which event: [number, event]."""


def batch_of(header: Header) -> int:
    """The batch that a task is a member of, or whose callback it is; 0: none."""
    if header.batch or header.extras is None:
        return header.batch
    mark = header.extras.get(BATCH_MARK)
    return mark[0] if isinstance(mark, list) and mark and type(mark[0]) is int else 0


def with_own(header: Header, own: Mapping[str, Any]) -> Header:
    """The header with these fields of OWN in place of what it has in them; none of them decides about its lane."""
    kind, row = parted(header.packed)
    row += [None] * (len(OWN) - len(row))
    for name, value in own.items():
        row[_OWN_AT[name]] = None if value in _NONE else value
    while row and row[-1] is None:
        row.pop()
    return altered(header, {**own, "packed": joined(kind, row) if row else kind})


@lru_cache(maxsize=1024)
def _kind_of(packed: bytes) -> Kind:
    found = _tuples({name: value for name, value in zip(_ROW, unpack(packed), strict=False) if value is not None})
    if "needs" in found:
        found["needs"] = tuple([(name, amount) for name, amount in found["needs"]])
    if "backoff" in found:
        found["backoff"] = Backoff(*found["backoff"])
    header = Header(**found)
    object.__setattr__(header, "packed", packed)  # one that was written before store format 6 would be packed otherwise now
    return Kind(header)


def _tuples(found: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if name.startswith("parents") else value for name, value in found.items()}


def seal(record: bytes, number: int = 0) -> bytes:
    """``record`` with its CRC-32 behind it, begun from the number of the task whose it is: under another it does not agree."""
    return record + zlib.crc32(record, number & 0xFFFFFFFF).to_bytes(4, "big")


def unseal(record: bytes, what: str, number: int = 0) -> bytes:
    """The record without its CRC-32; StoreDamaged, which names it, if they do not agree."""
    body = record[:-4]
    if zlib.crc32(body, number & 0xFFFFFFFF).to_bytes(4, "big") != record[-4:]:
        raise StoreDamaged(
            (f"{what} {number}" if number else what)
            + ": the record fails its checksum. Expected an intact record; the disk or another program changed it. "
            "Run `tq verify`, then restore a backup."
        )
    return body


@dataclass(frozen=True, slots=True)
class Spec:
    """One accepted task, as it was sent."""

    id: int
    header: Header
    payload: bytes
    created_at: int
    seq: int = 0
    due_at: int = 0
    expires_at: int = 0

    def record(self) -> bytes:
        head = HEAD.pack(FORMAT, self.created_at, self.seq, self.due_at, self.expires_at, len(self.header.packed))
        return seal(head + self.header.packed + self.payload, self.id)


def spec_of(task_id: int, record: bytes) -> Spec:
    """Decode a specification; StoreDamaged or StoreTooNew if it is not a whole one of this format."""
    body = unseal(record, "task", task_id)
    version, created_at, seq, due_at, expires_at, size = HEAD.unpack_from(body)
    if version != FORMAT:
        raise StoreTooNew(f"task {task_id}: expected record format {FORMAT}, got {version}. Use a tq that knows it.")
    start = HEAD.size
    header = header_of(body[start : start + size])
    return Spec(task_id, header, body[start + size :], created_at, seq, due_at, expires_at)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run that began. ``outcome`` is succeeded, failed, timeout, crashed, interrupted or cancelled."""

    number: int
    started_at: int
    finished_at: int
    outcome: str
    worker: str = ""
    error: Mapping[str, Any] | None = None
    exit_code: int | None = None

    def row(self) -> list[Any]:
        return [self.number, self.started_at, self.finished_at, self.outcome, self.worker, self.error, self.exit_code]


@dataclass(frozen=True, slots=True)
class Status:
    """What has become of a task. ``claim`` rises at each hand-out and never falls: (id, claim) is the fencing token.

    ``attempt`` counts runs that began, ``failures`` those that failed, ``crashes`` those whose worker died under
    them, ``interrupts`` those cut short by a drain or the daemon's death. ``error`` is a map with ``type``,
    ``message`` and, for a function, ``frames`` (formatted by the reader). ``result`` is packed msgpack.
    ``output`` says that a log file was written. The attempts kept are those before the last one, or up to it if there will be
    another; in the record an ``error`` that is the last kept attempt's own is only true. ``waits`` is, of a blocked task, how many
    of its parents are not over, and one more while others of its ordering key go first; 0 in any other state.
    """

    state: State
    claim: int = 0
    seq: int = 0
    ready_at: int = 0
    due_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    interrupts: int = 0
    cancel_asked: bool = False
    worker: str = ""
    output: bool = False
    result: bytes | None = None
    exit_code: int | None = None
    error: Mapping[str, Any] | None = None
    attempts: tuple[Attempt, ...] = ()
    waits: int = 0

    def row(self) -> list[Any]:
        row: list[Any] = [int(self.state), self.claim, self.seq, self.ready_at, self.due_at, self.started_at]
        row += [self.finished_at, self.attempt, self.failures, self.crashes, self.interrupts, self.cancel_asked]
        row += [self.worker, self.output, self.result]
        if self.exit_code is not None or self.error is not None or self.attempts or self.waits:
            last = self.attempts[-1].error if self.attempts else None
            error = True if self.error is last is not None else self.error
            row += [self.exit_code, error, [a.row() for a in self.attempts]]
            row += [self.waits] if self.waits else []
        return row

    def record(self, task_id: int) -> bytes:
        return seal(pack(self.row()), task_id)


def error_in(packed: object) -> dict[str, Any] | None:
    """An error as its reader sees it: workers send it packed, and so it stays in records."""
    if not isinstance(packed, bytes):
        return packed if isinstance(packed, dict) else None
    try:
        found = unpack(packed)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"type": "Unreadable", "message": "the worker's word for its error cannot be read"}


def _attempt(number: int, started_at: int, finished_at: int, outcome: str, worker: str, error: object, exit_code: int | None) -> Attempt:
    return Attempt(number, started_at, finished_at, outcome, worker, error_in(error), exit_code)


def status_row(task_id: int, record: bytes) -> list[Any]:
    """The row in a status's record; StoreDamaged if it is not whole."""
    row: list[Any] = unpack(unseal(record, "task", task_id))
    return row


def status_from(row: list[Any]) -> Status:
    """The status that a row says."""
    if len(row) > 15:
        attempts = tuple([_attempt(*run) for run in row[17]])
        error = attempts[-1].error if row[16] is True else error_in(row[16])
        head: list[Any] = [*row[1:16], error, attempts, *row[18:19]]
        return Status(State(row[0]), *head)
    return Status(State(row[0]), *row[1:])


def status_of(task_id: int, record: bytes) -> Status:
    """Decode a status; StoreDamaged if it is not whole."""
    return status_from(status_row(task_id, record))


@dataclass(frozen=True, slots=True)
class Task:
    """A task as a reader sees it: its specification and what has become of it."""

    spec: Spec
    status: Status

    @property
    def id(self) -> int:
        return self.spec.id

    @property
    def state(self) -> State:
        return self.status.state

    def row(self) -> dict[str, Any]:
        """The task as it travels to clients: times in ms, payload and result as packed msgpack."""
        spec, status, head = self.spec, self.status, self.spec.header
        return {
            "id": spec.id,
            "type": head.type,
            "queue": head.queue,
            "state": status.state.word,
            "priority": head.priority,
            "payload": spec.payload,
            "attempt": status.attempt,
            "failures": status.failures,
            "crashes": status.crashes,
            "interrupts": status.interrupts,
            "claim": status.claim,
            "retries": head.retries,
            "timeout_ms": head.timeout_ms,
            "backoff": head.backoff.row(),
            "once": head.once,
            "created_at": spec.created_at,
            "due_at": status.due_at or spec.due_at,
            "ready_at": status.ready_at,
            "started_at": status.started_at,
            "finished_at": status.finished_at,
            "expires_at": spec.expires_at,
            "worker": status.worker,
            "progress": None,
            "result": status.result,
            "error": status.error,
            "exit_code": status.exit_code or 0 if head.type == SHELL and status.state is State.SUCCEEDED else status.exit_code,
            "cancel_asked": status.cancel_asked,
            "output": status.output,
            "label": head.label,
            "meta": head.meta,
            "tenant": head.tenant,
            "flow": head.flow,
            "correlation_id": head.correlation_id,
            "parents": list(head.parents),
            "parents_any": list(head.parents_any),
            "parents_failed": list(head.parents_failed),
            "on_parent_failure": "fail" if head.strict else "cancel",
            "order": head.order,
            "order_on_failure": None if head.order is None else "continue" if head.order_goes_on else "block",
            "waits": status.waits,
            "retry_for_ms": head.retry_for_ms,
            "deadline_ms": head.deadline_ms,
            "key": head.key,
            "unique": head.unique,
            "slots": head.slots,
            "uses": head.uses,
            "batch": head.batch or None,
            "attempts": [a.row() for a in status.attempts],
        }
