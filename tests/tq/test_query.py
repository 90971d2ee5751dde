"""Filters: every text is a filter or an error with its column; a filter means what its words say, quickly, and says so again."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq import query
from tq.errors import UsageError
from tq.model import FINAL, STATES, Attempt, Header, Spec, State, Status, Task, duration_ms
from tq.query import MAX_TERMS, MAX_TEXT, Filter, from_options, parse
from tq.query.terms import FIELDS, duration_text

NOW = 1_763_726_400_000  # 2025-11-21T12:00:00Z
HOUR = 3_600_000
Oracle = Callable[[dict[str, Any], int], bool]
"""What a filter means, said again in other words: of a task's row and the present."""


def task(task_id: int = 1, state: State = State.PENDING, **about: Any) -> Task:
    """A task created an hour ago; the rest goes to its header, specification or status, wherever there is such a name."""
    spec = {name: about.pop(name) for name in ("payload", "created_at", "due_at", "expires_at") if name in about}
    head = {name: about.pop(name) for name in list(about) if name in Header.__dataclass_fields__}
    header = Header(**{"type": "email", **head})
    return Task(Spec(task_id, header, **{"payload": b"", "created_at": NOW - HOUR, **spec}), Status(state, **about))


FAILED = task(
    42, State.FAILED, type="report.pdf", queue="mail", priority=2, label="Nightly run", tenant="acme", worker="w-03", flow="f",
    meta={"branch": "main", "a b": "x=y"}, payload=b"x" * 100, attempt=3, failures=3, started_at=NOW - 90_000, finished_at=NOW - 60_000,
    exit_code=3, error={"type": "TimeoutError", "message": "SMTP timed out, try later"}, correlation_id="c-1", key="order-17",
    unique="user:5", order="acct-1", parents=(7, 8), expires_at=NOW + HOUR, batch=3,
)  # fmt: skip
NEW = task(43, State.PENDING, ready_at=NOW - 10_000, created_at=NOW - 10_000)

EXAMPLES = [  # text, whether it means FAILED, whether NEW
    ("", True, True),
    ("state:failed", True, False),
    ("state:fail,retry queue:mail", True, False),
    ("state:dead", True, False),
    ("state!=failed", False, True),
    ("STATE=pend", False, True),
    ("-name:gc.* name:report.*", True, False),
    ("type:report.pdf,email", True, True),
    ("type:'report.*'", False, False),
    ("type:[a-f]*", False, True),
    ("queue:mai?", True, False),
    ("age>10m wait>=5s run:1s..30s tries>=3", True, False),
    ("age<10m", False, True),
    ("age:30m..2h", True, False),
    ("wait:9s..11s", False, True),
    ("enqueued>-30m", False, True),
    ("created<-30m", True, False),
    ("created:-2h..-30m", True, False),
    ("finished:2025-11-21", True, False),
    ("done:2025-11-21T11:59Z", True, False),
    ("done:2025-11-20..2025-11-21", True, False),
    ("finished<2025-11-21", False, False),
    ("finished>2025-11-21", False, False),
    ("finished>=2025-11-21 finished<=2025-11-21", True, False),
    ("started:'2025-11-21 11:58'..'2025-11-21 11:59' ", True, False),
    ("expires>+30m", True, False),
    ("expires>now", True, False),
    ("expires<now", False, False),
    ("started:*", True, False),
    ('started:""', False, True),
    ("-started:*", False, True),
    ('error~"x"', None, None),
    ("error:timed", True, False),
    ("error:TIMEDOUT,later", True, False),
    ("error:*timed?out*", True, False),
    ("error:TimeoutError:*", True, False),
    ('error:"SMTP timed"', True, False),
    ("error:timeout*later", True, False),
    ("error:later*", False, False),
    ("worker:w-03", True, False),
    ("tag:branch=main", True, False),
    ("meta.branch:m*", True, False),
    ("tag:branch", True, False),
    ("meta.branch!=main", False, True),
    ('tag:"a b=x=y"', True, False),
    ("meta.other:*", False, False),
    ("tenant:acme correlation:c-1 key:order-17 unique:user:5 flow:f", True, False),
    ("order:acct-1 order-key:acct-*", True, False),
    ("correlation-id:c-*", True, False),
    ('label:"Nightly run"', True, False),
    ("label:nightly*", False, False),
    ('label:""', False, True),
    ("-label:*", False, True),
    ("parent:7", True, False),
    ("batch:3", True, False),
    ("-batch:*", False, True),
    ("parent:1,8..9", True, False),
    ("parent>8", False, False),
    ('parent:""', False, True),
    ("parent:*", True, False),
    ("parent:99 OR id:42", True, False),
    ("id:42..43", True, True),
    ("id:1,42", True, False),
    ("id>42", False, True),
    ("priority:high", True, False),
    ("prio>=low prio<high", False, True),
    ("priority:normal..critical", True, True),
    ("exit:3", True, False),
    ("exit!=0", True, True),
    ("exit:*", True, False),
    ("size>99", True, False),
    ("size<1k size>0", True, False),
    ("failures>0 crashes:0 interrupts=0", True, False),
    ("smtp", True, False),
    ("SMTP", True, False),
    ("nightly", True, False),
    ("port.p", True, False),
    ("42", True, False),
    ("4*", True, True),
    ("*mail", False, True),
    ("'timed out, try'", True, False),
    ("smtp OR email", True, True),
    ("smtp AND NOT email", True, False),
    ("NOT (smtp OR email)", False, False),
    ("-(smtp email)", True, True),
    ("state:failed (queue:other OR tenant:acme) -label:x", True, False),
    ("queue:other OR tenant:acme state:failed", True, False),
    ("queue:default state:pending OR queue:mail state:pending", False, True),
]


