"""Hostile text: 249 texts that steer terminals, markup, logs and JSON, and what Hypothesis makes of them, through all that is printed."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.campaign import text
from tests.campaign.suite import apart
from tests.campaign.text import CORPUS, ELSEWHERE, steering
from tq.cli.render import clean, json_line, plain, table
from tq.client import format_error
from tq.log import _Json, _Words
from tq.model import brief, safe_text

ANY = st.text(st.characters(), max_size=60) | st.sampled_from(CORPUS) | st.lists(st.sampled_from(text._PIECES), max_size=6).map("".join)
VALUES = st.recursive(
    ANY | st.none() | st.integers() | st.floats() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY, inner, max_size=4),
    max_leaves=8,
)
SOON = settings(max_examples=300, deadline=None, database=None, derandomize=True)


def test_every_command_is_tried_and_those_that_are_not_have_a_reason(tmp_path: Path) -> None:
    ids = {"over": [1, 2, 3, 4, 5, 6], "later": [7, 8], "all": [*range(1, 9)]}
    known = text.commands()
    tried = set()
    for argv in text.lines_of(ids, ["a", "b"], random.Random(0), tmp_path):
        words = argv[2:] if argv[0] == "--data-dir" else argv
        tried |= {name for name in (words[0], " ".join(words[:2])) if name in known}
    assert known - tried == set(ELSEWHERE)
    assert len(known) > 45


@pytest.mark.timeout(300)
def test_hostile_text_steers_no_terminal_forges_no_line_and_breaks_no_command() -> None:
    assert len(set(CORPUS)) >= 200
    report = apart(text.SUITE, 1, text.SUITE.in_tests)
    assert report.violations == []
    assert report.counts["texts"] >= len(CORPUS)
    assert report.counts["commands"] > 10_000


def test_a_planted_bug_is_caught_by_what_is_printed() -> None:
    found = "\n".join(apart(text.SUITE, 8, 1, "text_uncleaned").violations)
    assert "on a terminal" in found
    assert "U+001B" in found


@SOON
@given(ANY)
def test_cleaned_text_steers_nothing_and_is_what_it_was_where_it_did_not(given: str) -> None:
    for found in (safe_text(given), clean(given), brief(given)):
        assert steering(found) == []
        assert not {"\n", "\t"} & {*found}
    assert steering(safe_text(given, newlines=True)) == []
    if not steering(given) and not {"\n", "\t"} & {*given}:
        assert safe_text(given) == given


@SOON
@given(VALUES, ANY, ANY)
def test_whatever_a_value_holds_it_is_one_line_of_json(value: Any, key: str, other: str) -> None:
    line = json_line(plain({key: value, "x" + other: [value]}))
    assert line.isascii()
    assert steering(line) == []
    assert "\n" not in line
    assert json.loads(line)["x" + other] == json.loads(json_line(plain([value])))


@SOON
@given(st.lists(st.tuples(ANY, st.integers() | st.none(), ANY), max_size=4), st.sampled_from([0, 1, 40]))
def test_a_table_has_a_line_for_each_row_whatever_is_in_it(rows: list[tuple[str, int | None, str]], width: int) -> None:
    found = table(("a", "b", "c"), rows, width)
    assert len(found.splitlines()) == len(rows) + 1
    assert steering(found) == []


@SOON
@given(ANY, ANY, ANY, VALUES)
def test_an_error_of_any_texts_is_printed_without_steering(kind: str, words: str, source: str, value: Any) -> None:
    error = {
        "type": kind,
        "message": value,
        "frames": [[words, 1, source, source], [kind, value, source]],
        "chain": [{"type": words, "message": source}],
    }
    assert steering(format_error(error)) == []


@SOON
@given(ANY, ANY, VALUES)
def test_a_record_of_any_texts_is_one_line_of_the_log(event: str, name: str, value: Any) -> None:
    fields = {"event": "changed", f"x{name}": value, "target": event, "more": {event: [value]}}
    for formatter in (_Json(), _Words()):
        record = logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", "lines": [dict(fields)]})
        plain_record = logging.makeLogRecord(
            {"name": "tq.broker", "levelname": "ERROR", "msg": event.replace("%", "%%") + "%s", "args": (name,)}
        )
        for found in (formatter.format(record), formatter.format(plain_record)):
            assert len(found.splitlines()) == 1, found
            assert steering(found) == []
            assert found.count("\t") == 0


def test_the_corpus_is_hostile() -> None:
    assert sum(bool(steering(one)) for one in CORPUS) > 130
    assert sum(text.FORGED in one for one in CORPUS) > 5
