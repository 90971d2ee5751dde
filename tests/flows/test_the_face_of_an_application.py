"""An application as people write it, on a real daemon: typed tasks, retries by exception, middleware, progress, belonging."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tq
from tq import app as apps
from tq.client import adefault, default
from tq.errors import PayloadError, TaskFailed

pytestmark = pytest.mark.flow

APPLICATION = """
import dataclasses
import os
import time

import tq


@dataclasses.dataclass
class Order:
    number: int
    amounts: list[float]


class Total(tq.Task[Order, float]):
    type = "total"
    queue = "shop"
    retries = 5
    retry_on = (ConnectionError,)

    def backoff(self, failures, error):
        return 0.01 * failures

    def execute(self, payload: Order) -> float:
        here = tq.current()
        if payload.number < 0:
            raise ConnectionError("the bank does not answer")
        if payload.number == 0:
            raise ValueError("no order")
        if here.failures < 2:
            raise ConnectionError("not yet")
        note.options(label="from a task").enqueue(str(payload.number))
        return sum(payload.amounts)


@tq.task
def note(text: str) -> str:
    return text


@tq.task
def slow(path: str) -> None:
    tq.current().progress(0.5, "half \\x1b[31m")
    while not os.path.exists(path):
        time.sleep(0.005)


@tq.around_send
def route(task, send):
    if task.type == "note":
        task.options.setdefault("queue", "notes")
    return send(task)


@tq.around_run
def mark(context, run):
    print(f"run {context.attempt} of {context.id}")
    return run()
"""


@pytest.fixture
def shop(tmp_path: Path, data_dir: Path, daemon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The application in this process, and a daemon that runs it."""
    path = tmp_path / "shop_of_the_flow.py"
    path.write_text(APPLICATION)
    monkeypatch.setenv("TQ_DATA_DIR", str(data_dir))
    daemon(app=path)
    mine = tq.App()
    monkeypatch.setattr(apps, "default_app", mine)
    for name in ("task", "around_send", "around_run"):
        monkeypatch.setattr(tq, name, getattr(mine, name))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]
    default().close()


def test_a_typed_task_fails_twice_by_its_own_backoff_and_then_gives_its_typed_result(shop: ModuleType) -> None:
    handle = shop.Total.options(label="first").enqueue(shop.Order(17, [1.5, 2.0]))
    assert handle.result(30) == 3.5
    row = handle.client.get(handle.id)
    assert (row["queue"], row["attempt"], row["failures"], row["label"]) == ("shop", 3, 2, "first")
    starts = [attempt[1] for attempt in row["attempts"]] + [row["started_at"]]
    assert starts[-1] - starts[0] < 900  # and not by the default's second
    assert handle.log() == "".join(f"run {n} of {handle.id}\n" for n in (1, 2, 3))
    (child,) = [task for task in handle.client.list() if task["type"] == "note"]
    assert (child["correlation_id"], child["label"], child["queue"]) == (str(handle.id), "from a task", "notes")


def test_what_its_type_does_not_name_fails_at_once_and_what_does_not_fit_is_named(shop: ModuleType) -> None:
    handle = shop.Total.enqueue(shop.Order(0, []))
    with pytest.raises(TaskFailed, match="ValueError: no order"):
        handle.result(30)
    assert handle.client.get(handle.id)["attempt"] == 1
    gone = shop.Total.enqueue(shop.Order(-1, []))
    with pytest.raises(TaskFailed, match="ConnectionError"):
        gone.result(30)
    assert handle.client.get(gone.id)["attempt"] == 6
    with pytest.raises(PayloadError, match=r"amounts\[0\]: Input should be a valid number, got 'x'"):
        shop.Total.enqueue(shop.Order(1, ["x"]))
    by_name = handle.client.enqueue("total", {"number": 1, "amounts": "x"})
    with pytest.raises(TaskFailed, match="amounts: Input should be a valid"):
        by_name.result(30)
    assert handle.client.get(by_name.id)["attempt"] == 1


def test_progress_is_seen_while_a_task_runs_and_gone_afterwards(shop: ModuleType, data_dir: Path, until: Callable[..., Any]) -> None:
    go = data_dir / "go"
    handle = shop.slow.enqueue(str(go))
    seen = until(lambda: handle.client.get(handle.id)["progress"], what="progress")
    assert seen == [0.5, "half \\x1b[31m"]
    go.touch()
    handle.wait(30)
    assert handle.client.get(handle.id)["progress"] is None


def test_an_event_loop_sends_typed_tasks_too(shop: ModuleType) -> None:
    async def main() -> list[float]:
        handles = [await shop.Total.aenqueue(shop.Order(n, [float(n)])) for n in (1, 2)]
        try:
            return [await handle.result(30) for handle in handles]
        finally:
            await (await adefault()).close()

    began = time.monotonic()
    assert asyncio.run(main()) == [1.0, 2.0]
    assert time.monotonic() - began < 25


def test_what_a_handler_sends_goes_to_the_daemon_that_runs_it_however_that_was_named(
    tmp_path: Path, data_dir: Path, daemon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sends.py"
    path.write_text("import tq\n@tq.task\ndef child(): return 'here'\n@tq.task\ndef parent(): return child.enqueue().id\n")
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("TQ_DATA_DIR", str(elsewhere))
    daemon(app=path, workers=1)  # which names its directory on the command line
    with tq.connect(data_dir) as q:
        first = q.enqueue("parent")
        child = first.result(20)
        assert q.result(child, 20) == "here"
        assert q.get(child)["correlation_id"] == str(first.id)
    assert not elsewhere.exists()
