"""Intake: from the rows of an ``enqueue`` to drafts that a store accepts.

For: checking what a client sent, and resolving it: the task's own options over its type's over its queue's.
Not for: storing, answering.
Runs in: the daemon, inside the broker's turn.
Promises: every row is checked before the first draft is used; an error names the row, what was expected and what
came; the common case (ten thousand tasks of one kind) costs one dictionary look-up a task, and tasks that differ only in
their names are checked but once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any

from tq.environment import environment_of
from tq.errors import PayloadError, UnknownType, UsageError
from tq.links import check_links, order_of, parents_of
from tq.model import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    MAX_DURATION_MS,
    MAX_ENVIRONMENT,
    MAX_NAME,
    MAX_NEEDS,
    MAX_PAYLOAD,
    MAX_SLOTS,
    OWN,
    SHELL,
    Backoff,
    Header,
    Kind,
    Needs,
    Spec,
    brief,
    is_name,
    is_resource,
    needs_of,
    pack,
)
from tq.spool import is_input
from tq.store import Draft, KeyRef, Pace, QueueInfo, TypeInfo

KINDS_KEPT = 4096
KINDS_BYTES = 2 << 20
"""Resolved kinds remembered, and the bytes of their options together: commands bring their whole environment."""
TASKS_MOST = 10_000
"""Tasks of one request: some 40 ms of one turn, 150 ms if each has a name, 800 ms if each replaces another."""
NAMES_TOLD = 100
MAX_TEXTS = 4096
MAX_EXTRAS = 60_000
"""Packed; with the names and texts it stays under the 64 KiB that a record has for its header."""
LAST_MS = 253_402_300_799_999
"""The end of the year 9999, the last instant that people's calendars write."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where neither task nor type nor queue says otherwise."""

    function_retries: int = 3
    function_timeout_ms: int = 300_000
    max_payload: int = MAX_PAYLOAD


@dataclass(frozen=True, slots=True)
class _Kind:
    """A resolved kind of task, and its times relative to when it is enqueued."""

    header: Header
    delay_ms: int = 0
    due_at: int = 0
    ttl_ms: int = 0
    policy: str = ""
    pace: tuple[bool, int, int] | None = None
    """Of a kind whose tasks have a name that is held for a time: how, as ``tq.store.Pace`` has it."""
    alike: Kind | None = None
    """Of a kind whose tasks have something of their own: makes the header of each."""


