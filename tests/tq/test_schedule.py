"""When rules come due: against another library, against a clock that is looked at minute by minute, and by hand where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter  # type: ignore[import-untyped]

from tq.errors import UsageError
from tq.schedule import CATCH_UP, NAMED, Rule, Schedule, checked_rule, misfire_of, overlap_of, rule_of, wire_when, words_of

ZONES = ("UTC", "Europe/Paris", "America/New_York")
YEARS = (2026, 2028)
DAY = 86_400_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def shown(rule: Rule, start: str, count: int, anchor: str | None = None) -> list[str]:
    """The first slots after an instant in UTC, by the rule's own wall clock."""
    after = ms(start)
    slots = islice(rule.slots(after, ms(anchor) if anchor else after), count)
    return [datetime.fromtimestamp(slot / 1000, ZoneInfo(rule.tz)).isoformat() for slot in slots]


# expressions


def field(random: Random, low: int, high: int, names: tuple[str, ...] = ()) -> str:
    """One field, of any kind that cron has."""
    first, second = sorted(random.sample(range(low, high + 1), 2))
    kinds = ["*", "*", "*", f"*/{random.choice([2, 3, 5, 7, 10, 15])}", str(first), str(second), f"{first}-{second}", f"{first},{second}"]
    kinds += [f"{first}-{second}/{random.randint(1, 4)}", *names]
    return random.choice(kinds)


def expressions(count: int) -> list[str]:
    """Varied ones, each of which comes due."""
    random, found = Random(5), [*NAMED.values(), "0 0 L * *", "15 6 * * 5#2", "0 12 * * 1L", "30 22 29 2 *", "0 0 1,15 * MON"]
    while len(found) < count:
        month, weekday = field(random, 1, 12, ("JAN", "MAR-JUN")), field(random, 0, 6, ("MON", "FRI", "TUE-THU"))
        parts = [field(random, 0, 59), field(random, 0, 23), field(random, 1, 28), month, weekday]
        if random.random() < 0.15:
            parts.insert(0, field(random, 0, 59))
        found.append(" ".join(parts))
    return found


def near_a_change(slot: int, zone: ZoneInfo) -> bool:
    """Whether the wall clock is put forward or back within a day and a half."""
    offsets = {datetime.fromtimestamp((slot + hours * 3_600_000) / 1000, zone).utcoffset() for hours in (-36, -12, 12, 36)}
    return len(offsets) > 1


def reference(cron: str, zone: ZoneInfo, after: int, count: int) -> list[int]:
    """Slots as croniter has them."""
    parts = cron.replace("1L", "L1").split()  # the last Monday, in its words
    text = " ".join(parts) if len(parts) == 5 else " ".join([*parts[1:], parts[0]])  # it has the seconds last
    start = datetime.fromtimestamp(after / 1000, zone)
    slots = croniter(text, start, implement_cron_bug=True)  # where a field of a day begins with *, both must fit, as in cron
    return [round(slots.get_next(datetime).timestamp() * 1000) for _ in range(count)]


def test_five_hundred_expressions_in_three_zones_over_two_years_come_due_as_another_library_says() -> None:
    """Some places in two years for each; not around changes of the clock, where croniter runs what is shown twice twice, and has
    other words for what is left out: those are below, minute by minute."""
    random, first, last = Random(7), ms(f"{YEARS[0]}-01-01"), ms(f"{YEARS[1]}-01-01")
    compared = 0
    for at, cron in enumerate(expressions(500)):
        for zone in ZONES:
            for _ in range(2):
                after = random.randrange(first, last) // 1000 * 1000
                expected = reference(cron, ZoneInfo(zone), after, 4)
                found = list(islice(Rule(cron, tz=zone).slots(after, 0), 4))
                if not any(near_a_change(slot, ZoneInfo(zone)) for slot in (after, *expected, *found)):
                    assert found == expected, (at, cron, zone, words_of(after))
                    compared += 4
    assert compared > 8000


