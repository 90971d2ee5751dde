"""Settings of a queue as they are typed: what is written is read again as it was, and what cannot be is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.stock import USUAL
from tq.config.tables import spoken
from tui.screens.queue_settings import LABELS, SETTINGS, back_to, changes_of, texts_of

ROW = {**USUAL, "slots": 4, "external": False}


def changed(**texts: str) -> dict[str, Any]:
    """What is sent where these were typed over ROW."""
    return changes_of(ROW, {**texts_of(ROW), **texts})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("slots", 0, "0"), ("weight", 100, "100"), ("external", True, "yes"), ("priority", 9, "9"), ("retries", 0, "0"),
        ("backoff", ["exponential", 1000, 2.0, 300_000, True], "exponential 1s to 5m"),
        ("backoff", ["exponential", 500, 3.0, 60_000, False], "exponential 500ms x3 to 1m without jitter"),
        ("backoff", ["linear", 10_000, 1.0, 3_600_000, True], "linear 10s to 1h"),
        ("backoff", ["fixed", 30_000, 1.0, 30_000, True], "fixed 30s"),
        ("timeout_ms", 0, "0"), ("aging_ms", 90_061_500, "1d1h1m1s500ms"), ("aging_share", 10, "10"), ("max_tasks", 10, "10"),
        ("max_bytes", 500 << 20, "500M"), ("max_bytes", 1001, "1001"), ("keep_ms", 0, "0"),
        ("routes", ["report.*", "mail.*"], "report.* mail.*"),
        ("hold_load", 2.5, "2.5"), ("hold_memory", 2 << 30, "2G"), ("hold_probe", "test -e /run/go", "test -e /run/go"),
        ("hold_every_ms", 10_000, "10s"),
    ],
)  # fmt: skip
def test_a_setting_is_written_and_read_again_as_it_was(name: str, value: Any, text: str) -> None:
    assert texts_of({**ROW, name: value})[name] == text
    assert changes_of({**ROW, name: None}, {**texts_of({**ROW, name: None}), name: text}) == {name: value}


@given(st.integers(0, 3_000_000_000_000))
def test_every_duration_is_read_as_it_was_written(ms: int) -> None:
    assert changed(keep_ms=spoken(ms)) == {"keep_ms": ms}


@given(st.integers(1, 1 << 59))
def test_every_size_is_read_as_it_was_written(number: int) -> None:
    setting = next(one for one in SETTINGS if one.name == "max_bytes")
    assert setting.read(setting.write(number)) == number


def test_what_is_as_it_was_is_not_sent_and_what_is_emptied_has_its_default_again() -> None:
    assert changed() == {}
    assert changed(slots=" 4 ") == {}
    assert changed(slots="", weight="2") == {"weight": 2, "unset": ["slots"]}
    assert changed(external="") == {"external": False}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("slots", "-1"), ("slots", "many"), ("weight", "1.5"), ("external", "maybe"), ("priority", "12"), ("backoff", "sometimes"),
        ("backoff", "fixed soon"), ("timeout_ms", "later"), ("max_bytes", "5X"), ("routes", "a\tb\x1b"),
        ("hold_load", "high"), ("hold_load", "nan"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_with_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{LABELS[name]}: expected"):
        changed(**{name: text})


def test_a_change_is_undone_by_what_was_there_before() -> None:
    row = {**ROW, "keep_ms": 5, "routes": ()}
    assert back_to(row, {"slots": 9, "priority": 3, "unset": ["keep_ms"]}) == {"slots": 4, "keep_ms": 5, "unset": ["priority"]}
    assert back_to(row, {"routes": ["a.*"]}) == {"unset": ["routes"]}
    assert back_to({**row, "routes": ("b.*",)}, {"unset": ["routes"]}) == {"routes": ["b.*"]}
