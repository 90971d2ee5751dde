"""Bugs that are planted to show that the suites would see them: ``python -m tests.campaign.planted BUG module [args...]``.

For: ``plant(name)``: break tq in this process; the same for a process of its own.
Not for: anything but showing that a suite fails when it should.
Runs in: the process under test.
Promises: nothing of this is in tq itself; an unknown name is an error.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack

from tq import daemon, lifecycle, model, wire, words
from tq.api import unix
from tq.broker import Broker
from tq.broker.breakers import Breakers
from tq.broker.families import Families
from tq.pool.jobs import Jobs
from tq.store import files, room
from tq.store.gates import Gate, Gates
from tq.store.lanes import Lanes
from tq.store.limits import FULL, Allowance, Limit
from tq.store.lmdb import LmdbStore
from tq.store.memory import MemoryStore
from tq.store.names import Names

Plant = Callable[[], None]


def _put_off(wanted: Callable[[Any], bool]) -> None:
    """Let the commits that are wanted be made only when the next turn begins: after what depends on them."""
    begin, commit, close = LmdbStore.begin, LmdbStore.commit, LmdbStore.close

    def really(store: Any) -> None:
        if store.__dict__.pop("put_off", False):
            commit(store)

    def late_begin(store: Any, now: int) -> None:
        really(store)
        store.__dict__["claimed"] = False
        begin(store, now)

    def late_commit(store: Any) -> None:
        if wanted(store):
            store.__dict__["put_off"] = True
        else:
            commit(store)

    def late_close(store: Any) -> None:
        really(store)
        close(store)

    LmdbStore.begin = late_begin  # type: ignore[method-assign]
    LmdbStore.commit = late_commit  # type: ignore[method-assign]
    LmdbStore.close = late_close  # type: ignore[method-assign]


def answer_before_commit() -> None:
    """Answers leave before what they promise is committed."""
    _put_off(lambda store: True)


def claim_before_commit() -> None:
    """Tasks are handed out before their claim is committed."""
    claim = LmdbStore.claim

    def noted(self: Any, want: Any) -> Any:
        taken = claim(self, want)
        self.__dict__["claimed"] = self.__dict__.get("claimed", False) or bool(taken)
        return taken

    LmdbStore.claim = noted  # type: ignore[method-assign]
    _put_off(lambda store: store.__dict__.get("claimed", False))


def sync_off() -> None:
    """Commits are not synced to the disk."""
    real = files.lmdb.open
    files.lmdb.open = lambda *args, **kwargs: real(*args, **(kwargs | {"sync": False, "metasync": False}))


def token_ignored() -> None:
    """Whoever settles a task is believed, whatever claim he holds."""
    for kind in (LmdbStore, MemoryStore):
        apply, succeed = kind.apply, kind.succeed

        def any_claim(self: Any, transitions: Any, apply: Any = apply) -> Any:
            return apply(self, [replace(one, claim=None) for one in transitions])

        def any_success(self: Any, results: Any, succeed: Any = succeed) -> Any:
            held = {one.id: one.claim for one in self.held()}
            return succeed(self, [(row[0], held.get(row[0], row[1]), *row[2:]) for row in results])

        kind.apply, kind.succeed = any_claim, any_success  # type: ignore[method-assign]


def index_skipped() -> None:
    """Now and then a task is stored without its entry in the index of what is ready."""
    flush = LmdbStore._flush

    def forgetful(self: Any) -> None:
        ready = self._gathered["ready"]
        if len(ready) > 1 or (ready and self._id % 7 == 0):
            ready.pop()
        flush(self)

    LmdbStore._flush = forgetful  # type: ignore[method-assign]


def shape_unchecked() -> None:
    """Whatever a frame holds is taken for a request."""

    def believed(body: bytes) -> Any:
        try:
            number, verb, args = wire.message(body)
        except (ValueError, TypeError):
            return None
        return number, verb, args or {}

    unix._request = believed


def decoder_without_limits() -> None:
    """A frame may cost what it likes, and mean what it likes."""
    wire.request = lambda body: msgpack.unpackb(body, raw=False, strict_map_key=False)


def switch_unnoted() -> None:
    """One store takes the place of another without a word of it on the disk, so nobody can end what was cut short."""

    def bare(path: Path, fresh: Path, aside: Path) -> None:
        if path.exists():
            path.rename(aside)
        fresh.rename(path)

    for name in ("files", "lmdb", "compaction", "restoring"):
        vars(import_module(f"tq.store.{name}"))["put_in_place"] = bare


def requeue_before_reap() -> None:
    """A task whose time is up is settled as soon as its process is asked to end, and not when it has."""
    end_late = Jobs._end_late

    def hasty(self: Any, now: int) -> None:
        end_late(self, now)
        for child in self._children.values():
            if child.state == "ending" and child.jobs:
                self._explain(child, "as good as dead", None)

    Jobs._end_late = hasty  # type: ignore[method-assign]


def watchdog_asleep() -> None:
    """Nobody notices that the daemon's loop does not turn any more."""
    daemon.Watchdog.run = lambda self: None  # type: ignore[method-assign]


def checksum_unread() -> None:
    """A record is believed whatever its checksum says."""
    model.unseal.__code__ = (lambda record, what, number=0: record[:-4]).__code__


def text_uncleaned() -> None:
    """Text of tasks goes to terminals and logs as it is."""
    words._UNSAFE.clear()
    words._UNSAFE_BUT_LINES.clear()


def names_unsynced() -> None:
    """Directories are never synced, so nobody knows in which order their names change."""
    for name in ("files", "restoring"):
        vars(import_module(f"tq.store.{name}"))["sync_directory"] = lambda path: None