@pytest.mark.parametrize(("text", "failed", "new"), [one for one in EXAMPLES if one[1] is not None])
def test_a_filter_means_what_its_words_say(text: str, failed: bool, new: bool) -> None:
    found = parse(text, NOW, UTC)
    assert (found.matches(FAILED, NOW), found.matches(NEW, NOW)) == (failed, new)
    again = parse(str(found))
    assert (again, str(again)) == (found, str(found))
    assert (again.matches(FAILED, NOW), again.matches(NEW, NOW)) == (failed, new)


def test_every_field_and_all_its_names_are_tried() -> None:
    tried = {name.lower().replace("-", "_") for text, *_ in EXAMPLES for name in re.findall(r"([\w-]+)(?:[:=<>]|!=)", text)}
    assert FIELDS.keys() - tried <= {"attempt", "due"}  # by `tries`, and below
    assert str(parse("try:1 prio:1 done:* name:x enqueued>-1h tag:a=b")) == "attempt:1 priority:1 finished:* type:x created>-1h meta.a:b"


@pytest.mark.parametrize(
    ("about", "wait", "run"),
    [
        (task(), HOUR, None),
        (task(ready_at=NOW - 5000), 5000, None),
        (task(ready_at=NOW + 5000), 0, None),
        (task(state=State.SCHEDULED, due_at=NOW + 5000), None, None),
        (task(state=State.BLOCKED), None, None),
        (task(state=State.RUNNING, started_at=NOW - 1000), HOUR - 1000, 1000),
        (task(state=State.SUCCEEDED, attempt=1, started_at=NOW - 3000, finished_at=NOW - 1000), HOUR - 3000, 2000),
        (task(state=State.SUCCEEDED, attempt=1, due_at=NOW - 5000, started_at=NOW - 3000, finished_at=NOW - 1000), 2000, 2000),
        (task(state=State.CANCELLED, finished_at=NOW - 1000), HOUR - 1000, None),
        # cancelled while it waited for its second attempt: the first one's run
        (
            task(state=State.CANCELLED, attempt=1, started_at=NOW - 9000, finished_at=NOW - 1000,
                 attempts=(Attempt(1, NOW - 9000, NOW - 8000, "failed"),)),
            HOUR - 9000, 1000,
        ),
        (task(state=State.RETRYING, attempt=1, started_at=NOW - 9000, attempts=(Attempt(1, NOW - 9000, NOW - 8500, "failed"),)), None, 500),
        (task(state=State.PENDING, attempt=1, failures=0, started_at=NOW - 9000), HOUR, None),
    ],
)  # fmt: skip
def test_waiting_and_running_are_counted_to_the_millisecond(about: Task, wait: int | None, run: int | None) -> None:
    for name, wanted in (("wait", wait), ("run", run)):
        assert parse(f"{name}:*").matches(about, NOW) == (wanted is not None)
        if wanted is not None:
            text = duration_text(wanted)
            assert parse(f"{name}>={text} {name}<={text}").matches(about, NOW)
            assert not parse(f"{name}>{text} OR {name}<{text}").matches(about, NOW)


