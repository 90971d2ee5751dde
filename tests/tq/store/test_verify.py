"""`verify` names every kind of damage, and only damage."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from tq.errors import ConfigError, StoreDamaged, StoreTooNew
from tq.lifecycle import Outcome, cancel, edit, retry, run_out, settle
from tq.model import Backoff, Header, State, Status, pack, seal, spec_of, status_of
from tq.store import BatchInfo, Chore, Draft, Event, KeyRef, Limits, QueueInfo, RequestId, Success, TypeInfo, Want
from tq.store.files import Lock, open_store
from tq.store.keys import (
    COUNTED,
    DUE,
    ENDED,
    EXPIRE,
    HISTORY,
    KEY,
    PAIR,
    READY,
    REQUEST,
    TIMER,
    U32,
    U64,
    counters_of,
    counters_record,
    name_key,
    opened,
    sealed,
)
from tq.store.lmdb import LmdbStore
from tq.store.retention import remember
from tq.store.verify import MOST, verify

NOW = 1_700_000_000_000
ROLES = ("pending", "scheduled", "blocked", "running", "retrying", "succeeded", "failed", "cancelled", "expired", "released", "again")
ID = {role: number for number, role in enumerate(ROLES, 1)}
ENDS = {"retrying": "failed", "failed": "failed", "released": "released"}


def fill(store: LmdbStore) -> None:
    """A task in every state, each in a queue of that name; beside them what else a store can hold."""
    store.begin(NOW)
    store.put_batch(BatchInfo(0, "b", callbacks={"complete": ["t", b"", {}]}))
    for role in ROLES:
        head = Header(
            "t", queue=role, retries=role == "retrying", backoff=Backoff(jitter=False), parents=(1,) if role == "blocked" else (),
            key=f"key of {role}", unique=f"name of {role}", batch=1,
        )  # fmt: skip
        later = {"scheduled": NOW + 60_000}.get(role, 0)
        ends = NOW + 3_600_000 if role == "pending" else 0
        store.enqueue([Draft(head, role.encode(), later, ends, waits=head.parents)], RequestId(b"12345678", ID[role]))
    for role in ("running", "retrying", "succeeded", "failed", "released", "again"):
        (got,) = store.claim(Want("w1", 1, queues=frozenset({role})))
        task = store.get([got.id])[0]
        assert task is not None
        if role in ENDS:
            store.apply([settle(task, Outcome(ENDS[role], error={"type": "E", "message": "m"}), NOW, 0.5)])
        elif role != "running":
            store.succeed([Success(got.id, got.claim, NOW - 5, NOW, True, b"\xc0")])
    for role, change in (("cancelled", cancel), ("expired", run_out), ("again", retry)):
        task = store.get([ID[role]])[0]
        assert task is not None
        transition = change(task, NOW)
        assert transition is not None
        store.apply([transition])
    store.put_types([TypeInfo("t")])
    store.put_queue(QueueInfo("pending", weight=2))
    store.put_chore(Chore(0, "cancel", {"queue": "pending"}))
    store.put_queue(QueueInfo("cancelled", keep_ms=5000))
    edited = store.get([ID["scheduled"]])[0]
    assert edited is not None
    edition = edit(edited, replace(edited.spec, payload=b"edited"), NOW + 90_000, NOW)
    assert edition is not None
    store.apply([edition])
    for what in ("paused", "resumed"):
        store.note(Event(0, NOW, "user 0 (pid 1)", what, "queue 'q'"))
    store.commit()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    store = LmdbStore(tmp_path / "store")
    fill(store)
    store.close()
    return tmp_path


AGAIN_AND_AGAIN = """
import sys, pathlib
from tq.store.verify import verify
for _ in range(8):
    print(verify(pathlib.Path(sys.argv[1])), flush=True)
