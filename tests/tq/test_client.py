"""The client's promises, against a daemon of paper."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tq
from tq.cli.options import COMMANDS
from tq.client import AsyncClient, Client, aconnect, adefault, connect, decode, default, encode, format_error
from tq.client.acting import QueueSettings, pauses
from tq.client.core import GROUP_BYTES, GROUP_TASKS, Room, groups, wire_options
from tq.client.link import Link
from tq.context import Context, run_here
from tq.errors import (
    ConfigError,
    DaemonError,
    DaemonNotRunning,
    NoSuchTask,
    PayloadError,
    ProtocolError,
    Refused,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    UnknownType,
    UsageError,
)
from tq.model import Header, Spec

# payloads


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | TEXT | st.binary()
JSON_LIKE = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(JSON_LIKE)
def test_json_like_data_comes_back_as_it_was_sent(value: Any) -> None:
    assert decode(encode(value)) == value


def test_a_tuple_travels_as_a_list_and_none_as_nothing() -> None:
    assert decode(encode((1, ("a", None)))) == [1, ["a", None]]
    assert encode(None) == b""
    assert decode(b"") is None


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"user": {"born": datetime(2000, 1, 1, tzinfo=UTC)}}, r"payload\.user\.born: .* got datetime\.datetime"),
        ({"a": [1, {2}]}, r"payload\.a\[1\]: .* got builtins\.set"),
        ({"a": {1: "x"}}, r"payload\.a: expected text as keys, got 1 \(int\)"),
        ({"c": Colour.RED}, r"payload\.c: .* got .*Colour"),
        ([1 << 64], r"payload\[0\]: expected an integer of at most 64 bits"),
        ({"t": "\ud800"}, r"payload\.t: expected text that is Unicode"),
        (object(), r"payload: .* got builtins\.object"),
        (bytearray(b"x"), r"payload: .* got builtins\.bytearray"),
    ],
)
def test_what_is_not_json_like_is_named_by_its_path(value: Any, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        encode(value)


def test_data_that_is_too_deep_or_holds_itself_is_a_payload_error() -> None:
    ring: list[Any] = []
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]
    for value in (ring, deep):
        with pytest.raises(PayloadError, match="levels"):
            encode(value)


def test_bytes_that_are_no_value_are_given_back_untouched() -> None:
    assert decode(b"\xc1") == b"\xc1"
    assert decode(b"\x01\x02") == b"\x01\x02"


def test_a_list_as_a_key_of_a_map_is_given_back_as_bytes() -> None:
    assert decode(b"\x81\x92\x01\x02\x03") == b"\x81\x92\x01\x02\x03"


# options


def test_options_travel_in_milliseconds() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert wire_options({"delay": "10m", "ttl": timedelta(hours=1), "timeout": 1.5, "priority": "high", "backoff": "fixed"}) == {
        "delay_ms": 600_000,
        "ttl_ms": 3_600_000,
        "timeout_ms": 1500,
        "priority": 2,
        "backoff": ["fixed", 1000, 2.0, 300_000, True],
    }
    assert wire_options({"at": at}) == {"due_at": int(at.timestamp() * 1000)}
    assert wire_options({}) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priority": 10}, "priority: expected a priority from 0 to 9"),
        ({"delay": "soon"}, "delay: expected a duration"),
        ({"at": datetime(2030, 1, 1)}, "at: expected a datetime with a time zone"),  # noqa: DTZ001  (that is the point)
        ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "either delay or at"),
        ({"backoff": "steep"}, "backoff: expected"),
        ({"prioritty": 1}, "expected an option of enqueue"),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_it(options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        wire_options(options)


@settings(max_examples=30)
@given(st.lists(st.integers(0, GROUP_BYTES), max_size=30), st.integers(0, 1200))
def test_groups_keep_order_and_fit_a_frame(sizes: list[int], small: int) -> None:
    tasks = [("t", b"x" * size, None) for size in (*sizes, *[1] * small)]
    made = list(groups(tasks))
    assert [task for group in made for task in group] == tasks
    assert all(len(group) == 1 or sum(len(task[1]) for task in group) <= GROUP_BYTES for group in made)
    assert all(0 < len(group) <= GROUP_TASKS for group in made)


# lost answers


def test_an_enqueue_whose_answer_was_lost_is_repeated_and_stored_once(fake: Any, data_dir: Path) -> None:
    with Client(data_dir) as client:
        client.enqueue("email", {"n": 0})
        fake.lose = ["enqueue"]
        handle = client.enqueue("email", {"n": 1})
    assert handle.id == 2
    assert [decode(payload) for _, payload, _ in fake.tasks] == [{"n": 0}, {"n": 1}]
    _, lost, again = [(number, args["again"]) for number, verb, args in fake.requests if verb == "enqueue"]
    assert again == (lost[0], True)
    assert not lost[1]
    assert fake.hellos[0]["nonce"] == fake.hellos[1]["nonce"]


def test_groups_on_their_way_are_repeated_and_stored_once(fake: Any, data_dir: Path) -> None:
    with Client(data_dir) as client:
        fake.lose = ["enqueue"]
        ids = client.enqueue_many(("email", {"n": n}) for n in range(2500))
    assert ids == list(range(1, 2501))
    assert [decode(payload)["n"] for _, payload, _ in fake.tasks] == list(range(2500))


def test_a_daemon_that_hangs_up_between_calls_is_not_noticed(fake: Any, data_dir: Path) -> None:
    with Client(data_dir) as client:
        assert client.get(1)["id"] == 1
        fake.hang_up()
        assert client.get(2)["id"] == 2
        fake.hang_up()
        assert client.enqueue("email").id == 1


def test_a_connection_that_ends_again_and_again_is_an_error(fake: Any, data_dir: Path) -> None:
    fake.lose = ["get"] * 5
    with Client(data_dir) as client, pytest.raises(DaemonNotRunning, match="again and again"):
        client.get(1)


def test_nobody_at_the_socket_is_daemon_not_running_with_what_to_do(data_dir: Path) -> None:
    with Client(data_dir) as client, pytest.raises(DaemonNotRunning, match="tq daemon start"):
        client.stats()


def test_a_daemon_that_does_not_answer_is_an_error_after_the_deadline(fake: Any, data_dir: Path) -> None:
    fake.silent = {"stats"}
    with Client(data_dir, timeout=0.2) as client:
        with pytest.raises(DaemonError, match=r"did not answer within 0\.2 s"):
            client.stats()
        assert client.get(1)["id"] == 1  # on a new connection: a late answer must not meet another call


def test_an_answer_that_is_no_message_is_a_protocol_error(fake: Any, data_dir: Path) -> None:
    fake.garbage = {"stats"}
    with Client(data_dir) as client, pytest.raises(ProtocolError, match="expected a message of protocol 1"):
        client.stats()


def test_a_socket_path_that_is_too_long_is_refused_with_its_length() -> None:
    with pytest.raises(ConfigError, match="at most 107 bytes, got 1"):
        Client("/tmp/" + "x" * 120)


def test_a_request_larger_than_a_frame_is_refused_before_it_is_sent(fake: Any, data_dir: Path) -> None:
    with Client(data_dir) as client:
        with pytest.raises(PayloadError, match="at most 1048576 bytes"):
            client.enqueue("email", b"x" * (1 << 20))
        assert client.enqueue("email", "small").id == 1
    assert len(fake.asked("enqueue")) == 1


# errors that the daemon answers with


def test_an_error_answer_becomes_its_exception_and_the_connection_goes_on(fake: Any, data_dir: Path, refuse: Any) -> None:
    def unknown(_: Any) -> Any:
        raise refuse("unknown_type", "expected one of a, b, got c", {"closest": "a"})

    fake.verbs["enqueue"] = unknown
    with Client(data_dir) as client:
        with pytest.raises(UnknownType) as caught:
            client.enqueue("c")
        assert caught.value.details["closest"] == "a"
        assert client.get(1)["id"] == 1
    assert len(fake.hellos) == 1


def test_a_refused_group_tells_which_tasks_were_stored(fake: Any, data_dir: Path, refuse: Any) -> None:
    calls: list[int] = []

    def third_is_full(args: Any) -> Any:
        calls.append(len(args["tasks"]))
        if len(calls) == 3:
            raise refuse("refused", "the queue is full", {"retry_after": 2.0})
        return {"ids": [*range(sum(calls) - len(args["tasks"]), sum(calls))]}

    fake.verbs["enqueue"] = third_is_full
    with Client(data_dir) as client:
        with pytest.raises(Refused) as caught:
            client.enqueue_many(("email", n) for n in range(2000))
        stored = caught.value.details["ids"]
        assert isinstance(stored, list)
        assert stored[:1000] == list(range(1000))
        assert not set(stored) & set(range(1000, 1500))
        assert caught.value.retry_after == 2.0
        assert client.get(1)["id"] == 1


# handles


def test_a_handle_gives_the_decoded_result(fake: Any, data_dir: Path, task_row: Any) -> None:
    fake.verbs["wait"] = lambda args: {"tasks": [task_row(1, result=msgpack.packb({"sum": 3}))], "done": True}
    with Client(data_dir) as client:
        handle = client.enqueue("email")
        assert handle.wait("5s") == "succeeded"
        assert handle.result() == {"sum": 3}
        assert handle.state() == "succeeded"
        assert handle.cancel() == "cancelled"


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"state": "failed", "error": {"type": "ValueError", "message": "bad\x1b[2J"}}, TaskFailed, r"ValueError: bad\\x1b\[2J"),
        ({"state": "cancelled"}, TaskCancelled, "cancelled"),
        ({"state": "expired"}, TaskTimeout, "expired"),
        ({"state": "failed", "error": {"type": "ExitCode", "message": "exit code 3"}, "exit_code": 3}, TaskFailed, "exit code 3"),
    ],
)
def test_a_task_without_success_raises_what_became_of_it(
    fake: Any, data_dir: Path, task_row: Any, changes: Any, kind: Any, words: str
) -> None:
    fake.verbs["wait"] = lambda args: {"tasks": [task_row(1, **changes)], "done": True}
    with Client(data_dir) as client, pytest.raises(kind, match=words) as caught:
        client.enqueue("email").result()
    assert caught.value.details["state"] == changes["state"]
    assert caught.value.task_exit_code == changes.get("exit_code", kind.exit_code)


def test_a_wait_that_takes_too_long_is_a_task_timeout_and_asks_for_no_longer(fake: Any, data_dir: Path, task_row: Any) -> None:
    def not_yet(args: Any) -> Any:
        time.sleep(args["timeout_ms"] / 1000)  # what a daemon does: it answers when the time is up
        return {"tasks": [task_row(1, state="running")], "done": False}

    fake.verbs["wait"] = not_yet
    with Client(data_dir) as client:
        handle = client.enqueue("email")
        with pytest.raises(TaskTimeout, match="wait again"):
            handle.wait(0.05)
        with pytest.raises(TaskTimeout):
            handle.result(0.05)
    assert all(args["timeout_ms"] <= 50 for args in fake.asked("wait"))


def test_an_unknown_id_is_no_such_task(fake: Any, data_dir: Path) -> None:
    with Client(data_dir) as client:
        for ask in (client.get, client.result):
            with pytest.raises(NoSuchTask, match="101"):
                ask(101)
        assert client.get_many([1, 101])[1] is None


def test_a_log_is_read_to_its_end_in_pieces(fake: Any, data_dir: Path) -> None:
    pieces = {0: ([[5, 1, b"one\n"], [6, 0, b"attempt 2"]], 10, False), 10: ([[7, 2, b"two\n"]], 20, True)}
    fake.verbs["log"] = lambda args: dict(zip(("chunks", "next", "end"), pieces[args["offset"]], strict=True))
    with Client(data_dir) as client:
        assert client.log(1) == "one\ntwo\n"
        assert [stream for _, stream, _ in client.log_chunks(1)] == [1, 0, 2]


def test_watch_yields_events_until_the_daemon_is_gone(fake: Any, data_dir: Path) -> None:
    fake.events = [{"topic": "ends", "id": 1}, {"topic": "ends", "id": 2}]
    with Client(data_dir) as client:
        events = client.watch(["ends"])
        assert [next(events)["id"], next(events)["id"]] == [1, 2]
        assert fake.asked("watch") == [{"topics": ["ends"]}]
        fake.hang_up()
        with pytest.raises(DaemonNotRunning):
            next(events)


def test_a_consumer_gets_values_and_sends_values(fake: Any, data_dir: Path) -> None:
    fake.verbs["claim"] = lambda args: {"tasks": [{"id": 4, "claim": 2, "payload": msgpack.packb({"x": 1})}]}
    fake.verbs["settle"] = lambda args: {"settled": [True] * len(args["results"])}
    fake.verbs["extend"] = lambda args: {"ok": args["claim"] == 2}
    fake.verbs["release"] = lambda args: {"released": [False]}
    with Client(data_dir) as client:
        task = client.claim(["outside"], wait="1s", lease=10)[0]
        assert task["payload"] == {"x": 1}
        assert client.extend(4, 2)
        failure = {"error": {"type": "E", "message": "m"}}
        assert client.settle([(4, 2, "succeeded", {"result": [1]}), (5, 1, "failed", failure)]) == [True, True]
        assert client.release([(6, 1)]) == [False]
    assert fake.asked("claim")[0] == {"queues": ["outside"], "types": None, "limit": 1, "wait_ms": 1000, "lease_ms": 10_000}
    assert fake.asked("settle")[0]["results"][0] == [4, 2, "succeeded", {"result": msgpack.packb([1])}]


# what a person does to tasks


def test_changes_travel_in_milliseconds_and_packed(fake: Any, data_dir: Path) -> None:
    fake.verbs["retry"] = fake.verbs["edit"] = lambda args: {"outcomes": ["done"] * len(args["ids"])}
    fake.verbs["remove"] = lambda args: {"outcomes": ["removed"]}
    with Client(data_dir) as client:
        assert client.retry([1, 2], payload={"to": "bob"}, priority="high", queue="mail") == ["done", "done"]
        assert client.retry([1]) == ["done"]
        assert client.edit([3], delay=0, ttl="1h", payload=None) == ["done"]
        assert client.remove([4]) == ["removed"]
        with pytest.raises(UsageError, match="what can be changed"):
            client.edit([3], key="k")  # type: ignore[call-arg]
        with pytest.raises(UsageError, match="priority: expected"):
            client.edit([3], priority=12)
    assert fake.asked("retry") == [
        {"ids": [1, 2], "changes": {"payload": msgpack.packb({"to": "bob"}), "priority": 2, "queue": "mail"}},
        {"ids": [1]},
    ]
    assert fake.asked("edit") == [{"ids": [3], "changes": {"delay_ms": 0, "ttl_ms": 3_600_000, "payload": b""}}]


def test_one_id_or_handle_is_as_good_as_many(fake: Any, data_dir: Path) -> None:
    for verb in ("retry", "edit", "remove"):
        fake.verbs[verb] = lambda args: {"outcomes": ["done"] * len(args["ids"])}

    async def main() -> None:
        async with aconnect(data_dir) as client:
            handle = await client.enqueue("email")
            assert await client.cancel(handle) == ["cancelled"]
            assert await client.retry(17) == await client.edit(handle, priority=3) == await client.remove({handle}) == ["done"]
            assert (await client.wait(handle))[0] is not None

    with Client(data_dir) as client:
        handle = client.enqueue("email")
        assert client.cancel(17) == ["cancelled"]
        assert client.retry(handle, priority="high") == client.edit(handle, delay=0) == client.remove(17) == ["done"]
        assert client.retry([handle, 17]) == client.retry(iter((1, 17))) == ["done", "done"]
        assert client.wait(handle)[0] is not None
        assert client.get_many(17)[0] is not None
    assert [args["ids"] for args in fake.asked("cancel")] == [[17]]
    assert [args["ids"] for args in fake.asked("retry")] == [[1], [1, 17], [1, 17]]
    asyncio.run(main())
    assert fake.asked("remove")[-1] == {"ids": [2]}


@pytest.mark.parametrize("which", ["17", b"17", True, 1.5, None, object(), ["17"], [None], [[17]], {"id": 17}, [{"id": 17}]])
def test_what_is_no_id_is_one_clear_error_before_anything_is_sent(fake: Any, data_dir: Path, which: Any) -> None:
    with Client(data_dir) as client:
        for act in (client.cancel, client.retry, client.remove, client.wait, client.get_many):
            with pytest.raises(UsageError, match=r"^expected the id of a task or its handle, or several of them, got .*\. Give numbers"):
                act(which)
        with pytest.raises(UsageError, match="expected the id of a task"):
            client.edit(which, priority=3)
    assert not fake.requests


SETTINGS: Any = {
    "paused": False, "weight": 3, "slots": 4, "aging": timedelta(minutes=2), "aging_share": 5, "priority": "high", "retries": 2,
    "backoff": tq.Backoff.linear("3s", most="1m", jitter=False), "timeout": "30s", "max_tasks": 1000, "max_bytes": "1G", "keep": 172_800,
    "route": ["report.*", "pdf"], "external": None, "unset": [],
}  # fmt: skip


def test_settings_of_a_queue_have_the_words_and_units_of_tq_queue_set(fake: Any, data_dir: Path) -> None:
    sent = {
        "name": "mail", "paused": False, "weight": 3, "slots": 4, "aging_ms": 120_000, "aging_share": 5, "priority": 2, "retries": 2,
        "backoff": ["linear", 3000, 1.0, 60_000, False], "timeout_ms": 30_000, "max_tasks": 1000, "max_bytes": 1 << 30,
        "keep_ms": 172_800_000, "routes": ["report.*", "pdf"],
    }  # fmt: skip
    fake.verbs["set_queue"] = lambda args: {"new": args["name"] == "mail"}

    async def main() -> list[bool]:
        async with aconnect(data_dir) as client:
            return [await client.set_queue("mail", **SETTINGS), await client.set_queue("q", unset=["keep"], backoff="fixed")]

    with Client(data_dir) as client:
        found = [client.set_queue("mail", **SETTINGS), client.set_queue("q", unset=["slots", "keep", "route", "max-tasks"], max_bytes=4096)]
    assert found == asyncio.run(main()) == [True, False]
    assert fake.asked("set_queue") == [
        sent, {"name": "q", "unset": ["slots", "keep_ms", "routes", "max_tasks"], "max_bytes": 4096},
        sent, {"name": "q", "unset": ["keep_ms"], "backoff": ["fixed", 1000, 2.0, 300_000, True]},
    ]  # fmt: skip


def test_the_settings_of_a_queue_are_the_options_of_tq_queue_set() -> None:
    options = {option.key for option in COMMANDS["queue set"].options} - {"data_dir", "retry_delay", "max_delay", "jitter"}
    assert {*QueueSettings.__annotations__} == options | {"paused"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timeout_ms": 30_000}, r"expected settings of a queue \(paused, .*\), got 'timeout_ms'\. Did you mean 'timeout'\?"),
        ({"keep": "soon"}, "keep: expected a duration"),
        ({"aging": -1}, "aging: expected a duration"),
        ({"priority": 12}, "priority: expected"),
        ({"max_bytes": "1X"}, "max_bytes: expected a size such as 500M or 1G, got '1X'"),
        ({"max_bytes": 1.5}, "max_bytes: expected a size"),
        ({"backoff": "steep"}, "backoff: expected fixed, linear, exponential"),
        ({"route": "report.*"}, r"route: expected a list of patterns, got 'report\.\*'"),
        ({"route": [""]}, "route: expected patterns of types such as report"),
        ({"route": ["a.* b.*"]}, r"route: expected patterns of types such as report\.\*, got 'a\.\* b\.\*'"),
        ({"route": ["a\n"]}, "route: expected patterns of types"),
        ({"unset": ["colour"]}, r"unset: expected settings of a queue that have a default \(weight, .*\), got 'colour'"),
        ({"unset": "slots"}, "unset: expected a list"),
        ({"unset": ["slots", "keep"], "keep": 3}, "expected keep to be either set or unset, got both"),
    ],
)
def test_a_setting_of_a_queue_that_makes_no_sense_is_refused_before_it_is_sent(
    fake: Any, data_dir: Path, settings: Any, words: str
) -> None:
    with Client(data_dir) as client, pytest.raises(UsageError, match=words):
        client.set_queue("q", **settings)
    assert not fake.requests


def test_a_task_that_changes_another_does_not_take_it_over(fake: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tq.client.core.correlation", lambda: "order-17")
    fake.verbs["edit"] = lambda args: {"outcomes": ["edited"]}
    with Client(data_dir) as client:
        client.edit([1], priority=3)
        client.edit([1], correlation_id="mine")
    assert [args["changes"] for args in fake.asked("edit")] == [{"priority": 3}, {"correlation_id": "mine"}]


def test_a_filter_is_read_where_it_is_written_and_an_empty_one_never_means_everything(fake: Any, data_dir: Path) -> None:
    fake.verbs["cancel"] = lambda args: {"count": 3, "some": [1]} if "dry_run" in args else {"chore": 8}
    fake.verbs["dead"] = lambda args: {"groups": [{"group": "g1"}]}
    with Client(data_dir) as client:
        assert client.start_chore("cancel", {"where": "state:pend queue:mail", "type": "email"}) == 8
        assert client.dry_run("cancel", {"queue": "mail"}) == (3, [1])
        assert client.dead(queue="mail")[0]["group"] == "g1"
        assert client.list(where="finished>2025-11-21T00:00+01:00", states=["failed"])[0]["id"] == 7
        for where in ("", "colour:red"):
            with pytest.raises(UsageError):
                client.start_chore("remove", {"where": where})
    assert fake.asked("cancel") == [{"where": "state:pending queue:mail", "type": "email"}, {"queue": "mail", "dry_run": True}]
    assert not fake.asked("remove")
    assert "2025-11-20" in fake.asked("find")[0]["where"]  # in UTC


def test_a_chore_is_waited_for_without_spinning_and_its_end_is_read_from_the_events(fake: Any, data_dir: Path) -> None:
    times = list(islice(pauses(), 20))
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0.02, 2.0)
    looks: list[int] = []

    def chores(_: Any) -> Any:
        looks.append(1)
        return {"chores": [{"id": 8, "seen": len(looks), "changed": 0}] if len(looks) < 8 else []}

    end = {"what": "chore_done", "target": "8", "after": {"verb": "cancel", "seen": 9, "changed": 4}}
    fake.verbs["chores"] = chores
    fake.verbs["events"] = lambda _: {"events": [{"what": "chore_done", "target": "7", "after": {}}, end]}
    told: list[int] = []
    with Client(data_dir) as client:
        assert client.wait_chore(8, progress=lambda now: told.append(now["seen"])) == {"seen": 9, "changed": 4, "left": {}}
        assert told == [1, 2, 3, 4, 5, 6, 7]
        fake.verbs["events"] = lambda _: {"events": []}
        assert client.wait_chore(8) is None
        looks.clear()
        with pytest.raises(TaskTimeout, match="goes on"):
            client.wait_chore(8, timeout=0.05)


def test_reasons_and_events_are_read_as_they_are(fake: Any, data_dir: Path) -> None:
    fake.verbs["why"] = lambda args: {"task": {}, "reasons": [["place", {"ahead": 3}]]}
    fake.verbs["events"] = lambda args: {"events": [{"number": args["before"] - 1}]}
    with Client(data_dir) as client:
        assert client.why(1) == [("place", {"ahead": 3})]
        assert client.events(1, before=5) == [{"number": 4}]


def test_a_watch_that_is_closed_before_its_first_event_leaves_no_connection(fake: Any, data_dir: Path) -> None:
    with Client(data_dir) as client:
        client.watch(["steps"]).close()  # an open socket would be a ResourceWarning, which is an error
        assert client.get(1)["id"] == 1


# threads and forks


def test_a_thread_that_waits_holds_up_no_other(fake: Any, data_dir: Path, task_row: Any) -> None:
    over = threading.Event()
    fake.verbs["wait"] = lambda args: (over.wait(10), {"tasks": [task_row(1)], "done": True})[1]
    with Client(data_dir) as client:
        waiter = threading.Thread(target=client.wait, args=([1],))
        waiter.start()
        assert client.enqueue("email").id == 1
        over.set()
        waiter.join(10)
        assert not waiter.is_alive()


def test_many_threads_each_get_their_own_answers(fake: Any, data_dir: Path) -> None:
    wrong: list[Any] = []

    def work(start: int) -> None:
        for n in range(start, start + 50):
            task = client.get(n % 100 + 1)
            if task["id"] != n % 100 + 1:
                wrong.append((n, task["id"]))

    with Client(data_dir) as client:
        threads = [threading.Thread(target=work, args=(n * 7,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_not_use_its_parents_connection(fake: Any, data_dir: Path) -> None:
    with Client(data_dir) as client:
        client.get(1)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if client.get(2)["id"] == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert client.get(3)["id"] == 3
    assert len(fake.hellos) == 2


def test_the_default_client_is_one_for_each_data_directory(fake: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQ_DATA_DIR", str(data_dir))
    one = default()
    try:
        assert one is default()
        assert one.data_dir == str(data_dir)
        assert connect().data_dir == str(data_dir)
        monkeypatch.setenv("TQ_DATA_DIR", str(data_dir / "other"))
        assert default() is not one
    finally:
        one.close()


# asyncio


@pytest.mark.asyncio
async def test_answers_reach_their_calls_in_whatever_order(fake: Any, data_dir: Path, task_row: Any) -> None:
    async with AsyncClient(data_dir) as client:
        got = await asyncio.gather(*(client.get(n) for n in range(1, 90)))
        assert [task["id"] for task in got] == list(range(1, 90))
        assert (await client.peek())[0]["state"] == "pending"
        handle = await client.enqueue("email", {"n": 1}, priority=3)
        assert await handle.wait(1) == "succeeded"
        assert await handle.result() is None
    assert len(fake.hellos) == 1
    assert fake.tasks[0][2] == {"priority": 3}


@pytest.mark.asyncio
async def test_an_async_enqueue_whose_answer_was_lost_is_stored_once(fake: Any, data_dir: Path) -> None:
    async with AsyncClient(data_dir) as client:
        await client.get(1)
        fake.lose = ["enqueue"]
        assert (await client.enqueue("email", 1)).id == 1
        assert list(await client.enqueue_many(("email", n) for n in range(1200))) == list(range(2, 1202))
    assert len(fake.tasks) == 1201


@pytest.mark.asyncio
async def test_an_async_client_reconnects_between_calls_and_tells_when_nobody_answers(fake: Any, data_dir: Path) -> None:
    async with AsyncClient(data_dir) as client:
        await client.get(1)
        fake.hang_up()
        assert (await client.get(2))["id"] == 2
        fake.close()
        with pytest.raises(DaemonNotRunning):
            await client.get(3)


@pytest.mark.asyncio
async def test_an_async_call_has_a_deadline_and_a_late_answer_meets_no_other_call(fake: Any, data_dir: Path) -> None:
    fake.silent = {"stats"}
    async with AsyncClient(data_dir, timeout=0.2) as client:
        with pytest.raises(DaemonError, match="did not answer"):
            await client.stats()
        assert (await client.get(1))["id"] == 1


@pytest.mark.asyncio
async def test_a_cancelled_async_call_disturbs_no_other(fake: Any, data_dir: Path) -> None:
    fake.silent = {"stats"}
    async with AsyncClient(data_dir) as client:
        stuck = asyncio.create_task(client.stats())
        assert (await client.get(1))["id"] == 1
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        assert (await client.get(2))["id"] == 2


@pytest.mark.asyncio
async def test_async_watch_and_log_and_errors(fake: Any, data_dir: Path, refuse: Any) -> None:
    fake.events = [{"topic": "ends", "id": 9}]
    fake.verbs["log"] = lambda args: {"chunks": [[1, 1, b"hello"]], "next": 5, "end": True}

    def full(_: Any) -> Any:
        raise refuse("refused", "full", {})

    fake.verbs["enqueue"] = full
    async with aconnect(data_dir) as client:
        events = client.watch(["ends"])
        assert (await anext(events))["id"] == 9
        await events.aclose()
        assert await client.log(1) == "hello"
        with pytest.raises(Refused):
            await client.enqueue_many([("email", 1)])
        with pytest.raises(NoSuchTask):
            await client.get(101)


@pytest.mark.asyncio
async def test_the_async_client_has_the_same_verbs_for_what_a_person_does(fake: Any, data_dir: Path) -> None:
    left = iter([True, True])
    end = {"what": "chore_done", "target": "8", "after": {"verb": "retry", "seen": 9, "changed": 4}}
    for verb in ("retry", "edit", "remove"):
        fake.verbs[verb] = lambda args: (
            {"outcomes": ["done"]} if "ids" in args else {"count": 3, "some": [1]} if "dry_run" in args else {"chore": 8}
        )
    fake.verbs["chores"] = lambda _: {"chores": [{"id": 8, "seen": 1, "changed": 0}] if next(left, False) else []}
    fake.verbs["events"] = lambda _: {"events": [end]}
    fake.verbs["dead"] = lambda _: {"groups": []}
    fake.verbs["why"] = lambda _: {"task": {}, "reasons": [["no_workers", {}]]}
    told: list[Any] = []
    async with AsyncClient(data_dir) as client:
        assert [await client.retry([1], queue="q"), await client.edit([1], priority=2), await client.remove([1])] == [["done"]] * 3
        assert await client.dry_run("edit", {"where": "age>1h"}, priority=3) == (3, [1])
        chore = await client.start_chore("retry", {"states": ["failed"]})
        assert await client.wait_chore(chore, progress=told.append) == {"seen": 9, "changed": 4, "left": {}}
        assert (len(told), await client.chores(), await client.dead()) == (2, [], [])
        assert await client.why(1) == [("no_workers", {})]
        assert await client.events() == [end]
        assert (await client.list(where="queue:mail"))[0]["id"] == 7
    assert fake.asked("edit") == [
        {"ids": [1], "changes": {"priority": 2}},
        {"where": "age>1h", "changes": {"priority": 3}, "dry_run": True},
    ]


@pytest.mark.asyncio
async def test_the_default_async_client_is_one_for_each_loop(fake: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQ_DATA_DIR", str(data_dir))
    client = await adefault()
    assert client is await adefault()
    assert (await client.get(1))["id"] == 1
    await client.close()


# errors in words


def test_an_error_is_formatted_as_python_would_and_cannot_steer_a_terminal() -> None:
    error = {
        "type": "RuntimeError",
        "message": "outer\x1b]0;owned\x07",
        "frames": [["/app/a.py", 3, "run", "raise RuntimeError"]],
        "chain": [{"type": "KeyError", "message": "'x'\u202e", "frames": []}],
    }
    text = format_error(error)
    assert text.splitlines()[0] == "KeyError: 'x'\\u202e"
    assert text.splitlines()[4:] == [
        "Traceback (most recent call last):",
        '  File "/app/a.py", line 3, in run',
        "    raise RuntimeError",
        "RuntimeError: outer\\x1b]0;owned\\x07",
    ]
    assert format_error(None) == ""


# a daemon that goes


def test_a_client_that_may_start_a_daemon_does_not_replace_one_it_has_met(
    fake: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one would lack the old one's application."""
    started: list[str] = []
    monkeypatch.setattr("tq.client.start.start_daemon", lambda where: started.append(where) or 1)
    monkeypatch.setattr("tq.client.blocking.BACK_WITHIN", 0.2)
    with Client(data_dir, autostart=True) as client:
        client.status()
        fake.close()
        for _ in range(2):
            with pytest.raises(DaemonNotRunning):
                client.status()
        with pytest.raises(DaemonNotRunning):
            client.watch(["ends"])
    assert started == []


