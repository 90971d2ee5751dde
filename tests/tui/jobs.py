"""Tasks for the fake daemon: enough of the verbs about them to drive the list and the page of a task.

For: tests of the screens about tasks.
Not for: how the real daemon finds, sorts and changes tasks; a flow asks one.
Runs in: pytest, on the loop of the test.
Promises: the same tasks and answers each time; every change is made to ``tasks`` and seen in the next answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.tui.fake import START_MS, Body, Driven, FakeDaemon, Scenario, busy, driven
from tq.model import pack
from tui.screens.tasks import TasksScreen

ERROR = {
    "type": "TimeoutError", "message": "read timed out",
    "frames": [
        ["/srv/shop/hooks.py", 88, "push", "resp = sess.post(url, json=body, timeout=30)"],
        ["/usr/lib/python3.12/http/client.py", 214, "_recv", "raise TimeoutError"],
    ],
}  # fmt: skip


def task(number: int, state: str = "pending", kind: str = "hook.push", queue: str = "webhooks", **more: Any) -> Body:
    """A task as ``get`` gives it; one that ran has the attempts that its state needs."""
    created = START_MS - 60_000 + number * 10
    ran, failing = state in ("running", "retrying", "succeeded", "failed"), state in ("failed", "retrying")
    found: Body = {
        "id": number, "type": kind, "queue": queue, "state": state, "priority": 5,
        "payload": pack({"url": "https://a.example", "n": 2**60}),
        "attempt": 2 if failing else int(ran), "failures": 2 if failing else 0, "crashes": 0,
        "interrupts": 0, "claim": 1, "retries": 4, "timeout_ms": 30_000, "backoff": ["exponential", 8000, 2.0, 600_000, True],
        "once": False,
        "created_at": created, "due_at": START_MS + 240_000 if state in ("scheduled", "retrying") else 0, "ready_at": 0,
        "started_at": START_MS - 20_000 if ran else 0,
        "finished_at": START_MS - 5000 if state in ("succeeded", "failed", "retrying") else 0,
        "expires_at": 0, "worker": "w-03" if ran else "", "progress": [0.62, "5/8 files"] if state == "running" else None,
        "result": pack({"ok": True}) if state == "succeeded" else None, "error": ERROR if failing else None,
        "exit_code": None, "cancel_asked": False, "output": ran, "label": None, "meta": {"tenant": "acme"}, "tenant": None, "flow": None,
        "correlation_id": None, "parents": [], "parents_any": [], "waits": 0, "retry_for_ms": 0, "deadline_ms": 0, "key": None,
        "unique": None, "slots": 1, "uses": {}, "attempts": [],
    }  # fmt: skip
    if failing:
        found["attempts"] = [[1, START_MS - 50_000, START_MS - 30_000, "failed", "w-01", ERROR, None]]
    return found | more


def row_of(one: Body | None) -> list[Any] | None:
    """Its row in a view."""
    if one is None:
        return None
    error = one["error"]
    text = f"{error['type']}: {error['message']}"[:120] if error else None
    names = ("id", "state", "type", "queue", "priority", "attempt", "retries", "created_at", "due_at", "started_at", "finished_at")
    progress = one["progress"][0] if one["progress"] else None
    return [*(one[name] for name in names), progress, text, one["label"], one["worker"] or None, False]


KINDS = ("mail.send", "report.build", "hook.push", "bill.charge", "gc.sweep", "thumb.make")
LIVES = ("retrying", "pending", "failed", "running", "succeeded", "scheduled", "cancelled", "pending", "expired", "blocked")


def mixed(number: int = 40) -> list[Body]:
    """Tasks of every state, and one whose failure somebody looks for."""
    found = [task(one, LIVES[one % len(LIVES)], KINDS[one % len(KINDS)], "webhooks" if one % 3 else "mail") for one in range(1, number + 1)]
    found[22] = task(23, "failed", "invoice.print", "mail")
    return found


class Jobs:
    """Answers for a FakeDaemon. ``matching`` may be replaced: which tasks a filter's text matches."""

    def __init__(self, daemon: FakeDaemon, tasks: list[Body]) -> None:
        self.daemon = daemon
        self.tasks: dict[int, Body] = {one["id"]: one for one in tasks}
        self.views: dict[int, list[int]] = {}
        self.newest: dict[int, int] = {}
        self.asked: dict[int, Body] = {}
        self.refused: dict[int, str] = {}
        """By task: the word for why a verb is not done to it."""
        self.events: list[Body] = []
        self._number = 0
        daemon.verbs |= {
            "view": self._view, "page": self._page, "place": self._place, "rows": self._rows, "news": self._news, "get": self._get,
            "find": self._find,
            "complete": self._complete, "explain": lambda args: {"terms": [["queue:mail", 13], ["type:nothing", 0]]},
            "why": lambda args: {"task": {}, "reasons": [["over", {"why": "retries"}]]},
            "events": lambda args: {"events": self.events[: args["limit"]]}, "retry": self._act, "cancel": self._act, "remove": self._act,
            "edit": self._act,
        }  # fmt: skip

    def matching(self, args: Body) -> list[int]:
        """Ids, newest first: by states, by the queue or type that the filter names, by a part of the type."""
        found = []
        for one in self.tasks.values():
            words = str(args.get("where") or "").split()
            good = not args.get("states") or one["state"] in args["states"]
            for word in words:
                name, sign, value = word.partition(":")
                good = good and (one.get(name) == value if sign else word in one["type"] or word == "id>0")
            if good:
                found.append(one["id"])
        return sorted(found, reverse=str(args.get("sort", "-id")) != "id")

    def _view(self, args: Body) -> Body:
        self._number += 1
        self.views[self._number] = self.matching(args)
        self.newest[self._number], self.asked[self._number] = max(self.tasks, default=0), args
        return {"view": self._number, "sort": args.get("sort", "-id"), "total": len(self.views[self._number]), "exact": True}

    def _page(self, args: Body) -> Body:
        ids = self.views[args["view"]]
        offset = args["offset"] if args["offset"] >= 0 else max(0, len(ids) + args["offset"])
        rows = [row_of(self.tasks.get(one)) for one in ids[offset : offset + args["limit"]]]
        return {"rows": rows, "offset": offset, "total": len(ids), "exact": True, "done": True}

    def _place(self, args: Body) -> Body:
        ids = self.views[args["view"]]
        return {"offset": ids.index(args["id"]) if args["id"] in ids else None}

    def _rows(self, args: Body) -> Body:
        return {"rows": [row_of(self.tasks.get(one)) for one in args["ids"]]}

    def _news(self, args: Body) -> Body:
        view = args["view"]
        return {"new": len([one for one in self.matching(self.asked[view]) if one > self.newest[view]])}

    def _get(self, args: Body) -> Body:
        return {"tasks": [self.tasks.get(one) for one in args["ids"]]}

    def _find(self, args: Body) -> Body:
        ids = [one for one in self.matching(args) if one < args.get("before", 1 << 62)][: args["limit"]]
        more = len(ids) == args["limit"]
        return {"tasks": [self.tasks[one] for one in ids], "next": ids[-1] if more else None}

    def _complete(self, args: Body) -> Body:
        start = args["text"].rfind(" ", 0, args["at"]) + 1
        return {"start": start, "end": len(args["text"]), "choices": [["queue:", "the line it waits in"], ["state:", "where it stands"]]}

    def _act(self, args: Body) -> Body:
        verb, _ = self.daemon.asked[-1]
        if "ids" not in args:
            ids = self.matching(args)
            if args.get("dry_run"):
                return {"count": len(ids), "some": ids[:5]}
            self.daemon.scenario.chores = [{"id": 7, "verb": verb, "where": "", "seen": 1, "changed": 1, "left": {}}]
            for one in ids:
                self._do(verb, one, args)
            return {"chore": 7}
        return {"outcomes": [self._do(verb, one, args) for one in args["ids"]]}

    def _do(self, verb: str, number: int, args: Body) -> str:
        if number in self.refused or number not in self.tasks:
            return self.refused.get(number, "unknown")
        one = self.tasks[number]
        if verb == "remove":
            del self.tasks[number]
        elif verb == "edit":
            self.tasks[number] = one | args["changes"]
        else:
            state = {"retry": "pending", "cancel": "cancelled"}[verb]
            self.tasks[number] = one | {"state": state, "finished_at": 0, **args.get("changes", {})}
        return {"retry": "retried", "cancel": "cancelled", "remove": "removed", "edit": "edited"}[verb]

    def add(self, *tasks: Body) -> None:
        """Tasks came: they are there, and the totals say that something changed."""
        self.tasks |= {one["id"]: one for one in tasks}
        self.tell()

    def tell(self) -> None:
        """As the daemon does after each change: other totals."""
        self.daemon.scenario.totals["retried"] += 1
        self.daemon.tell_totals()


@contextlib.asynccontextmanager
async def at_tasks(
    where: Path, tasks: list[Body] | None = None, scenario: Scenario | None = None, **wanted: Any
) -> AsyncIterator[tuple[Driven, Jobs, TasksScreen]]:
    """A monitor with the list of tasks in front, at rest."""
    async with driven(where, scenario or busy(), **wanted) as monitor:
        jobs = Jobs(monitor.daemon, mixed() if tasks is None else tasks)
        await monitor.press("3")
        await monitor.shows(1)
        screen = monitor.app.front
        assert isinstance(screen, TasksScreen)
        yield monitor, jobs, screen