"""


class Surgeon:
    """Puts a hand into a store: one write transaction, databases by name."""

    def __init__(self, data_dir: Path) -> None:
        self.env, self.dbs = open_store(data_dir / "store")

    def __enter__(self) -> Self:
        self.txn: Any = self.env.begin(write=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.txn.commit()
        self.env.close()

    def get(self, name: str, key: bytes) -> bytes:
        value = self.txn.get(key, db=self.dbs[name])
        assert value is not None
        return bytes(value)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        self.txn.put(key, value, db=self.dbs[name])

    def drop(self, name: str, key: bytes) -> None:
        assert self.txn.delete(key, db=self.dbs[name])

    def entry(self, name: str, role: str) -> tuple[bytes, bytes]:
        """The index entry of a role's task."""
        for key, value in self.txn.cursor(self.dbs[name]):
            if name == "timers" and key[8:9] != bytes([DUE]):
                continue
            if U64.unpack(value[:8] if name == "ready" else key[-8:])[0] == ID[role]:
                return bytes(key), bytes(value)
        raise AssertionError(f"no entry of {role} in {name}")

    def change(self, name: str, key: bytes, at: int, by: bytes) -> None:
        value = self.get(name, key)
        self.put(name, key, value[:at] + by + value[at + len(by) :])

    def status(self, role: str, **changes: Any) -> None:
        key = U64.pack(ID[role])
        self.put("states", key, replace(status_of(ID[role], self.get("states", key)), **changes).record(ID[role]))

    def tally(self, queue: str, **changes: Any) -> None:
        for key, value in self.txn.cursor(self.dbs["tallies"]):
            row = opened(value, "a tally") if key != COUNTED else [""]
            if row[0] == queue:
                for at, to in changes.items():
                    row[int(at[1:])] = to
                self.put("tallies", bytes(key), sealed(row))
                return


def key_of(role: str) -> bytes:
    return U64.pack(ID[role])


def _bit_in_a_payload(s: Surgeon) -> None:
    s.change("tasks", key_of("succeeded"), -9, b"\x00")


def _bit_in_a_status(s: Surgeon) -> None:
    s.change("states", key_of("failed"), 3, b"\xff")


def _status_of_another_task(s: Surgeon) -> None:
    s.put("states", key_of("failed"), s.get("states", key_of("succeeded")))


def _status_of_a_wrong_shape(s: Surgeon) -> None:
    s.put("states", key_of("failed"), seal(pack(["not", "a", "status"]), ID["failed"]))


def _status_without_a_task(s: Surgeon) -> None:
    s.put("states", U64.pack(999), Status(State.FAILED).record(999))


def _lost_ready_entry(s: Surgeon) -> None:
    s.drop("ready", s.entry("ready", "pending")[0])


def _stray_ready_entry(s: Surgeon) -> None:
    s.put("ready", READY.pack(1, 8, 500), PAIR.pack(ID["succeeded"], NOW))


def _ready_entry_in_another_lane(s: Surgeon) -> None:
    key, value = s.entry("ready", "pending")
    s.drop("ready", key)
    s.put("ready", U32.pack(77) + key[4:], value)


def _ready_entry_without_its_mark(s: Surgeon) -> None:
    key, value = s.entry("ready", "released")
    s.put("ready", key, value[:16])


def _lost_lane(s: Surgeon) -> None:
    s.drop("lanes", s.entry("ready", "pending")[0][:4])


def _two_lanes_of_one_key(s: Surgeon) -> None:
    s.put("lanes", U32.pack(500), s.get("lanes", s.entry("ready", "pending")[0][:4]))


def _lost_due_timer(s: Surgeon) -> None:
    s.drop("timers", s.entry("timers", "scheduled")[0])


def _stray_due_timer(s: Surgeon) -> None:
    s.put("timers", TIMER.pack(NOW + 1, DUE, ID["failed"]), b"")


def _lost_expiry(s: Surgeon) -> None:
    s.drop("timers", TIMER.pack(NOW + 3_600_000, EXPIRE, ID["pending"]))


def _lost_history(s: Surgeon) -> None:
    s.drop("history", s.entry("history", "cancelled")[0])


def _stray_history(s: Surgeon) -> None:
    s.put("history", HISTORY.pack(State.FAILED, NOW, 998), ENDED.pack(1, 0, 9))


def _history_with_another_tally(s: Surgeon) -> None:
    key, value = s.entry("history", "expired")
    s.put("history", key, U32.pack(99) + value[4:])


def _running_without_a_record(s: Surgeon) -> None:
    s.status("released", state=State.RUNNING)


def _two_live_claims(s: Surgeon) -> None:
    s.put("running", U64.pack(2**40), seal(pack(["w2", NOW, 0, [ID["running"]], [2]])))


def _claim_that_skips(s: Surgeon) -> None:
    s.put("running", U64.pack(1), seal(pack(["w2", NOW, 0, [ID["released"]], [9]])))


