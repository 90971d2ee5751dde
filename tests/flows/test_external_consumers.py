"""Consumers outside the pool: leases, the fencing token, and what a stale one may do (nothing)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tq.client import Client

pytestmark = pytest.mark.flow
QUEUE = "letters"


@pytest.fixture
def post(daemon: Callable[..., Any], client: Client) -> Any:
    """A daemon without workers and an external queue."""
    one = daemon(workers=0)
    client.set_queue(QUEUE, external=True)
    return one


def send(client: Client, *payloads: object, **options: Any) -> list[int]:
    return client.enqueue_many([("letter", payload, {"queue": QUEUE, "allow_unknown": True, **options}) for payload in payloads])


def test_a_claim_hands_out_in_order_and_settling_ends_it(post: Any, client: Client) -> None:
    ids = send(client, "a", "b", "c")
    claimed = client.claim([QUEUE], limit=2)
    assert [(task["id"], task["payload"], task["attempt"], task["claim"]) for task in claimed] == [(ids[0], "a", 1, 1), (ids[1], "b", 1, 1)]
    answers = client.settle([
        (ids[0], 1, "succeeded", {"result": {"sent": True}}),
        (ids[1], 1, "failed", {"error": {"type": "NoSuchStreet", "message": "it is not on the map"}, "permanent": True}),
    ])  # fmt: skip
    assert answers == [True, True]
    first, second, third = (row or {} for row in client.get_many(ids))
    assert (first["state"], first["result"], first["attempt"]) == ("succeeded", {"sent": True}, 1)
    assert (second["state"], second["error"]["type"], second["attempt"]) == ("failed", "NoSuchStreet", 1)
    assert (third["state"], third["attempt"], third["claim"]) == ("pending", 0, 0)


def test_consumers_at_the_same_time_never_get_the_same_task(post: Any, client: Client) -> None:
    ids = send(client, *range(300))
    got: list[list[int]] = [[], [], []]

    def consume(mine: list[int]) -> None:
        with Client(client.data_dir) as q:
            while tasks := q.claim([QUEUE], limit=7):
                mine += [task["id"] for task in tasks]
                q.settle([(task["id"], task["claim"], "succeeded", {}) for task in tasks])

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(task_id for mine in got for task_id in mine) == ids


def test_a_claim_that_waits_is_served_as_a_task_arrives_and_answers_empty_when_its_time_is_up(post: Any, client: Client) -> None:
    began = time.monotonic()
    assert list(client.claim([QUEUE], wait=0.2)) == []
    assert 0.2 <= time.monotonic() - began < 5
    got: list[Any] = []

    def consume() -> None:
        with Client(client.data_dir) as q:
            got.extend(q.claim([QUEUE], wait=20))

    waiting = threading.Thread(target=consume)
    waiting.start()
    (task_id,) = send(client, "x")
    waiting.join(10)
    assert [task["id"] for task in got] == [task_id]


def test_a_lease_that_runs_out_gives_the_task_to_another_and_the_first_may_change_nothing(post: Any, client: Client) -> None:
    (task_id,) = send(client, "a")
    (stale,) = client.claim([QUEUE], lease=0.2)
    (fresh,) = client.claim([QUEUE], wait=10, lease=30)
    assert (fresh["id"], fresh["claim"], fresh["attempt"]) == (task_id, 2, 2)
    before = client.get(task_id)
    assert client.settle([(task_id, stale["claim"], "succeeded", {"result": "stale"})]) == [False]
    assert client.settle([(task_id, stale["claim"], "failed", {"error": {"type": "E", "message": "stale"}})]) == [False]
    assert client.extend(task_id, stale["claim"]) is False
    assert client.release([(task_id, stale["claim"])]) == [False]
    assert client.get(task_id) == before
    assert client.settle([(task_id, fresh["claim"], "succeeded", {"result": "fresh"})]) == [True]
    row = client.get(task_id)
    assert (row["state"], row["result"], row["attempt"], row["crashes"]) == ("succeeded", "fresh", 2, 1)
    assert row["attempts"][0][5]["type"] == "LeaseLapsed"


def test_a_task_whose_consumers_vanish_three_times_is_failed_as_poison(post: Any, client: Client) -> None:
    (task_id,) = send(client, "a", retries=10)
    claims = [client.claim([QUEUE], wait=10, lease=0.1)[0]["claim"] for _ in range(3)]
    (row,) = client.wait([task_id], 10)
    assert row is not None
    assert claims == [1, 2, 3]
    assert (row["state"], row["error"]["type"], row["crashes"], row["failures"]) == ("failed", "LeaseLapsed", 3, 0)


def test_extending_keeps_the_task_for_as_long_as_it_goes_on(post: Any, client: Client) -> None:
    (task_id,) = send(client, "a")
    (task,) = client.claim([QUEUE], lease=0.4)
    until = time.monotonic() + 1.2  # three leases long
    while time.monotonic() < until:
        assert client.extend(task_id, task["claim"], 0.4) is True
        assert client.get(task_id)["state"] == "running"
        time.sleep(0.05)
    assert client.settle([(task_id, task["claim"], "succeeded", {})]) == [True]
    assert client.get(task_id)["attempt"] == 1


def test_a_released_task_keeps_its_place_and_is_not_charged(post: Any, client: Client) -> None:
    first, second = send(client, "a", "b")
    (task,) = client.claim([QUEUE])
    assert client.release([(first, task["claim"])]) == [True]
    assert [(task["id"], task["claim"], task["attempt"]) for task in client.claim([QUEUE], limit=2)] == [(first, 2, 1), (second, 1, 1)]


def test_a_failure_with_a_delay_of_its_own_waits_that_long(post: Any, client: Client) -> None:
    (task_id,) = send(client, "a", retries=3)
    (task,) = client.claim([QUEUE])
    details = {"error": {"type": "Busy", "message": "later"}, "delay_ms": 60_000}
    assert client.settle([(task_id, task["claim"], "failed", details)]) == [True]
    row = client.get(task_id)
    assert row["state"] == "retrying"
    assert 55_000 < row["due_at"] - time.time() * 1000 <= 60_000


def test_a_claim_outlives_the_daemon(post: Any, client: Client) -> None:
    """Kill -9: the consumer knows nothing of it, and its token is as good as before; its lease starts anew."""
    settled, lapsed = send(client, "a", "b", once=True)
    claims = {task["id"]: task["claim"] for task in client.claim([QUEUE], limit=2, lease=1.0)}
    post.kill()
    post.start()
    client.close()
    assert client.get(settled)["state"] == "running"
    assert client.settle([(settled, claims[settled], "succeeded", {})]) == [True]
    (row,) = client.wait([lapsed], 10)
    assert row is not None
    assert (row["state"], row["error"]["type"]) == ("failed", "LeaseLapsed")


def test_the_pool_leaves_an_external_queue_alone(daemon: Callable[..., Any], app: str, client: Client) -> None:
    daemon(app=app, workers=1)
    client.set_queue(QUEUE, external=True)
    outside = client.enqueue("noop", queue=QUEUE).id
    client.enqueue("noop").wait(10)
    assert client.get(outside)["state"] == "pending"
    assert [task["id"] for task in client.claim([QUEUE])] == [outside]


def test_a_cancel_of_a_claimed_task_is_final_when_the_consumer_lets_go(post: Any, client: Client) -> None:
    gives_back, goes_on = send(client, "a", "b")
    claims = {task["id"]: task["claim"] for task in client.claim([QUEUE], limit=2)}
    assert list(client.cancel([gives_back, goes_on])) == ["asked", "asked"]
    assert client.release([(gives_back, claims[gives_back])]) == [True]
    assert client.settle([(goes_on, claims[goes_on], "succeeded", {})]) == [True]
    assert client.get(gives_back)["state"] == "cancelled"
    assert client.get(goes_on)["state"] == "succeeded"
