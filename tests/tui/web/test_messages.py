"""What a page may send: four kinds of message, bounded; everything else is None."""

from __future__ import annotations

import json

import pytest

from tui.web.messages import HIGHEST, WIDEST, Message, read, window


@pytest.mark.parametrize(
    ("sent", "means"),
    [
        (["stdin", "q"], Message("keys", "q")),
        (["stdin", "\x1b[<0;1;1M"], Message("keys", "\x1b[<0;1;1M")),
        (["ping", "1700"], Message("ping", "1700")),
        (["focus"], Message("focus")),
        (["blur"], Message("blur")),
        (["resize", {"width": 120, "height": 36}], Message("resize", width=120, height=36)),
        (["resize", {"width": 10**9, "height": 10**9}], Message("resize", width=WIDEST, height=HIGHEST)),
        (["resize", {"width": 0, "height": -5}], Message("resize", width=1, height=1)),
    ],
)
def test_what_the_script_of_the_page_sends_is_understood_and_no_terminal_is_larger_than_the_largest(sent: object, means: Message) -> None:
    assert read(json.dumps(sent)) == means


@pytest.mark.parametrize(
    "sent",
    [
        "", "{}", "[]", "7", "null", "[null]", '["stdin"]', '["stdin", 7]', '["stdin", null]', '["stdin", ["q"]]', '["stdin", "q", "x"]',
        '["resize"]', '["resize", 80]', '["resize", {"width": 80}]', '["resize", {"width": "80", "height": 24}]',
        '["resize", {"width": true, "height": 24}]', '["resize", {"width": 8.5, "height": 24}]',
        '["quit"]', '["deliver_chunk_request", {}]',
        '[["stdin"], "q"]', "[" * 100_000, '["stdin", "q"',
    ],
)  # fmt: skip
def test_everything_else_is_none(sent: str) -> None:
    assert read(sent) is None


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ({}, (80, 24)),
        ({"width": "142", "height": "31"}, (142, 31)),
        ({"width": "99999", "height": "0"}, (WIDEST, 1)),
        ({"width": "1" * 5000, "height": "-1"}, (80, 24)),
        ({"width": "٣", "height": "2.5"}, (80, 24)),
    ],
)
def test_the_first_size_is_the_pages_own_within_bounds_or_the_usual_one(query: dict[str, str], size: tuple[int, int]) -> None:
    assert window(query) == size