def test_a_command_that_succeeded_has_exit_code_0_and_a_function_none() -> None:
    done = task(state=State.SUCCEEDED)
    assert not parse("exit:0").matches(done, NOW)
    shell = replace(done, spec=replace(done.spec, header=Header("shell")))
    assert parse("exit:0").matches(shell, NOW)


def test_due_is_the_retry_if_there_is_one() -> None:
    retrying = Task(replace(NEW.spec, due_at=NOW - HOUR), Status(State.RETRYING, due_at=NOW + HOUR))
    assert parse("due>+59m due<=+1h").matches(retrying, NOW)
    assert parse("due:-1h..+0s").matches(Task(retrying.spec, Status(State.PENDING)), NOW)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("queu:mail", 1, "the name of a field, got 'queu:mail'. Did you mean 'queue'?"),
        ("state:failed sizes>3", 14, "Did you mean 'size'?"),
        ("zzz:3", 1, "The fields are: id, parent, state,"),
        ("http://x", 1, 'For the text itself: "http:..."'),
        ("state:", 7, "a value, got the end"),
        ("state:x", 7, "a state (scheduled, blocked,"),
        ("state:s", 7, "a state (scheduled,"),
        ("state>failed", 6, "which has no order"),
        ("name>x", 5, "which has no order"),
        ("tag:a>x tag>3", 12, "which has no order"),
        ("age > 10m", 5, "Between a field, its sign and its value there is no space: age>10m."),
        ("age:10m", 5, "Write age>10m, age<10m or age:10m..2d."),
        ("age>soon", 5, "a duration such as 30s"),
        ("created:-1h", 9, "a sign or a range"),
        ("created>1h", 9, "-1h (so long ago) or +1h (from now on)"),
        ("created>soon", 9, "a time such as 18:30"),
        ("created>-soon", 9, "a time such as 18:30"),
        ("created>5", 9, "a time such as 18:30"),
        ("created>18:30", 9, "a date with its year, as there is no present to count from"),
        ("id:1,x", 6, "a whole number, got 'x'"),
        ("id:99999999999999999999", 4, "a whole number"),
        ("id:1_0", 4, "a whole number"),
        ("id:٣", 4, "a whole number"),
        ("size:1x", 6, "a size in bytes such as 500, 64k or 2m"),
        ("size:9999999999999g", 6, "a size in bytes"),
        ("priority:10", 10, "a priority from 0 to 9, or low, medium"),
        ("priority:5..1", 10, "a range from the smaller to the greater"),
        ("id:1..", 7, "a value, got the end"),
        ("id:..5", 4, "a value"),
        ("id>1..5", 4, "For a range: id:1..5"),
        ("id>1,2", 5, "A list may stand after : = or !=."),
        ("id:1,,2", 6, "a value"),
        ("(state:failed", 14, "a ) for the ( of column 1, got the end"),
        ("state:failed)", 13, "the end, as no bracket is open"),
        ("()", 2, "a field with a value"),
        ("a AND", 6, "a field with a value such as state:failed, or a word, got the end"),
        ("OR a", 1, "a field with a value"),
        ("NOT NOT a", 5, "a field with a value"),
        ("--a", 2, "a field with a value"),
        ("- a", 2, "a term right behind the -"),
        ("a or b", 3, "OR in capitals, or the word in quotes"),
        ('a "b', 3, 'a " at the end of what is in quotes'),
        ('label:"a"b', 10, "a space behind what is in quotes"),
        ('label:"a"..b', 10, "a space behind what is in quotes"),
        ('""', 1, "a word that is not empty"),
        ("tag:a=1,b=2", 9, "For another: tag:a=1 OR tag:b=2."),
        ("tag:=1", 5, "one key such as tag:tenant=acme"),
        ("error~x", 6, "use a pattern: error:*timed?out*"),
        ("args.user.id:42", 1, "Filters do not look into payloads"),
        ("result.ok:false", 1, "Filters do not look into payloads"),
        ("try.error:x", 1, "Filters do not look into payloads"),
        ("sort:-age", 1, "which tasks are meant, not how they are shown"),
        ("limit:5", 1, "which tasks are meant"),
        ("(" * 9 + "a" + ")" * 9, 9, "at most 8 brackets in brackets"),
    ],
)
def test_an_error_names_the_column_and_what_to_write(text: str, column: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"filter, column {column}: expected ")
    assert caught.value.details == {"column": column}
    assert words in caught.value.message