def _running_record_of_nothing(s: Surgeon) -> None:
    s.put("running", U64.pack(1), seal(pack(["w2", NOW, 0, [ID["failed"]], None])))


def _bit_in_a_running_record(s: Surgeon) -> None:
    for key in s.txn.cursor(s.dbs["running"]).iternext(values=False):
        s.change("running", bytes(key), 2, b"\xff")


def _child() -> bytes:
    return PAIR.pack(ID["pending"], ID["blocked"])


def _lost_child(s: Surgeon) -> None:
    s.drop("children", _child())


def _child_of_a_task_that_is_over(s: Surgeon) -> None:
    s.drop("children", _child())
    s.put("children", PAIR.pack(ID["failed"], ID["blocked"]), b"")


def _child_that_is_not_blocked(s: Surgeon) -> None:
    s.put("children", PAIR.pack(ID["pending"], ID["scheduled"]), b"")


def _malformed_child(s: Surgeon) -> None:
    s.put("children", b"broken", b"")


def _wrong_count(s: Surgeon) -> None:
    s.tally("running", _2=[0] * 9)


def _wrong_bytes(s: Surgeon) -> None:
    s.tally("pending", _3=10**6)


def _lost_tally(s: Surgeon) -> None:
    for key, value in s.txn.cursor(s.dbs["tallies"]):
        if key != COUNTED and opened(value, "a tally")[0] == "blocked":
            s.drop("tallies", bytes(key))
            return


def _wrong_histogram(s: Surgeon) -> None:
    s.tally("succeeded", _7=50)


def _counters_behind(s: Surgeon) -> None:
    ids, _, batches, chores = counters_of(s.get("tallies", COUNTED))
    s.put("tallies", COUNTED, counters_record(ids - 1, 1, batches, chores))


def _bit_in_the_counters(s: Surgeon) -> None:
    record = bytearray(s.get("tallies", COUNTED))
    record[0] ^= 0x40  # ids go on from far above
    s.put("tallies", COUNTED, bytes(record))


def _sequence_given_twice(s: Surgeon) -> None:
    key = key_of("running")
    spec = spec_of(ID["running"], s.get("tasks", key))
    s.put("tasks", key, replace(spec, seq=spec_of(ID["pending"], s.get("tasks", key_of("pending"))).seq).record())


def _request_for_ids_never_given(s: Surgeon) -> None:
    key = REQUEST.pack(1, b"12345678", 99)
    s.put("requests", key, remember(key, range(990, 995)))


def _chore_under_another_number(s: Surgeon) -> None:
    s.put("chores", U64.pack(7), s.get("chores", U64.pack(1)))


def _malformed_queue(s: Surgeon) -> None:
    s.put("queues", b"broken", seal(b"\xc1"))


def name_of(role: str, kind: str) -> bytes:
    key = name_key(KeyRef(kind, "t", f"{'key' if kind == 'key' else 'name'} of {role}"))
    assert key is not None
    return key


def _wrong_weight(s: Surgeon) -> None:
    key, value = s.entry("history", "cancelled")
    s.put("history", key, value[:5] + U32.pack(7))


def _wrong_bytes_kept(s: Surgeon) -> None:
    s.tally("succeeded", _10=[12345, 0])


def _lost_unique_name(s: Surgeon) -> None:
    s.drop("names", name_of("running", "unique"))


def _lost_key_of_an_untouched_task(s: Surgeon) -> None:
    s.drop("names", name_of("pending", "key"))


def _unique_name_of_a_finished_task(s: Surgeon) -> None:
    s.put("names", name_of("failed", "unique"), seal(PAIR.pack(ID["failed"], 0)))


def _name_of_a_task_that_is_gone(s: Surgeon) -> None:
    for name in ("tasks", "states"):
        s.drop(name, key_of("released"))


def _name_of_another(s: Surgeon) -> None:
    s.put("names", name_of("pending", "unique"), s.get("names", name_of("running", "unique")))


def _name_of_an_id_never_given(s: Surgeon) -> None:
    s.put("names", name_of("pending", "unique"), seal(PAIR.pack(999, 0)))


def _key_that_never_runs_out(s: Surgeon) -> None:
    until = PAIR.unpack_from(s.get("names", name_of("failed", "key")))[1]
    s.drop("timers", TIMER.pack(until, KEY, ID["failed"]))


