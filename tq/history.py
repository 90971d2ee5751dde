"""History: how the counts of all tasks and of each queue went over the last ten minutes, two hours, day and month.

For: the series behind ``history`` and ``attention``, taken from a store's tallies; what of them is kept across restarts, as bytes.
Not for: files (daemon.keeping), what is to be looked at (broker.attention), totals (stats).
Runs in: the daemon, on the thread of its loop.
Promises: nothing is due by time alone: a second in which nothing happened costs nothing, then or when it is read; what a turn did
counts for the second of that turn, whenever it is looked at; percentiles are within 19 %, as those of ``stats``; memory is bounded by
ROWS_MOST rows, 7 MiB, and 10 MiB in all with 400 queues that are always busy: beyond it the longest series of a queue forgets its older
quarter, and the 400 queues that are known are those where something happened last. The counts of a tally are kept once more, to see
what has changed: a second in which 1,000 of 1,000 did costs some 10 ms, and one in which 1 of 10 did a tenth of one.

A series is rows of ROW, one for each bucket in which something changed, for each of STEPS: a bucket without a row had no ends, and
what stood before it. Of time for which no daemon answers (``_runs``) there is nothing. Kept across restarts are the steps of 60 s and
600 s: of a daemon that is killed, up to what was packed last; the percentiles of a bucket in which it was replaced are the later ones'.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgpack

from tq.model import State
from tq.store import Tally
from tq.store.tally import bucket_top

STEPS = (1, 10, 60, 600)
KEPT = {1: 600, 10: 720, 60: 1440, 600: 4320}
"""Buckets that are kept, by the seconds of a bucket: ten minutes, two hours, a day, 30 days."""
PACKED = (60, 600)
COUNTS = ("added", "succeeded", "failed", "retried")
GAUGES = ("pending", "running", "scheduled", "retrying", "dead")
TIMES = ("p50", "p95", "p99")
WHOLE = ""
"""All queues together; no queue can be named so."""
QUEUES_MOST = 400
ROWS_MOST = 160_000
RUNS_MOST = 1000
"""Lives of daemons that are told apart; of what is older than the last of so many, nothing is known."""
ROW = struct.Struct("<q9I3B")
"""The bucket's number since 1970, COUNTS, GAUGES, and buckets of run times (``tq.store.tally``) for TIMES; NONE: no run ended."""
NONE = 255
MAGIC = b"tq history 1\n"
_NUMBER = struct.Struct("<q")
_CRC = struct.Struct("<I")
_BODY_MOST = 16 << 20
_MOST = 0xFFFF_FFFF
_HEAD = len(COUNTS) + 1  # of what is compared of a tally: COUNTS, runs, and then its states
_GAUGES = [(at, _HEAD + state) for at, state in enumerate((State.PENDING, State.RUNNING, State.SCHEDULED, State.RETRYING, State.FAILED))]
_SHARES = (0.50, 0.95, 0.99)
_NO_COUNTS = (0,) * len(COUNTS)
_NOTHING = (0,) * (_HEAD + len(State))
_NO_RUNS = (NONE,) * len(TIMES)

Series = dict[str, list[int | None]]
"""By the names of COUNTS, GAUGES and TIMES: the buckets' values, oldest first; TIMES in ms."""


class _Grain:
    """The rows of one series at one step, and the bucket that is not over (-1: none, nothing has changed since the last one): what
    was counted in all when it began."""

    __slots__ = ("bucket", "counts", "rows", "step", "times")

    def __init__(self, step: int, rows: bytes = b"") -> None:
        self.step = step
        self.rows = bytearray(rows)
        self.bucket = -1
        self.counts: Sequence[int] = _NO_COUNTS
        self.times: Mapping[int, int] = {}

    def __len__(self) -> int:
        return len(self.rows) // ROW.size

    def number(self, at: int) -> int:
        """The bucket of a row."""
        found: int = _NUMBER.unpack_from(self.rows, at * ROW.size)[0]
        return found

    def place(self, bucket: int) -> int:
        """Which row is the first of this bucket or a later one."""
        return bisect_right(range(len(self)), bucket - 1, key=self.number)

    def read(self, first: int) -> Iterator[tuple[int, ...]]:
        """The rows from this place on."""
        return ROW.iter_unpack(memoryview(self.rows)[first * ROW.size :])

    def cut(self, start: int, end: int) -> None:
        del self.rows[start * ROW.size : end * ROW.size]