def test_a_filter_is_bounded_in_length_terms_and_depth() -> None:
    assert parse(" ".join(["a"] * MAX_TERMS)).root is not None
    for text, words in (
        ("a" * (MAX_TEXT + 1), "at most 2048 characters, got 2049"),
        (" ".join(["a"] * (MAX_TERMS + 1)), "at most 128 terms when written out in full, got 129"),
        (" ".join(["created:2025-11-20"] * 100), "at most 2048 characters when written out in full"),
        ("x\ud800", "text in UTF-8"),
    ):
        with pytest.raises(UsageError, match=re.escape(words)):
            parse(text)
    deep = "id:7 OR x " + "(id:9 OR x " * 8 + ")" * 8  # as deep as may be: beside an option it needs a bracket more
    assert not parse(deep).matches(NEW, NOW)
    with pytest.raises(UsageError, match="brackets in brackets when written out in full, got 9"):
        from_options(queue="x", text=deep)


@pytest.mark.parametrize(
    "text", ["(" * 2000, "-" * 2000, "a(" * 900, "id:" + "1," * 900, "*" * 2000, "type:" + "*a" * 1000, "'" * 1999, '"\\' * 999]
)
def test_hostile_text_costs_little_time(text: str) -> None:
    started = time.process_time()
    try:
        found = parse(text)
    except UsageError:
        pass
    else:
        found.matches(task(type="a" * 199 + "b", label="a" * 199 + "b"), NOW)
    assert time.process_time() - started < 0.5


def test_dates_are_days_of_the_zone_they_are_written_in_and_the_text_says_so_in_utc() -> None:
    found = parse("created:2025-11-20", NOW, ZoneInfo("Europe/Berlin"))
    assert str(found) == "created:2025-11-19T23:00:00.000Z..2025-11-20T22:59:59.999Z"
    assert str(parse("created>2025-11-20", NOW, ZoneInfo("America/New_York"))) == "created>2025-11-21T04:59:59.999Z"
    assert str(parse("created>=today", NOW, UTC)) == "created>=2025-11-21T00:00:00.000Z"
    assert str(parse("created<18:30", NOW, UTC)) == "created<2025-11-21T18:30:00.000Z"
    assert str(parse("finished>'yesterday 9am'", NOW, UTC)) == "finished>2025-11-20T09:00:59.999Z"
    assert str(parse("finished>monday", NOW, UTC)) == "finished>2025-11-17T23:59:59.999Z"


def test_what_counts_from_the_present_moves_with_it() -> None:
    found = parse("created>-1h")
    assert not found.matches(FAILED, NOW)
    assert found.matches(FAILED, NOW - 1)


