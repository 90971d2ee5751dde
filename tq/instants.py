"""Words of time: ``18:30``, ``tomorrow 9am``, ``in 5 minutes`` and ISO 8601, as instants.

For: points in time as people and scripts write them: ``--at``, ``--deadline``, ``--retry-until``, filters.
Not for: clocks, names of zones, rules that repeat, durations by themselves (``tq.model.duration_ms``).
Runs in: the ``tq`` command, also its thin path (so it imports nothing of tq), and the daemon.
Promises: pure, since the present and the zone are arguments (only "no zone" asks this machine for its own); every text
has one meaning, or is a ValueError that shows examples; an answer lies between 1970 and the end of the year 9999.

THE GRAMMAR (letters large or small, commas as spaces)

    instant   "now" | ["in"] span | span "ago" | day ["at"] [time [zone]] | time [zone] ["on"] [day]
    span      number unit {number unit}       ``5m  2h30m  90 seconds  1 hour 30 minutes  an hour``; a day is 24 hours
    day       2030-01-31 | 31 jan [2030] | jan 31 [2030] | today | tomorrow | yesterday | ["next"] friday (or fri)
    time      18:30 | 18:30:15 | 18:30:15.250 | 9am | 9:30pm | noon | midnight
    zone      Z | UTC | +01:00                and, as ISO 8601 has it, 2030-01-31T18:30+01:00

- Without a zone it is the caller's wall clock. A day without a time is its midnight, the one it begins with.
- A time without a day, a weekday, and a date without a year mean the next one that is still to come; ``next friday`` is
  never today. What is over already is refused, unless ``past`` allows it: then a time alone is today's, and weekdays and
  dates without a year mean the last one that has come. Of ``yesterday`` and ``ago``, too, only ``past`` makes sense.
- A wall clock is put forward and back: a time that it leaps over is the first instant after the leap, one that it shows
  twice is the first of the two.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

EXAMPLES = "18:30, 9am, 'tomorrow 9am', 'next friday 18:00', 'in 5 minutes', 2h30m, '31 jan 2030 9:00' or 2030-01-31T08:00+01:00"
MAX_TEXT = 100
"""Characters of an instant in words."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_WEEKDAY = {name[:size]: at for at, name in enumerate(_DAYS) for size in (3, len(name))} | {"tues": 1, "thur": 3, "thurs": 3}
_MONTH = {name[:size]: at for at, name in enumerate(_MONTHS, 1) for size in (3, len(name))} | {"sept": 9}
_SHIFT = {"yesterday": -1, "today": 0, "tomorrow": 1}
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_UNITS |= {f"{word}{end}": _UNITS[word[0]] for word in ("second", "minute", "hour", "day", "week", "sec", "min", "hr") for end in ("", "s")}

