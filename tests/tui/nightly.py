"""What a fake daemon says of workflows: graphs of tasks with names, places and steps, whose states a test turns.

For: the tests of the screen of workflows, and of the page of one.
Not for: the other verbs of a fake daemon (fake), how the real one releases steps.
Runs in: pytest, on the loop of the test.
Promises: what is retried or cancelled is told as such from then on; who asks for tasks by a filter of ids gets those of the range.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.tui.fake import START_MS, Body, Driven, FakeDaemon, busy, driven
from tests.tui.jobs import row_of, task

LIVE = ("scheduled", "blocked", "pending", "running", "retrying")
BROKEN = {"type": "ValueError", "message": "no \x1b[31mrows\x1b[0m for [b]acme[/b]", "frames": []}
LEFT_OUT = {"type": "ParentNotFailed", "message": "not needed"}


def step(number: int, name: str, place: str, state: str = "blocked", parents: tuple[int, ...] = (), **more: Any) -> Body:
    """A task of the workflow ``nightly``, or of another."""
    flow = more.pop("flow", "nightly")
    begun = more.pop("begun", 0)
    one = task(number, state, name.partition("[")[0], "default", created_at=START_MS - 90_000)
    started = START_MS - begun * 1000 if begun else 0
    return one | {
        "meta": {"workflow": flow, "workflow.step": name, "workflow.place": place}, "parents": list(parents), "parents_any": [],
        "parents_failed": [], "started_at": started, "finished_at": started + more.pop("took", 0) * 1000 if state not in LIVE else 0,
        "error": None, "attempts": [], "result": None, **more,
    }  # fmt: skip


def nightly(first: int = 101, parts: int = 10) -> list[Body]:
    """Extract, parallel parts of which one failed, load that is cancelled for it, and notify, which comes after load however it ends."""
    count = parts + 4
    names = ["extract", *(f"transform[{at}]" for at in range(parts)), "load", "notify", "page"]
    ids = range(first, first + count)
    found = [step(first, names[0], f"1/{count}", "succeeded", begun=80, took=10)]
    for at in range(1, parts + 1):
        state = "failed" if at == 3 else "running" if at == parts else "succeeded"
        error = BROKEN if state == "failed" else None
        found.append(step(ids[at], names[at], f"{at + 1}/{count}", state, (first,), begun=70, took=5 + at, error=error))
    load = ids[parts + 1]
    found.append(
        step(
            load,
            "load",
            f"{parts + 2}/{count}",
            "cancelled",
            tuple(ids[1 : parts + 1]),
            error={"type": "ParentFailed", "message": "103"},
            finished_at=START_MS - 62_000,
        )
    )
    found.append(step(load + 1, "notify", f"{parts + 3}/{count}", "pending", (load,), parents_any=[load]))
    found.append(step(load + 2, "page", f"{parts + 4}/{count}", "cancelled", (load,), parents_failed=[load], error=LEFT_OUT))
    return found


class Flows:
    """Answers ``find rows get cancel retry`` of a FakeDaemon."""

    def __init__(self, daemon: FakeDaemon, *flows: list[Body]) -> None:
        self.daemon = daemon
        self.tasks: dict[int, Body] = {one["id"]: one for flow in flows for one in flow}
        self.cut: set[int] = set()
        """Tasks that do not fit into an answer with others."""
        daemon.verbs |= {"find": self._find, "rows": self._rows, "get": self._get, "cancel": self._act, "retry": self._act}

    def add(self, flow: list[Body]) -> None:
        self.tasks |= {one["id"]: one for one in flow}
        self.tell()

    def change(self, number: int, **changes: Any) -> None:
        """Another state of a task: the totals say that something changed."""
        self.tasks[number] |= changes
        self.tell()

    def tell(self) -> None:
        self.daemon.scenario.totals = self.daemon.scenario.totals | {"retried": self.daemon.scenario.totals["retried"] + 1}
        self.daemon.tell_totals()

    def _find(self, args: Body) -> Body:
        where = str(args.get("where") or "")
        above, parent = re.search(r"id>(\d+)", where), re.search(r"parent:(\d+)", where)
        found = sorted(self.tasks, reverse=True)
        found = [one for one in found if above is None or one > int(above[1])]
        found = [one for one in found if parent is None or int(parent[1]) in self.tasks[one]["parents"]]
        found = [one for one in found if "place:1/*" not in where or self._is_first(one)]
        return {"tasks": [self._whole(one, len(found)) for one in found[: args["limit"]]], "next": None}

    def _is_first(self, number: int) -> bool:
        return str((self.tasks[number]["meta"] or {}).get("workflow.place")).startswith("1/")

    def _rows(self, args: Body) -> Body:
        return {"rows": [row_of(self.tasks.get(one)) for one in args["ids"]]}

    def _get(self, args: Body) -> Body:
        return {"tasks": [self._whole(one, len(args["ids"])) for one in args["ids"]]}

    def _whole(self, number: int, among: int) -> Body | None:
        one = self.tasks.get(number)
        if one is not None and number in self.cut and among > 1:
            return one | {"payload": None, "result": None, "error": None, "meta": None, "attempts": [], "cut": True}
        return one

    def _act(self, args: Body) -> Body:
        verb, _ = self.daemon.asked[-1]
        state = {"retry": "pending", "cancel": "cancelled"}[verb]
        for one in args["ids"]:
            self.tasks[one] |= {"state": state, "error": None}
        self.tell()
        return {"outcomes": [{"retry": "retried", "cancel": "cancelled"}[verb] for _ in args["ids"]]}


@contextlib.asynccontextmanager
async def at_workflows(where: Path, *flows: list[Body], **wanted: Any) -> AsyncIterator[tuple[Driven, Flows]]:
    """A monitor with the list of workflows in front, at rest."""
    async with driven(where, busy(), **wanted) as monitor:
        found = Flows(monitor.daemon, *flows)
        await monitor.press("9")
        await monitor.shows(2)
        yield monitor, found
