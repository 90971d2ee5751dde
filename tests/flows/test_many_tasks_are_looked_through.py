"""Thousands of tasks, and a real daemon: views, completion and bulk acts that are expected, by both faces of the client and in words."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import AsyncClient, Client
from tq.errors import Refused

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]
TASKS = 5000


def ids(done: subprocess.CompletedProcess[str]) -> list[int]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


@pytest.fixture
def full(daemon: Any, data_dir: Path) -> Path:
    """An instance without workers: what is there stays as it is."""
    daemon(workers=0)
    with Client(data_dir) as client:
        rows = [("email" if at % 2 else "report", {"n": at}, {"priority": at % 10, "allow_unknown": True}) for at in range(TASKS)]
        client.enqueue_many(rows)
        client.cancel([17, 42])
    return data_dir


def test_a_view_is_scrolled_and_what_comes_meanwhile_is_news(full: Path) -> None:
    with Client(full) as client:
        view = client.view()
        assert (view.total, view.exact, view.sort) == (TASKS, True, "-id")
        first, last = client.page(view.number, 0), client.page(view.number, -10, 10)
        assert [row.id for row in first.rows if row] == list(range(TASKS, TASKS - 200, -1))
        assert [row.id for row in last.rows if row] == list(range(10, 0, -1))
        assert (last.offset, last.done) == (TASKS - 10, True)
        assert client.place(view.number, 42) == TASKS - 42
        cancelled = client.view(states=["cancelled"], sort="id")
        assert [row.id for row in client.page(cancelled.number, 0).rows if row] == [17, 42]
        client.enqueue("email", allow_unknown=True)
        client.remove([TASKS])
        assert client.news(view.number) == 1
        assert client.page(view.number, 0, 1).rows == [None]
        row = client.rows([17])[0]
        assert row is not None
        assert (row.id, row.state, row.type, row.priority) == (17, "cancelled", "report", 6)
    with Client(full) as other, pytest.raises(Refused) as refusal:
        other.page(view.number, 0)
    assert refusal.value.details["gone"] is True


@pytest.mark.asyncio
async def test_an_asyncio_client_has_the_same(full: Path) -> None:
    async with AsyncClient(full) as client:
        view = await client.view("-priority", where="type:email")
        assert (view.total, view.exact) == (TASKS // 2, True)
        page = await client.page(view.number, 0, 3)
        assert [row.priority for row in page.rows if row] == [9, 9, 9]
        first = page.rows[0]
        assert first is not None
        assert await client.place(view.number, first.id) == 0
        assert await client.news(view.number) == 0
        assert await client.rows([first.id]) == [first]
        found = await client.complete("state:ca type:email", 8)
        assert (found.start, found.end, found.choices) == (6, 8, [("cancelled", "2")])
        assert await client.explain("state:cancelled type:email") == [("state:cancelled", 2), ("type:email", TASKS // 2)]
        newest = (await client.events(limit=1))[0]["number"]
        with pytest.raises(Refused) as refusal:
            await client.start_chore("cancel", {"where": "type:report"}, expected=TASKS)
        assert refusal.value.details["count"] == TASKS // 2 - 1
        chore = await client.start_chore("cancel", {"where": "type:report"}, expected=TASKS // 2)
        done = await client.wait_chore(chore, 60)
        assert done is not None
        assert done["changed"] == TASKS // 2 - 1
        assert [event["what"] for event in await client.events(after=newest)] == ["cancel", "chore_done"]


def test_the_order_in_the_terminal_is_that_of_the_view(full: Path, tq: Tq) -> None:
    with Client(full) as client:
        for sort in ("id", "-id", "-priority", "type", "created"):
            view = client.view(sort, where="id:1000..2000")
            expected = [row.id for row in client.page(view.number, 0, 150).rows if row]
            assert ids(tq("list", "id:1000..2000", "--sort", sort, "-n", "150", "--json")) == expected
    refused = tq("list", "--sort", "colour")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--sort: expected id, state, type" in refused.stderr
    told = tq("list", "state:cancelled priority:0").stderr
    assert told == f"no tasks\nstate:cancelled alone: 2; priority:0 alone: {TASKS // 10}\n"


def test_a_filter_is_completed_with_what_there_is(full: Path, tq: Tq) -> None:
    offered = [line.split("\t") for line in tq("__complete", "zsh", "list", "state:canc").stdout.splitlines()]
    assert offered == [["words"], ["state:cancelled", "2"]]
    assert "type:email\t2,500\n" in tq("__complete", "zsh", "cancel", "--where", "type:e").stdout