def lock_ignored() -> None:
    """A daemon does not care who holds its directory."""
    vars(files)["fcntl"] = SimpleNamespace(flock=lambda *args: None, LOCK_EX=0, LOCK_NB=0)


def room_unasked() -> None:
    """New tasks come in as long as there is any room at all."""
    room.Room.check = lambda *args: None  # type: ignore[method-assign]


def ends_unprovided() -> None:
    """Nothing is kept free, and nothing forgotten, so that tasks can end where there is little room."""
    room.END_BYTES = 0
    LmdbStore.short = lambda self: False  # type: ignore[method-assign]
    Broker._made_room = lambda *args: False  # type: ignore[method-assign]


def loan_refused() -> None:
    """A name that somebody holds is not lent to another, though it should be."""
    lend = Names.lend

    def shy(self: Any, txn: Any, loans: Any) -> None:
        holders = self.holders(txn, [one.name for one in loans])
        lend(self, txn, [one for one, holder in zip(loans, holders, strict=True) if holder is None])

    Names.lend = shy  # type: ignore[method-assign]


def standing_unwritten() -> None:
    """Where a breaker stands is known until the daemon ends."""

    def mirrored(self: Any, kind: str, name: str, row: Any) -> None:
        if row is None:
            self._standings.pop((kind, name), None)
        else:
            self._standings[kind, name] = row

    LmdbStore.put_standing = mirrored  # type: ignore[method-assign]


def running_uncounted() -> None:
    """A limit that is set while tasks run does not count these."""
    limit = Lanes.limit
    Lanes.limit = lambda self, gates, running: limit(self, gates, ())  # type: ignore[method-assign]


def tokens_refilled() -> None:
    """A limit that changes begins with all of its tokens."""
    Limit.carried = lambda self, bucket, old, now: FULL  # type: ignore[method-assign]


def places_from_behind() -> None:
    """A task of a request that is another of the same is taken for one counted from the end."""

    def filled(fresh: Any, places: Any) -> list[int]:
        new = iter(fresh)
        return [place or next(new) if place >= 0 else fresh[place] for place in places]

    for name in ("hot", "memory"):
        vars(import_module(f"tq.store.{name}"))["places_filled"] = filled


def waits_kept() -> None:
    """A task that waits no more is still among those that wait for its other parents."""
    unblock = LmdbStore._unblock
    LmdbStore._unblock = lambda self, task_id, parents: unblock(self, task_id, parents[:1])  # type: ignore[method-assign]


def suits_any() -> None:
    """Whoever waits for a task goes its way, however that ended."""
    lifecycle.suits = lambda head, parent, state: True


def gates_open() -> None:
    """No limit keeps anybody waiting."""
    Gate.room = lambda self, now: 1 << 20  # type: ignore[method-assign]
    Allowance.room = lambda self, *args: 1 << 20  # type: ignore[method-assign]


def gates_unwoken() -> None:
    """A limit that has been reached opens when something else happens, and not by time."""
    Gates.next = lambda self: None  # type: ignore[method-assign]


def breakers_unasked() -> None:
    """Tasks are handed out of a type whose breaker is open."""
    Breakers._gate = lambda self, want, turn: self._desk.store.claim(want)  # type: ignore[method-assign]


def release_put_off() -> None:
    """Those who wait for a task hear of its end only in the turn after the one that holds it."""
    release = Families.release

    def late(self: Any, turn: Any) -> None:
        of, put_off = self.__dict__.get("put_off", (None, []))
        if of is turn:
            put_off += turn.over
            turn.over.clear()
        else:
            self.__dict__["put_off"] = turn, [*turn.over]
            turn.over[:] = put_off
            release(self, turn)
        turn.busy = turn.busy or bool(self.__dict__["put_off"][1])

    Families.release = late  # type: ignore[method-assign]


def nobody_hung_up_on() -> None:
    """The daemon keeps whatever clients begin to send and do not read."""
    unix.OUT_MOST = unix.HELD_MOST = 1 << 60


def answers_hoarded() -> None:
    """The daemon forgets nothing of its turns."""
    turn, hoard = Broker.turn, list[bytes]()

    def hoards(self: Any, *args: Any, **kwargs: Any) -> Any:
        hoard.append(b"x" * (256 << 10))
        return turn(self, *args, **kwargs)

    Broker.turn = hoards  # type: ignore[method-assign]


BUGS: dict[str, Plant] = {
    "answer_before_commit": answer_before_commit, "sync_off": sync_off, "token_ignored": token_ignored,
    "index_skipped": index_skipped, "claim_before_commit": claim_before_commit,
    "shape_unchecked": shape_unchecked, "decoder_without_limits": decoder_without_limits, "text_uncleaned": text_uncleaned,
    "checksum_unread": checksum_unread,
    "nobody_hung_up_on": nobody_hung_up_on, "answers_hoarded": answers_hoarded,
    "release_put_off": release_put_off, "places_from_behind": places_from_behind, "waits_kept": waits_kept,
    "loan_refused": loan_refused, "standing_unwritten": standing_unwritten,
    "suits_any": suits_any, "gates_open": gates_open, "gates_unwoken": gates_unwoken, "breakers_unasked": breakers_unasked,
    "running_uncounted": running_uncounted, "tokens_refilled": tokens_refilled,
    "requeue_before_reap": requeue_before_reap, "watchdog_asleep": watchdog_asleep,
    "switch_unnoted": switch_unnoted, "names_unsynced": names_unsynced, "lock_ignored": lock_ignored,
    "room_unasked": room_unasked, "ends_unprovided": ends_unprovided,
}  # fmt: skip


def plant(name: str | None) -> None:
    """Break tq in this process; None: leave it as it is."""
    if name is not None:
        BUGS[name]()


def main() -> None:
    """Break tq, then be ``python -m module args...``."""
    bug, module = sys.argv[1:3]
    plant(bug)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
