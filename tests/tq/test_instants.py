"""Words of time: one meaning each, in any zone, also where a wall clock leaps or repeats."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.living import unmeasured
from tq.instants import EXAMPLES, instant, instant_ms, span_ms

BERLIN, NEW_YORK, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
ZONES: list[tzinfo] = [BERLIN, NEW_YORK, LORD_HOWE, UTC]
NOON = datetime(2026, 11, 18, 12, 0)  # a Wednesday  # noqa: DTZ001 - every zone's own noon


def shown(text: str, zone: tzinfo, now: datetime = NOON, past: bool = False) -> str:
    """What ``text`` means at ``now`` on the wall of ``zone``, with its offset."""
    return instant(text, now.replace(tzinfo=zone), past=past).isoformat(" ")


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", "2026-11-18 12:00:00"),
        ("18:30", "2026-11-18 18:30:00"),
        ("11:59", "2026-11-19 11:59:00"),
        ("12:00", "2026-11-19 12:00:00"),
        ("18:30:15", "2026-11-18 18:30:15"),
        ("18:30:15.25", "2026-11-18 18:30:15.250000"),
        ("7:05", "2026-11-19 07:05:00"),
        ("9am", "2026-11-19 09:00:00"),
        ("9 AM", "2026-11-19 09:00:00"),
        ("at 9pm", "2026-11-18 21:00:00"),
        ("9:30pm", "2026-11-18 21:30:00"),
        ("12am", "2026-11-19 00:00:00"),
        ("12pm", "2026-11-19 12:00:00"),
        ("noon", "2026-11-19 12:00:00"),
        ("midnight", "2026-11-19 00:00:00"),
        ("today 13:00", "2026-11-18 13:00:00"),
        ("tomorrow", "2026-11-19 00:00:00"),
        ("Tomorrow 9am", "2026-11-19 09:00:00"),
        ("tomorrow at noon", "2026-11-19 12:00:00"),
        ("tomorrow midnight", "2026-11-19 00:00:00"),
        ("9am tomorrow", "2026-11-19 09:00:00"),
        ("friday", "2026-11-20 00:00:00"),
        ("monday 9am", "2026-11-23 09:00:00"),
        ("wednesday", "2026-11-25 00:00:00"),
        ("wednesday 18:00", "2026-11-18 18:00:00"),
        ("wed 11:00", "2026-11-25 11:00:00"),
        ("next wednesday 18:00", "2026-11-25 18:00:00"),
        ("next friday 18:00", "2026-11-20 18:00:00"),
        ("18:00 on friday", "2026-11-20 18:00:00"),
        ("2030-01-31", "2030-01-31 00:00:00"),
        ("2030-01-31 08:00", "2030-01-31 08:00:00"),
        ("2030-01-31T08:00:01", "2030-01-31 08:00:01"),
        ("31 jan 2030 9:00", "2030-01-31 09:00:00"),
        ("jan 31, 2030, 9am", "2030-01-31 09:00:00"),
        ("31 January", "2027-01-31 00:00:00"),
        ("nov 18 13:00", "2026-11-18 13:00:00"),
        ("18 nov 11:00", "2027-11-18 11:00:00"),
        ("29 feb", "2028-02-29 00:00:00"),
        ("5m", "2026-11-18 12:05:00"),
        ("2h30m", "2026-11-18 14:30:00"),
        ("in 5 minutes", "2026-11-18 12:05:00"),
        ("in 1 hour 30 minutes", "2026-11-18 13:30:00"),
        ("in an hour", "2026-11-18 13:00:00"),
        ("90 seconds", "2026-11-18 12:01:30"),
        ("in 1.5 h", "2026-11-18 13:30:00"),
        ("in 500ms", "2026-11-18 12:00:00.500000"),
    ],
)
def test_words_mean_the_same_on_every_wall(text: str, wanted: str, zone: tzinfo) -> None:
    assert shown(text, zone)[: len(wanted)] == wanted
    assert shown(text, zone)[len(wanted)] in "+-"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2030-01-31T08:00+01:00", "2030-01-31 07:00:00+00:00"),
        ("2030-01-31T08:00:00.123Z", "2030-01-31 08:00:00.123000+00:00"),
        ("2030-01-31 08:00 -0330", "2030-01-31 11:30:00+00:00"),
        ("2030-01-31 08:00 utc", "2030-01-31 08:00:00+00:00"),
        ("13:00+02:00", "2026-11-19 11:00:00+00:00"),
        ("tomorrow 9am -05", "2026-11-19 14:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("zone", ZONES, ids=str)
def test_a_zone_that_is_written_holds_wherever_it_is_read(text: str, wanted: str, zone: tzinfo) -> None:
    now = datetime(2026, 11, 18, 12, 0, tzinfo=UTC).astimezone(zone)
    assert instant(text, now).astimezone(UTC).isoformat(" ") == wanted


@pytest.mark.parametrize(
    ("zone", "now", "text", "wanted"),
    [
        # leaps: 02:00 -> 03:00 in Berlin and New York, 02:00 -> 02:30 on Lord Howe
        (BERLIN, "2026-03-28 12:00", "tomorrow 02:30", "2026-03-29 03:00:00+02:00"),
        (BERLIN, "2026-03-28 12:00", "02:00", "2026-03-29 03:00:00+02:00"),
        (BERLIN, "2026-03-28 12:00", "tomorrow 03:00", "2026-03-29 03:00:00+02:00"),
        (BERLIN, "2026-03-28 12:00", "tomorrow 01:59:59", "2026-03-29 01:59:59+01:00"),
        (NEW_YORK, "2026-03-07 12:00", "2:15am", "2026-03-08 03:00:00-04:00"),
        (LORD_HOWE, "2026-10-03 12:00", "sunday 02:10", "2026-10-04 02:30:00+11:00"),
        (LORD_HOWE, "2026-10-03 12:00", "sunday 02:30", "2026-10-04 02:30:00+11:00"),
        # hours that come twice: the first
        (BERLIN, "2026-10-24 12:00", "tomorrow 02:30", "2026-10-25 02:30:00+02:00"),
        (NEW_YORK, "2026-10-31 12:00", "1:30am", "2026-11-01 01:30:00-04:00"),
        (LORD_HOWE, "2026-04-04 12:00", "tomorrow 01:45", "2026-04-05 01:45:00+11:00"),
        # the wall clock counts, not 24 hours; spans are 24 hours
        (BERLIN, "2026-10-24 18:30", "18:30", "2026-10-25 18:30:00+01:00"),
        (BERLIN, "2026-10-24 18:30", "in 1 day", "2026-10-25 17:30:00+01:00"),
        (BERLIN, "2026-03-22 09:00", "next sunday 9am", "2026-03-29 09:00:00+02:00"),
    ],
)
def test_a_clock_that_is_put_forward_or_back_loses_no_time(zone: tzinfo, now: str, text: str, wanted: str) -> None:
    assert shown(text, zone, datetime.fromisoformat(now)) == wanted


@pytest.fixture
def machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("machine_in_berlin")
@pytest.mark.parametrize("now", ["2026-03-28 12:00", "2026-10-24 12:00", "2026-11-18 12:00"])
@pytest.mark.parametrize("text", ["tomorrow 02:30", "02:59:59", "tomorrow", "monday 9am", "2026-12-01", "29 mar 2026 2:00"])
def test_without_a_zone_the_wall_is_this_machines(now: str, text: str) -> None:
    now_ms = int(datetime.fromisoformat(now).replace(tzinfo=BERLIN).timestamp() * 1000)
    assert instant_ms(text, now_ms, past=True) == instant_ms(text, now_ms, BERLIN, past=True)
    assert span_ms(text, now_ms, past=True) == span_ms(text, now_ms, BERLIN, past=True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("yesterday", "2026-11-17 00:00:00"),
        ("yesterday 9am", "2026-11-17 09:00:00"),
        ("today", "2026-11-18 00:00:00"),
        ("18:30", "2026-11-18 18:30:00"),
        ("9am", "2026-11-18 09:00:00"),
        ("monday", "2026-11-16 00:00:00"),
        ("wednesday", "2026-11-18 00:00:00"),
        ("wednesday 18:00", "2026-11-11 18:00:00"),
        ("next monday", "2026-11-23 00:00:00"),
        ("1 nov", "2026-11-01 00:00:00"),
        ("31 dec 9am", "2025-12-31 09:00:00"),
        ("29 feb", "2024-02-29 00:00:00"),
        ("2 hours ago", "2026-11-18 10:00:00"),
        ("1999-12-31 23:59", "1999-12-31 23:59:00"),
        ("in 5 minutes", "2026-11-18 12:05:00"),
    ],
)
def test_where_the_past_is_allowed_words_mean_the_last_that_has_come(text: str, wanted: str) -> None:
    assert shown(text, UTC, past=True) == wanted + "+00:00"


@pytest.mark.parametrize(
    "text", ["today", "today 9am", "yesterday", "yesterday 9am", "2 hours ago", "1999-12-31", "2026-11-18 11:59:59", "1 jan 1960"]
)
def test_what_is_over_is_refused_unless_the_past_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=f"expected a time to come, .* got {re.escape(repr(text))}, which is over"):
        shown(text, UTC)


NONSENSE = [
    "", " ", "soon", "5", "25:00", "24:00", "12:60", "9", "13pm", "0am", "9:5", "18:30:60", "tomorrow tomorrow", "9am 10am", "next",
    "next jan", "5 minutes 9am", "friday monday", "at", "on", "at friday", "on 9am", "9am on", "in", "in 5",
    "in 2 months", "in tomorrow", "30 feb",
    "2030-02-30", "2030-13-01", "0000-01-01", "2030-1-1", "31 jan 30", "9am Europe/Berlin", "Z", "tomorrow Z", "08:00+25:00", "08:00+01:75",
    "08:00ZZ", "99999999d", "9999999999999999999h", "in 9" + "9" * 400 + "h", "2030-01-31T", "2030-01-31TT08:00", "٩am", "१८:३०", "1\x00m",
    "x" * 200, "\ud800", "now now", "now 9am", "9999-12-31T23:59-01:00",
]  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("past", [False, True])
def test_anything_else_is_one_clear_error_with_examples(text: str, past: bool) -> None:
    with pytest.raises(ValueError, match="expected a time such as 18:30") as caught:
        shown(text, BERLIN, past=past)
    assert len(str(caught.value)) < 1000
    assert "\x00" not in str(caught.value)


def test_every_example_of_the_error_is_understood() -> None:
    examples = [text.strip("' ") for text in re.split(r", | or ", EXAMPLES)]
    assert len(examples) > 6
    assert {instant(text, NOON.replace(tzinfo=BERLIN)) > NOON.replace(tzinfo=BERLIN) for text in examples} == {True}


def test_before_1970_there_is_no_instant_even_if_the_past_is_allowed() -> None:
    with pytest.raises(ValueError, match="expected a time such as"):
        shown("1969-12-31", UTC, past=True)


def test_the_last_minute_of_the_year_9999_is_the_last_instant() -> None:
    assert span_ms("9999-12-31T23:59Z", 0, BERLIN) == (253_402_300_740_000, 253_402_300_799_999)
    assert span_ms("9999-12-31", 0, UTC)[1] == 253_402_300_799_999
    with pytest.raises(ValueError, match="before the year 10000"):
        instant("9999-12-31T23:59Z", NOON.replace(tzinfo=LORD_HOWE))


def test_a_present_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a present with a time zone"):
        instant("9am", NOON)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("2026-11-20", 86_400_000),
        ("2026-03-29", 23 * 3_600_000),
        ("2026-10-25", 25 * 3_600_000),
        ("yesterday", 86_400_000),
        ("18:30", 60_000),
        ("9am", 60_000),
        ("2026-11-20T18:30:15", 1000),
        ("2026-11-20T18:30:15.5Z", 1),
        ("now", 1),
        ("2h30m", 1),
    ],
)
def test_a_span_is_as_long_as_what_was_said_is_exact(text: str, length: int) -> None:
    now_ms = int(NOON.replace(tzinfo=BERLIN).timestamp() * 1000)
    first, last = span_ms(text, now_ms, BERLIN, past=True)
    assert first == instant_ms(text, now_ms, BERLIN, past=True)
    assert last - first + 1 == length


def test_without_a_present_only_a_date_with_its_year_is_an_instant() -> None:
    assert span_ms("2026-11-20 08:00Z", None) == (1_795_161_600_000, 1_795_161_659_999)
    assert span_ms("20 nov 2026", None, UTC) == span_ms("2026-11-20", None, UTC)
    for text in ("now", "5m", "18:30", "friday", "20 nov", "tomorrow 9am"):
        with pytest.raises(ValueError, match="expected a date with its year, as there is no present to count from, got"):
            span_ms(text, None, UTC)
    with pytest.raises(ValueError, match="expected a time such as"):
        span_ms("soon", None, UTC)


minutes = st.integers(0, 7_000 * 365 * 1440)


@given(st.text(max_size=40) | st.text(st.sampled_from("0123456789:-+.TZ apmhdfriadyjn"), max_size=30), minutes, st.sampled_from(ZONES))
def test_any_text_is_an_instant_or_a_value_error(text: str, minute: int, zone: tzinfo) -> None:
    try:
        first, last = span_ms(text, minute * 60_000, zone, past=True)
    except ValueError as error:
        assert str(error).startswith("expected a ")  # noqa: PT017 - anything else would be another's
    else:
        assert 0 <= first <= last <= 253_402_300_799_999


@given(minutes, st.sampled_from(ZONES), st.integers(0, 1439))
def test_a_time_of_day_is_the_next_one_that_the_wall_shows(minute: int, zone: tzinfo, of_day: int) -> None:
    """Against a walk through the minutes: the first whose wall shows this or, the first after a leap over it, later."""
    now = datetime(1970, 1, 2, tzinfo=UTC) + timedelta(minutes=minute)
    wall = f"{of_day // 60:02d}:{of_day % 60:02d}"
    found = instant(wall, now.astimezone(zone)).astimezone(UTC)
    assert now < found <= now + timedelta(hours=50)
    local = found.astimezone(zone)
    if local.strftime("%H:%M") != wall:
        before = (found - timedelta(seconds=1)).astimezone(zone)
        assert before.utcoffset() != local.utcoffset()  # it leapt over it, just here
        assert before.strftime("%H:%M") < wall < local.strftime("%H:%M")


@given(st.datetimes(datetime(1971, 1, 1), datetime(9999, 12, 30)), st.integers(-23 * 60, 23 * 60))  # noqa: DTZ001
def test_what_python_writes_in_iso_8601_is_read_back(when: datetime, offset: int) -> None:
    when = when.replace(microsecond=when.microsecond // 1000 * 1000, tzinfo=timezone(timedelta(minutes=offset)))
    wanted = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    for text in (when.isoformat(), when.isoformat(" ", "milliseconds")):
        assert instant_ms(text, 0, BERLIN) == wanted


def test_reading_an_instant_loads_nothing_of_tq() -> None:
    code = "import sys, tq.instants; print(*sorted(name for name in sys.modules if name.startswith('tq.') or name == 'dataclasses'))"
    env = unmeasured()  # coverage loads modules of its own
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["tq.instants"]
