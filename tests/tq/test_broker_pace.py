"""Debounce and throttle: of what is sent again and again about one thing, the last, or the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tq.broker_driver import START, Driver
from tq.model import State
from tq.store import KeyRef, Limits


def send(d: Driver, payload: bytes = b"", name: str = "k", kind: str = "t", **options: Any) -> Any:
    return d.ask("enqueue", tasks=[[kind, payload, {"unique": name, **options}]])


def at(d: Driver, ms: int) -> None:
    d.now = START + ms
    d.settle_down()


def test_of_debounced_tasks_one_waits_and_has_the_last_payload(d: Driver) -> None:
    first = send(d, b"\x01", debounce_ms=5000)
    at(d, 4000)
    assert send(d, b"\x02", debounce_ms=5000) == {"ids": first["ids"], "existing": [0]}
    at(d, 8999)
    assert d.states(1) == ["scheduled"]
    at(d, 9000)
    assert d.states(1) == ["pending"]
    (claimed,) = d.grant()
    assert d.row(1)["payload"] == b"\x02"
    d.result(claimed)


def test_a_debounced_task_runs_at_the_latest_so_long_after_the_first_came(d: Driver) -> None:
    for ms in range(0, 12_000, 2000):
        at(d, ms)
        assert send(d, bytes([ms // 1000]), debounce_ms=5000, debounce_most_ms=10_000)["ids"] == [1]
    assert d.states(1) == ["pending"]
    assert d.row(1)["payload"] == b"\x0a"


def test_what_is_debounced_while_one_runs_is_another_task(d: Driver) -> None:
    send(d, b"\x01", debounce_ms=1000)
    at(d, 1000)
    (claimed,) = d.grant()
    assert send(d, b"\x02", debounce_ms=1000) == {"ids": [2], "existing": []}
    assert send(d, b"\x03", debounce_ms=1000) == {"ids": [2], "existing": [0]}
    d.broker.settled([d.result(claimed)])
    d.settle_down()
    assert d.states(1, 2) == ["succeeded", "scheduled"]


def test_of_throttled_tasks_the_first_in_a_time_is_accepted(d: Driver) -> None:
    assert send(d, b"\x01", throttle_ms=5000) == {"ids": [1], "existing": []}
    d.broker.settled([d.result(*d.grant())])
    d.settle_down()
    at(d, 4999)
    assert send(d, b"\x02", throttle_ms=5000) == {"ids": [1], "existing": [0]}
    assert d.row(1)["payload"] == b"\x01"
    at(d, 5000)
    assert send(d, b"\x03", throttle_ms=5000)["ids"] == [2]
    at(d, 9999)
    assert send(d, b"\x04", throttle_ms=5000)["ids"] == [2]


def test_names_of_types_and_other_names_are_apart(d: Driver) -> None:
    ids = [
        send(d, throttle_ms=5000)["ids"], send(d, throttle_ms=5000, name="other")["ids"],
        send(d, throttle_ms=5000, kind="u")["ids"], send(d)["ids"],
    ]  # fmt: skip
    assert ids == [[1], [2], [3], [4]]
    assert d.row(1)["unique"] is None


def test_the_times_outlive_the_daemon(d: Driver) -> None:
    send(d, throttle_ms=5000)
    send(d, b"\x01", name="d", debounce_ms=5000)
    d.reopen()
    at(d, 4000)
    assert send(d, throttle_ms=5000)["ids"] == [1]
    assert send(d, b"\x02", name="d", debounce_ms=5000)["ids"] == [2]
    d.reopen()
    at(d, 8999)
    assert d.states(2) == ["scheduled"]
    at(d, 9000)
    assert (d.states(2), d.row(2)["payload"]) == (["pending"], b"\x02")


def test_one_request_may_hold_the_same_name_often(d: Driver) -> None:
    rows = [["t", bytes([n]), {"unique": "d", "debounce_ms": 1000}] for n in range(3)]
    rows += [["t", bytes([n]), {"unique": "f", "throttle_ms": 1000}] for n in range(3)]
    assert d.ask("enqueue", tasks=rows) == {"ids": [1, 1, 1, 2, 2, 2], "existing": [1, 2, 4, 5]}
    assert [d.row(n)["payload"] for n in (1, 2)] == [b"\x02", b"\x00"]
    assert d.ask("enqueue", tasks=rows[:3])["ids"] == [1, 1, 1]


def test_a_cancelled_one_is_followed_by_another(d: Driver) -> None:
    send(d, debounce_ms=5000)
    d.ask("cancel", ids=[1])
    assert send(d, debounce_ms=5000) == {"ids": [2], "existing": []}


def test_a_payload_for_which_there_is_no_room_changes_nothing(d: Driver) -> None:
    d.ask("set_queue", name="default", max_bytes=100)
    send(d, b"x" * 50, debounce_ms=5000)
    code, message = d.refusal("enqueue", tasks=[["t", b"a" * 20, None], ["t", b"y" * 90, {"unique": "k", "debounce_ms": 5000}]])
    assert (code, "full" in message) == ("refused", True)
    assert d.row(1)["payload"] == b"x" * 50
    assert d.store.last_id() == 1 or d.states(2) == ["none"]


@pytest.mark.parametrize(
    "options",
    [
        {"debounce_ms": 1000}, {"throttle_ms": 1000}, {"unique": "k", "debounce_ms": 1, "throttle_ms": 1},
        {"unique": "k", "debounce_ms": 0}, {"unique": "k", "debounce_ms": 10, "debounce_most_ms": 5},
        {"unique": "k", "debounce_most_ms": 5}, {"unique": "k", "debounce_ms": 1, "delay_ms": 5},
        {"unique": "k", "throttle_ms": 1, "key": "x"}, {"unique": "k", "throttle_ms": 1, "unique_policy": "replace"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(d: Driver, options: dict[str, Any]) -> None:
    code, message = d.refusal("enqueue", tasks=[["t", b"", options]])
    assert (code, "expected" in message) == ("usage", True)


def test_a_name_that_ran_out_leaves_nothing_behind(tmp_path: Path) -> None:
    d = Driver("lmdb", tmp_path / "store", Limits())
    for n in range(20):
        send(d, name=f"n{n}", throttle_ms=1000)
    at(d, 1000)
    assert d.store.holders([KeyRef("pace", "t", f"n{n}") for n in range(20)]) == [None] * 20
    assert State.PENDING.word in d.states(1)
    d.store.close()