def _malformed_name(s: Surgeon) -> None:
    s.put("names", b"\x09\x01tx", seal(PAIR.pack(1, 0)))


def _malformed_key_timer(s: Surgeon) -> None:
    s.put("timers", TIMER.pack(NOW, KEY, 1), b"")


def _event_under_another_number(s: Surgeon) -> None:
    s.put("events", U64.pack(7), s.get("events", U64.pack(2)))


def _malformed_event(s: Surgeon) -> None:
    s.put("events", U64.pack(3), seal(b"\xc1"))


def _bit_in_an_event(s: Surgeon) -> None:
    s.change("events", U64.pack(2), 3, b"\xff")


def _bit_in_a_name(s: Surgeon) -> None:
    s.change("names", name_of("pending", "key"), 18, b"\xff")


def _bit_in_a_request(s: Surgeon) -> None:
    ((key, _), *_) = list(s.txn.cursor(s.dbs["requests"]))
    s.change("requests", bytes(key), 7, b"\x02")


def _wrong_count_of_members(s: Surgeon) -> None:
    _members(s, 0, 9)


def _too_few_ends_of_members(s: Surgeon) -> None:
    _members(s, 2, 0)


def _members(s: Surgeon, place: int, count: int) -> None:
    key = U64.pack(1) + b"s"
    row = opened(s.get("batches", key), "a batch")
    row[2][place] = count
    s.put("batches", key, sealed(row))


def _batch_without_its_counts(s: Surgeon) -> None:
    s.drop("batches", U64.pack(1) + b"s")


def _batch_under_another_number(s: Surgeon) -> None:
    for behind in (b"", b"s"):
        s.put("batches", U64.pack(2) + behind, s.get("batches", U64.pack(1) + behind))


def _batch_that_was_never_given(s: Surgeon) -> None:
    s.put("batches", b"last", sealed([0]))


def _bit_in_a_batch(s: Surgeon) -> None:
    s.change("batches", U64.pack(1), 3, b"\xff")


def _bit_in_a_lane(s: Surgeon) -> None:
    s.change("lanes", s.entry("ready", "pending")[0][:4], 2, b"X")


