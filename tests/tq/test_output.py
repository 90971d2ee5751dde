"""Bounded output: what is kept, what a follower sees, and what survives a crash."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq import output
from tq.output import BLOCK_MOST, CHUNK, ERR, NOTE, OUT, PIECE, SEGMENT, WORTH, OutputWriter, read, remove, size

LIMIT = 8192


def everything(logs: Path, task_id: int, offset: int = 0, limit: int = PIECE) -> list[output.Chunk]:
    """All chunks, read page by page as a follower would."""
    found: list[output.Chunk] = []
    while True:
        chunks, after = read(logs, task_id, offset, limit)
        if not chunks:
            assert after == offset
            return found
        assert after > offset
        found += chunks
        offset = after


def text(chunks: list[output.Chunk], stream: int = OUT) -> bytes:
    return b"".join(data for _, which, data in chunks if which == stream)


def on_disk(logs: Path) -> int:
    return sum(path.stat().st_size for path in logs.rglob("*") if path.is_file())


@contextmanager
def writing(logs: Path, task_id: int = 1, limit: int = LIMIT, attempt: int = 1) -> Iterator[OutputWriter]:
    writer = OutputWriter(logs, task_id, limit, attempt)
    try:
        yield writer
    finally:
        writer.close()


def test_a_task_that_prints_nothing_leaves_no_file(tmp_path: Path) -> None:
    with writing(tmp_path) as out:
        out.write(OUT, b"", 1)
    assert not out.written
    assert list(tmp_path.iterdir()) == []
    assert read(tmp_path, 1) == ([], 0)
    assert size(tmp_path, 1) == 0
    assert not remove(tmp_path, 1)


def test_chunks_come_back_with_time_and_stream_in_order(tmp_path: Path) -> None:
    with writing(tmp_path, 4711) as out:
        out.write(OUT, b"one\n", 1000)
        out.write(ERR, b"two\n", 1001)
        assert read(tmp_path, 4711)[0] == [(1000, OUT, b"one\n"), (1001, ERR, b"two\n")]  # before the end: no buffer
    assert out.written
    path = tmp_path / "4" / "4711.head"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert size(tmp_path, 4711) == 2 * (CHUNK.size + 4)


def test_a_follower_resumes_exactly_where_it_was(tmp_path: Path) -> None:
    seen, offset = b"", 0
    with writing(tmp_path) as out:
        for number in range(50):
            out.write(OUT, b"line %d\n" % number, number)
            if number % 7 == 0:
                chunks, offset = read(tmp_path, 1, offset)
                seen += text(chunks)
    chunks, offset = read(tmp_path, 1, offset)
    assert seen + text(chunks) == b"".join(b"line %d\n" % number for number in range(50))
    assert offset == size(tmp_path, 1)
    assert read(tmp_path, 1, offset) == ([], offset)


def test_head_and_tail_are_kept_within_the_limit_and_the_note_says_how_much_is_gone(tmp_path: Path) -> None:
    lines = [b"line %d\n" % number for number in range(5000)]
    with writing(tmp_path) as out:
        for number, line in enumerate(lines):
            out.write(OUT, line, number)
    assert on_disk(tmp_path) <= LIMIT + 3 * SEGMENT.size
    chunks = everything(tmp_path, 1)
    kept = text(chunks)
    whole = b"".join(lines)
    (note,) = [data for _, stream, data in chunks if stream == NOTE]
    assert note == b"%d bytes dropped\n" % (len(whole) - len(kept))
    head, tail = text(chunks[: [c[1] for c in chunks].index(NOTE)]), text(chunks[[c[1] for c in chunks].index(NOTE) :])
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) > LIMIT // 8  # the lines are short: more than half of the half goes to the heads of chunks
    assert all(data.endswith(b"\n") and data.startswith(b"line") for _, stream, data in chunks if stream == OUT)


def test_a_follower_that_fell_behind_is_told_and_goes_on(tmp_path: Path) -> None:
    with writing(tmp_path) as out:
        out.write(OUT, b"start\n", 1)
        _, offset = read(tmp_path, 1)
        for number in range(5000):
            out.write(OUT, b"line %d\n" % number, number)
        # inside the head, then in what is no longer there
        assert read(tmp_path, 1, offset)[0][0][2] == b"line 0\n"
        lost = size(tmp_path, 1) - LIMIT
        out.write(OUT, b"end\n", 9)
        chunks = everything(tmp_path, 1, lost)
    assert chunks[0][1] == NOTE
    assert chunks[0][2].endswith(b" bytes dropped\n")
    assert chunks[-1][2] == b"end\n"


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), max_size=60),
    limit=st.sampled_from([256, 1000, 8192, 100_000]),
    page=st.sampled_from([1, 100, 10_000]),
)
def test_whatever_is_written_a_reader_gets_a_head_a_note_and_a_tail(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, page: int
) -> None:
    logs = tmp_path_factory.mktemp("logs")
    whole = b""
    with writing(logs, limit=limit) as out:
        for number, length in enumerate(sizes):
            data = (b"%d," % number * length)[:length]
            whole += data
            out.write(OUT, data, number)
    chunks = everything(logs, 1, limit=page)
    notes = [index for index, chunk in enumerate(chunks) if chunk[1] == NOTE]
    if not notes:
        assert text(chunks) == whole
    else:
        (at,) = notes
        assert whole.startswith(text(chunks[:at]))
        assert whole.endswith(text(chunks[at:]))
        assert chunks[at][2] == b"%d bytes dropped\n" % (len(whole) - len(text(chunks)))
    assert on_disk(logs) <= limit + 3 * (SEGMENT.size + CHUNK.size + 1)


def test_a_retry_says_so_and_goes_on_in_the_same_bounded_files(tmp_path: Path) -> None:
    with writing(tmp_path) as out:
        out.write(OUT, b"first\n", 1)
    with writing(tmp_path, attempt=2) as out:
        out.write(OUT, b"second\n", 2)
    assert read(tmp_path, 1)[0] == [(1, OUT, b"first\n"), (2, NOTE, b"attempt 2\n"), (2, OUT, b"second\n")]
    for attempt in range(3, 40):
        with writing(tmp_path, attempt=attempt) as out:
            out.write(OUT, b"x" * 3000, attempt)
    assert on_disk(tmp_path) <= LIMIT + 3 * SEGMENT.size
    chunks = everything(tmp_path, 1)
    assert chunks[0] == (1, OUT, b"first\n")
    assert chunks[-1][0] == 39


@pytest.mark.parametrize("cut", range(1, CHUNK.size + 5))
def test_a_torn_last_chunk_is_ignored_and_what_follows_is_sound(tmp_path: Path, cut: int) -> None:
    with writing(tmp_path) as out:
        out.write(OUT, b"whole\n", 1)
        out.write(OUT, b"torn\n", 2)
    path = tmp_path / "0" / "1.head"
    os.truncate(path, path.stat().st_size - cut)
    assert everything(tmp_path, 1) == [(1, OUT, b"whole\n")]
    with writing(tmp_path, attempt=2) as out:
        out.write(OUT, b"again\n", 3)
    assert text(everything(tmp_path, 1)) == b"whole\nagain\n"


@pytest.mark.parametrize("missing", ["between rename and new tail", "tail without its head"])
def test_a_crash_while_turning_to_a_new_tail_loses_nothing_that_was_kept(tmp_path: Path, missing: str) -> None:
    with writing(tmp_path) as out:
        for number in range(1000):
            out.write(OUT, b"line %d\n" % number, number)
    tail, old = tmp_path / "0" / "1.tail", tmp_path / "0" / "1.old"
    tail.replace(old)
    if missing == "tail without its head":
        tail.write_bytes(b"tq")
    before = everything(tmp_path, 1)
    with writing(tmp_path, attempt=2) as out:
        out.write(OUT, b"more\n", 2000)
    assert everything(tmp_path, 1) == [*before, (2000, NOTE, b"attempt 2\n"), (2000, OUT, b"more\n")]


def test_what_write_took_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tq.output import OutputWriter\n"
        "out = OutputWriter(Path(sys.argv[1]), 1)\n"
        "for n in range(100): out.write(1, b'line %d\\n' % n, n)\n"
        "os.kill(os.getpid(), 9)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert text(everything(tmp_path, 1)) == b"".join(b"line %d\n" % number for number in range(100))


def test_a_full_disk_costs_output_and_leaves_a_note_but_no_error(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from tq.output import OutputWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "out = OutputWriter(Path(sys.argv[1]), 1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "for n in range(100): out.write(1, b'x' * 99 + b'\\n', n)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "out.write(1, b'room again\\n', 100); out.close()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True)
    chunks = everything(tmp_path, 1)
    kept = text(chunks).count(b"x" * 99)
    assert 0 < kept < 100
    notes = [data for _, stream, data in chunks if stream == NOTE]
    assert all(b" bytes of output were lost: " in note for note in notes)
    assert sum(int(note.split()[0]) for note in notes) == (100 - kept) * 100
    assert chunks[-1][2] == b"room again\n"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("room", [0, 10], ids=["no room", "room for a part"])
@pytest.mark.parametrize("before", [0, 32, 52], ids=["the first file", "the first tail", "a later tail"])
def test_a_disk_that_is_full_when_a_file_begins_costs_what_was_printed_then_and_nothing_after(
    tmp_path: Path, room: int, before: int
) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from tq.output import OutputWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "out = OutputWriter(Path(sys.argv[1]), 1, 8192)\n"
        f"for n in range({before}): out.write(1, b'%099d\\n' % n, n)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))\n"
        "for n in range(50): out.write(1, b'x' * 999 + b'\\n', 1000)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "for n in range(5): out.write(1, b'room again %d\\n' % n, 2000)\n"
        "out.close()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True)
    chunks = everything(tmp_path, 1)
    assert [data for at, stream, data in chunks if at == 2000 and stream == OUT] == [b"room again %d\n" % n for n in range(5)]
    assert [data.split(b":")[0] for at, stream, data in chunks if stream == NOTE and at] == [b"50000 bytes of output were lost"]
    assert text(chunks).startswith(b"%099d\n" % 0 if before else b"room again")


def test_a_directory_that_cannot_be_written_never_fails_the_task(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("a file where the directory should be")
    with writing(tmp_path) as out:
        out.write(OUT, b"lost\n", 1)
    assert read(tmp_path, 1) == ([], 0)


def test_threads_may_write_at_once_and_no_chunk_is_torn(tmp_path: Path) -> None:
    with writing(tmp_path, limit=1 << 20) as out:

        def work(name: int) -> None:
            for number in range(200):
                out.write(OUT, b"%d:%d\n" % (name, number), 1)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = text(everything(tmp_path, 1)).splitlines()
    for name in range(4):
        assert [line for line in lines if line.startswith(b"%d:" % name)] == [b"%d:%d" % (name, number) for number in range(200)]


def test_remove_forgets_all_of_a_task_and_nothing_else(tmp_path: Path) -> None:
    for task_id in (1, 11):
        with writing(tmp_path, task_id) as out:
            for number in range(3000):
                out.write(OUT, b"line %d\n" % number, number)
    assert remove(tmp_path, 1)
    assert read(tmp_path, 1) == ([], 0)
    assert len(list((tmp_path / "0").iterdir())) == 3
    assert not remove(tmp_path, 1)


def test_a_file_that_is_no_output_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "1.head").write_bytes(os.urandom(500))
    assert read(tmp_path, 1) == ([], 0)
    with writing(tmp_path) as out:
        out.write(OUT, b"sound\n", 1)
    assert everything(tmp_path, 1) == [(1, OUT, b"sound\n")]


def test_reading_while_it_is_written_never_gives_a_wrong_byte(tmp_path: Path) -> None:
    done = threading.Event()
    with writing(tmp_path, limit=64 * 1024) as out:

        def write() -> None:
            for number in range(20_000):
                out.write(OUT, b"%08d\n" % number, number)
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        offset, last = 0, -1
        while True:
            over = done.is_set()
            chunks, offset = read(tmp_path, 1, offset, 1000)
            for at, stream, data in chunks:
                if stream == OUT:
                    assert data == b"%08d\n" % at
                    assert at > last
                    last = at
            if over and not chunks:
                break
        thread.join()
    assert last == 19_999


# packed


def much(logs: Path, lines: int = 40_000, limit: int = 1 << 20) -> OutputWriter:
    """The writer of a task that has written so many lines, and is over."""
    with writing(logs, limit=limit) as out:
        for number in range(lines):
            out.write(OUT if number % 7 else ERR, b"line %d of many\n" % number, number)
    return out


@pytest.mark.parametrize("limit", [1 << 20, 1 << 24])
def test_packed_output_reads_as_before_from_every_position_and_takes_less_room(tmp_path: Path, limit: int) -> None:
    out = much(tmp_path, limit=limit)
    before, end, took = everything(tmp_path, 1), size(tmp_path, 1), on_disk(tmp_path)
    notes = [data for _, stream, data in before if stream == NOTE]
    assert len(notes) == (limit == 1 << 20)  # a head alone, or head and tails with a gap
    out.pack()
    assert on_disk(tmp_path) < took / 3
    assert (everything(tmp_path, 1), size(tmp_path, 1)) == (before, end)
    assert everything(tmp_path, 1, limit=1000) == before
    for kept in (1, 777, len(before) - 1):
        offset = sum(CHUNK.size + len(data) for _, stream, data in before[:kept] if stream != NOTE) if not notes else 0
        assert everything(tmp_path, 1, offset) == before[kept if offset else 0 :]
    assert not list(tmp_path.rglob("*.pack"))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.rglob("1.*"))
    out.pack()  # again changes nothing
    assert everything(tmp_path, 1) == before
    assert remove(tmp_path, 1)
    assert on_disk(tmp_path) == 0


def test_what_is_small_or_noise_stays_as_it_is(tmp_path: Path) -> None:
    with writing(tmp_path, 1, 1 << 20) as small, writing(tmp_path, 2, 1 << 20) as noise:
        small.write(OUT, b"x" * (WORTH - 100), 1)
        noise.write(OUT, os.urandom(4 * WORTH), 1)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")}
    small.pack()
    noise.pack()
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_task_that_is_run_again_goes_on_behind_what_was_packed(tmp_path: Path) -> None:
    out = much(tmp_path, 3000)
    before = everything(tmp_path, 1)
    out.pack()
    with writing(tmp_path, limit=1 << 20, attempt=2) as again:
        again.write(OUT, b"more\n", 5)
    assert everything(tmp_path, 1) == [*before, (5, NOTE, b"attempt 2\n"), (5, OUT, b"more\n")]
    again.pack()
    assert everything(tmp_path, 1)[-1] == (5, OUT, b"more\n")


@pytest.mark.parametrize("call", ["os.replace", "os.fdatasync", "zlib.compress"])
@pytest.mark.parametrize("room", [True, False], ids=["killed", "no room"])
def test_who_dies_or_has_no_room_while_packing_loses_nothing(tmp_path: Path, call: str, room: bool) -> None:
    much(tmp_path, 20_000, 1 << 19)
    before = everything(tmp_path, 1)
    code = (
        "import os, sys, zlib; from pathlib import Path; from tq.output import OutputWriter, HEAD\n"
        f"def stop(*_): {'os.kill(os.getpid(), 9)' if room else 'raise OSError(28, None)'}\n"
        "out = OutputWriter(Path(sys.argv[1]), 1); out._head_data = 1\n"
        f"{call} = stop\n"
        "out.pack()"
    )
    process = subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=False)
    assert process.returncode == (-signal.SIGKILL if room else 0)
    assert bool(list(tmp_path.rglob("*.pack"))) == room
    assert everything(tmp_path, 1) == before
    with writing(tmp_path, limit=1 << 19, attempt=2) as again:
        again.write(OUT, b"more\n", 5)
    again.pack()
    assert everything(tmp_path, 1)[: len(before) // 3] == before[: len(before) // 3]
    assert everything(tmp_path, 1)[-1] == (5, OUT, b"more\n")
    remove(tmp_path, 1)
    assert not list(tmp_path.rglob("1.*"))


@pytest.mark.parametrize("damage", ["cut", "zeroes", "lengths"])
def test_a_packed_file_that_is_damaged_costs_only_itself(tmp_path: Path, damage: str) -> None:
    out = much(tmp_path)
    out.pack()
    head = tmp_path / "0" / "1.head"
    data = head.read_bytes()
    middle = len(data) // 2
    bad = {
        "cut": data[:middle],
        "zeroes": data[:middle] + bytes(100) + data[middle + 100 :],
        "lengths": data[:36] + b"\xff" * 8 + data[44:],
    }
    head.write_bytes(bad[damage])
    chunks = everything(tmp_path, 1)
    assert [data for _, stream, data in chunks if stream == NOTE and b"cannot be read" in data]
    assert chunks[-1][2] == b"line 39999 of many\n"


def test_a_packed_block_is_never_larger_than_is_read_at_once(tmp_path: Path) -> None:
    """A file that says its blocks are huge, or that grow when they are unpacked, takes no memory."""
    import zlib

    (tmp_path / "0").mkdir()
    bomb = zlib.compress(bytes(100 << 20), 9)
    for raw in (BLOCK_MOST, 100 << 20):
        head = output.SEGMENT.pack(output.PACKED, 0, 0, 0) + output.TOTAL.pack(100 << 20)
        (tmp_path / "0" / "1.head").write_bytes(head + output.BLOCK.pack(raw, len(bomb)) + bomb)
        resource_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        read(tmp_path, 1)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resource_before < 50 << 10


def test_each_file_that_an_attempt_began_says_whose_it_is(tmp_path: Path) -> None:
    with writing(tmp_path) as out:
        out.write(OUT, b"first\n", 1)
    with writing(tmp_path, attempt=2) as out:
        for number in range(3000):
            out.write(OUT, b"line %d\n" % number, number)
    chunks = everything(tmp_path, 1)
    gap = next(at for at, chunk in enumerate(chunks) if b"dropped" in chunk[2])
    assert chunks[gap + 1][1:] == (NOTE, b"attempt 2\n")
    assert on_disk(tmp_path) <= LIMIT + 3 * (SEGMENT.size + CHUNK.size + 10)
