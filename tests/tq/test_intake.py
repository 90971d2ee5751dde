"""Intake: what a client may say of a task, how the answers resolve, and words for each mistake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tq.errors import PayloadError, UnknownType, UsageError
from tq.intake import KINDS_BYTES, KINDS_KEPT, LAST_MS, TASKS_MOST, Defaults, Intake
from tq.model import MAX_DURATION_MS, MAX_HEADER, MAX_NAME, SHELL, Backoff
from tq.store import Draft, QueueInfo, TypeInfo
from tq.wire import WAITS_MOST

NOW = 1_700_000_000_000
TYPES = {
    "email": TypeInfo("email", "mail", 5, 30_000, ["fixed", 500, 2.0, 500, False], 2, True),
    "plain": TypeInfo("plain"),
}


@pytest.fixture
def intake() -> Intake:
    return Intake(Defaults(3, 300_000, 1000), lambda: TYPES, lambda: {"out": QueueInfo("out", external=True)})


def one(intake: Intake, kind: str = "plain", payload: object = b"", options: dict[str, Any] | None = None) -> Draft:
    (draft,), _ = intake.drafts([[kind, payload, options]], NOW)
    return draft


def refusal(intake: Intake, *rows: object) -> str:
    with pytest.raises(UsageError) as caught:
        intake.drafts(list(rows), NOW)
    return str(caught.value)


def test_the_task_says_more_than_its_type_and_its_type_more_than_the_defaults(intake: Intake) -> None:
    head = one(intake, "email").header
    assert (head.queue, head.retries, head.timeout_ms, head.priority, head.once) == ("mail", 5, 30_000, 2, True)
    assert head.backoff == Backoff("fixed", 500, 2.0, 500, False)
    head = one(intake, "email", b"", {"queue": "q", "retries": 0, "timeout_ms": 0, "priority": 0, "once": False}).header
    assert (head.queue, head.retries, head.timeout_ms, head.priority, head.once) == ("q", 0, 0, 0, False)
    head = one(intake).header
    assert (head.queue, head.retries, head.timeout_ms, head.priority, head.once) == ("default", 3, 300_000, 1, False)
    head = one(intake, SHELL).header
    assert (head.retries, head.timeout_ms) == (0, 0)


def test_times_are_reckoned_from_now_and_nil_counts_as_not_said(intake: Intake) -> None:
    draft = one(intake, options={"delay_ms": 500, "ttl_ms": 900, "label": None, "priority": None})
    assert (draft.due_at, draft.expires_at, draft.header.label, draft.header.priority) == (NOW + 500, NOW + 900, None, 1)
    assert one(intake, options={"due_at": NOW - 5}).due_at == NOW - 5
    (later,), _ = intake.drafts([["plain", b"", {"delay_ms": 500, "ttl_ms": 900}]], NOW + 10_000)
    assert later.due_at == NOW + 10_500


def test_options_beside_the_tasks_are_those_of_tasks_that_have_none(intake: Intake) -> None:
    usual = {"priority": 5, "label": "l", "extras": {"env": {"A": "b"}}}
    (first, second, own), _ = intake.drafts([["plain", b"", None], ["plain", b"1", None], ["plain", b"", {"priority": 2}]], NOW, usual)
    assert first.header is second.header
    assert (first.header.priority, first.header.label, first.header.extras) == (5, "l", {"env": {"A": "b"}})
    assert (own.header.priority, own.header.label, own.header.extras) == (2, None, None)
    (none,), _ = intake.drafts([["plain", b"", None]], NOW)
    assert none.header.priority == 1
    for name in ("key", "unique"):
        with pytest.raises(UsageError, match="expected none that names one task"):
            intake.drafts([["plain", b"", None]], NOW, {name: "k"})
    with pytest.raises(UsageError, match=r"^expected an option .* got 'prio'"):
        intake.drafts([["plain", b"", None]], NOW, {"prio": 2})


def test_everything_else_travels_with_the_task(intake: Intake) -> None:
    options = {"label": "x", "meta": {"k": "v"}, "tenant": "t", "flow": "f", "correlation_id": "c", "extras": {"argv": ["ls"], "umask": 18}}
    head = one(intake, SHELL, None, options).header
    assert {key: getattr(head, key) for key in options} == options


def test_tasks_of_one_kind_share_their_header_until_types_change(intake: Intake) -> None:
    rows: Sequence[Any] = [["plain", b"1", {"label": "a"}], ["plain", b"2", {"label": "a"}], ["plain", b"3", {"label": "b"}]]
    (first, second, third), _ = intake.drafts(rows, NOW)
    assert first.header is second.header
    assert first.header is not third.header
    intake.forget()
    assert intake.drafts(rows, NOW)[0][0].header is not first.header


def test_tasks_that_differ_only_in_their_names_are_what_each_would_be_alone(intake: Intake) -> None:
    """Whichever of them was checked first, and in whatever order its options came."""
    asked: list[dict[str, Any]] = [
        {"key": "a"}, {"key": "b"}, {"unique": "a"}, {"unique": "b", "unique_policy": "replace"}, {"key": "a", "unique": "b"},
        {"unique": "c", "key": "b"}, {"key": "b", "label": "x", "ttl_ms": 50}, {"label": "x", "ttl_ms": 70, "key": "b"},
        {"key": "\N{GRINNING FACE}" * 50, "unique": None, "meta": {"a": "b"}, "backoff": ["fixed", 5, 1.0, 5, False]},
        {"key": None, "unique": "x" * 200, "extras": {"n": 1}},
        {"key": "c", "after": [1, 2], "after_any": [2, 3]}, {"unique": "d", "after_any": [7]}, {"key": "e", "unique": "e", "after": [7]},
        {"key": None, "label": "x"},
    ]  # fmt: skip
    rows = [["plain", b"p", options] for options in asked]
    together, policies = intake.drafts(rows * 2, NOW)
    alone = []
    for row in rows:
        intake.forget()
        alone += intake.drafts([row], NOW)[0]
    assert together == alone * 2
    assert [draft.header.packed for draft in together] == [draft.header.packed for draft in alone] * 2
    assert [policies.get(at) for at in range(len(rows))] == ["reject"] * 3 + ["replace"] + ["reject"] * 9 + [None]
    same = [draft.digest for draft in together]
    assert len(set(same)) == 9  # of those with keys only the two that differ in nothing but their time to live are alike
    assert same[6] == same[7]


@pytest.mark.parametrize("name", ["key", "unique"])
@pytest.mark.parametrize("bad", ["", "x" * 201, 5, b"x", ["x"]])
def test_a_bad_name_is_refused_also_behind_a_thousand_good_ones(intake: Intake, name: str, bad: object) -> None:
    good = [["plain", b"", {name: f"n{n}"}] for n in range(1000)]
    assert f"task 1001 of 1001: {name}: expected a text of 1 to" in refusal(intake, *good, ["plain", b"", {name: bad}])


def test_kinds_are_remembered_within_bounds(intake: Intake) -> None:
    for start in range(0, 3 * KINDS_KEPT, 1000):
        intake.drafts([["plain", b"", {"label": f"label {n}"}] for n in range(start, start + 1000)], NOW)
        assert len(intake._kinds) <= KINDS_KEPT
    for n in range(100):
        one(intake, options={"extras": {"n": n, "env": "x" * 50_000}})
        assert sum(len(key[1] or b"") for key in intake._kinds) <= KINDS_BYTES


def test_an_external_queue_takes_any_type_and_an_unknown_one_may_be_parked(intake: Intake) -> None:
    assert one(intake, "elsewhere", b"", {"queue": "out"}).header.type == "elsewhere"
    assert one(intake, "tomorrow", b"", {"allow_unknown": True}).header.type == "tomorrow"


def test_an_unknown_type_is_refused_with_those_there_are_and_the_closest(intake: Intake) -> None:
    with pytest.raises(UnknownType, match=r"\(email, plain, shell\), got 'emial'. Did you mean 'email'\?") as caught:
        one(intake, "emial")
    assert caught.value.details == {"known": ["email", "plain", "shell"], "closest": "email"}
    assert "--app" in str(caught.value)
    assert "Did you mean" not in refusal(intake, ["zzz", b"", None])
    many = Intake(Defaults(), lambda: {f"{n:0200}": TypeInfo(f"{n:0200}") for n in range(5000)}, dict)
    with pytest.raises(UnknownType) as caught:
        one(many, "x")
    assert len(str(caught.value)) < 6000
    assert len(str(caught.value.details)) < 30_000


def test_names_are_bounded_in_bytes_at_any_place(intake: Intake) -> None:
    fits, over = "ü" * (MAX_NAME // 2), "ü" * (MAX_NAME // 2) + "x"
    assert one(intake, fits, b"", {"allow_unknown": True}).header.type == fits
    for bad in (over, "", 5, None, b"x", ["x"]):
        assert "type" in refusal(intake, [bad, b"", {"allow_unknown": True}])
    for key in ("queue", "label", "tenant", "flow", "correlation_id"):
        assert getattr(one(intake, options={key: fits}).header, key) == fits
        for bad in (over, "", 5, ["x"], {}):
            assert refusal(intake, ["plain", b"", {key: bad}]).startswith(f"{key}: expected a text of 1 to 200 bytes, got ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"priority": 10}, "priority: "), ({"priority": True}, "priority: "), ({"priority": "high"}, "priority: "),
        ({"retries": -1}, "retries: "),
        ({"delay_ms": 1.5}, "delay_ms: "), ({"delay_ms": MAX_DURATION_MS + 1}, "delay_ms: "), ({"due_at": LAST_MS + 1}, "due_at: "),
        ({"ttl_ms": 0}, "ttl_ms: "), ({"timeout_ms": -1}, "timeout_ms: "), ({"once": 1}, "true or false"),
        ({"allow_unknown": "yes"}, "true or"),
        ({"meta": {"k": 1}}, "map of texts"), ({"meta": {"k": "v" * 5000}}, "4096"), ({"meta": ["k"]}, "map of texts"),
        ({"extras": [1]}, "extras: "), ({"extras": {"x": b"y" * 70_000}}, "60000 bytes"), ({"backoff": "fixed"}, "base_ms"),
        ({"backoff": ["fixed", 5, 2, 1, True]}, "base_ms <= cap_ms"), ({"backoff": [["fixed"], 1, 2, 3, True]}, "backoff: "),
        ({"backoff": ["fixed", 1, float("nan"), 3, True]}, "backoff: "), ({"backoff": ["fixed", True, 2, 3, True]}, "backoff: "),
        ({"backoff": ["fixed", 1, 2, 1 << 62, True]}, "backoff: "), ({"delay_ms": 1, "due_at": NOW}, "delay_ms or due_at"),
        ({"quue": "x"}, "Did you mean 'queue'?"), ({b"queue": "x"}, "expected an option"), ([], "expected a map"), ("x", "expected a map"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_by_its_name(intake: Intake, options: Any, says: str) -> None:
    text = refusal(intake, ["plain", b"", options])
    assert says in text
    assert "expected" in text
    assert "got" in text
    assert len(text) < 400


@pytest.mark.parametrize("row", [None, 5, "abc", [], ["plain"], ["plain", b""], ["plain", b"", None, 1], {"a": 1}, [{}, b"", None], b"ab"])
def test_what_is_no_task_is_refused_and_the_row_is_named(intake: Intake, row: object) -> None:
    assert refusal(intake, ["plain", b"", None], row, ["plain", b"", None]).startswith("task 2 of 3: ")


def test_options_that_are_too_deep_to_be_kept_are_refused_and_the_next_are_not_harmed(intake: Intake) -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"x": deep}
    assert "expected [type, payload, options]" in refusal(intake, ["plain", b"", {"extras": deep}])
    assert one(intake, options={"label": "fine"}).header.label == "fine"


def test_payloads_are_bytes_within_the_limit(intake: Intake) -> None:
    assert one(intake, payload=None).payload == b""
    assert one(intake, payload=b"x" * 1000).payload == b"x" * 1000
    for bad, says in ((b"x" * 1001, "expected at most 1000 bytes, got 1001"), ("text", "got str"), ({}, "got dict"), (5, "got int")):
        with pytest.raises(PayloadError, match=says):
            one(intake, payload=bad)


def test_a_request_has_at_least_one_task_and_not_too_many(intake: Intake) -> None:
    for rows in ([], {}, None, ()):
        with pytest.raises(UsageError, match="at least one"):
            intake.drafts(rows, NOW)  # type: ignore[arg-type]
    row = ["plain", b"", None]
    assert len(intake.drafts([row] * TASKS_MOST, NOW)[0]) == TASKS_MOST
    assert "Send the rest in another request" in refusal(intake, *[row] * (TASKS_MOST + 1))


def test_the_tasks_of_a_request_wait_for_a_bounded_number_of_others_in_all(intake: Intake) -> None:
    waits = {"after": list(range(1, 501)), "after_any": list(range(501, 1001))}
    rows = [["plain", b"", {"after": [1]}], *[["plain", b"", None]] * 99]
    assert len(intake.drafts([*rows, *[["plain", b"", waits]] * 99], NOW)[0]) == 199
    said = refusal(intake, *[["plain", b"", waits]] * 101)
    assert said.startswith(
        f"enqueue: after: expected {WAITS_MOST} tasks to wait for at most, counted for each of the 101 tasks, got 101000."
    )
    with pytest.raises(UsageError, match=r"got 10000000\. Send fewer tasks"):
        intake.drafts([["plain", b"", None]] * TASKS_MOST, NOW, waits)
    assert len(intake.drafts([["plain", b"", None]] * 101, NOW)[0]) == 101  # others are not held to it


def test_whatever_passes_fits_a_records_header(intake: Intake) -> None:
    full = dict.fromkeys(("queue", "label", "tenant", "flow", "correlation_id"), "x" * MAX_NAME)
    options = {**full, "meta": {"k": "v" * 4090}, "extras": {"x": b"y" * 59_990}, "backoff": ["exponential", 1, 1.5, MAX_DURATION_MS, True]}
    assert len(one(intake, "x" * MAX_NAME, b"", {**options, "allow_unknown": True}).header.packed) <= MAX_HEADER