DAMAGE: list[tuple[Callable[[Surgeon], None], str]] = [
    (_bit_in_a_payload, "task 6: the record fails its checksum"),
    (_bit_in_a_status, "task 7: the record fails its checksum"),
    (_status_of_another_task, "task 7: the record fails its checksum"),
    (_status_of_a_wrong_shape, "task 7: expected a record of its kind"),
    (_status_without_a_task, "task 999: a status without a specification"),
    (_lost_ready_entry, "task 1: pending, but its entry in ready .* is missing"),
    (_stray_ready_entry, "ready: the entry .*sequence 500.* names task 6"),
    (_ready_entry_in_another_lane, "ready: the entry .lane 77, .* names task 1"),
    (_ready_entry_without_its_mark, "task 10: pending, but its entry in ready .* says"),
    (_lost_lane, "task 1: pending, but the lane .* is missing"),
    (_two_lanes_of_one_key, "lane 500: expected a queue, type, tenant, flow and needs of its own"),
    (_lost_due_timer, "task 2: scheduled, but its entry in timers .* is missing"),
    (_stray_due_timer, "timers: the entry .* names task 7"),
    (_lost_expiry, "task 1: it expires, but the timer for that is missing"),
    (_lost_history, "task 8: cancelled, but its entry in history .* is missing"),
    (_stray_history, "history: the entry .failed at .* names task 998"),
    (_history_with_another_tally, "task 9: expired, but its entry in history .* says"),
    (_running_without_a_record, "task 10: its status says running, but no running record holds it"),
    (_two_live_claims, "task 4: two running records hold it, with the claims 1 and 2"),
    (_claim_that_skips, "task 10: expected the claim 2 in its running record, got 9"),
    (_running_record_of_nothing, "running record 1: expected at least one task that is not settled"),
    (_bit_in_a_running_record, "running record [0-9a-f]+: the record fails its checksum"),
    (_wrong_count, "queue 'running', type 't': the tally says no tasks .* a recount 1 running"),
    (_wrong_bytes, "queue 'pending', type 't': the tally says .*1000000 bytes"),
    (_lost_child, "task 3: blocked, waits for 1 tasks, and has entries in children for 0"),
    (_child_of_a_task_that_is_over, "children: task 3 waits for task 7, which is over or gone"),
    (_child_that_is_not_blocked, "children: expected the 1 entries of the tasks that are blocked, got 2"),
    (_malformed_child, "children 62726f6b656e: expected a record of its kind"),
    (_lost_tally, "queue 'blocked', type 't': it has tasks but no tally"),
    (_wrong_histogram, "expected a histogram of its 50 runs"),
    (_counters_behind, "task 11: expected an id up to the counter's 10"),
    (_bit_in_the_counters, "the counters: the record fails its checksum"),
    (_sequence_given_twice, "task 4: its sequence 1 was given to another task too"),
    (_request_for_ids_never_given, "expected ids up to 11, got 5 from 990 on"),
    (_chore_under_another_number, "expected a record of that name"),
    (_malformed_queue, "queues b'broken': expected a record of its kind"),
    (_wrong_weight, "task 8: cancelled, but its entry in history .* says"),
    (_wrong_bytes_kept, "queue 'succeeded', type 't': the tally says .*12345 kept"),
    (_lost_unique_name, "task 4: it lives, but does not hold its unique 'name of running'"),
    (_lost_key_of_an_untouched_task, "task 1: it lives, but does not hold its key 'key of pending'"),
    (_unique_name_of_a_finished_task, "unique 'name of failed' of type 't': expected a live task to hold it, but task 7 is failed"),
    (_name_of_a_task_that_is_gone, "unique 'name of released' .* but task 10 is gone"),
    (_name_of_another, "unique 'name of pending' .*: expected a task of that name to hold it, but task 4 has another"),
    (_name_of_an_id_never_given, "unique 'name of pending' .*: expected the id of a task up to 11, got 999"),
    (_key_that_never_runs_out, "key 'key of failed' of type 't': it runs out, but the timer for that is missing"),
    (_malformed_name, "name 09017478: expected a record of its kind"),
    (_malformed_key_timer, "timer .*: expected a record of its kind"),
    (_event_under_another_number, "event 7: expected a record of that number, got that of 2"),
    (_bit_in_an_event, "event 2: the record fails its checksum"),
    (_bit_in_a_name, "name [0-9a-f]+: the record fails its checksum"),
    (_bit_in_a_request, "request [0-9a-f]+: the record fails its checksum"),
    (_bit_in_a_lane, "lane [0-9a-f]+: the record fails its checksum"),
    (_wrong_count_of_members, "batch 1: its counts say .*'waiting': 9.*, a recount finds 6 waiting"),
    (_too_few_ends_of_members, "batch 1: its counts say .*'succeeded': 0.*, a recount finds 1 succeeded"),
    (_batch_without_its_counts, "batch 1: expected a record of its kind"),
    (_batch_under_another_number, "batch 2: expected a record of that number, got that of 1"),
    (_batch_that_was_never_given, "batch 1: expected a number up to the last one given, 0"),
    (_bit_in_a_batch, "batch 1: the record fails its checksum"),
    (_malformed_event, "event 0000000000000003: expected a record of its kind"),
]


def test_a_store_with_a_task_in_every_state_is_whole(filled: Path) -> None:
    assert verify(filled) == []


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=lambda case: case.__name__.strip("_") if callable(case) else "")
def test_damage_is_named(filled: Path, damage: Callable[[Surgeon], None], words: str) -> None:
    with Surgeon(filled) as surgeon:
        damage(surgeon)
    problems = verify(filled)
    assert any(re.search(words, problem) for problem in problems), problems


def test_a_page_that_was_overwritten_is_named_before_the_engine_sees_it(filled: Path) -> None:
    data = filled / "store" / "data.mdb"
    with data.open("r+b") as file:
        file.seek(2 * 4096)  # the first two say where the others are; some of these are free
        file.write(b"\xff" * (data.stat().st_size - 2 * 4096))
    problems = verify(filled)
    assert problems
    assert all(problem.startswith("data file: ") for problem in problems)


def test_a_file_that_is_no_store_is_a_problem_and_no_exception(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"something else entirely" * 1000)
    (problem,) = verify(tmp_path)
    assert "data file" in problem


def test_a_directory_without_a_store_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a store, found nothing"):
        verify(tmp_path)


def test_a_newer_store_is_not_judged(filled: Path) -> None:
    with Surgeon(filled) as surgeon:
        surgeon.put("meta", b"format", b"99")
    with pytest.raises(StoreTooNew, match="got 99"):
        verify(filled)


