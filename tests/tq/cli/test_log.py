"""What ``tq log`` shows of a task's output: which stream, attempt, time and lines; and a follower that outlives a daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tq.cli import log

Run = Callable[..., tuple[int, str, str]]

CHUNKS = [
    [1_700_000_000_000, 1, b"one\ntw"],
    [1_700_000_000_250, 2, b"oops\n"],
    [1_700_000_000_500, 1, b"o\n"],
    [1_700_000_060_000, 0, b"attempt 2\n"],
    [1_700_000_060_000, 1, b"again\n"],
    [1_700_000_060_001, 0, b"100 bytes dropped\n"],
    [1_700_000_060_001, 0, b"attempt 2\n"],
    [1_700_000_060_002, 1, b"last\r50%\r100%"],
]


@pytest.fixture
def written(fake: Any) -> Any:
    """A task that has written CHUNKS, in pages of three."""
    fake.verbs["log"] = lambda args: {
        "chunks": CHUNKS[args["offset"] : args["offset"] + 3],
        "next": min(args["offset"] + 3, len(CHUNKS)),
        "end": args["offset"] + 3 > len(CHUNKS),
    }
    return fake


def test_both_streams_go_where_they_went_and_each_attempt_is_told_once(written: Any, run: Run) -> None:
    assert run("log", "1") == (0, "one\ntwo\nagain\nlast\r50%\r100%", "oops\ntq: attempt 2\ntq: 100 bytes dropped\n")


def test_one_stream_alone_goes_to_standard_output(written: Any, run: Run) -> None:
    assert run("log", "1", "--stderr") == (0, "oops\n", "tq: attempt 2\ntq: 100 bytes dropped\n")
    assert run("log", "1", "--stdout")[1] == "one\ntwo\nagain\nlast\r50%\r100%"
    assert run("log", "1", "--stdout", "--stderr") == run("log", "1")


def test_one_attempt_alone_is_shown_also_behind_a_gap(written: Any, run: Run) -> None:
    assert run("log", "1", "--attempt", "1") == (0, "one\ntwo\n", "oops\n")
    assert run("log", "1", "--attempt", "2") == (0, "again\nlast\r50%\r100%", "tq: 100 bytes dropped\n")
    assert run("log", "1", "--attempt", "3") == (0, "", "")
    assert run("log", "1", "--attempt", "one")[0] == 2


def test_the_last_lines_are_whole_lines_whatever_the_chunks_were(written: Any, run: Run) -> None:
    assert run("log", "1", "--stdout", "--attempt", "1", "--tail", "1") == (0, "two\n", "")
    assert run("log", "1", "--attempt", "1", "--tail", "2") == (0, "two\n", "oops\n")
    assert run("log", "1", "--tail", "1") == (0, "last\r50%\r100%", "")
    assert run("log", "1", "--tail", "0") == (0, "", "")
    rows = run("log", "1", "--tail", "2", "--json", "--stdout")[1].splitlines()
    assert [json.loads(row)["text"] for row in rows][-1].startswith("last")


def test_each_line_bears_the_time_of_its_first_byte(written: Any, run: Run) -> None:
    code, out, err = run("log", "1", "--timestamps")
    assert (code, out.splitlines(), err.splitlines()[0]) == (
        0,
        [
            "2023-11-14T22:13:20.000Z one",
            "2023-11-14T22:13:20.000Z two",
            "2023-11-14T22:14:20.000Z again",
            "2023-11-14T22:14:20.002Z last",
            "50%",
            "100%",
        ],
        "2023-11-14T22:13:20.250Z oops",
    )
    assert out.count("\n") == 4  # a bar of progress is one line


def test_a_line_that_never_ends_is_shown_in_pieces(fake: Any, run: Run) -> None:
    fake.verbs["log"] = lambda args: {"chunks": [[5, 1, b"x" * (log.LONGEST // 2 + 1)]] * 4, "next": 9, "end": True}
    out = run("log", "1", "--timestamps")[1]
    assert [line.count("x") for line in out.splitlines()] == [log.LONGEST + 2, log.LONGEST + 2]


def test_since_takes_a_duration_or_a_time(written: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.time, "time_ns", lambda: 1_700_000_090_000 * 1_000_000)
    assert run("log", "1", "--since", "31s", "--stdout")[1] == "again\nlast\r50%\r100%"
    assert run("log", "1", "--since", "2023-11-14T22:13:20.400Z", "--stdout")[1].startswith("o\nagain")
    assert run("log", "1", "--since", "1h")[1] == run("log", "1")[1]
    code, out, err = run("log", "1", "--since", "lunch")
    assert (code, out) == (2, "")
    assert err.startswith("tq: --since: expected a duration such as 10m, or a time")


def test_with_follow_the_last_lines_come_first_and_what_comes_goes_on_behind_them(written: Any, run: Run) -> None:
    written.events = [{"topic": "output", "id": 1, "chunks": [[9, 1, b" done\nbye\n"]], "next": 99, "end": True}]
    code, out, _ = run("log", "1", "--tail", "1", "--follow", "--timestamps")
    assert (code, out) == (0, "2023-11-14T22:14:20.002Z last\r50%\r100% done\n1970-01-01T00:00:00.009Z bye\n")
    assert written.asked("watch")[-1]["offset"] == len(CHUNKS)


def test_output_that_was_written_and_is_no_longer_kept_is_said_to_be_gone(fake: Any, run: Run, task_row: Any) -> None:
    fake.verbs["log"] = lambda _: {"chunks": [], "next": 0, "end": True}
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1, output=True)]}
    code, out, err = run("log", "1")
    assert (code, out) == (0, "")
    assert "no longer kept" in err
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1, output=False)]}
    assert run("log", "1") == (0, "", "")


def test_a_character_that_two_chunks_share_is_whole_in_json_too_and_half_a_one_at_the_end_is_not_lost(fake: Any, run: Run) -> None:
    chunks = [
        [1_000, 1, "é".encode()[:1]],
        [2_000, 2, "🚀".encode()[:3]],
        [3_000, 0, b"attempt 2\n"],
        [4_000, 1, "é".encode()[1:] + b"t"],
        [5_000, 2, "🚀".encode()[3:]],
        [6_000, 1, b"\xffx" + "é".encode()[:1]],
    ]
    fake.verbs["log"] = lambda _: {"chunks": chunks, "next": 1, "end": True}
    rows = [json.loads(line) for line in run("log", "1", "--json")[1].splitlines()]
    assert [(row["at"][17:19], row["stream"], row["text"]) for row in rows] == [
        ("03", "tq", "attempt 2\n"),
        ("04", "stdout", "ét"),
        ("05", "stderr", "🚀"),
        ("06", "stdout", "\ufffdx"),
        ("06", "stdout", "\ufffd"),
    ]
