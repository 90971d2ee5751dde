"""Schedules: when a rule comes due, and what people write to say so.

For: cron expressions, intervals and instants as rules; the slots of a rule, one after the other; windows, jitter; the words
     for what becomes of slots that were missed or that overlap; ``tq.Schedule``, which an application declares.
Not for: clocks, tasks, what is due now (broker), what is remembered (store).
Runs in: the daemon; programs, workers and commands that declare or send a schedule. cronsim is loaded by who meets an expression.
Promises: pure but for the zone files that ``zoneinfo`` reads; the slots of a rule rise strictly, and depend on nothing but the rule,
its zone's data, and the instant that an interval is counted from; the same slot always has the same jitter.

WHEN

- A **slot** is the nominal instant of one run. A schedule and a slot name one run and never two.
- An expression has five fields, or six with the seconds first: numbers, names (``MON``, ``JAN``), ranges, lists, steps, ``L``,
  ``LW``, ``5L``, ``5#2``. ``@hourly @daily @weekly @monthly @yearly`` (``@midnight``, ``@annually``) mean what they do in a crontab.
  Where a day of the month and a day of the week are given, either will do, as in cron; if one of them begins with ``*``, both must fit.
- An expression is read by the wall clock of its zone (UTC if none is said). Of one that names its time of the day, a time that
  the clock leaps over is the first instant after the leap, and one that it shows twice is the first of the two. One whose
  seconds, minutes or hours begin with ``*`` follows the time that passes: nothing is made up for an hour that was left out, and an hour
  that comes twice counts twice.
- An interval is counted from the schedule's start, or else from its making, in time that passes.
- ``@reboot`` is the start of the machine: one run for each boot, when a daemon first starts after it, and none for the boot in which the
  rule was made. It has no zone, no jitter, no window, no start and no end.
- A window leaves out the slots outside of it, by the same wall clock; ``22:00-06:00`` is over midnight. Its end is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypedDict
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgpack import packb

from tq.errors import UsageError
from tq.instants import instant_ms, span_ms
from tq.model import MAX_DURATION_MS, SHELL, brief, duration_ms, is_name

NAMED = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
REBOOT = "@reboot"
"""The expression whose slots no clock has: a daemon gives them out when it starts."""
MISFIRES = ("coalesce", "skip", "all")
OVERLAPS = ("allow", "skip", "queue_one", "cancel_old")
CATCH_UP = 100
"""How many missed slots ``all`` makes up for, if it does not say."""
CATCH_UP_MOST = 1000
ONLY_MOST = 20
EVERY_LEAST_MS = 1000
CRON_MOST = 200
"""Characters of an expression."""
_LEAPS_MOST = 1000
"""Windows that are looked through for a slot, before there is taken to be none."""
LAST_MS = 253_402_300_799_999

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock's
_MS = timedelta(milliseconds=1)
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """When: an expression, an interval, or one instant. Instants and durations in ms, 0 for none.

    ``jitter_ms``: a run begins up to so much after its slot. ``only`` are windows such as ``22:00-06:00``. No slot is before
    ``from_at``, nor after ``until_at``.
    """

    cron: str = ""
    every_ms: int = 0
    at: int = 0
    tz: str = "UTC"
    jitter_ms: int = 0
    only: tuple[str, ...] = ()
    from_at: int = 0
    until_at: int = 0

    def row(self) -> list[Any]:
        return [self.cron, self.every_ms, self.at, self.tz, self.jitter_ms, list(self.only), self.from_at, self.until_at]

    def slots(self, after: int, anchor: int) -> Iterator[int]:
        """The slots later than ``after``, rising; an interval without a start counts from ``anchor``."""
        after = max(after, self.from_at - 1)
        windows = [_window(text) for text in self.only]
        zone = _zone(self.tz)
        left = _LEAPS_MOST
        while left:
            left -= 1
            for slot in self._raw(after, anchor, zone):
                if slot > (self.until_at or LAST_MS):
                    return
                if windows and not _inside(windows, slot, zone):
                    after = max(_opens(windows, slot, zone) - 1, after)
                    break
                yield slot
                after, left = slot, _LEAPS_MOST
            else:
                return

    def _raw(self, after: int, anchor: int, zone: ZoneInfo) -> Iterator[int]:
        if self.at:
            return iter((self.at,) if self.at > after else ())
        if self.cron == REBOOT:
            return iter(())
        if self.every_ms:
            return _intervals(self.every_ms, self.from_at or anchor, after)
        return _risen(_wall(self.cron, zone, after) if _is_fixed(self.cron) else _passing(self.cron, zone, after), after)

    def delay(self, name: str, slot: int) -> int:
        """How long after its slot the run of the schedule ``name`` begins, in ms."""
        if not self.jitter_ms:
            return 0
        mixed = blake2b(f"{name}\0{slot}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(mixed, "big") % (self.jitter_ms + 1)


def rule_of(row: Sequence[Any]) -> Rule:
    """The rule whose row this is."""
    cron, every_ms, at, tz, jitter_ms, only, from_at, until_at = row
    return Rule(cron, every_ms, at, tz, jitter_ms, tuple(only), from_at, until_at)


# slots


def _intervals(every_ms: int, start: int, after: int) -> Iterator[int]:
    """Whole intervals after ``start``; the start itself is the first, if it is to come."""
    slot = start + max(-((start - after - 1) // every_ms), 0) * every_ms if after >= start else start
    while slot <= LAST_MS:
        yield slot
        slot += every_ms


def _ticks(cron: str, shown: datetime) -> Iterator[datetime]:
    """What a wall clock that nobody puts forward shows at the slots after ``shown``."""
    from cronsim import CronSim

    try:
        yield from CronSim(_fields(cron), shown)
    except OverflowError:
        return  # the end of the year 9999


def _fields(cron: str) -> str:
    return NAMED.get(cron.lower(), cron)


def _is_fixed(cron: str) -> bool:
    """Whether an expression names its times of the day."""
    fields = _fields(cron).split()
    return not any(field.startswith("*") for field in fields[: len(fields) - 3])


def _risen(slots: Iterator[int], after: int) -> Iterator[int]:
    """Each instant once: several times that a clock leaps over are one instant, and one that it shows again is over."""
    for slot in slots:
        if slot > after:
            after = slot
            yield slot


def _wall(cron: str, zone: ZoneInfo, after: int) -> Iterator[int]:
    """Of an expression that names its times: what the wall clock shows, whenever that is."""
    shown = _shown(after, zone) - timedelta(hours=3)  # a clock that is put back shows again what it showed
    for tick in _ticks(cron, shown):
        instant = _first(tick, zone)
        if instant is None:
            return
        yield instant


def _passing(cron: str, zone: ZoneInfo, after: int) -> Iterator[int]:
    """Of one that follows the time: a wall clock at a time, until it is put forward or back."""
    offset, begin = _offset(after, zone), after
    while True:
        leap = None
        for tick in _ticks(cron, _EPOCH + (begin + offset) * _MS):
            instant = (tick - _EPOCH) // _MS - offset
            if instant - after > _HALF_A_MONTH:  # the clock may have been put forward and back again
                leap = _first_leap(after, instant, zone)
            elif _offset(instant, zone) != offset:
                leap = _leap(after, instant, zone)
            if leap is not None:
                break
            yield instant
            after = instant
        if leap is None:
            return
        after, offset = leap, _offset(leap, zone)
        begin = leap - 1000  # the leap itself may be a slot


_HALF_A_MONTH = 15 * 86_400_000


def _first_leap(low: int, high: int, zone: ZoneInfo) -> int | None:
    """The first instant after ``low`` and up to ``high`` with another offset, looked for in steps of half a month."""
    while low < high:
        step = min(low + _HALF_A_MONTH, high)
        if _offset(step, zone) != _offset(low, zone):
            return _leap(low, step, zone)
        low = step
    return None


def _leap(low: int, high: int, zone: ZoneInfo) -> int:
    """The instant, a whole second, at which the offset of ``low`` ends; that of ``high`` is another."""
    offset, low, high = _offset(low, zone), low // 1000, -(-high // 1000)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle * 1000, zone) == offset else (low, middle)
    return high * 1000


def _offset(instant: int, zone: ZoneInfo) -> int:
    """Milliseconds that the wall clock is ahead of UTC."""
    return (_shown(instant, zone) - _EPOCH) // _MS - instant


def _shown(instant: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + instant * _MS).replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)


def _first(shown: datetime, zone: ZoneInfo) -> int | None:
    """The first instant at which the wall clock shows this or, if it leaps over it, something later. None: after all years."""
    try:
        before, after = (_utc(shown, zone, fold) for fold in (0, 1))
    except OverflowError:
        return None
    if before <= after:
        return before
    return _leap(after, before, zone)


def _utc(shown: datetime, zone: ZoneInfo, fold: int) -> int:
    aware = shown.replace(tzinfo=zone, fold=fold)
    return (aware.astimezone(UTC).replace(tzinfo=None) - _EPOCH) // _MS


# windows


def _window(text: object) -> tuple[int, int]:
    """First minute of the day, and the one it is over; ValueError for what is none."""
    found = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    if found:
        start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
        if start != end and end <= 1440:
            return start, end
    raise ValueError(f"expected a window of the day such as 22:00-06:00, got {brief(text)}")


def _inside(windows: Sequence[tuple[int, int]], slot: int, zone: ZoneInfo) -> bool:
    shown = _shown(slot, zone)
    minute = shown.hour * 60 + shown.minute
    return any(start <= minute < end if start < end else minute >= start or minute < end for start, end in windows)


def _opens(windows: Sequence[tuple[int, int]], slot: int, zone: ZoneInfo) -> int:
    """The instant at which the next window after a slot outside of all opens, or in a leap, a bit later."""
    shown = _shown(slot, zone)
    day = shown.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [day + timedelta(days=ahead, minutes=start) for ahead in (0, 1) for start, _ in windows]
    found = [instant for start in starts if (instant := _first(start, zone)) is not None and instant > slot]
    return min(found, default=LAST_MS)


# what people say


class When(TypedDict, total=False):
    """A schedule in words. One of ``cron``, ``every`` and ``at``; ``tz`` the name of a zone (UTC if none is said); ``jitter`` a
    duration; ``only`` a window such as 22:00-06:00, or several; ``start`` and ``until`` instants in words or ``datetime``.

    ``on_failure``, ``on_recovery``, ``on_missed``: what is sent when a run has failed or expired, when one has succeeded again, and
    when a slot was missed or skipped or, with ``missed_after``, no run has succeeded so long after its slot: a line for the shell, the
    words of a command, or "type:NAME" for a task of that type; "" for nothing. Each once until a run succeeds, or with ``alert_each``
    each time. ``tq.broker.alerts`` has what they are told.

    ``misfire``: what becomes of slots that were missed: "coalesce" (one run for all of them, the default), "skip", "all", or
    "all:10" for the last ten. ``overlap``: if a run before goes on: "allow" (the default), "skip", "queue_one" (one waits for its
    end) or "cancel_old". ``after``: another schedule, or several: each run begins only when their runs that were due before it, or with it,
    have succeeded (else it is cancelled).
    """

    cron: str
    every: float | str | timedelta
    at: str | datetime
    tz: str
    jitter: float | str | timedelta
    only: str | Sequence[str]
    start: str | datetime
    until: str | datetime
    misfire: str
    overlap: str
    after: str | Sequence[str]
    on_failure: str | Sequence[str]
    on_recovery: str | Sequence[str]
    on_missed: str | Sequence[str]
    missed_after: float | str | timedelta
    alert_each: bool


class Schedule:
    """What an application declares: ``@tq.task("report", schedule=tq.Schedule(cron="0 3 * * *", tz="Europe/Paris"))``.

    The keywords are those of ``When``; ``payload`` is what each run gets. UsageError for what makes no sense.
    """

    __slots__ = ("payload", "when")

    def __init__(
        self, *, cron: str | None = None, every: float | str | timedelta | None = None, at: str | datetime | None = None,
        tz: str | None = None, jitter: float | str | timedelta | None = None, only: str | Sequence[str] | None = None,
        start: str | datetime | None = None, until: str | datetime | None = None, misfire: str | None = None, overlap: str | None = None,
        on_failure: str | Sequence[str] | None = None, on_recovery: str | Sequence[str] | None = None,
        on_missed: str | Sequence[str] | None = None, missed_after: float | str | timedelta | None = None, alert_each: bool | None = None,
        after: str | Sequence[str] | None = None, payload: object = None,
    ) -> None:  # fmt: skip
        said = {
            "cron": cron, "every": every, "at": at, "tz": tz, "jitter": jitter, "only": only, "start": start, "until": until,
            "misfire": misfire, "overlap": overlap, "on_failure": on_failure, "on_recovery": on_recovery, "on_missed": on_missed,
            "missed_after": missed_after, "alert_each": alert_each, "after": after,
        }  # fmt: skip
        self.when = wire_when({name: value for name, value in said.items() if value is not None}, None)
        if sum(name in self.when for name in KINDS) != 1:
            raise UsageError(_ONE_OF)
        self.payload = payload

    @classmethod
    def of(cls, value: object) -> Schedule:
        """What ``schedule=`` says: a Schedule, an expression, or the words ``every 90s``."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise UsageError(f"schedule: expected an expression such as '0 3 * * *', 'every 90s', or a tq.Schedule, got {brief(value)}.")
        first, _, rest = value.strip().partition(" ")
        return cls(every=rest) if first.lower() == "every" else cls(cron=value)


