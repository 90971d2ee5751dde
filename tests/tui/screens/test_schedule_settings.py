"""A schedule in words and back: the same again, only what was changed, and everything that cannot be meant by its name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.crew import schedule
from tests.tui.fake import START_MS
from tq.errors import UsageError
from tq.model import pack, unpack
from tui.screens.schedule_settings import back_to, fields_of, named, texts_of
from tui.screens.schedule_settings import changes_of as changes_at

WHOLE = {"payload": pack({"day": "yesterday", "n": 2**60}), "options": {"queue": "reports"}, "runs": []}
NIGHTLY: dict[str, Any] = schedule(
    "nightly", 0, cron="0 2 * * *", tz="Europe/Berlin", type="report.build", jitter_ms=90_000, only=("22:00-06:00", "12:00-13:00"),
    from_at=1_763_735_527_000, until_at=1_795_271_527_123, misfire="all:3", overlap="skip", **WHOLE,
)  # fmt: skip
BACKUP = schedule("backup", 0, every_ms=5_400_000, payload=pack({"argv": ["sh", "-c", "a b"], "more": 1}), options={}, runs=[])


def changes_of(row: Any, texts: dict[str, str]) -> dict[str, Any]:
    return changes_at(row, texts, START_MS - 60_000)


def test_what_is_written_says_all_and_unchanged_nothing_is_sent() -> None:
    texts = texts_of(NIGHTLY)
    assert texts == {
        "rule": "0 2 * * *", "tz": "Europe/Berlin", "type": "report.build", "payload": '{"day": "yesterday", "n": 1152921504606846976}',
        "queue": "reports", "jitter": "1m30s", "only": "22:00-06:00, 12:00-13:00", "start": "2025-11-21T14:32:07Z",
        "until": "2026-11-21T14:32:07.123Z", "misfire": "all:3", "overlap": "skip",
    }  # fmt: skip
    assert changes_of(NIGHTLY, texts) == {}
    assert [field.name for field in fields_of(texts)][:3] == ["rule", "tz", "type"]
    assert texts_of(BACKUP)["rule"] == "every 1h30m"
    assert texts_of(BACKUP)["command"] == "sh -c 'a b'"
    assert texts_of({**BACKUP, "every_ms": 0, "at": 1_763_735_527_000})["rule"] == "at 2025-11-21T14:32:07Z"


def test_each_setting_is_read_again_as_it_was_written() -> None:
    for row in (NIGHTLY, BACKUP):
        texts = texts_of(row)
        for name, text in texts.items():
            if text:
                changes = changes_of(row, {**texts, name: f"{text} "})  # blanks at its ends are none of it
                assert changes == {}
    fresh = texts_of(None) | texts_of(NIGHTLY)
    made = changes_of(None, {**fresh, "name": "x"})
    assert {name: made[name] for name in ("cron", "tz", "jitter_ms", "only", "from_at", "until_at", "misfire", "overlap")} == {
        name: list(NIGHTLY[name]) if name == "only" else NIGHTLY[name]
        for name in ("cron", "tz", "jitter_ms", "only", "from_at", "until_at", "misfire", "overlap")
    }
    assert made["task"] == ["report.build", NIGHTLY["payload"], {"queue": "reports"}]


@pytest.mark.parametrize(
    ("texts", "changes"),
    [
        ({"rule": "every 5m"}, {"every_ms": 300_000, "tz": "Europe/Berlin"}),
        ({"rule": "@daily", "tz": ""}, {"cron": "@daily", "tz": "UTC"}),
        ({"rule": "at 2027-01-01 09:00"}, {"at": 1_798_790_400_000, "tz": "Europe/Berlin"}),
        ({"jitter": "", "only": "", "start": ""}, {"jitter_ms": 0, "only": [], "from_at": 0, "tz": "Europe/Berlin"}),
        ({"misfire": "", "overlap": "queue_one"}, {"misfire": "coalesce", "overlap": "queue_one"}),
        ({"queue": ""}, {"task": [None, None, {"queue": None}]}),
        ({"type": "report.make", "payload": "[1]"}, {"task": ["report.make", pack([1]), None]}),
        ({"payload": ""}, {"task": [None, b"", None]}),
    ],
    ids=str,
)
def test_only_what_was_changed_is_sent_and_can_be_taken_back(texts: dict[str, str], changes: dict[str, Any]) -> None:
    found = changes_of(NIGHTLY, texts_of(NIGHTLY) | texts)
    assert found == changes
    back = back_to(NIGHTLY, found)
    assert back.keys() - {"cron", "every_ms", "at"} == found.keys() - {"cron", "every_ms", "at"}
    for name, value in back.items():
        if name == "task":
            kind, payload, options = value
            assert kind in (None, NIGHTLY["type"])
            assert payload in (None, NIGHTLY["payload"])
            assert options in (None, {"queue": "reports"})
        else:
            assert value == (list(NIGHTLY[name]) if name == "only" else NIGHTLY[name])


def test_a_command_is_changed_and_the_rest_of_its_payload_stays() -> None:
    kind, payload, options = changes_of(BACKUP, texts_of(BACKUP) | {"command": "echo 'c d'"})["task"]
    assert (kind, unpack(payload), options) == (None, {"argv": ["echo", "c d"], "more": 1}, None)
    made = changes_of(None, texts_of(None) | {"rule": "@daily", "command": "true"})
    assert made["task"] == ["shell", pack({"argv": ["true"]}), None]


def test_a_payload_that_json_cannot_say_is_not_offered() -> None:
    assert "payload" not in texts_of({**NIGHTLY, "payload": pack({1: b"x"})})
    assert "command" not in texts_of({**BACKUP, "payload": pack({"argv": [b"\xff"]})})
    assert changes_of({**NIGHTLY, "payload": b"\xc1"}, texts_of({**NIGHTLY, "payload": b"\xc1"})) == {}


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ({"rule": ""}, "rule: expected such as"), ({"rule": "every now"}, "every: "), ({"rule": "1 2 3"}, "cron: "),
        ({"tz": "Berlin"}, "tz: "), ({"only": "late"}, "only: "), ({"start": "once"}, "start: "), ({"overlap": "no"}, "overlap: "),
        ({"misfire": "all:0"}, "misfire: "), ({"payload": "{"}, "payload: line 1, column 2"), ({"type": ""}, "task: expected the type"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_named(texts: dict[str, str], why: str) -> None:
    with pytest.raises((ValueError, UsageError), match=why):
        changes_of(NIGHTLY, texts_of(NIGHTLY) | texts)


def test_a_new_one_has_either_a_task_or_a_command() -> None:
    for more in ({}, {"type": "a", "command": "b"}):
        with pytest.raises(ValueError, match="either a task or a command"):
            changes_of(None, texts_of(None) | {"rule": "@daily"} | more)
    for command, why in (("'", "No closing"), ("#'", "command: ")):
        with pytest.raises(ValueError, match=why):
            changes_of(BACKUP, texts_of(BACKUP) | {"command": command})
    with pytest.raises(ValueError, match="expected a command, got nothing"):
        changes_of(BACKUP, texts_of(BACKUP) | {"command": ""})


def test_some_names_are_told_in_a_few_words() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcdef")) == "a, b, c, d and 2 more"
