"""tq.log: one line a record, a bounded number of steps a second, nothing hostile."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tq import log as room
from tq.log import STEPS_A_SECOND, Log, Step

HOSTILE = "a\nb\r\x1b[31m\x7f\x9b\u202e\u2028\ud800\x00"


@pytest.fixture
def log(data_dir: Path) -> Iterator[Log]:
    made = Log(data_dir)
    yield made
    made.close()


def lines(data_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data_dir / "daemon.log").read_text("ascii").splitlines()]


def step(number: int) -> Step:
    return number, "email", "mail", None


def test_an_event_is_one_object_with_its_time_level_and_fields(log: Log, data_dir: Path) -> None:
    log.event("daemon_started", pid=7, ratio=0.5, where=data_dir, types=["a"], empty=None)
    log.event("disk_full", level="error")
    started, full = lines(data_dir)
    assert started.pop("at").endswith("Z")
    assert started == {
        "level": "info", "event": "daemon_started", "pid": 7, "ratio": 0.5, "where": str(data_dir), "types": ["a"], "empty": None,
    }  # fmt: skip
    assert (full["level"], full["event"]) == ("error", "disk_full")


def test_the_file_is_for_its_owner_only_and_never_a_link(data_dir: Path) -> None:
    old = os.umask(0)
    try:
        Log(data_dir).close()
    finally:
        os.umask(old)
    assert (data_dir / "daemon.log").stat().st_mode & 0o777 == 0o600
    (data_dir / "daemon.log").unlink()
    (data_dir / "daemon.log").symlink_to(data_dir / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Log(data_dir)


def test_hostile_text_stays_inside_its_line(log: Log, data_dir: Path) -> None:
    fields: dict[str, Any] = {HOSTILE: HOSTILE, "number": float("nan")}
    log.event(HOSTILE, **fields)
    log.steps("succeeded", [(1, HOSTILE, HOSTILE, {"error": HOSTILE})], lambda row: row, 1000)
    log.flush()
    spoken = HOSTILE.replace("\ud800", "")  # pytest keeps messages, and cannot send a lone surrogate between its processes
    logging.getLogger("tq.pool").warning("worker says %s", spoken)
    raw = (data_dir / "daemon.log").read_bytes()
    assert raw.count(b"\n") == 3
    assert all(byte == 10 or 32 <= byte < 127 for byte in raw)
    event, task, plain = lines(data_dir)
    assert event["event"] == event[HOSTILE] == HOSTILE
    assert event["number"] == "nan"
    assert task["error"] == HOSTILE
    assert plain["message"] == "worker says " + spoken


def test_a_long_text_is_cut_and_says_so(log: Log, data_dir: Path) -> None:
    log.event("noise", text="x" * 100_000)
    (line,) = lines(data_dir)
    assert line["text"] == "x" * 2000 + "… (100000 characters)"


def test_each_step_of_a_task_is_a_line_with_the_time_it_was_given(log: Log, data_dir: Path) -> None:
    log.steps("claimed", [1, 2], step, 1_700_000_000_123)
    log.steps("failed", [1], lambda n: (n, "email", "mail", {"error": "Bad"}), 1_700_000_000_124)
    log.flush()
    assert lines(data_dir) == [
        {"at": "2023-11-14T22:13:20.123Z", "level": "info", "event": "claimed", "task": 1, "type": "email", "queue": "mail"},
        {"at": "2023-11-14T22:13:20.123Z", "level": "info", "event": "claimed", "task": 2, "type": "email", "queue": "mail"},
        {"at": "2023-11-14T22:13:20.124Z", "level": "info", "event": "failed", "task": 1, "type": "email", "queue": "mail", "error": "Bad"},
    ]  # fmt: skip


def test_beyond_a_thousand_a_second_steps_are_counted_and_not_described(log: Log, data_dir: Path) -> None:
    described: list[int] = []

    def describe(number: int) -> Step:
        described.append(number)
        return step(number)

    log.steps("enqueued", range(900), describe, 5000)
    log.steps("claimed", range(900), describe, 5400)
    log.steps("succeeded", range(50), describe, 5999)
    log.flush()
    assert len(described) == STEPS_A_SECOND
    due_at = log.due_at
    log.turn_second(5999)
    assert len(lines(data_dir)) == STEPS_A_SECOND
    log.turn_second(6000)
    assert (due_at, log.due_at) == (6000, None)
    last = lines(data_dir)[-1]
    assert (last["event"], last["number"], last["of"]) == ("steps_not_written", 850, {"claimed": 800, "succeeded": 50})


def test_a_new_second_says_what_the_old_left_out_and_writes_again(log: Log, data_dir: Path) -> None:
    log.steps("enqueued", range(1001), step, 5000)
    log.steps("claimed", [1], step, 7000)
    log.flush()
    assert [line["event"] for line in lines(data_dir)[-2:]] == ["steps_not_written", "claimed"]


def test_what_is_owed_is_written_at_the_end(log: Log, data_dir: Path) -> None:
    log.steps("enqueued", range(1002), step, 5000)
    log.flush()
    log.close()
    assert lines(data_dir)[-1]["number"] == 2


def test_the_level_can_be_changed_while_it_runs(log: Log, data_dir: Path) -> None:
    log.event("detail", level="debug")
    log.set_level("warning")
    log.event("hidden")
    log.steps("hidden", [1], step, 1000)
    log.flush()
    log.set_level("debug")
    log.event("detail", level="debug")
    log.steps("shown", [1], step, 1000)
    log.flush()
    assert [line["event"] for line in lines(data_dir)] == ["detail", "shown"]


def test_a_room_may_write_with_plain_logging_and_its_traceback_stays_on_the_line(log: Log, data_dir: Path) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("tq.pool").exception("worker %d", 7)
    (line,) = lines(data_dir)
    assert (line["event"], line["message"], line["level"]) == ("pool", "worker 7", "error")
    assert line["traceback"][-1] == "ValueError: wrong"


def test_the_file_is_rotated_and_three_old_ones_are_kept(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FILE_BYTES", 2000)
    log = Log(data_dir)
    for number in range(200):
        log.event("tick", number=number)
    log.close()
    names = sorted(path.name for path in data_dir.iterdir())
    assert names == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert all(path.stat().st_size <= 2000 and path.stat().st_mode & 0o777 == 0o600 for path in data_dir.iterdir())
    assert lines(data_dir)[-1]["number"] == 199


def test_a_full_disk_loses_lines_which_the_next_one_counts(log: Log, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.event("before")
    assert log._file is not None
    real = log._file._fd
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(log._file, "_fd", full)
    log.event("lost")
    log.steps("lost", [1, 2], step, 1000)
    log.flush()
    monkeypatch.setattr(log._file, "_fd", real)
    os.close(full)
    log.event("after")
    log.event("later")
    assert [line["event"] for line in lines(data_dir)] == ["before", "lines_lost", "after", "later"]
    assert lines(data_dir)[1]["number"] == 3


def test_a_disk_that_takes_half_a_line_leaves_no_torn_one(log: Log, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.event("before")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        log.event("torn")
    log.event("after")
    assert [line["event"] for line in lines(data_dir)] == ["before", "lines_lost", "after"]


def test_in_the_foreground_people_read_words_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(None)
    log.event("daemon_started", pid=7, app="my app", bad=HOSTILE, types=["ü"])
    log.close()
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert ' info    daemon_started pid=7 app="my app" bad=' in text
    assert text.endswith('types=["ü"]\n')


def test_two_logs_of_one_process_do_not_write_into_each_other(data_dir: Path) -> None:
    first = Log(data_dir)
    first.close()
    (data_dir / "second").mkdir()
    second = Log(data_dir / "second")
    second.event("mine")
    second.close()
    assert lines(data_dir) == []
    assert len(lines(data_dir / "second")) == 1


def test_a_log_that_is_closed_or_could_not_be_opened_leaves_logging_as_it_was(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tq")
    before = logger.propagate, logger.level
    Log(data_dir, "error").close()
    (data_dir / "daemon.log").unlink()
    (data_dir / "daemon.log").mkdir()
    with pytest.raises(OSError, match=r"daemon\.log"):
        Log(data_dir)
    assert (logger.propagate, logger.level) == before
    with caplog.at_level(logging.INFO):
        logging.getLogger("tq.task.email").info("heard")
    assert caplog.messages == ["heard"]