KINDS = ("cron", "every_ms", "at")
"""Of rules, by their names on the wire: each has exactly one."""
_ONE_OF = "expected one of cron, every and at, the rule by which it comes due, got none or several. For example: cron '0 3 * * *'."


def wire_when(said: Mapping[str, Any], now_ms: int | None) -> dict[str, Any]:
    """The words of ``When`` as they travel. ``now_ms`` None: there is no present, so instants are dates with their years. UsageError."""
    found: dict[str, Any] = {}
    name = "schedule"
    try:
        zone = _zone(said["tz"]) if said.get("tz") is not None else None
        for name, value in said.items():
            if name not in When.__annotations__:
                raise ValueError(f"expected {', '.join(When.__annotations__)}, got {brief(name)}")
            if value is not None:
                key, meaning = _WORDS[name]
                found[key] = meaning(value, now_ms, zone)
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{name}: {str(error).removeprefix(f'{name}: '):.400}.") from None
    if sum(name in found for name in KINDS) > 1:
        raise UsageError(_ONE_OF)
    return found


def _instant(value: Any, now_ms: int | None, zone: ZoneInfo | None) -> int:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"expected a datetime with a time zone, got {value!r}")
        return round(value.timestamp() * 1000)
    return span_ms(value, None, zone)[0] if now_ms is None else instant_ms(value, now_ms, zone)


