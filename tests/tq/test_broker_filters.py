"""Help for who writes a filter, as the broker gives it on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker import filters
from tq.model import STATES
from tq.query import MAX_TEXT, parse
from tq.query.terms import NAMES


def offered(d: Driver, text: str, at: int | None = None) -> list[list[str]]:
    body = d.ask("complete", text=text, at=len(text) if at is None else at)
    found: list[list[str]] = body["choices"]
    return found


def whole(d: Driver, text: str, at: int | None = None) -> list[str]:
    """The texts that choices make of it."""
    body = d.ask("complete", text=text, at=len(text) if at is None else at)
    return [text[: body["start"]] + choice + text[body["end"] :] for choice, _ in body["choices"]]


@pytest.fixture
def many(d: Driver) -> Driver:
    d.add(3, queue="mail", label="night run", meta={"branch": "main", "odd key": "v"}, tenant="acme")
    d.add(5, "u", queue="web", label="x", meta={"branch": "dev"}, priority=9)
    d.add(1, queue="mail", retries=0)
    for task in d.grant(2, "w-07"):
        d.broker.settled([d.result(task, "failed", error={"type": "SMTPError", "message": "421"}, permanent=True)])
    d.turn()
    d.grant(1, "w-03")
    d.grant(2, "w-04")
    return d


def test_fields_are_offered_and_after_a_term_what_joins_it_to_the_next(d: Driver) -> None:
    assert ["state:", "where it stands"] in offered(d, "")
    assert ["AND", ""] not in offered(d, "")
    assert ["age>", "since it was sent"] in offered(d, "a")
    assert ["AND", ""] in offered(d, "state:failed a")
    assert [text for text, _ in offered(d, "state:failed n")] == ["name:", "NOT"]
    assert whole(d, "-st") == ["-state:", "-started>"]
    assert whole(d, "(state:failed OR qu") == ["(state:failed OR queue:"]
    assert whole(d, "sta type:x", 2) == ["state: type:x", "started> type:x"]
    assert whole(d, "sta:failed", 3) == ["state:failed", "started>failed"]


def test_every_field_is_offered_by_each_of_its_names(d: Driver) -> None:
    for name in NAMES:
        assert any(text.rstrip(":>") in (name, NAMES[name]) for text, _ in offered(d, name)), name


def test_values_come_with_how_many_have_them_the_most_first(many: Driver) -> None:
    assert offered(many, "queue:") == [["web", "5"], ["mail", "4"]]
    assert offered(many, "type:") == [["u", "5"], ["t", "4"]]
    assert offered(many, "state:") == [[word, {"pending": "4", "running": "3", "failed": "2"}.get(word, "")] for word in STATES]
    assert offered(many, "worker:") == [["w-04", "2"], ["w-03", "1"]]
    assert offered(many, "label:") == [["x", "5"], ['"night run"', "3"]]
    assert offered(many, "tenant:") == [["acme", "3"]]
    assert offered(many, "meta.branch:") == [["dev", "5"], ["main", "3"]]
    assert offered(many, "error:") == [["SMTPError", "2"]]
    assert offered(many, "priority:cr") == [["critical", "3"]]
    assert offered(many, "met") == [["meta.branch:", "meta"]]


def test_of_a_type_or_queue_without_tasks_the_name_is_known(d: Driver) -> None:
    d.ask("set_queue", name="empty", weight=2)
    assert offered(d, "queue:em") == [["empty", ""]]
    assert offered(d, "type:u") == [["u", ""]]


def test_a_value_may_go_on_in_quotes_in_lists_and_in_the_middle(many: Driver) -> None:
    assert whole(many, "label:nig") == ['label:"night run"']
    assert whole(many, 'label:"night r') == ['label:"night run"']
    assert whole(many, "label:x,'nig' age>1h", 12) == ['label:x,"night run" age>1h']
    assert whole(many, "state:failed,su") == ["state:failed,succeeded"]
    assert whole(many, "state!=fa") == ["state!=failed"]
    assert whole(many, "queue:eb") == ["queue:web"]
    assert whole(many, "age>1") == ["age>1h", "age>1d"]
    assert "age:1m..1h" in whole(many, "age:")
    assert "age:1m..1d" in whole(many, "age:1m..")
    assert "created>yesterday" in whole(many, "created>y")


@pytest.mark.parametrize(
    "text", ["foo:", "tag:a=b", "id:", '"quoted', "error~x", "state:failed)", "(((", "\x1b[31m:", "a" * MAX_TEXT, ":", ","]
)
def test_where_nothing_is_known_nothing_is_offered_and_nothing_fails(many: Driver, text: str) -> None:
    for at in range(min(len(text), 20) + 1):
        offered(many, text, at)


def test_what_is_offered_is_read_as_what_it_says(many: Driver) -> None:
    for text in ("label:", "meta.branch:", "error:", "queue:", "state:", "priority:", "tenant:", "size>", "age>", "run:", "created>-"):
        found = whole(many, text)
        assert found
        for filter_ in found:
            parse(filter_, 1_700_000_000_000)


def test_names_from_anywhere_are_offered_as_text(d: Driver) -> None:
    hostile = ['a"b', "a\\b", "x\x1b[31m", "*", "a,b", "(", "NOT", "a b", "..", "é"]
    for label in hostile:
        d.add(label=label)
    for filter_ in whole(d, "label:"):
        view = d.ask("view", where=filter_)["view"]
        (row,) = d.ask("page", view=view, offset=0, limit=10)["rows"]
        assert row[13] in hostile
        hostile.remove(row[13])
    assert hostile == []


def test_only_the_newest_tasks_are_looked_at_for_values(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "SEEN_MOST", 10)
    d.add(5, label="old")
    d.add(10, label="new")
    assert offered(d, "label:") == [["new", "10"]]


def test_no_more_than_fifty_are_offered(d: Driver) -> None:
    for number in range(60):
        d.add(queue=f"q{number}")
    assert len(offered(d, "queue:")) == filters.CHOICES_MOST


@pytest.mark.parametrize(
    ("args", "words"),
    [({"text": "x", "at": 2}, "at: expected a number from 0 to 1"), ({"text": "x", "at": -1}, "at: expected"),
     ({"text": "x" * (MAX_TEXT + 1)}, "at most 2048 characters"), ({"text": 5}, "text: expected str")],
)  # fmt: skip
def test_a_place_outside_of_the_text_is_refused(d: Driver, args: dict[str, Any], words: str) -> None:
    code, message = d.refusal("complete", **args)
    assert code == "usage"
    assert words in message


# -- explain ---------------------------------------------------------------------------------------------------------


def test_each_term_is_counted_alone(many: Driver) -> None:
    terms = many.ask("explain", where="state:failed label:x -(type:t -queue:mail) SMTP priority>5")["terms"]
    assert terms == [["state:failed", 2], ["label:x", 5], ["type:t", 4], ["-queue:mail", 5], ["SMTP", 2], ["priority>5", 5]]


def test_what_tallies_know_is_counted_without_a_look_at_tasks(many: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many.store, "find", None)
    assert many.ask("explain", where="state:failed queue:none")["terms"] == [["state:failed", 2], ["queue:none", 0]]
    assert many.ask("explain", where="")["terms"] == []
    assert many.refusal("explain", where="colour:red")[0] == "usage"


def test_a_term_that_cannot_be_counted_in_time_has_no_count(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "EXPLAIN_S", 0.01)
    d.add(3000, label="x")
    d.tick_s = 0.0005
    number = d.submit("explain", where="label:x queue:default")
    d.settle_down(1000)
    assert d.answer(number) == {"terms": [["label:x", None], ["queue:default", 3000]]}
