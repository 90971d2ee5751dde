"""Payloads, errors and outputs as lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui import documents
from tui.documents import LINE_MOST, LINES_MOST, TEXT_MOST, JsonText, OutputReader
from tui.formats import ASCII

HOSTILE = "\x1b]52;c;aGk=\x07\x9b31m\u202e[@click=app.quit]x[/]\ud800"
SAFE = "\\x1b]52;c;aGk=\\x07\\x9b31m\\u202e[@click=app.quit]x[/]\\ud800"


def plain(lines: list[documents.Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def json_of(value: Any, **more: Any) -> list[str]:
    return plain([line.runs for line in JsonText(value, **more).lines()])


def test_a_value_reads_as_json() -> None:
    value = {"url": "https://hooks.example/cb", "body": {"id": 8812, "items": [1, 2.5, None, True], "none": {}, "empty": []}}
    assert json_of(value) == [
        "{", '  "url": "https://hooks.example/cb",', '  "body": {', '    "id": 8812,', '    "items": [', "      1,", "      2.5,",
        "      null,", "      true", "    ],", '    "none": {},', '    "empty": []', "  }", "}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(2**63 + 1, "9223372036854775809"), (-(2**53) - 1, "-9007199254740993"), (b"\xde\xad\x00", "0xdead00"), (0.1, "0.1"),
     ('a\n"b"\\', r'"a\n\"b\"\\"'), (None, "null"), (float("nan"), "nan"), ("", '""'), ({}, "{}"), ({1: 2}, "{ 1: 2 }")],
)  # fmt: skip
def test_values_are_shown_exactly(value: object, text: str) -> None:
    assert " ".join(line.strip() for line in json_of(value)) == text


def test_many_bytes_and_characters_are_counted_and_not_shown() -> None:
    assert json_of(b"\x00" * 100) == ["0x" + "00" * 64 + "… 36 more bytes"]
    (line,) = json_of("x" * 1_000_000)
    assert len(line) < LINE_MOST + 60
    assert "more character" in line
    (nested,) = json_of({"a": "x" * 1_000_000})[1:2]
    assert len(nested) < LINE_MOST + 60


def test_what_is_turned_folds_and_opens_and_long_lists_begin_folded() -> None:
    text = JsonText({"items": list(range(500)), "body": {"id": 1}})
    lines = text.lines()
    assert plain([line.runs for line in lines]) == ["{", '  "items": [ …500 ],', '  "body": {', '    "id": 1', "  }", "}"]
    assert [line.opened for line in lines] == [True, False, True, None, None, None]
    text.turn(lines[2].path)
    assert plain([line.runs for line in text.lines()])[2] == '  "body": { …1 }'
    text.turn(lines[1].path)
    assert len(text.lines()) == 505
    text.turn(lines[1].path)
    text.turn(())
    assert plain([line.runs for line in text.lines()]) == ["{ …2 }"]
    assert json_of([[0] * 200], glyphs=ASCII)[1] == "  [ ~200 ]"


def test_a_value_without_end_or_bottom_is_cut_and_says_so() -> None:
    assert len(json_of(list(range(50_000)))) == LINES_MOST + 1
    assert json_of(list(range(50_000)))[-1] == "… more than 10,000 lines"
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    assert any("deeper" in line for line in json_of(deep))


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [("password", "x", True), ("api_key", "x", True), ("apiKey", "x", True), ("accessToken", "x", True), ("DB_PASSWORD", "x", True),
     ("AUTH", "x", True), ("pgpassword", b"x", True), ("dsn", 4, True), ("url", "postgres://bob:pw@host/db", True),
     ("url", "https://host/", False), ("password", "", False), ("password", None, False), ("passed", 4, False), ("monkey", "x", False),
     ("author", "x", False), ("tokens", 4, True)],
)  # fmt: skip
def test_what_looks_like_a_secret_is_known(key: str, value: object, secret: bool) -> None:
    assert documents.is_secret(key, value) is secret


def test_secrets_are_stars_until_somebody_asks() -> None:
    text = JsonText({"user": "bob", "password": "hunter2", "more": ["amqp://u:pw@h", {"api_token": "tok"}]})
    shown = "".join(plain([line.runs for line in text.lines()]))
    assert text.secrets == 3
    assert not [word for word in ("hunter2", "u:pw", 'tok"') if word in shown]
    assert ("bob" in shown, shown.count("********")) == (True, 3)
    text.show_secrets = True
    shown = "".join(plain([line.runs for line in text.lines()]))
    assert text.secrets == 0
    assert all(word in shown for word in ("hunter2", "u:pw", 'tok"'))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_no_value_brings_a_control_character_along(value: object) -> None:
    for line in json_of(value):
        assert line.isprintable() or all(ord(char) >= 32 and not 127 <= ord(char) < 160 for char in line)


def test_hostile_texts_are_cleaned_wherever_they_stand() -> None:
    frames = [[HOSTILE, 3, HOSTILE, HOSTILE]]
    error = {
        "type": HOSTILE,
        "message": f"a\n{HOSTILE}",
        "frames": frames,
        "chain": [{"type": HOSTILE, "message": HOSTILE, "frames": frames}],
    }
    shown = [*json_of({HOSTILE: [HOSTILE]}), *plain(documents.text_lines(HOSTILE)), *plain(documents.traceback_lines(error))]
    everything = "\n".join(shown)
    assert everything.count(SAFE) == 2 + 1 + 2 * 5
    assert not [char for char in everything if char != "\n" and not char.isprintable()]


def test_a_text_is_cut_at_64_kib_and_says_so_and_a_long_line_before_it_is_measured() -> None:
    lines = plain(documents.text_lines("line\n" * 20_000))
    assert lines[-1] == "… cut at 64 KiB of 97 KiB"
    assert sum(len(line) + 1 for line in lines[:-1]) == TEXT_MOST + 1
    (line,) = plain(documents.text_lines("x" * TEXT_MOST))
    assert line.endswith("… 61,440 more characters")
    assert len(line) < LINE_MOST + 40
    assert plain(documents.text_lines("a\tb\n")) == ["a   b", ""]


ERROR = {
    "type": "TimeoutError", "message": "read timed out\nwhile waiting",
    "frames": [
        ["/app/hooks.py", 88, "push", "resp = sess.post(url)"],
        ["/usr/lib/python3.12/http/client.py", 214, "_recv", "data = sock.recv()"],
        ["/venv/site-packages/requests/api.py", 9, "get", ""],
        ["/app/net.py", 3, "<lambda>", ""],
    ],
    "chain": [{"type": "KeyError", "message": "'sku'", "frames": [["/app/hooks.py", 80, "look", "self.cache[key]"]]}],
}  # fmt: skip


def test_a_traceback_tells_causes_first_and_folds_libraries() -> None:
    assert plain(documents.traceback_lines(ERROR)) == [
        "  /app/hooks.py:80 in look", "    self.cache[key]", "KeyError: 'sku'", "", "This was the cause of:", "",
        "  /app/hooks.py:88 in push", "    resp = sess.post(url)", "  … 2 library frames folded (client.py, api.py)",
        "  /app/net.py:3 in <lambda>", "TimeoutError: read timed out", "while waiting",
    ]  # fmt: skip
    whole = plain(documents.traceback_lines(ERROR, fold=False))
    assert "  /usr/lib/python3.12/http/client.py:214 in _recv" in whole
    assert not any("folded" in line for line in whole)


def test_an_error_without_frames_or_words_is_still_one() -> None:
    assert plain(documents.traceback_lines({"type": "ExitCode", "message": ""})) == ["ExitCode"]
    assert plain(documents.traceback_lines({})) == ["Error"]


def test_an_output_comes_in_pieces_and_goes_out_in_lines() -> None:
    reader = OutputReader()
    assert reader.read([[1, 1, b"hel"], [2, 2, b"err\n"]]) == [documents.OutputLine(2, 2, "err")]
    assert [(line.at, line.text) for line in reader.unfinished()] == [(1, "hel")]
    assert [(line.at, line.stream, line.text) for line in reader.read([[3, 1, b"lo\nwor"]])] == [(1, 1, "hello")]
    assert [(line.at, line.text) for line in reader.read([[4, 1, b"ld\n\n"]])] == [(3, "world"), (4, "")]
    assert reader.unfinished() == []


def test_a_character_cut_by_a_chunk_is_whole_again_and_broken_bytes_are_shown() -> None:
    reader = OutputReader()
    euro = "€".encode()
    assert reader.read([[1, 1, euro[:1]], [1, 1, euro[1:] + b"\n"]])[0].text == "€"
    assert reader.read([[1, 1, b"\xff\xfe\n"]])[0].text == "\\xff\\xfe"


def test_what_was_written_over_is_gone_and_controls_are_shown() -> None:
    reader = OutputReader()
    lines = reader.read([[1, 1, b" 10%\r 50%\r100%\r\nline\r\n\x1b[31mred\x1b[0m\tx\n"]])
    assert [line.text for line in lines] == ["100%", "line", "\\x1b[31mred\\x1b[0m    x"]


def test_a_line_without_end_is_kept_to_its_first_characters() -> None:
    reader = OutputReader()
    for _ in range(100):
        reader.read([[1, 1, b"x" * 100_000]])
    (line,) = reader.unfinished()
    assert line.text == "x" * LINE_MOST + "… 9,995,904 more characters"
    assert reader.read([[1, 1, b"\n"]])[0].text == line.text


@pytest.mark.parametrize(
    ("text", "style"),
    [("ERROR it broke", "bad"), ("2026 [WARN] slow", "warn"), ("INFO: ok", "note"), ("x DEBUG y", "dim"), ("terrors", "text"),
     ("a" * 90 + " ERROR", "text")],
)  # fmt: skip
def test_the_word_for_a_level_gives_the_line_its_style(text: str, style: str) -> None:
    assert documents.OutputLine(0, 1, text).runs()[-1] == (text, style)


def test_times_of_lines_are_absolute_or_relative() -> None:
    line = documents.OutputLine(1_763_822_012_345, 1, "x")
    assert line.runs(documents.absolute)[0] == ("14:33:32.345 ", "dim")
    assert line.runs(documents.relative(1_763_822_000_000))[0] == ("+  12.345 ", "dim")
    assert documents.OutputLine(0, 0, "512 bytes were dropped").runs() == [("512 bytes were dropped", "note")]