def _end(value: Any, now_ms: int | None, zone: ZoneInfo | None) -> int:
    """A date is meant to its end."""
    return _instant(value, now_ms, zone) if isinstance(value, datetime) else span_ms(value, now_ms, zone)[1]


def _text(value: Any, _now: int | None, _zone: ZoneInfo | None) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {brief(value)}")
    return " ".join(value.split())


def misfire_of(text: str) -> tuple[str, int]:
    """The policy for missed slots, and how many of them it makes up for; ValueError for what is none."""
    word, colon, number = text.partition(":")
    counts = word == "all" and number.isascii() and number.isdigit() and 0 < int(number[:9]) <= CATCH_UP_MOST
    if word in MISFIRES and (not colon or counts):
        return word, int(number) if colon else CATCH_UP if word == "all" else 1
    raise ValueError(f"misfire: expected coalesce, skip, all, or all:N with N up to {CATCH_UP_MOST}, got {brief(text)}")


def overlap_of(text: str) -> str:
    """The policy for a run before that goes on; ValueError for what is none."""
    word = text.replace("-", "_")
    if word in OVERLAPS:
        return word
    raise ValueError(f"overlap: expected {', '.join(OVERLAPS)}, got {brief(text)}")


def _cron(value: Any, _now: int | None, _zone: ZoneInfo | None) -> str:
    cron = _text(value, _now, _zone)
    _check_cron(cron)
    return cron