class Intake:
    """Resolves rows; ``forget`` after types, queues or resources have changed."""

    def __init__(
        self,
        defaults: Defaults,
        types: Callable[[], Mapping[str, TypeInfo]],
        queues: Callable[[], Mapping[str, QueueInfo]],
        resources: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._defaults = defaults
        self._types = types
        self._queues = queues
        self._resources = resources
        self.capacity: Callable[[], int] = lambda: 0
        """The most slots that the pool's workers may have, 0: nobody knows; ``forget`` when it has changed."""
        self._kinds: dict[tuple[object, ...], _Kind] = {}  # by type, packed options, and which names there are
        self._kinds_bytes = 0
        self.admit: Callable[[Collection[int]], None] = lambda _: None
        """Refuses what may not be added to these batches: the broker's to say."""
        self.waiting = False
        """Whether any kind that is remembered has parents: else nobody need look for them."""

    def forget(self) -> None:
        self.waiting = False
        self._kinds.clear()
        self._kinds_bytes = 0

    def drafts(self, rows: Sequence[Any], now: int, usual: Mapping[str, Any] | None = None) -> tuple[list[Draft], dict[int, str]]:
        """Drafts for ``[type, payload, options]`` rows; UsageError (or a kind of it) names the first bad one. ``usual`` are the
        options of those that have none of their own.

        And of those that have a key or a unique name, by their place, what to do if another task has it: "reject",
        "existing" or "replace"; PACED of those that have a ``pace``.
        """
        if not isinstance(rows, list) or not rows:
            raise UsageError("enqueue: expected tasks, a list of at least one [type, payload, options], got none.")
        if len(rows) > TASKS_MOST:
            raise UsageError(f"enqueue: expected at most {TASKS_MOST} tasks, got {len(rows)}. Send the rest in another request.")
        if usual and not usual.keys().isdisjoint(("key", "unique")):
            raise UsageError("enqueue: options: expected none that names one task (key, unique), got one. Give each task its own.")
        kinds, most = self._kinds, self._defaults.max_payload
        try:
            usually = None if usual is None else pack(usual)
        except ValueError:
            raise UsageError(f"enqueue: options: expected a map of at most 500 levels, got {brief(usual)}.") from None
        drafts, policies, batches = [], dict[int, str](), set[int]()
        own: dict[tuple[object, ...], tuple[_Kind, Header]] = {}  # of this request: kinds, and headers of tasks that differ in OWN
        for at, row in enumerate(rows):
            try:
                name, payload, options = row
                key: tuple[object, ...] = (name, usually if options is None else pack(options))
                kind = kinds.get(key)
            except (TypeError, ValueError):
                raise UsageError(f"{_row(at, rows)}expected [type, payload, options], got {brief(row)}.") from None
            if kind is not None:
                header = kind.header
            elif key in own:
                kind, header = own[key]
            else:
                kind, header = own[key] = self._look(key, usual if options is None else options, _row(at, rows))
                if header.batch:
                    batches.add(header.batch)
            if type(payload) is not bytes:
                if payload is not None:
                    raise PayloadError(f"{_row(at, rows)}payload: expected bytes (one packed msgpack value), got {type(payload).__name__}.")
                payload = b""
            if len(payload) > most:
                raise PayloadError(
                    f"{_row(at, rows)}payload: expected at most {most} bytes, got {len(payload)}. "
                    "Put the data in a file and send its path, or raise max_payload."
                )
            due_at = kind.due_at or (now + kind.delay_ms if kind.delay_ms else 0)
            digest = b""
            if kind.policy:
                policies[at] = kind.policy
                digest = _digest(name, payload, options) if header.key is not None else b""
            drafts.append(Draft(header, payload, due_at, now + kind.ttl_ms if kind.ttl_ms else 0, digest))
            if kind.pace is not None and header.unique is None:
                drafts[-1] = drafts[-1]._replace(pace=Pace(KeyRef("pace", name, options["unique"]), *kind.pace))
        if batches:
            self.admit(batches)
        if self.waiting:
            check_links([draft.header for draft in drafts])
        return drafts, policies

    def _look(self, key: tuple[object, ...], options: Any, where: str) -> tuple[_Kind, Header]:
        """The kind of a task that was not seen before, and its header: resolved, or made of what is like it but for its own fields."""
        if type(options) is not dict or _OWN.isdisjoint(options):
            kind = self._remember(key, self._resolve(key[0], options, where))
            return kind, kind.header
        mine: dict[str, Any] = {}
        rest: dict[Any, Any] = {}
        for option, value in options.items():
            if option not in _OWN:
                rest[option] = value
            elif value is not None:
                mine[option] = value
        like = (key[0], pack(rest), tuple(mine))
        kind = self._kinds.get(like) or self._remember(like, _without_own(self._resolve(key[0], options, where)))
        special = _own_fields(mine, where)
        if kind.pace is not None:
            del special["unique"]  # the name is held for a time, not by the task
        self.waiting = self.waiting or "parents" in special
        header = kind.alike.own(special) if kind.alike is not None and special else kind.header
        return kind, header

    def _remember(self, key: tuple[object, ...], kind: _Kind) -> _Kind:
        size = (len(key[1]) if isinstance(key[1], bytes) else 0) + len(kind.header.environment)
        if len(self._kinds) >= KINDS_KEPT or self._kinds_bytes + size > KINDS_BYTES:
            waiting = self.waiting  # of this very request, perhaps
            self.forget()
            self.waiting = waiting
        self._kinds_bytes += size
        self._kinds[key] = kind
        return kind

    def changes(self, given: Mapping[str, Any], now: int) -> dict[str, Any]:
        """What ``edit`` and ``retry`` may change of a task that is there, checked; times as instants."""
        known = ("payload", *_EDITS)
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(str(name)[:80], known, 1)
                raise UsageError(f"changes: expected what can be changed ({', '.join(known)}), got {brief(name)}." + _closest(close))
        found = {name: check(value, f"{name}: ") for name, check in _EDITS.items() if (value := given.get(name)) is not None}
        if "payload" in given:
            payload = given["payload"]
            if not isinstance(payload, bytes) or len(payload) > self._defaults.max_payload:
                size = f"{len(payload)} bytes" if isinstance(payload, bytes) else brief(payload)
                raise PayloadError(f"payload: expected at most {self._defaults.max_payload} bytes of packed msgpack, got {size}.")
            found["payload"] = payload
        if "delay_ms" in found:
            found.setdefault("due_at", now + found.pop("delay_ms"))
        if "ttl_ms" in found:
            found["expires_at"] = now + found.pop("ttl_ms")
        if "backoff" in found:
            found["backoff"] = found["backoff"].row()
        self._needs(found.get("slots", 1), found.get("uses", {}), self._queues().get(found.get("queue", "")), "")
        return found

    def changed(self, spec: Spec, changes: Mapping[str, Any]) -> Spec:
        """The specification with these changes (see ``changes``)."""
        head = {name: value for name, value in changes.items() if name in _HEADER}
        if "backoff" in head:
            head["backoff"] = Backoff(*head["backoff"])
        if "slots" in changes or "uses" in changes:
            old = spec.header
            head["needs"] = needs_of(changes.get("slots", old.slots), changes.get("uses", old.uses))
        header, expires_at = replace(spec.header, **head) if head else spec.header, changes.get("expires_at", spec.expires_at)
        if header.deadline_ms:  # waiting longer than that is the same end
            expires_at = min(expires_at, spec.created_at + header.deadline_ms)
        return replace(spec, header=header, payload=changes.get("payload", spec.payload), expires_at=expires_at)

    def _resolve(self, name: object, options: object, where: str) -> _Kind:
        name = _name(name, f"{where}type: ")
        if options is None:
            options = {}
        if not isinstance(options, dict):
            raise UsageError(f"{where}options: expected a map, got {brief(options)}.")
        for key in options:
            if key not in _OPTIONS:
                close = difflib.get_close_matches(str(key)[:80], _OPTIONS, 1)
                raise UsageError(f"{where}expected an option ({', '.join(_OPTIONS)}), got {brief(key)}." + _closest(close))
        got = {key: check(value, f"{where}{key}: ") for key, check in _OPTIONS.items() if (value := options.get(key)) is not None}
        if got.get("delay_ms") and got.get("due_at"):
            raise UsageError(f"{where}expected either delay_ms or due_at, got both. Drop one.")
        if got.get("unique_policy") and not got.get("unique"):
            raise UsageError(f"{where}expected unique, the name that unique_policy is about, got none.")
        pace = _pace(got, where)
        known = self._types().get(name)
        queue = got.get("queue") or self._routed(name) or (known and known.queue) or DEFAULT_QUEUE
        if known is None and name != SHELL and not got.get("allow_unknown"):
            line = self._queues().get(queue)
            if line is None or not line.external:
                raise self._unknown(name, where)
        usual = self._usual(name, queue, known)
        usual |= {key: got[key] for key in usual if key in got}
        rest = {key: got[key] for key in (*_THEIRS, "extras") if key in got}
        environment = b""
        if name == SHELL and "extras" in rest:
            rest["extras"], environment = _apart(rest["extras"], where)
        parents, more = parents_of(got, where)
        self.waiting = self.waiting or bool(parents)
        order, goes_on = order_of(got, where)
        slots = got.get("slots") or (known and known.slots) or 1
        uses = got.get("uses", (known and known.uses) or {})
        needs = self._needs(slots, uses, self._queues().get(queue), where)
        header = Header(
            type=name, queue=queue, deadline_ms=got.get("deadline_ms", 0), parents=parents, environment=environment, needs=needs,
            order=order, order_goes_on=goes_on, **more, **usual, **rest
        )  # fmt: skip
        ends = [ms for ms in (got.get("ttl_ms"), header.deadline_ms) if ms]  # waiting longer than either is the same end
        times = got.get("delay_ms", 0), got.get("due_at", 0), min(ends, default=0)
        if pace is not None:
            return _Kind(header, *times, PACED, pace=pace)
        return _Kind(header, *times, got.get("unique_policy", "reject") if header.unique or header.key else "")

    def _needs(self, slots: int, uses: Mapping[str, int], line: QueueInfo | None, where: str) -> Needs:
        """What such a task of this queue (None: one without settings) needs; UsageError if it could never have it as things are."""
        there = self._resources() if uses else {}
        for name, amount in uses.items():
            if name not in there:
                some = ", ".join(sorted(there)[:20]) or "there is none yet"
                close = difflib.get_close_matches(name, there, 1)
                text = f"{where}uses: expected a resource that there is ({some}), got {brief(name)}.{_closest(close)}"
                raise UsageError(f"{text} `tq resource set NAME AMOUNT` makes one.")
            if amount > there[name]:
                text = f"{where}uses: expected at most {there[name]} of resource {brief(name)}, which is all there is, got {amount}."
                raise UsageError(f"{text} `tq resource set` changes how much there is.")
        if slots > 1 and line is not None and 0 < line.slots < slots:
            text = f"{where}slots: expected at most {line.slots}, which is all that queue {brief(line.name)} has, got {slots}."
            raise UsageError(f"{text} `tq queue set {line.name} --slots {slots}` gives it more.")
        capacity = 0 if slots == 1 or (line is not None and line.external) else self.capacity()
        if 0 < capacity < slots:
            text = f"{where}slots: expected at most {capacity}, as many as the workers may have, got {slots}."
            raise UsageError(f"{text} `tq worker scale` changes how many workers there are.")
        return needs_of(slots, uses)

    def _usual(self, name: str, queue: str, known: TypeInfo | None) -> dict[str, Any]:
        """What holds where the task does not say: its type's word, else its queue's, else the daemon's."""
        function = name != SHELL
        usual: dict[str, Any] = {
            "priority": DEFAULT_PRIORITY,
            "retries": self._defaults.function_retries if function else 0,
            "timeout_ms": self._defaults.function_timeout_ms if function else 0,
            "once": False,
            "backoff": Backoff(),
            "retry_for_ms": 0,
        }
        line = self._queues().get(queue)
        for key in usual:
            declared = getattr(known, key) if known is not None else None
            if declared is None and line is not None:
                declared = getattr(line, key, None)
            if declared is not None:
                usual[key] = Backoff(*declared) if key == "backoff" else declared
        return usual

    def _routed(self, name: str) -> str | None:
        """The queue to which an operator's pattern sends this type: the first in the order of their names."""
        routes = ((queue, info.routes) for queue, info in sorted(self._queues().items()) if info.routes)
        return next((queue for queue, patterns in routes if any(fnmatchcase(name, pattern) for pattern in patterns)), None)

    def _unknown(self, name: str, where: str) -> UnknownType:
        known = sorted({*self._types(), SHELL})
        close = difflib.get_close_matches(name, known, 1)
        some = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        text = f"{where}type: expected one that a worker has named ({some}), got {brief(name)}.{_closest(close)}"
        text += " Start the daemon with --app MODULE, or send it with --allow-unknown to wait for a worker that knows it."
        return UnknownType(text, known=known[:NAMES_TOLD], closest=close[0] if close else None)


_NOT_THE_REQUEST = frozenset({
    "delay_ms", "due_at", "ttl_ms", "deadline_ms", "retry_for_ms", "unique_policy", "correlation_id", "extras", "allow_unknown"
})  # fmt: skip
"""Options that differ when the same request is made again: what is reckoned from now, and where it is made."""


def _digest(name: str, payload: bytes, options: Mapping[str, Any]) -> bytes:
    """What makes a request with a key the same as another: its type, its payload, and what it asks for, in whatever order."""
    said = {option: value for option, value in options.items() if option not in _NOT_THE_REQUEST and value is not None}
    if "uses" in said:
        said["uses"] = sorted(said["uses"].items())
    return blake2b(pack([name, payload, sorted(said.items())]), digest_size=16).digest()


def _without_own(kind: _Kind) -> _Kind:
    """The kind of tasks that differ from one of this in nothing but OWN."""
    nothing: dict[str, Any] = {one.name: one.default for one in fields(Header) if one.name in OWN}
    header = replace(kind.header, **nothing)
    return replace(kind, header=header, alike=Kind(header))


def _own_fields(mine: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What of OWN a task has that says ``mine`` of it; UsageError for what cannot be."""
    got = {}
    for option, value in mine.items():
        plain = option in _NAMED and is_name(value)
        got[option] = value if plain else _OPTIONS[option](value, f"{where}{option}: ")
    if not _LINKS.isdisjoint(got):
        parents, more = parents_of(got, where)
        order, goes_on = order_of(got, where)
        links = {"parents": parents, **more, "order": order, "order_goes_on": goes_on}
        got = {option: value for option, value in got.items() if option not in _LINKS}
        got |= {name: value for name, value in links.items() if value}
    return got


def _row(at: int, rows: Sequence[Any]) -> str:
    """Where an error is, if there was more than one task."""
    return f"task {at + 1} of {len(rows)}: " if len(rows) > 1 else ""


def _closest(close: list[str]) -> str:
    return f" Did you mean {close[0]!r}?" if close else ""


def _whole(low: int, high: int, unit: str) -> Callable[[Any, str], int]:
    def check(value: Any, where: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise UsageError(f"{where}expected a whole number of {unit} from {low} to {high}, got {brief(value)}.")

    return check


def _name(value: Any, where: str) -> str:
    if isinstance(value, str) and is_name(value):
        return value
    size = f" ({len(value.encode())} bytes)" if isinstance(value, str) else ""
    raise UsageError(f"{where}expected a text of 1 to {MAX_NAME} bytes, got {brief(value)}{size}.")


def _bool(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise UsageError(f"{where}expected true or false, got {brief(value)}.")


def _texts(value: Any, where: str) -> dict[str, str]:
    texts = isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())
    if texts and len(pack(value)) <= MAX_TEXTS:
        return dict(value)
    raise UsageError(f"{where}expected a map of texts, {MAX_TEXTS} bytes in all, got {brief(value)}.")


def _uses(value: Any, where: str) -> dict[str, int]:
    if isinstance(value, dict) and len(value) <= MAX_NEEDS and all(is_resource(name) for name in value):
        return {name: _AMOUNT(amount, f"{where}{name}: ") for name, amount in value.items()}
    raise UsageError(f"{where}expected a map of at most {MAX_NEEDS} resources and how much of each, got {brief(value)}.")


def _extras(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}expected a map, got {brief(value)}.")
    size = len(pack({**value, "env": None} if isinstance(value.get("env"), dict) else value))
    if size > MAX_EXTRAS:
        raise UsageError(f"{where}expected a map of at most {MAX_EXTRAS} bytes when packed, got {size}.")
    return value


def _apart(extras: dict[str, Any], where: str) -> tuple[dict[str, Any], bytes]:
    """A command's extras with the key of its environment, and that packed; empty: it brings none."""
    env, kept = extras.get("env"), extras.get("stdin")
    if kept is not None and (not is_input(kept) or env is None):
        raise UsageError(f"{where}extras: stdin: expected the name of an input, and env beside it, got {brief(kept)}.")
    if env is None:
        return extras, b""
    if not isinstance(env, dict) or not all(isinstance(text, str | bytes) for pair in env.items() for text in pair):
        raise UsageError(f"{where}extras: env: expected a map of texts, got something else.")  # it is not told: it may be a secret
    key, packed = environment_of(env)
    if len(packed) > MAX_ENVIRONMENT:
        raise UsageError(
            f"{where}extras: env: expected at most {MAX_ENVIRONMENT} bytes of environment, got {len(packed)}. "
            "Send less, or none: `tq add --clean-env`."
        )
    return {**extras, "env": key}, packed


def _backoff(value: Any, where: str) -> Backoff:
    try:
        kind, base_ms, factor, cap_ms, jitter = value
        good = kind in {"fixed", "linear", "exponential"} and type(base_ms) is int and type(cap_ms) is int
        if good and 0 <= base_ms <= cap_ms <= MAX_DURATION_MS and 1 <= factor <= 1000 and isinstance(jitter, bool):
            return Backoff(kind, base_ms, float(factor), cap_ms, jitter)
    except (TypeError, ValueError):
        pass  # not five values, or not numbers
    raise UsageError(
        f"{where}expected [fixed|linear|exponential, base_ms, factor, cap_ms, jitter] with base_ms <= cap_ms and factor 1 to 1000, "
        f"got {brief(value)}."
    )


def _policy(value: Any, where: str) -> str:
    if value in POLICIES:
        return str(value)
    raise UsageError(f"{where}expected {', '.join(POLICIES)}, got {brief(value)}.")


def _on_parent_failure(value: Any, where: str) -> str:
    if value in ON_PARENT_FAILURE:
        return str(value)
    raise UsageError(f"{where}expected {', '.join(ON_PARENT_FAILURE)}, got {brief(value)}.")


def _order_on_failure(value: Any, where: str) -> str:
    if value in ORDER_ON_FAILURE:
        return str(value)
    raise UsageError(f"{where}expected {', '.join(ORDER_ON_FAILURE)}, got {brief(value)}.")


def _tasks(value: Any, where: str) -> list[int]:
    if isinstance(value, list) and all(type(one) is int and -TASKS_MOST <= one < 1 << 63 and one for one in value):
        return value
    raise UsageError(
        f"{where}expected a list of the ids of tasks (or -1 to -{TASKS_MOST}: by its place in this request), got {brief(value)}."
    )


def _pace(got: dict[str, Any], where: str) -> tuple[bool, int, int] | None:
    """How often tasks of one unique name are accepted, which takes that name from ``got``; a debounced one has a delay from then on."""
    debounce, throttle = got.pop("debounce_ms", None), got.pop("throttle_ms", None)
    most = got.pop("debounce_most_ms", None)
    if most is not None and (debounce is None or most < debounce):
        raise UsageError(f"{where}debounce_most_ms: expected debounce_ms beside it, and no more than it, got {brief(debounce)}.")
    if debounce is None and throttle is None:
        return None
    if debounce is not None and throttle is not None:
        raise UsageError(f"{where}expected either debounce_ms or throttle_ms, got both. Drop one.")
    word = "throttle_ms" if debounce is None else "debounce_ms"
    if not got.pop("unique", None):
        raise UsageError(f"{where}{word}: expected unique beside it, the name of what is sent again and again, got none.")
    for other in ("key", "unique_policy", "after", "after_any", "after_failure", *(("delay_ms", "due_at") if debounce else ())):
        if got.get(other):
            raise UsageError(f"{where}{word}: expected it without {other}, got both. Drop one.")
    if debounce is not None:
        got["delay_ms"] = debounce
    return debounce is not None, debounce or throttle, most or 0


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of tasks, each checked; UsageError names the first that cannot be one."""
    return {name: _OPTIONS[name](value, f"{name}: ") for name, value in given.items()}


_AMOUNT = _whole(1, MAX_SLOTS, "units")
POLICIES = ("reject", "existing", "replace")
"""What becomes of a task whose unique name a live task has."""
PACED = "paced"
"""In place of them: its name is not that of a live task, but held for a time."""
ORDER_ON_FAILURE = ("block", "continue")
"""What becomes of those behind a task in its ordering key if it fails for good."""
ON_PARENT_FAILURE = ("cancel", "fail", "run")
"""What becomes of a task if one that should have succeeded before it did not."""
_OPTIONS: dict[str, Callable[[Any, str], Any]] = {
    "queue": _name,
    "priority": _whole(0, 9, "priority (higher runs first)"),
    "delay_ms": _whole(0, MAX_DURATION_MS, "milliseconds"),
    "due_at": _whole(0, LAST_MS, "milliseconds since 1970"),
    "ttl_ms": _whole(1, MAX_DURATION_MS, "milliseconds"),
    "retries": _whole(0, 1_000_000, "runs after the first"),
    "backoff": _backoff,
    "timeout_ms": _whole(0, MAX_DURATION_MS, "milliseconds"),
    "once": _bool,
    "label": _name,
    "meta": _texts,
    "tenant": _name,
    "flow": _name,
    "correlation_id": _name,
    "extras": _extras,
    "allow_unknown": _bool,
    "retry_for_ms": _whole(1, MAX_DURATION_MS, "milliseconds"),
    "deadline_ms": _whole(1, MAX_DURATION_MS, "milliseconds"),
    "key": _name,
    "unique": _name,
    "unique_policy": _policy,
    "debounce_ms": _whole(1, MAX_DURATION_MS, "milliseconds"),
    "debounce_most_ms": _whole(1, MAX_DURATION_MS, "milliseconds"),
    "throttle_ms": _whole(1, MAX_DURATION_MS, "milliseconds"),
    "after": _tasks,
    "after_any": _tasks,
    "after_failure": _tasks,
    "on_parent_failure": _on_parent_failure,
    "order": _name,
    "order_on_failure": _order_on_failure,
    "slots": _whole(1, MAX_SLOTS, "slots"),
    "uses": _uses,
    "batch": _whole(1, (1 << 63) - 1, "batches (its number)"),
}
_LINKS = frozenset({"after", "after_any", "after_failure", "on_parent_failure", "order", "order_on_failure"})
"""What a task waits for."""
_NAMED = frozenset({"tenant", "flow", "correlation_id", "key", "unique", "label"})
_THEIRS = _NAMED | {"meta", "batch"}
_OWN = _LINKS | _THEIRS
"""Options of which tasks of one kind may each say something else: see ``tq.model.OWN``."""
_HEADER = ("queue", "priority", "retries", "backoff", "timeout_ms", "once", "label", "meta", "correlation_id")
_EDITS = {name: _OPTIONS[name] for name in (*_HEADER, "delay_ms", "due_at", "ttl_ms", "slots", "uses")}