@pytest.mark.parametrize(
    ("text", "states", "queue", "kind", "ids"),
    [
        ("", None, None, None, None),
        ("smtp", None, None, None, None),
        ("state:failed,expired", "failed expired", None, None, None),
        ("-state:failed", "-failed", None, None, None),
        ("-(state:failed queue:a)", None, None, None, None),
        ("-(state:failed OR queue:a)", "-failed", None, None, None),
        ("state:failed -state:failed", "", None, None, None),
        ("state:failed OR state:pending queue:a", "failed pending", None, None, None),
        ("state:failed OR queue:a", None, None, None, None),
        ("queue:a type:b", None, "a", "b", None),
        ("queue:a* type:b,c", None, None, None, None),
        ("queue:a,b queue:b,c", None, "b", None, None),
        ("queue:a OR queue:a type:x", None, "a", None, None),
        ("queue:a OR queue:b", None, None, None, None),
        ("-queue:a", None, None, None, None),
        ("id:5", None, None, None, (5, 5)),
        ("id>5", None, None, None, (6, 2**63 - 1)),
        ("id>=5 id<9", None, None, None, (5, 8)),
        ("id:3,7..9 OR id:1", None, None, None, (1, 9)),
        ("id:3 OR id:9 id:4", None, None, None, (3, 3)),
        ("id:3 OR queue:a", None, None, None, None),
        ("id:3 id:5", None, None, None, (5, 3)),
        ("-id:3", None, None, None, None),
        ("id:*", None, None, None, None),
    ],
)
def test_a_filter_says_what_an_index_may_use(
    text: str, states: str | None, queue: str | None, kind: str | None, ids: tuple[int, int] | None
) -> None:
    found = parse(text)
    named = None if states is None else frozenset(State(STATES.index(word)) for word in states.strip("-").split())
    assert found.states == (frozenset(State) - named if named is not None and str(states).startswith("-") else named)
    assert (found.queue, found.type, found.ids_range) == (queue, kind, ids)


def test_options_and_a_text_make_one_filter_with_names_as_they_are() -> None:
    assert from_options() == parse("")
    found = from_options(
        states=["dead", State.EXPIRED], queue="a*", type="t", label="two words", tenant="x", older_than="1h", newer_than=7200, text="a OR b"
    )
    assert str(found) == 'state:failed,expired queue:"a*" type:t label:"two words" tenant:x age>1h age<2h (a OR b)'
    assert (found.queue, found.type) == ("a*", "t")
    assert from_options(text="queue:mail").matches(FAILED, NOW)
    assert from_options(older_than=timedelta(minutes=59), text="smtp").matches(FAILED, NOW)
    for wrong, words in (({"states": ["x"]}, "--state: expected a state"), ({"older_than": "old"}, "--older-than: expected a duration")):
        with pytest.raises(UsageError, match=words):
            from_options(**wrong)