class _Line:
    """One series, of a queue or of the whole: what was counted since the daemon began, and its grains. ``gauges`` are changed in
    place, behind ``begin``."""

    __slots__ = ("changed_at", "counts", "gauges", "grains", "times")

    def __init__(self, gauges: list[int], packed: Sequence[bytes] = ()) -> None:
        rows = dict(zip(PACKED, packed, strict=False))
        self.grains = {step: _Grain(step, rows.get(step, b"")) for step in STEPS}
        self.gauges = gauges
        self.counts: Sequence[int] = _NO_COUNTS
        self.times: dict[int, int] = {}
        self.changed_at = -1

    def begin(self, second: int) -> int:
        """Something changes in this second: how many more rows there are."""
        if second == self.changed_at:
            return 0
        self.changed_at = second
        grown = self.close(second)
        for step, grain in self.grains.items():
            if grain.bucket == -1:
                grain.bucket, grain.counts, grain.times = second // step, self.counts, dict(self.times)
        return grown

    def add(self, counts: Sequence[int], times: Mapping[int, int]) -> None:
        """Count these, too."""
        had = self.counts
        self.counts = (had[0] + counts[0], had[1] + counts[1], had[2] + counts[2], had[3] + counts[3])
        for run_time, count in times.items():
            self.times[run_time] = self.times.get(run_time, 0) + count

    def close(self, second: int) -> int:
        """Buckets that are over in this second become rows, and rows that are too old go: how many more there are."""
        grown = 0
        for step, grain in self.grains.items():
            if grain.bucket not in (-1, second // step):
                had, row, last = len(grain), self.row(grain), grain.bucket
                if had and grain.number(had - 1) >= last:
                    grain.cut(grain.place(last), had)
                grain.rows += row
                grain.bucket = -1
                if len(grain) > 1 and grain.number(1) <= last - KEPT[step]:  # one that is too old says what stood at the beginning
                    grain.cut(0, grain.place(last - KEPT[step] + 1) - 1)
                grown += len(grain) - had
        return grown

    def row(self, grain: _Grain) -> bytes:
        """That of the bucket of a grain that is not over, as it stands."""
        counts, runs = self.since(grain), self.times.items() - grain.times.items()
        percentiles = _percentiles({run_time: count - grain.times.get(run_time, 0) for run_time, count in runs})
        if grain.rows and grain.number(len(grain) - 1) == grain.bucket:  # another daemon began it, or the clock came back to it
            _, *then = ROW.unpack_from(grain.rows, len(grain.rows) - ROW.size)
            counts = [a + b for a, b in zip(counts, then, strict=False)]
            percentiles = percentiles if runs else tuple(then[-len(TIMES) :])
        try:
            return ROW.pack(grain.bucket, *counts, *self.gauges, *percentiles)
        except struct.error:  # more than four billion of something
            return ROW.pack(grain.bucket, *(min(max(count, 0), _MOST) for count in (*counts, *self.gauges)), *percentiles)

    def since(self, grain: _Grain) -> list[int]:
        """COUNTS of the bucket that is not over."""
        return [a - b for a, b in zip(self.counts, grain.counts, strict=True)] if grain.bucket != -1 else [*_NO_COUNTS]

    def __len__(self) -> int:
        return sum(map(len, self.grains.values()))


class History:
    """What is known of the past. Instants in ms; ``rows_most`` and ``queues_most`` bound what it keeps."""

    def __init__(self, rows_most: int = ROWS_MOST, queues_most: int = QUEUES_MOST) -> None:
        self._rows_most, self._queues_most = rows_most, queues_most
        self._lines: dict[str, _Line] = {}
        self._rows = 0
        self._runs: list[list[int]] = []  # lives of daemons, first and last second; the last is this one's
        self._second = -1  # of the last turn
        self._seen: dict[tuple[str, str], tuple[int, ...]] = {}
        self._times: dict[tuple[str, str], dict[int, int]] = {}
        self._gauges: dict[str, list[int]] = {WHOLE: [0] * len(GAUGES)}
        self.changed = False
        """Whether there is something that was not packed yet."""

    # -- taking ----------------------------------------------------------------------------------------------------

    def turn(self, now: int, tallies: Callable[[], Iterable[Tally]]) -> None:
        """A turn begins. In a new second, what the turns of the last one did is in the tallies, and nothing else."""
        second = now // 1000
        if second == self._second:
            return
        if self._second < 0:
            self._begin(second, tallies())
        else:
            self._note(self._changed(tallies()))
        if second < self._second:
            self._put_back(second)
            self._live(second)
        self._second = self._runs[-1][1] = second

    def _begin(self, second: int, tallies: Iterable[Tally]) -> None:
        """What is counted so far has no time; how things stand has, for every series that is known."""
        if self._runs and second < self._runs[-1][1]:
            self._put_back(second)
        self._live(second)
        self._second = second
        self._line(WHOLE, iter(()))
        for line in self._lines.values():
            line.begin(second)
        self._note(self._changed(tallies), counted=False)
        self.changed = True

    def _changed(self, tallies: Iterable[Tally]) -> list[tuple[Tally, tuple[int, ...], tuple[int, ...]]]:
        """Tallies that have changed: what they have now, and what they had."""
        found = []
        for tally in tallies:
            key = (tally.queue, tally.type)
            now = (tally.added, tally.succeeded, tally.failed, tally.retried, tally.runs, *tally.states)
            before = self._seen.get(key, _NOTHING)
            if now != before:
                self._seen[key] = now
                found.append((tally, now, before))
        return found

    def _note(self, changed: Sequence[tuple[Tally, tuple[int, ...], tuple[int, ...]]], counted: bool = True) -> None:
        """Add what has changed to the series; not ``counted``: only how things stand."""
        if not changed:
            return
        self.changed = True
        second, whole = self._second, self._lines[WHOLE]
        stale = self._stale({tally.queue for tally, _, _ in changed})
        self._rows += whole.begin(second)
        for tally, now, before in changed:
            line = self._line(tally.queue, stale)
            if line is not None:
                self._rows += line.begin(second)
            if now[_HEAD:] != before[_HEAD:]:
                for gauges in (self._gauges[tally.queue], whole.gauges):
                    for at, state in _GAUGES:
                        gauges[at] += now[state] - before[state]
            counts, times = self._counts(tally, now, before)
            for one in (whole, line) if counted else ():
                if one is not None:
                    one.add(counts, times)
        while self._rows > self._rows_most:
            longest = max((grain for name, line in self._lines.items() if name != WHOLE for grain in line.grains.values()), key=len)
            drop = max(len(longest) // 4, 1)
            longest.cut(0, drop)
            self._rows -= drop

    def _counts(self, tally: Tally, now: tuple[int, ...], before: tuple[int, ...]) -> tuple[Sequence[int], Mapping[int, int]]:
        """COUNTS of what came, and the run times of what ended."""
        counts = [a - b if a >= b else a for a, b in zip(now[: len(COUNTS)], before, strict=False)]  # less: it is counted anew
        if now[4] == before[4]:
            return counts, {}
        then = self._times.setdefault((tally.queue, tally.type), {})
        fresh = tally.times.items() - then.items()
        times = {run_time: count - then.get(run_time, 0) for run_time, count in fresh}
        then.update(fresh)
        return counts, times

    def _line(self, name: str, stale: Iterator[str]) -> _Line | None:
        """The series of a queue, in the place of a ``stale`` one where it has none and there are enough; None: all are in use."""
        line = self._lines.get(name)
        gauges = self._gauges.setdefault(name, [0] * len(GAUGES))
        if line is None:
            if len(self._lines) > self._queues_most and name != WHOLE:  # which is one more
                gone = next(stale, None)
                if gone is None:
                    return None  # as many others have changed in this very second
                self._rows -= len(self._lines.pop(gone))
            line = self._lines[name] = _Line(gauges)
        return line

    def _stale(self, changing: Collection[str]) -> Iterator[str]:
        """Queues that may give way to others: where nothing has happened for the longest time first."""
        yield from sorted((n for n in self._lines if n != WHOLE and n not in changing), key=lambda n: self._lines[n].changed_at)

    def _put_back(self, second: int) -> None:
        """The clock was put back to this second: what was after its bucket has no place any more."""
        for line in self._lines.values():
            for step, grain in line.grains.items():
                grain.bucket = min(grain.bucket, second // step)
                rows = len(grain)
                grain.cut(grain.place(second // step + 1), rows)
                self._rows -= rows - len(grain)
        self._runs = [[first, min(last, second)] for first, last in self._runs if first <= second]

    def _live(self, second: int) -> None:
        self._runs = [*self._runs, [second, second]][-RUNS_MOST:]

    # -- reading ---------------------------------------------------------------------------------------------------

    def __contains__(self, queue: str) -> bool:
        return queue in self._lines

    def series(self, queue: str, step: int, limit: int, until: int) -> tuple[int, Series]:
        """The last ``limit`` buckets of ``step`` (one of STEPS) seconds that were over by ``until`` (ms, not after the last turn), of a
        queue or the WHOLE, and when they end (ms)."""
        end = until // 1000 // step
        first = end - limit
        names = (*COUNTS, *GAUGES, *TIMES)
        found: list[tuple[int | None, ...]] = [(None,) * len(names)] * limit
        line = self._lines.get(queue)
        if line is not None:
            self._rows += line.close(self._second)
            grain = line.grains[step]
            place = max(grain.place(first) - 1, 0)
            rows = {bucket: tuple(values) for bucket, *values in grain.read(place)}
            stood: tuple[int, ...] | None = None
            if rows and (oldest := next(iter(rows))) < first:
                stood = rows[oldest][len(COUNTS) : -len(TIMES)]
            for at, lives in enumerate(self._lived(first, limit, step)):
                row = rows.get(first + at)
                if row is not None:
                    stood = row[len(COUNTS) : -len(TIMES)]
                    found[at] = (*row[: -len(TIMES)], *(None if top == NONE else bucket_top(top) for top in row[-len(TIMES) :]))
                elif lives and stood is not None:
                    found[at] = (*_NO_COUNTS, *stood, *[None] * len(TIMES))
        columns = zip(*found, strict=True) if found else ()
        return end * step * 1000, {name: list(column) for name, column in zip(names, columns, strict=True)}

    def _lived(self, first: int, limit: int, step: int) -> Iterator[bool]:
        """Of each bucket whether a daemon ran in it."""
        starts = [start for start, _ in self._runs]
        for bucket in range(first, first + limit):
            at = bisect_right(starts, (bucket + 1) * step - 1) - 1
            yield at >= 0 and self._runs[at][1] >= bucket * step

    def lately(self, queue: str, minutes: int, now: int) -> list[int]:
        """COUNTS of a queue, or of the WHOLE, in this minute and so many before it."""
        line = self._lines.get(queue)
        if line is None:
            return [*_NO_COUNTS]
        grain, first = line.grains[60], now // 60_000 - minutes
        found = line.since(grain) if grain.bucket >= first else [*_NO_COUNTS]
        for _, *values in grain.read(grain.place(first)):
            found = [a + b for a, b in zip(found, values, strict=False)]
        return found

    # -- keeping ---------------------------------------------------------------------------------------------------

    def packed(self, tallies: Iterable[Tally]) -> bytes:
        """All that is kept across restarts, as it stands; cheap, ``sealed`` is for another thread."""
        if self._second >= 0:
            self._note(self._changed(tallies))
        self.changed = False
        lines: list[list[Any]] = []
        for name, line in self._lines.items():
            parts: list[Any] = []  # of each grain what is over, not copied twice, and the bucket that is not
            for grain in (line.grains[step] for step in PACKED):
                live = grain.bucket != -1
                mended = live and len(grain) and grain.number(len(grain) - 1) == grain.bucket
                parts += [memoryview(grain.rows)[: -ROW.size] if mended else grain.rows, line.row(grain) if live else b""]
            lines.append([name, *parts])
        body: bytes = msgpack.packb([self._runs, lines])
        return body

    def restore(self, data: bytes) -> None:
        """Begin with what ``sealed`` made, before the first turn. ValueError: it is not that, or damaged; nothing is known then."""
        if not data.startswith(MAGIC):
            raise ValueError("it is not of this version, or no history")
        at = len(MAGIC) + _CRC.size
        if len(data) < at or _CRC.unpack_from(data, len(MAGIC))[0] != zlib.crc32(data[at:]):
            raise ValueError("its checksum is wrong")
        try:
            body = zlib.decompressobj().decompress(data[at:], _BODY_MOST)
            runs, lines = msgpack.unpackb(body, raw=False)
            self._runs = [[int(first), int(last)] for first, last in runs][-RUNS_MOST:]
            for name, *parts in lines[: self._queues_most + 1]:
                gauges = self._gauges.setdefault(str(name), [0] * len(GAUGES))
                self._lines[name] = _Line(gauges, [done + live for done, live in zip(parts[::2], parts[1::2], strict=True)])
            if any(len(grain.rows) % ROW.size for line in self._lines.values() for grain in line.grains.values()):
                raise ValueError("a row is not whole")
        except (zlib.error, ValueError, TypeError, msgpack.UnpackException) as error:
            self._runs, self._lines = [], {}
            raise ValueError(f"it cannot be read: {error}") from None
        self._rows = sum(map(len, self._lines.values()))


def sealed(body: bytes) -> bytes:
    """What ``packed`` gave as a file has it: smaller, with a version and a checksum."""
    small = zlib.compress(body, 1)
    return MAGIC + _CRC.pack(zlib.crc32(small)) + small


def _percentiles(times: Mapping[int, int]) -> tuple[int, ...]:
    """For each of TIMES the bucket of run times that its share of the runs did not pass."""
    total = sum(times.values())
    if not total:
        return _NO_RUNS
    found: list[int] = []
    seen = 0
    for bucket in sorted(times):
        seen += times[bucket]
        while len(found) < len(_SHARES) and seen >= _SHARES[len(found)] * total:
            found.append(min(bucket, NONE - 1))
    return tuple(found)