def test_much_damage_is_counted_and_not_all_told(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    store.begin(NOW)
    store.enqueue([Draft(Header("t"), b"")] * 300)
    store.commit()
    store.close()
    with Surgeon(tmp_path) as surgeon:
        surgeon.txn.drop(surgeon.dbs["ready"], delete=False)
    problems = verify(tmp_path)
    assert len(problems) == MOST + 1
    assert problems[-1] == "and 200 more problems"


def test_verify_writes_nothing_and_leaves_the_directory_free(filled: Path) -> None:
    before = (filled / "store" / "data.mdb").read_bytes()
    verify(filled)
    assert (filled / "store" / "data.mdb").read_bytes() == before
    Lock(filled).close()


def test_a_store_under_load_is_whole_at_every_moment(tmp_path: Path) -> None:
    """Turns of every kind, while another process verifies again and again."""
    store = LmdbStore(tmp_path / "store", Limits(keep_keys_ms=100, keep_events=10))
    store.begin(NOW)
    store.put_queue(QueueInfo("a", keep_ms=200, aging_ms=50, aging_share=3))
    store.commit()
    held = Lock(tmp_path)
    with subprocess.Popen([sys.executable, "-c", AGAIN_AND_AGAIN, str(tmp_path)], stdout=subprocess.PIPE, text=True) as verifier:
        now = NOW
        while verifier.poll() is None:
            now += 10
            store.begin(now)
            for role in ("a", "b"):
                store.enqueue([Draft(Header("t", queue=role), b"x" * 100)] * 20)
                store.enqueue([Draft(Header("t", queue=role), b"y", now + 50, now + 90)] * 3)
                store.enqueue([Draft(Header("t", queue=role, key=f"{role}{now}", unique=f"{role}{now}", priority=3), b"z")])
            store.note(Event(0, now, "tq", "turned", "it"))
            got = store.claim(Want("w1", 30))
            tasks = {task.id: task for task in store.get([one.id for one in got]) if task is not None}
            ends = zip(got, ("failed", "released", "crashed"), strict=False)
            store.apply([settle(tasks[one.id], Outcome(end), now, 0.5) for one, end in ends])
            store.succeed([Success(one.id, one.claim, now, now, False, None) for one in got[3:20]])
            for what, task_id in store.due(100):
                (task,) = store.get([task_id])
                if what == "forget":
                    store.remove([task_id])
                elif task is not None and task.state is not State.RUNNING:
                    store.apply([run_out(task, now)])
            store.promote(100)
            (first,) = store.get([store.peek(1)[0].id])
            assert first is not None
            change = edit(
                first, replace(first.spec, header=replace(first.spec.header, queue="b", type="u"), expires_at=now + 70), None, now
            )
            store.apply([change] if change is not None else [])
            store.retain(Limits(keep=300, keep_bytes=20_000), 50)
            store.commit()
        assert verifier.stdout is not None
        told = verifier.stdout.read().splitlines()
    store.close()
    held.close()
    assert told == ["[]"] * 8
    assert verify(tmp_path) == []


def test_a_damaged_task_is_failed_and_those_behind_it_run(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    store.begin(1000)
    ids = list(store.enqueue([Draft(Header("t", unique="u", key="k"), b"payload"), *[Draft(Header("t"), b"payload")] * 3]))
    store.commit()
    store.close()
    with Surgeon(tmp_path) as s:
        record = s.get("tasks", U64.pack(ids[0]))
        s.put("tasks", U64.pack(ids[0]), record[:40] + bytes([record[40] ^ 1]) + record[41:])
        s.drop("tasks", U64.pack(ids[2]))
    store = LmdbStore(tmp_path / "store")
    store.begin(2000)
    claimed = store.claim(Want("w", 10, math.inf))
    store.commit()
    assert [one.id for one in claimed] == [ids[1], ids[3]]
    (tally,) = store.tallies()
    assert (tally.states[State.PENDING], tally.states[State.RUNNING], tally.states[State.FAILED]) == (0, 2, 2)
    assert not store.ready()
    assert store.holders([KeyRef("unique", "t", "u"), KeyRef("key", "t", "k")]) == [None, None]
    with pytest.raises(StoreDamaged):
        store.get([ids[0]])
    store.close()