@pytest.mark.parametrize("ms", [0, 1, 999, 1000, 90_000, 3_600_000, 86_399_999, 604_800_000 * 3 + 5, 100 * 366 * 86_400_000])
def test_a_duration_is_read_as_it_is_written(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


# against a naive reading of the same words

NAMES = ["a", "b", "mail", "Mail", "a.b", "and", "x y", "é", 'q"', "b\\s"]
instants = st.integers(-5, 5).map(lambda hours: NOW + hours * HOUR)
maybe = st.none() | st.sampled_from(NAMES)
headers = st.builds(
    Header, type=st.sampled_from(NAMES), queue=st.sampled_from(NAMES), priority=st.integers(0, 9), label=maybe, tenant=maybe, key=maybe,
    unique=maybe, flow=maybe, order=maybe, correlation_id=maybe,
    meta=st.none() | st.dictionaries(st.sampled_from(["k", "a b"]), st.sampled_from(NAMES)),
    parents=st.lists(st.integers(0, 5), max_size=2).map(tuple),
)  # fmt: skip
specs = st.builds(
    Spec, id=st.integers(1, 6), header=headers, payload=st.binary(max_size=4), created_at=instants, due_at=st.just(0) | instants,
    expires_at=st.just(0) | instants,
)  # fmt: skip
failures = st.none() | st.fixed_dictionaries({"type": st.sampled_from(["", "Ab"]), "message": st.sampled_from(["", *NAMES])})
small = st.integers(0, 3)
statuses = st.builds(
    Status, state=st.sampled_from(State), ready_at=st.just(0) | instants, due_at=st.just(0) | instants, started_at=st.just(0) | instants,
    finished_at=st.just(0) | instants, attempt=small, failures=small, crashes=small, interrupts=small, worker=st.sampled_from(["", *NAMES]),
    exit_code=st.none() | st.integers(-2, 3), error=failures,
    attempts=st.lists(st.builds(Attempt, small, instants, instants, st.just("failed")), max_size=2).map(tuple),
)  # fmt: skip
tasks = st.builds(Task, specs, statuses)


def _in_quotes(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _wait_of(row: dict[str, Any], now: int) -> int | None:
    ready = row["ready_at"] or max(row["created_at"], row["spec_due"])
    if row["state"] in ("scheduled", "blocked", "retrying"):
        return None
    until = now if row["state"] == "pending" else row["started_at"] or row["finished_at"]
    return max(until - ready, 0)


def _run_of(row: dict[str, Any], now: int) -> int | None:
    if row["state"] == "running":
        return max(now - row["started_at"], 0)
    last = row["attempts"][-1] if row["attempts"] else None
    if last is not None and last[0] == row["attempt"]:
        return max(last[2] - last[1], 0)
    return max(row["finished_at"] - row["started_at"], 0) if row["attempt"] and row["finished_at"] else None


def _error_of(row: dict[str, Any]) -> str | None:
    error = row["error"]
    return None if error is None else f"{error['type'] or 'Error'}: {error['message']}"


def _among(texts: list[tuple[str, str]], value: str | None) -> bool:
    """Whether a value fits one of (what was meant, how): exactly, as a pattern, any, none."""
    for text, how in texts:
        if how == "none" and not value:
            return True
        if value is not None and (
            how == "any" or (how == "exact" and value == text) or (how == "like" and fnmatch.fnmatchcase(value, text))
        ):
            return True
    return False


TEXT_ROWS = {"queue": "queue", "type": "type", "name": "type", "label": "label", "tenant": "tenant", "worker": "worker", "flow": "flow",
             "correlation": "correlation_id", "key": "key", "unique": "unique", "order": "order"}  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, Oracle]:
    name = draw(st.sampled_from([*TEXT_ROWS, "meta.k", "error"]))
    written, meant = [], []
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(["exact", "exact", "like", "any", "none"]))
        text = draw(st.sampled_from(NAMES if how == "exact" else ["a*", "?", "[a-m]*", "*b", "M*l"]))
        written.append({"exact": _in_quotes(text), "like": text, "any": "*", "none": '""'}[how])
        meant.append((text, how))

    def value(row: dict[str, Any]) -> str | None:
        if name == "error":
            return _error_of(row)
        found = (row["meta"] or {}).get("k") if name == "meta.k" else row[TEXT_ROWS[name]]
        return found or None

    def found(row: dict[str, Any], _: int) -> bool:
        if name != "error" or value(row) is None:
            return _among(meant, value(row))
        text = str(value(row)).lower()
        return any(how == "any" or (how == "exact" and one.lower() in text) or (how == "like" and fnmatch.fnmatchcase(text, one.lower()))
                   for one, how in meant)  # fmt: skip

    sign = draw(st.sampled_from([":", "=", "!="]))
    body = f"{name}{sign}{','.join(written)}"
    return (body, found) if sign != "!=" else (body, lambda row, now: not found(row, now))