def matches(cron: str, minute: datetime) -> bool:
    """Whether a wall clock's minute fits an expression of numbers, ranges, lists and steps."""

    def fits(text: str, value: int, low: int, high: int) -> bool:
        for part in text.split(","):
            span, _, step = part.partition("/")
            start, _, end = (f"{low}-{high}" if span == "*" else span).partition("-")
            if int(start) <= value <= int(end or (high if step else start)) and (value - int(start)) % int(step or 1) == 0:
                return True
        return False

    minutes, hours, days, months, weekdays = cron.split()
    day, weekday = fits(days, minute.day, 1, 31), fits(weekdays, minute.isoweekday() % 7, 0, 6)
    both = days.startswith("*") or weekdays.startswith("*")
    time = fits(minutes, minute.minute, 0, 59) and fits(hours, minute.hour, 0, 23) and fits(months, minute.month, 1, 12)
    return time and (day and weekday if both else day or weekday)


CHANGES = [
    ("Europe/Paris", "2026-03-29"), ("Europe/Paris", "2026-10-25"), ("America/New_York", "2026-03-08"), ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"), ("Australia/Lord_Howe", "2026-10-04"), ("Africa/Cairo", "2026-04-24"),
    ("Africa/Cairo", "2026-10-30"),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_around_a_change_of_the_clock_each_minute_is_as_the_rules_say(zone: str, day: str) -> None:
    """Expressions that name their times: each time once, the first instant that shows it or something later. Others: each minute
    that passes, by what the clock shows in it."""
    clock, start, end = ZoneInfo(zone), ms(day) - DAY, ms(day) + DAY
    instants = range(start + 60_000, end + 60_000, 60_000)
    walls = [datetime.fromtimestamp(at / 1000, clock).replace(tzinfo=None) for at in instants]
    first: dict[datetime, int] = {}
    for at, wall in zip(instants, walls, strict=True):
        first.setdefault(wall, at)
    minute, latest = min(walls), max(walls)
    times: list[tuple[datetime, int]] = []
    while minute <= latest:
        at = first.get(minute) or next(at for at, wall in zip(instants, walls, strict=True) if wall > minute)
        times.append((minute, at))
        minute += timedelta(minutes=1)
    random, compared = Random(day), 0
    for _ in range(25):
        hours = random.choice(["0", "1", "2", "3", "0-5", "1,2", "0-23/2", "23"])
        fixed = f"{random.choice(['0', '30', '15,45', '0-10', '59'])} {hours} * * *"
        steps = f"*/{random.choice([7, 15, 20])} {random.choice(['*', '1-3', '2', '0'])} * * *"
        wild = random.choice([steps, f"{random.randrange(60)} * * * *"])
        expected = {
            fixed: sorted({at for minute, at in times if matches(fixed, minute)}),
            wild: [at for at, wall in zip(instants, walls, strict=True) if matches(wild, wall)],
        }
        for cron, slots in expected.items():
            found = [slot for slot in islice(Rule(cron, tz=zone).slots(start, 0), len(slots) + 5) if slot <= end]
            assert found == slots, (cron, zone, day)
            compared += len(slots)
    assert compared > 500


def test_a_time_that_the_clock_leaps_over_is_the_first_instant_after_it_and_one_that_it_shows_twice_is_the_first() -> None:
    rule = Rule("30 2 * * *", tz="Europe/Berlin")
    assert shown(rule, "2026-03-28T00:00", 3) == ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert shown(rule, "2026-10-24T12:00", 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    assert shown(rule, "2026-10-25T00:30", 1) == ["2026-10-26T02:30:00+01:00"]  # it has been
    assert shown(rule, "2026-10-25T01:10", 1) == ["2026-10-26T02:30:00+01:00"]  # the clock shows 02:10 again
    seconds = Rule("15 30 2 * * *", tz="Europe/Berlin")
    assert shown(seconds, "2026-10-24T12:00", 2) == ["2026-10-25T02:30:15+02:00", "2026-10-26T02:30:15+01:00"]


def test_an_expression_with_a_star_for_its_time_follows_the_time_that_passes() -> None:
    rule = Rule("*/30 * * * *", tz="Europe/Berlin")
    assert shown(rule, "2026-10-24T23:59", 6)[1:5] == [
        "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:00:00+01:00",
    ]  # fmt: skip
    assert shown(rule, "2026-03-29T00:15", 3) == ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]


def test_slots_rise_whatever_was_asked_for() -> None:
    random = Random(3)
    for cron in expressions(60):
        for zone in (*ZONES, "Australia/Lord_Howe"):
            slots = list(islice(Rule(cron, tz=zone).slots(random.randrange(ms("2026-01-01"), ms("2027-01-01")), 0), 30))
            assert slots == sorted(set(slots))


# the rest of a rule


def test_an_interval_counts_from_its_start_in_time_that_passes() -> None:
    rule = Rule(every_ms=90_000, tz="Europe/Berlin")
    assert shown(rule, "2026-03-29T00:58:30", 3) == ["2026-03-29T03:00:00+02:00", "2026-03-29T03:01:30+02:00", "2026-03-29T03:03:00+02:00"]
    started = Rule(every_ms=3_600_000, from_at=ms("2026-05-01T09:15"))
    assert shown(started, "2026-04-01", 2) == ["2026-05-01T09:15:00+00:00", "2026-05-01T10:15:00+00:00"]
    assert shown(started, "2026-05-01T10:15", 1) == ["2026-05-01T11:15:00+00:00"]


def test_a_window_leaves_out_what_is_outside_of_it_over_midnight_too() -> None:
    rule = Rule("*/20 * * * *", tz="Europe/Paris", only=("23:30-00:30", "05:00-05:20"))
    assert shown(rule, "2026-06-01T00:00", 5) == [
        "2026-06-01T05:00:00+02:00", "2026-06-01T23:40:00+02:00", "2026-06-02T00:00:00+02:00", "2026-06-02T00:20:00+02:00",
        "2026-06-02T05:00:00+02:00",
    ]  # fmt: skip
    assert shown(Rule(every_ms=1000, only=("22:00-06:00",)), "2026-06-01T05:59:58", 2)[1] == "2026-06-01T22:00:00+00:00"
    assert shown(Rule("0 12 * * *", only=("22:00-06:00",)), "2026-06-01", 1) == []


def test_a_window_a_day_for_years_does_not_end_a_rule() -> None:
    slots = list(islice(Rule("0 * * * *", only=("03:00-04:00",)).slots(ms("2020-01-01"), 0), 2500))
    assert slots[-1] == ms("2020-01-01T03:00") + 2499 * DAY


def test_dates_bound_a_rule_and_one_instant_is_one_slot() -> None:
    rule = Rule("0 0 * * *", from_at=ms("2026-06-03"), until_at=ms("2026-06-05"))
    assert shown(rule, "2026-01-01", 9) == ["2026-06-03T00:00:00+00:00", "2026-06-04T00:00:00+00:00", "2026-06-05T00:00:00+00:00"]
    assert shown(Rule(at=ms("2026-06-03")), "2026-01-01", 9) == ["2026-06-03T00:00:00+00:00"]
    assert shown(Rule(at=ms("2026-06-03")), "2026-06-03", 9) == []


def test_jitter_is_the_same_for_the_same_slot_and_spread_over_its_range() -> None:
    rule = Rule("* * * * *", jitter_ms=10_000)
    delays = [rule.delay("s", slot) for slot in range(0, 1000 * 60_000, 60_000)]
    assert delays == [rule_of(rule.row()).delay("s", slot) for slot in range(0, 1000 * 60_000, 60_000)]
    assert min(delays) < 500
    assert 9500 < max(delays) <= 10_000
    assert 4500 < sum(delays) / 1000 < 5500
    assert Rule("* * * * *").delay("s", 7) == 0


# words


def test_words_mean_what_they_say() -> None:
    now = ms("2026-06-01T10:00")
    said = wire_when(
        {"cron": " @daily ", "tz": "Europe/Paris", "jitter": "30s", "only": "22:00-06:00,12:00-13:00", "start": "18:30",
         "until": "2026-06-30", "misfire": "all:7", "overlap": "queue-one", "after": "load"}, now,
    )  # fmt: skip
    assert said == {
        "cron": "@daily", "tz": "Europe/Paris", "jitter_ms": 30_000, "only": ["22:00-06:00", "12:00-13:00"],
        "from_at": ms("2026-06-01T16:30"), "until_at": ms("2026-06-30T22:00") - 1, "misfire": "all:7", "overlap": "queue-one",
        "after": ["load"],
    }  # fmt: skip
    assert wire_when({"every": 90}, now) == {"every_ms": 90_000}
    assert wire_when({"at": datetime(2026, 7, 1, tzinfo=UTC)}, now) == {"at": ms("2026-07-01")}
    assert (misfire_of("all"), misfire_of("all:3"), misfire_of("skip"), overlap_of("cancel-old")) == (
        ("all", CATCH_UP), ("all", 3), ("skip", 1), "cancel_old",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"cron": "* * * *"}, "wrong number of fields"), ({"cron": "@Reboot"}, "@daily"), ({"cron": 5}, "expected a text"),
        ({"cron": "* * * * *", "every": 5}, "one of cron, every and at"), ({"every": "0.5s"}, "at least 1 second"),
        ({"every": "soon"}, "a duration"), ({"at": "yesterday"}, "a time to come"),
        ({"tz": "Mars/Olympus"}, "time zone"), ({"tz": "../../etc/passwd"}, "time zone"), ({"tz": "Europe"}, "time zone"),
        ({"only": "24:00-25:00"}, "window"), ({"only": ["22:00-22:00"]}, "window"), ({"only": [7]}, "only"),
        ({"at": datetime(2026, 7, 1)}, "time zone"), ({"misfire": "all:0"}, "coalesce"), ({"misfire": "all:1001"}, "coalesce"),  # noqa: DTZ001
        ({"overlap": "maybe"}, "queue_one"), ({"crontab": "x"}, "expected cron, every"),
        ({"after": ["a", 7]}, "the name of a schedule"), ({"after": ""}, "the name of a schedule"),
        ({"after": 7}, "the name of a schedule"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_an_error_that_says_what_would(said: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        wire_when(said, ms("2026-06-01"))


def test_a_rule_has_exactly_one_way_to_come_due() -> None:
    for rule in (Rule(), Rule("* * * * *", every_ms=5000), Rule("* * * * *", tz="nowhere"), Rule("* * * * *", only=("25:00-26:00",))):
        with pytest.raises(ValueError, match="expected"):
            checked_rule(rule)
    assert checked_rule(Rule("* * * * *")).cron == "* * * * *"


def test_what_an_application_declares_is_read_at_once() -> None:
    assert Schedule.of("0 3 * * *").when == {"cron": "0 3 * * *"}
    assert Schedule.of("every 90s").when == {"every_ms": 90_000}
    one = Schedule(cron="0 3 * * *", tz="Europe/Paris", payload={"n": 1}, until="2030-01-31")
    assert Schedule.of(one) is one
    assert one.when["until_at"] == ms("2030-01-31T23:00") - 1
    for wrong in ("soon", 7, "every now"):
        with pytest.raises(UsageError, match="expected"):
            Schedule.of(wrong)
    with pytest.raises(UsageError, match="one of cron"):
        Schedule(tz="UTC")
    with pytest.raises(UsageError, match="a date with its year"):
        Schedule(cron="0 3 * * *", start="18:30")