def _windows(value: Any, _now: int | None, _zone: ZoneInfo | None) -> list[str]:
    found = [one.strip() for text in ([value] if isinstance(value, str) else value) for one in text.split(",")]
    for window in found:
        _window(window)
    return found


def _every(value: Any, _now: int | None, _zone: ZoneInfo | None) -> int:
    ms = duration_ms(value)
    if ms < EVERY_LEAST_MS:
        raise ValueError(f"expected at least {EVERY_LEAST_MS // 1000} second, got {brief(value)}")
    return ms


def _policy(check: Callable[[str], object]) -> Callable[[Any, int | None, ZoneInfo | None], str]:
    def policy(value: Any, _now: int | None, _zone: ZoneInfo | None) -> str:
        text = _text(value, _now, _zone)
        check(text)
        return text

    return policy


def _duration(value: Any, _now: int | None, _zone: ZoneInfo | None) -> int:
    return duration_ms(value)


def _yes(value: Any, _now: int | None, _zone: ZoneInfo | None) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {brief(value)}")
    return value


def _names(value: Any, _now: int | None, _zone: ZoneInfo | None) -> list[str]:
    names: list[Any] = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [None]
    if not all(isinstance(name, str) and is_name(name) for name in names):
        raise ValueError(f"expected the name of a schedule, or several, got {brief(value)}")
    return names