def _compare(sign: str, value: int, bound: int) -> bool:
    return {">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound}[sign]


NUMBER_ROWS: dict[str, Callable[[dict[str, Any], int], int | None]] = {
    "id": lambda row, _: row["id"], "priority": lambda row, _: row["priority"], "attempt": lambda row, _: row["attempt"],
    "tries": lambda row, _: row["attempt"], "failures": lambda row, _: row["failures"], "crashes": lambda row, _: row["crashes"],
    "interrupts": lambda row, _: row["interrupts"], "exit": lambda row, _: row["exit_code"], "size": lambda row, _: len(row["payload"]),
}  # fmt: skip


@st.composite
def numbers(draw: st.DrawFn) -> tuple[str, Oracle]:
    name = draw(st.sampled_from([*NUMBER_ROWS, "parent"]))
    get = NUMBER_ROWS.get(name)
    values = st.integers(0 if name in ("priority", "size") else -2, 6)
    sign = draw(st.sampled_from([":", "!=", ">", ">=", "<", "<="]))
    if sign in (":", "!="):
        ranges = [sorted(one) for one in draw(st.lists(st.tuples(values, values), min_size=1, max_size=3))]
        body = name + sign + ",".join(str(low) if low == high else f"{low}..{high}" for low, high in ranges)

        def inside(value: int) -> bool:
            return any(low <= value <= high for low, high in ranges)
    else:
        bound = draw(values)
        body = f"{name}{sign}{bound}"

        def inside(value: int) -> bool:
            return _compare(sign, value, bound)

    def found(row: dict[str, Any], now: int) -> bool:
        some = row["parents"] if get is None else [get(row, now)]
        return any(value is not None and inside(value) for value in some) != (sign == "!=")

    return body, found


MOMENTS = {"created": "created_at", "enqueued": "created_at", "due": "due_at", "started": "started_at", "done": "finished_at",
           "expires": "expires_at"}  # fmt: skip
LENGTHS: dict[str, Callable[[dict[str, Any], int], int | None]] = {
    "age": lambda row, now: now - row["created_at"], "wait": _wait_of, "run": _run_of,
}  # fmt: skip


def _iso(ms: int, precise: bool) -> str:
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds" if precise else "minutes")
    return text.replace("+00:00", "Z")


@st.composite
def times(draw: st.DrawFn) -> tuple[str, Oracle]:
    """Instants, absolute (to the millisecond, or a whole minute) or from now on, and durations."""
    hours = st.integers(-5, 5)
    if draw(st.booleans()):
        name = draw(st.sampled_from([*LENGTHS]))
        low, high = sorted((abs(draw(hours)), abs(draw(hours))))
        first, last, relative, slack = low * HOUR, high * HOUR, False, 0
        words = (f"{low}h", f"{high}h")
        get = LENGTHS[name]
    else:
        name = draw(st.sampled_from([*MOMENTS]))
        low, high = sorted((draw(hours), draw(hours)))
        relative, precise = draw(st.booleans()), draw(st.booleans())
        slack = 0 if relative or precise else 59_999
        first, last = (low * HOUR, high * HOUR) if relative else (NOW + low * HOUR, NOW + high * HOUR)
        words = (f"{low:+d}h", f"{high:+d}h") if relative else (_iso(first, precise), _iso(last, precise))
        key = MOMENTS[name]
        get = lambda row, _: row[key] or None  # noqa: E731
    sign = draw(st.sampled_from([":", "!=", ">", ">=", "<", "<="]))
    body = f"{name}{sign}{words[0]}" + (f"..{words[1]}" if sign in (":", "!=") else "")

    def found(row: dict[str, Any], now: int) -> bool:
        value, start = get(row, now), now if relative else 0
        if sign in (":", "!="):
            return (value is not None and first + start <= value <= last + slack + start) != (sign == "!=")
        return value is not None and _compare(sign, value, first + start + (slack if sign in (">", "<=") else 0))

    return body, found


@st.composite
def states(draw: st.DrawFn) -> tuple[str, Oracle]:
    chosen = draw(st.lists(st.sampled_from(STATES), min_size=1, max_size=3))
    sign = draw(st.sampled_from([":", "=", "!="]))
    return f"state{sign}{','.join(chosen)}", lambda row, _: (row["state"] in chosen) != (sign == "!=")


@st.composite
def words(draw: st.DrawFn) -> tuple[str, Oracle]:
    text = draw(st.sampled_from(["a", "B", "mail", "x y", "é", "3", "Ab: a", "error"]))

    def found(row: dict[str, Any], _: int) -> bool:
        parts = [row["type"], row["label"] or "", _error_of(row) or ""]
        return str(row["id"]) == text or any(text.lower() in part.lower() for part in parts)

    return _in_quotes(text) if " " in text or draw(st.booleans()) else text, found


def _joins(inner: st.SearchStrategy[tuple[str, Oracle]]) -> st.SearchStrategy[tuple[str, Oracle]]:
    def every(parts: list[tuple[str, Oracle]], link: str) -> tuple[str, Oracle]:
        return f"({link.join(text for text, _ in parts)})", lambda row, now: all(one(row, now) for _, one in parts)

    def some(parts: list[tuple[str, Oracle]]) -> tuple[str, Oracle]:
        return f"({' OR '.join(text for text, _ in parts)})", lambda row, now: any(one(row, now) for _, one in parts)

    def never(part: tuple[str, Oracle], sign: str) -> tuple[str, Oracle]:
        return (sign + part[0]) if part[0][0] != "-" and not part[0].startswith("NOT ") else f"{sign}({part[0]})", (
            lambda row, now: not part[1](row, now)
        )

    several = st.lists(inner, min_size=2, max_size=3)
    return (
        st.builds(every, several, st.sampled_from([" ", " AND ", "  AND  "])) | st.builds(some, several)
        | st.builds(never, inner, st.sampled_from(["-", "NOT "]))
    )  # fmt: skip


filters = st.recursive(texts() | numbers() | times() | states() | words(), _joins, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(filters, st.lists(tasks, min_size=1, max_size=6), st.integers(-3, 3))
def test_a_filter_agrees_with_a_naive_reading_and_so_does_its_text(one: tuple[str, Oracle], some: list[Task], hours: int) -> None:
    text, oracle = one
    now = NOW + hours * HOUR
    found = parse(text)
    again = parse(str(found))
    assert again == found
    assert str(again) == str(found)
    for each in some:
        row = {**each.row(), "spec_due": each.spec.due_at}
        wanted = oracle(row, now)
        assert (found.matches(each, now), again.matches(each, now)) == (wanted, wanted), (text, row)
        if wanted:
            assert found.states is None or each.state in found.states
            assert found.queue in (None, row["queue"])
            assert found.type in (None, row["type"])
            low, high = found.ids_range or (0, row["id"])
            assert low <= row["id"] <= high


TOKENS = st.sampled_from(
    [*"()-\"'\\ *?[\n,:=<>~", "!=", ">=", "<=", "..", "AND", "OR", "NOT", "or", "state", "queue", "meta.k", "tag", "age", "created", "id",
     "size", "1h", "-1h", "+2d", "2025-11-20", "18:30", "42", "failed", "a=b", "é", "now"]
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(st.text(max_size=60) | st.lists(TOKENS, max_size=14).map("".join), st.none() | st.integers(0, 2 * NOW))
def test_any_text_is_a_filter_or_a_usage_error_and_a_filter_is_its_own_text(text: str, now: int | None) -> None:
    try:
        found = parse(text, now, UTC)
    except UsageError as error:
        column = error.details.get("column", 1)
        assert isinstance(column, int)
        assert 1 <= column <= len(text) + 1
        assert error.message.startswith("filter")  # noqa: PT017 - anything else would be another's
    else:
        again = parse(str(found))
        assert again == found
        assert str(again) == str(found)
        assert hash(again) == hash(found)
        for each in (FAILED, NEW):
            assert found.matches(each, NOW) == again.matches(each, NOW)


def _seconds(test: Callable[[Task, int], bool], some: list[Task]) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for each in some:
            test(each, NOW)
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.parametrize(
    ("text", "terms", "most"),
    [
        ("queue:mail", 1, 6.0),
        ("queue:mail state:failed id>0 age>1s created<now failures>=1 tenant:acme size<1k", 8, 8.0),
        ("type:report.* label:*run", 2, 16.0),
        ("error:smtp", 1, 18.0),
        ("smtp", 1, 40.0),
    ],
)
def test_a_term_costs_a_few_function_calls(text: str, terms: int, most: float) -> None:
    """As a ratio, since machines differ: one plain function that looks at one attribute of each task is the measure."""
    some = [FAILED] * 5000
    bare = _seconds(lambda each, _: each.spec.header.queue == "mail", some)
    found = parse(text)
    assert found.matches(FAILED, NOW)
    assert _seconds(found.matches, some) / terms < most * bare


def test_the_room_says_what_it_may_be_asked() -> None:
    assert set(query.__all__) == {"Filter", "parse", "from_options", "MAX_TEXT", "MAX_TERMS", "MAX_DEPTH"}
    assert repr(parse("state:failed")) == f"Filter(root={parse('state:failed').root!r})"
    assert isinstance(parse("state:failed"), Filter)
    assert parse("-state:pending,running,scheduled,blocked,retrying").states == FINAL