_SPAN = re.compile(r"(?:\d+(?:\.\d+)?\s*[a-z]+\s*)+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.ASCII)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_ZONE = re.compile(r"(z|utc)|([+-])(\d\d)(?::?(\d\d))?", re.ASCII)
_TIME = re.compile(rf"(\d\d?)(?::(\d\d)(?::(\d\d)(\.\d{{1,6}})?)?)?(am|pm)?({_ZONE.pattern})?", re.ASCII)


class _Past(ValueError):
    """What was said is clear, but over."""


def instant(text: str, now: datetime, *, past: bool = False) -> datetime:
    """The instant that ``text`` means, in the zone of ``now``, which must have one. ValueError shows what may be written."""
    if now.tzinfo is None:
        raise ValueError(f"expected a present with a time zone, got {now!r}")
    found = _bounds(text, now.astimezone(UTC), now.tzinfo, past)[0]
    try:
        return found.astimezone(now.tzinfo)
    except OverflowError:
        raise ValueError(f"expected a time before the year 10000 in the zone {now.tzinfo}, got {text!r}") from None


def instant_ms(text: str, now_ms: int, zone: tzinfo | None = None, *, past: bool = False) -> int:
    """The same in milliseconds since 1970; without a ``zone`` the wall clock is that of this machine."""
    return span_ms(text, now_ms, zone, past=past)[0]


def span_ms(text: str, now_ms: int | None, zone: tzinfo | None = None, *, past: bool = False) -> tuple[int, int]:
    """From its first to its last millisecond: a date is a whole day, ``18:30`` a minute, ``18:30:15`` a second.

    ``now_ms`` None: there is no present, so only a date with its year is an instant.
    """
    now = None if now_ms is None else _EPOCH + now_ms * _MS
    start, end = _bounds(text, now, zone, past)
    first = (start - _EPOCH) // _MS
    return first, max(first, (end - datetime.resolution - _EPOCH) // _MS)


def _bounds(text: str, now: datetime | None, zone: tzinfo | None, past: bool) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of what ``text`` means."""
    words = _words(text)
    try:
        length = _span(words)
        if length is not None and now is not None:
            start = now + length * _MS
            end = _later(start, _MS)
        else:
            start, end = _Reading(words).bounds(now, zone, past)
        if now is not None and not past and start < now:
            raise _Past
        if start < _EPOCH:
            raise ValueError
        return start, end
    except _Past:
        raise ValueError(f"expected a time to come, such as {EXAMPLES}, got {text!r}, which is over") from None
    except (ValueError, OverflowError):
        if now is None and _needs_now(words):
            raise ValueError(f"expected a date with its year, as there is no present to count from, got {text!r}") from None
        raise ValueError(f"expected a time such as {EXAMPLES}, got {text[:MAX_TEXT]!r}") from None


def _words(text: str) -> list[str]:
    if len(text) > MAX_TEXT:
        return []
    text = text.lower().replace(",", " ").strip()
    text = re.sub(r"(?<=\d)\s+(am|pm)\b", r"\1", text)
    return re.sub(r"^(\d{4}-\d\d-\d\d)t(?=\d)", r"\1 ", text).split()


def _span(words: list[str]) -> int | None:
    """Milliseconds from now, if the words are a span."""
    if words == ["now"]:
        return 0
    sign, text = 1, " ".join(words)
    if words[-1:] == ["ago"]:
        sign, text = -1, text[:-4]
    elif words[:1] == ["in"]:
        text = text[3:]
    text = re.sub(r"^an? ", "1 ", text)
    parts = _PART.findall(text) if _SPAN.fullmatch(text) else []
    if not parts or any(unit not in _UNITS for _, unit in parts):
        return None
    return sign * round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _needs_now(words: list[str]) -> bool:
    try:
        return _span(words) is not None or not _Reading(words).dated
    except (ValueError, OverflowError):
        return False


class _Reading:
    """What the words say: a day, a time of the day, a zone; ValueError if they say anything else."""

    def __init__(self, words: list[str]) -> None:
        self._days: Callable[[date, bool], list[date]] | None = None  # those it may be, by today
        self.dated = False  # a date with its year
        self._time: time | None = None
        self._exact = timedelta(minutes=1)
        self._zone: timezone | None = None
        self._read(words)

    def _read(self, words: list[str]) -> None:
        at = 0
        while at < len(words):
            link = words[at] if at + 1 < len(words) and words[at] in ("at", "on") else ""
            at += bool(link)
            taken = 0 if link == "at" else self._read_day(words, at)
            taken = taken or (0 if link == "on" else self._read_time(words[at]))
            taken = taken or (0 if link else self._read_zone(words[at]))
            if not taken:
                raise ValueError
            at += taken
        if self._days is None and self._time is None:
            raise ValueError

    def _read_day(self, words: list[str], at: int) -> int:
        """How many words from ``at`` on are a day."""
        if self._days is not None:
            return 0
        word, after = words[at], words[at + 1 : at + 3]
        if found := _DATE.fullmatch(word):
            return self._date(int(found[1]), int(found[2]), int(found[3]), taken=1)
        if word in _SHIFT:
            self._days = lambda today, _: [today + timedelta(_SHIFT[word])]
            return 1
        ahead = 1 if word == "next" else 0
        name = _WEEKDAY.get(after[0] if ahead and after else word)
        if name is not None:
            self._days = lambda today, past: _weekdays(name, today, bool(ahead), past)
            return 1 + ahead
        for number, month in ((word, after[0]), (after[0], word)) if after else ():
            if month in _MONTH and number.isdecimal() and len(number) < 3:
                year = int(after[1]) if len(after) > 1 and after[1].isdecimal() and len(after[1]) == 4 else None
                return self._date(year, _MONTH[month], int(number), taken=2 if year is None else 3)
        return 0

    def _date(self, year: int | None, month: int, day: int, taken: int) -> int:
        that = date(2000 if year is None else year, month, day)  # ValueError: there is none
        self.dated = year is not None
        self._days = lambda today, _: _yearly(month, day, today) if year is None else [that]
        return taken

    def _read_time(self, word: str) -> int:
        if self._time is not None:
            return 0
        if word in ("noon", "midnight"):
            self._time = time(12 if word == "noon" else 0)
            return 1
        found = _TIME.fullmatch(word)
        if found is None or not (found[2] or found[5]):
            return 0
        hour, second, half = int(found[1]), int(found[3] or 0), found[5]
        if half:
            if not 1 <= hour <= 12:
                raise ValueError
            hour = hour % 12 + (12 if half == "pm" else 0)
        self._time = time(hour, int(found[2] or 0), second, round(float(found[4] or 0) * 1_000_000))
        self._exact = _MS if found[4] else timedelta(seconds=1) if found[3] else self._exact
        return self._read_zone(found[6]) if found[6] else 1

    def _read_zone(self, word: str) -> int:
        found = _ZONE.fullmatch(word)
        if found is None or self._time is None or self._zone is not None:
            return 0
        offset = timedelta(hours=int(found[3] or 0), minutes=int(found[4] or 0))
        if int(found[4] or 0) > 59:
            raise ValueError
        self._zone = timezone(-offset if found[2] == "-" else offset)
        return 1

    def bounds(self, now: datetime | None, zone: tzinfo | None, past: bool) -> tuple[datetime, datetime]:
        """Start and end in UTC."""
        zone = self._zone or zone
        if now is None and not self.dated:
            raise ValueError
        today = date(1970, 1, 1) if now is None else _wall(now, zone).date()
        usual = [today] if past else [today, today + timedelta(1)]
        days = usual if self._days is None else self._days(today, past)
        clock = self._time or time()
        starts = [(day, _first(datetime.combine(day, clock), zone)) for day in days]
        if now is None or len(starts) == 1:
            day, start = starts[0]
        else:
            wanted = [one for one in starts if (one[1] <= now) == past]
            if not wanted:
                raise _Past
            day, start = wanted[-1 if past else 0]
        if self._time is None and day < date.max:
            return start, _first(datetime.combine(day + timedelta(1), clock), zone)
        return start, _later(start, self._exact if self._time is not None else timedelta(1))


def _weekdays(wanted: int, today: date, ahead: bool, past: bool) -> list[date]:
    """The weekdays of this name that may be meant, earliest first."""
    near = today + timedelta((wanted - today.weekday()) % 7)
    week = timedelta(7)
    if ahead:
        return [near + week if near == today else near]
    return [near - week, near] if past else [near, near + week]


def _yearly(month: int, day: int, today: date) -> list[date]:
    """This date in the years around: a 29 February may be eight years away."""
    years = range(max(today.year - 8, 1), min(today.year + 8, 9999) + 1)
    return [date(year, month, day) for year in years if (month, day) != (2, 29) or _leap(year)]


def _later(start: datetime, length: timedelta) -> datetime:
    return start + length if start < _LAST - length else _LAST


def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _wall(at: datetime, zone: tzinfo | None) -> datetime:
    """What the wall clock of the zone (None: of this machine) shows at an instant."""
    return at.astimezone(zone).replace(tzinfo=None)


def _utc(shown: datetime, zone: tzinfo | None) -> datetime:
    if zone is not None:
        return shown.replace(tzinfo=zone).astimezone(UTC)
    seconds = int(shown.replace(microsecond=0).timestamp())  # astimezone of a naive time gets leaps the wrong way round
    return _EPOCH + timedelta(seconds=seconds, microseconds=shown.microsecond)


def _first(shown: datetime, zone: tzinfo | None) -> datetime:
    """The first instant at which the wall clock shows this time, or in a leap, a later one. In UTC."""
    before, after = _utc(shown.replace(fold=0), zone), _utc(shown.replace(fold=1), zone)
    if before <= after:
        return before  # shown once, or twice: the earlier
    low, high = (after - _EPOCH) // timedelta(seconds=1), -((_EPOCH - before) // timedelta(seconds=1))
    while high - low > 1:  # the clock leaps between the two, at a whole second
        middle = (low + high) // 2
        if _wall(_EPOCH + timedelta(seconds=middle), zone) < shown:
            low = middle
        else:
            high = middle
    return _EPOCH + timedelta(seconds=high)