def _alert(value: Any, _now: int | None, _zone: ZoneInfo | None) -> list[Any]:
    return alert_of(value)


def alert_of(value: object) -> list[Any]:
    """The task that an alert sends, [type, payload, options]; nothing for an empty text. ValueError: it is no alert."""
    if not isinstance(value, str):
        words = list(value) if isinstance(value, list | tuple) else [None]
        if not words or not all(isinstance(word, str) for word in words) or not words[0]:
            raise ValueError(f"expected a line for the shell, the words of a command, or type:NAME, got {brief(value)}")
        return [SHELL, _words(words), None]
    text = value.strip()
    if text.startswith("type:"):
        if not is_name(text[5:]):
            raise ValueError(f"expected type:NAME, the name of a handler, got {brief(value)}")
        return [text[5:], b"", None]
    return [SHELL, _words(["/bin/sh", "-c", text]), None] if text else []


def _words(argv: Sequence[object]) -> bytes:
    try:
        return packb({"argv": argv})
    except UnicodeEncodeError:
        raise ValueError(f"expected text in UTF-8, got {brief(argv)}") from None


_WORDS: dict[str, tuple[str, Callable[[Any, int | None, ZoneInfo | None], Any]]] = {
    "cron": ("cron", _cron), "every": ("every_ms", _every), "at": ("at", _instant), "tz": ("tz", _text),
    "jitter": ("jitter_ms", _duration), "only": ("only", _windows), "start": ("from_at", _instant), "until": ("until_at", _end),
    "misfire": ("misfire", _policy(misfire_of)), "overlap": ("overlap", _policy(overlap_of)),
    "on_failure": ("on_failure", _alert), "on_recovery": ("on_recovery", _alert), "on_missed": ("on_missed", _alert),
    "missed_after": ("missed_after_ms", _duration), "alert_each": ("alert_each", _yes), "after": ("after", _names),
}  # fmt: skip


def checked_rule(rule: Rule) -> Rule:
    """The rule, if it makes sense; ValueError says what does not."""
    if sum(bool(kind) for kind in (rule.cron, rule.every_ms, rule.at)) != 1:
        raise ValueError(_ONE_OF)
    for name, low in (("every_ms", EVERY_LEAST_MS if rule.every_ms else 0), ("jitter_ms", 0)):
        if not low <= getattr(rule, name) <= MAX_DURATION_MS:
            raise ValueError(f"{name}: expected {low} to {MAX_DURATION_MS} milliseconds, got {getattr(rule, name)}")
    for name in ("at", "from_at", "until_at"):
        if not 0 <= getattr(rule, name) <= LAST_MS:
            raise ValueError(f"{name}: expected milliseconds since 1970, got {getattr(rule, name)}")
    _zone(rule.tz)
    if len(rule.only) > ONLY_MOST:
        raise ValueError(f"only: expected at most {ONLY_MOST} windows, got {len(rule.only)}")
    for window in rule.only:
        _window(window)
    if rule.cron:
        _check_cron(rule.cron)
    if rule.cron == REBOOT and (rule.jitter_ms or rule.only or rule.from_at or rule.until_at):
        raise ValueError(f"cron: expected {REBOOT} without jitter, only, from and until, got one of them")
    return rule


def _check_cron(cron: str) -> None:
    from cronsim import CronSim, CronSimError

    if cron == REBOOT:
        return
    if len(cron) > CRON_MOST:
        raise ValueError(f"cron: expected at most {CRON_MOST} characters, got {len(cron)}")
    try:
        CronSim(_fields(cron), _EPOCH)
    except (CronSimError, ValueError, TypeError, AssertionError) as error:
        hint = str(error) if isinstance(error, CronSimError) else "it cannot be read"
        raise ValueError(
            f"cron: expected five fields (minute hour day month weekday), six with the seconds first, or {', '.join((*NAMED, REBOOT))}, "
            f"got {brief(cron)}: {hint.lower()}"
        ) from None


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    """The zone of this name; ValueError if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise ValueError(f"tz: expected the name of a time zone such as Europe/Paris or UTC, got {brief(name)}") from None


def words_of(instant: int) -> str:
    """An instant in RFC 3339, UTC, with milliseconds."""
    return f"{(_EPOCH + instant * _MS).isoformat(timespec='milliseconds')}Z"