async def _status_before_and_after(data_dir: Path, end: Any) -> None:
    async with AsyncClient(data_dir, autostart=True) as client:
        await client.status()
        await asyncio.to_thread(end)
        with pytest.raises(DaemonNotRunning):
            await client.status()


def test_an_asyncio_client_does_not_replace_a_daemon_it_has_met_either(fake: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("tq.client.start.start_daemon", lambda where: started.append(where) or 1)
    monkeypatch.setattr("tq.client.aio.BACK_WITHIN", 0.2)
    asyncio.run(_status_before_and_after(data_dir, fake.close))
    assert started == []


def test_a_daemon_that_comes_back_within_seconds_is_used_again(fake: Any, data_dir: Path) -> None:
    with Client(data_dir, autostart=True) as client:
        client.status()
        fake.close()
        os.unlink(fake.path)
        again: list[Any] = []
        later = threading.Timer(0.3, lambda: again.append(type(fake)(data_dir)))
        later.start()
        try:
            assert client.status()["version"] == "0"
        finally:
            later.join()
            again[0].close()


# more options, patience, and what belongs together


def test_the_newer_options_travel_under_the_names_of_the_protocol() -> None:
    assert wire_options(
        {"retry_for": "2h", "deadline": 60, "key": "k", "unique": "u", "on_conflict": "replace", "wait_for_room": "5s"}
    ) == {
        "retry_for_ms": 7_200_000,
        "deadline_ms": 60_000,
        "key": "k",
        "unique": "u",
        "unique_policy": "replace",
    }
    assert wire_options({"wait_for_room": 5}) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_conflict": "shout", "unique": "u"}, "on_conflict: expected reject, existing or replace, got 'shout'"),
        ({"on_conflict": "reject"}, "expected unique, the name that on_conflict is about"),
        ({"retry_for": "ever"}, "retry_for: expected a duration"),
    ],
)
def test_a_wrong_newer_option_is_a_usage_error_too(options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        wire_options(options)


class FullQueue:
    """Refuses so many requests, then takes them."""

    def __init__(self, refuse: Any, times: float, **details: Any) -> None:
        self.left, self.details, self.refuse, self.ids = times, details, refuse, 0

    def __call__(self, args: Any) -> Any:
        if self.left > 0:
            self.left -= 1
            raise self.refuse("refused", "queue 'mail' is full", self.details)
        first = self.ids + 1
        self.ids += len(args["tasks"])
        return {"ids": [*range(first, self.ids + 1)]}


def test_an_enqueue_that_is_refused_for_now_is_sent_again_until_there_is_room(fake: Any, data_dir: Path, refuse: Any) -> None:
    fake.verbs["enqueue"] = FullQueue(refuse, 3, retry_after=0.01)
    with connect(data_dir) as client:
        assert client.enqueue("email", wait_for_room="20s").id == 1
    assert len(fake.asked("enqueue")) == 4
    assert all(args["tasks"][0][2] is None for args in fake.asked("enqueue"))  # it is the client's own affair


def test_without_patience_or_after_it_the_refusal_is_raised(fake: Any, data_dir: Path, refuse: Any) -> None:
    fake.verbs["enqueue"] = FullQueue(refuse, 1e9, retry_after=0.05)
    with connect(data_dir) as client:
        with pytest.raises(Refused):
            client.enqueue("email")
        assert len(fake.asked("enqueue")) == 1
        began = time.monotonic()
        with pytest.raises(Refused, match="is full"):
            client.enqueue("email", wait_for_room=0.3)
        assert 0.25 < time.monotonic() - began < 10
        assert len(fake.asked("enqueue")) > 3


def test_a_refusal_that_names_no_time_to_try_again_is_final(fake: Any, data_dir: Path, refuse: Any) -> None:
    fake.verbs["enqueue"] = FullQueue(refuse, 1e9)
    with connect(data_dir, wait_for_room="20s") as client, pytest.raises(Refused):
        client.enqueue("email")
    assert len(fake.asked("enqueue")) == 1


def test_many_wait_for_room_group_by_group_and_keep_their_order(fake: Any, data_dir: Path, refuse: Any) -> None:
    fake.verbs["enqueue"] = FullQueue(refuse, 2, retry_after=0.01)
    rows = [("email", n) for n in range(3 * GROUP_TASKS)]
    with connect(data_dir, wait_for_room="20s") as client:
        ids = client.enqueue_many(rows)
    assert sorted(ids) == [*range(1, len(rows) + 1)]
    stored = {}  # by the order in which they were accepted
    at = 0
    for args in fake.asked("enqueue")[2:]:
        for _, payload, _ in args["tasks"]:
            at += 1
            stored[at] = decode(payload)
    assert [stored[task_id] for task_id in ids] == [n for _, n in rows]


class SmallQueue:
    """Never takes more than so many tasks at once, and has room for them at every second request."""

    def __init__(self, refuse: Any, most: int) -> None:
        self.refuse, self.most, self.ids, self.full = refuse, most, 0, False

    def __call__(self, args: Any) -> Any:
        if len(args["tasks"]) > self.most:
            raise self.refuse("refused", "queue 'mail' is full", {"too_much": True})
        self.full = not self.full
        if self.full:
            raise self.refuse("refused", "queue 'mail' is full", {"retry_after": 0.001})
        self.ids += len(args["tasks"])
        return {"ids": [*range(self.ids - len(args["tasks"]) + 1, self.ids + 1)]}


def test_a_group_larger_than_its_queue_may_hold_is_sent_in_parts_by_those_who_wait_for_room(fake: Any, data_dir: Path, refuse: Any) -> None:
    rows = [("email", n) for n in range(2 * GROUP_TASKS)]

    async def many() -> list[int]:
        async with aconnect(data_dir, wait_for_room="20s") as client:
            return [*await client.enqueue_many(rows)]

    fake.verbs["enqueue"] = SmallQueue(refuse, 100)
    with connect(data_dir, wait_for_room="20s") as client:
        assert sorted(client.enqueue_many(rows)) == [*range(1, len(rows) + 1)]
    fake.verbs["enqueue"] = SmallQueue(refuse, 100)
    assert sorted(asyncio.run(many())) == [*range(1, len(rows) + 1)]
    with connect(data_dir) as client, pytest.raises(Refused) as refusal:  # without patience a group is stored whole or not at all
        client.enqueue_many(rows)
    assert refusal.value.details["ids"] == []


def test_each_group_has_the_whole_time_to_wait_for_room(fake: Any, data_dir: Path, refuse: Any) -> None:
    def slowly() -> Iterator[tuple[str, int]]:
        for n in range(9 * GROUP_TASKS):
            if n == GROUP_TASKS:
                time.sleep(0.4)
                fake.verbs["enqueue"].left = 1
            yield "email", n

    fake.verbs["enqueue"] = FullQueue(refuse, 0, retry_after=0.01)
    with connect(data_dir, wait_for_room=0.3) as client:
        assert len(client.enqueue_many(slowly())) == 9 * GROUP_TASKS


def test_an_event_loop_waits_for_room_too(fake: Any, data_dir: Path, refuse: Any) -> None:
    async def main() -> tuple[int, list[int]]:
        async with aconnect(data_dir, wait_for_room="20s") as client:
            fake.verbs["enqueue"] = FullQueue(refuse, 2, retry_after=0.01)
            one = (await client.enqueue("email")).id
            fake.verbs["enqueue"].left = 1
            many = [*await client.enqueue_many([("email", n) for n in range(2)])]
            fake.verbs["enqueue"].left = 1e9
            with pytest.raises(Refused):
                await client.enqueue("email", wait_for_room=0.05)
            return one, many

    assert asyncio.run(main()) == (1, [2, 3])


def test_those_who_were_refused_together_do_not_come_back_together() -> None:
    refused = Refused("full", retry_after=1.0)
    pauses = {Room(60).pause(refused) for _ in range(50)}
    assert len(pauses) > 40
    assert all(pause is not None and 0.5 <= pause < 1.5 for pause in pauses)
    assert Room(0).pause(refused) is None


def test_what_a_running_task_sends_says_what_it_belongs_to(fake: Any, data_dir: Path) -> None:
    options = {"priority": 3}
    try:
        with connect(data_dir) as client:
            run_here(Context(Spec(42, Header("x"), b"", 1), 1, 1))
            client.enqueue("a")
            client.enqueue("b", correlation_id="mine")
            client.enqueue_many([("c", None), ("d", None, options), ("e", None, options)])
            run_here(None)
            client.enqueue("f")
            client.enqueue_many([("g", None), ("h", None, options)])
    finally:
        run_here(None)
    sent = {name: (told or {}).get("correlation_id") for name, _, told in fake.tasks}
    assert sent == {"a": "42", "b": "mine", "c": "42", "d": "42", "e": "42", "f": None, "g": None, "h": None}


def test_a_handle_may_read_its_result_as_something_else(fake: Any, data_dir: Path, task_row: Any) -> None:
    fake.verbs["wait"] = lambda args: {"tasks": [task_row(1, result=msgpack.packb("3"))], "done": True}
    with connect(data_dir) as client:
        handle = client.enqueue("email").reading(int)
        assert handle.result() == 3
        assert handle.state() == "succeeded"
    assert repr(handle) == "<task 1>"


def test_a_daemon_that_goes_with_a_request_leaves_open_whether_it_was_done(data_dir: Path) -> None:
    link = Link(str(data_dir / "tq.sock"), 1.0, patience=0.1)
    with pytest.raises(DaemonNotRunning) as nobody:
        link.open_again()
    assert "may or may not" not in nobody.value.message
    link.core.request("enqueue", {"tasks": [["email", b"", None]]})
    with pytest.raises(DaemonNotRunning) as gone:
        link.open_again()
    assert "may or may not have been done" in gone.value.message
