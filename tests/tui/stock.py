"""What a fake daemon says of queues and of dead letters, and what becomes of them when it is told to change something.

For: the tests of the screens of queues and of dead letters.
Not for: the other verbs of a fake daemon (fake), how the real one decides.
Runs in: pytest, on the loop of the test.
Promises: what is set is what is told from then on; what is counted and what is done are the same tasks.
"""

from __future__ import annotations

from typing import Any

from tests.tui.fake import START_MS, Body, FakeDaemon, Scenario, busy, totals

USUAL = {
    "weight": 1, "aging_ms": 60_000, "aging_share": 10, "priority": None, "retries": None, "timeout_ms": None, "backoff": None,
    "max_tasks": None, "max_bytes": None, "keep_ms": None, "routes": [], "paused_at": 0, "paused_by": "", "hold_load": None,
    "hold_memory": None, "hold_probe": None, "hold_every_ms": 10_000,
}  # fmt: skip
"""The settings of a queue where nobody has said anything."""
REFUSED = {"type": "ConnectionError", "message": "[Errno 111] refused", "frames": [["/srv/hooks.py", 88, "push", "send(url)"]]}
GROUPS = (
    ("g0000000a", "hook.push", "ConnectionError", "[Errno #] refused", 21, "webhooks", 5280, 120),
    ("g0000000b", "thumb.make", "OSError", "no space left", 9, "thumbs", 19_320, 480),
    ("g0000000c", "bill.charge", "KeyError", "'sku'", 4, "billing", 90_000, 10_800),
    ("g0000000d", "report.build", "Expired", "waited longer than its ttl", 3, "reports", 172_800, 86_400),
)


def stocked() -> Scenario:
    """The seven queues of ``busy`` with all their settings, one paused by somebody, one held."""
    scenario = busy()
    for row in scenario.queues:
        row |= {**USUAL, **{key: value for key, value in row.items() if key in USUAL}}
        row["states"] |= {"retrying": 58 if row["name"] == "webhooks" else 0, "failed": 21 if row["name"] == "webhooks" else 0}
    billing, held = scenario.queues[3], scenario.queues[4]
    billing |= {"paused_at": START_MS - 182_000, "paused_by": "alice"}
    held["held"] = {"rules": ["load"], "why": "load average 9.1, held from 8 on", "age_ms": 4000}
    held["hold_load"] = 8.0
    return scenario


def groups() -> list[Body]:
    """Four kinds of failures, 37 tasks."""
    return [
        {
            "group": name, "type": kind, "error": error, "message": message, "count": number, "queues": [where],
            "first_at": START_MS - first * 1000, "last_at": START_MS - last * 1000, "last_id": 8000 + at,
        }
        for at, (name, kind, error, message, number, where, first, last) in enumerate(GROUPS)
    ]  # fmt: skip


class Stock:
    """The verbs of queues and of dead letters of ``daemon``. ``more`` is told with ``queues``."""

    def __init__(self, daemon: FakeDaemon, dead: list[Body] | None = None) -> None:
        self.daemon, self.dead = daemon, groups() if dead is None else dead
        self.more: Body = {}
        self.types: list[Body] = []
        daemon.verbs |= {
            "queues": lambda _: {"queues": daemon.scenario.queues, **self.more}, "types": lambda _: {"types": self.types},
            "peek": self._peek, "dead": self._dead, "find": self._find, "get": self._get, "set_queue": self._set_queue,
            "retry": self._act, "remove": self._act,
        }  # fmt: skip

    def row(self, name: str) -> Body:
        """The row of a queue as it is now."""
        return next(row for row in self.daemon.scenario.queues if row["name"] == name)

    def told(self, **counts: int) -> None:
        """The daemon pushes other totals."""
        self.daemon.scenario.totals = totals(**counts)
        self.daemon.tell_totals()

    def _peek(self, args: Body) -> Body:
        ready = self.daemon.clock.now_ms() - 4200
        return {"tasks": [{"id": 42, "type": "mail.send", "queue": args["queue"], "ready_at": ready}]}

    def _dead(self, args: Body) -> Body:
        return {"groups": [group for group in self.dead if args.get("queue") in (None, *group["queues"])]}

    def _set_queue(self, args: Body) -> Body:
        row = self.row(args["name"])
        row |= {key: value for key, value in args.items() if key not in ("name", "unset")}
        row |= {key: USUAL.get(key, 0) for key in args.get("unset", ())}
        if "paused" in args:
            paused = {"paused_at": self.daemon.clock.now_ms(), "paused_by": "you"}
            row |= paused if args["paused"] else {"paused_at": 0, "paused_by": ""}
        return {"new": False, **({"declared": sorted(row["declared"].keys() & args.keys())} if row.get("declared") else {})}

    def tasks(self, name: str) -> list[Body]:
        """The tasks of a group, the newest first."""
        group = next(group for group in self.dead if group["group"] == name)
        return [self._task(group, group["last_id"] - 10 * at) for at in range(group["count"])]

    def _task(self, group: Body, number: int) -> Body:
        error = {**REFUSED, "type": group["error"], "message": group["message"].replace("#", "111")}
        return {
            "id": number, "type": group["type"], "queue": group["queues"][0], "state": "failed", "priority": 1, "attempt": 5, "retries": 4,
            "payload": b"\x81\xa2id\x07", "label": "acme", "meta": None, "worker": "w1", "exit_code": None, "error": error,
            "created_at": group["first_at"], "due_at": 0, "started_at": group["last_at"] - 100, "finished_at": group["last_at"],
            "attempts": [[1, group["first_at"], group["first_at"] + 100, "failed", "w1", error, None]],
        }  # fmt: skip

    def _find(self, args: Body) -> Body:
        found = [task for task in self.tasks(args["group"]) if not args.get("before") or task["id"] < args["before"]]
        page = found[: args["limit"]]
        return {"tasks": page, "next": page[-1]["id"] if len(found) > len(page) else None}

    def _get(self, args: Body) -> Body:
        known = {group["last_id"]: group for group in self.dead}
        return {"tasks": [self._task(known[one], one) if one in known else None for one in args["ids"]]}

    def _act(self, args: Body) -> Body:
        if "ids" in args:
            return {"outcomes": ["retried"] * len(args["ids"])}
        number = self._number(args)
        if args.get("dry_run"):
            return {"count": number, "some": []}
        self.dead = [group for group in self.dead if group["group"] != args.get("group")]
        return {"chore": 7}

    def _number(self, args: Body) -> int:
        if "group" in args:
            return sum(group["count"] for group in self.dead if group["group"] == args["group"])
        states: dict[str, Any] = self.row(args["queue"])["states"]
        return sum(states[word] for word in args["states"])
