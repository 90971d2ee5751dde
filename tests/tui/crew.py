"""What the fake daemon says of workers, schedules and events, for the tests of their screens.

For: scenarios of ``tests.tui.fake`` with a crew at work, schedules that went well and badly, and a long list of events.
Not for: what the real daemon answers; a flow runs the same questions against one.
Runs in: pytest.
Promises: the same words and numbers each time; who asks page by page gets what the daemon would give.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack

from tests.tui.fake import START_MS, Body, Driven, FakeDaemon, Scenario, busy, driven

DAY_MS, HOUR_MS = 86_400_000, 3_600_000


def task(number: int, state: str, type_: str, started_ago_ms: int = 0, took_ms: int = 0, **more: Any) -> list[Any]:
    """A row of ``rows``."""
    started = START_MS - started_ago_ms if started_ago_ms else 0
    return [
        number, state, type_, more.get("queue", "default"), 5, 1, 3, started - 500, 0, started, started + took_ms if took_ms else 0,
        more.get("progress"), more.get("error"), more.get("label"), more.get("worker"), more.get("suspended", False),
    ]  # fmt: skip


def worker(name: str, pid: int, state: str, tasks: list[int], **more: Any) -> Body:
    """A row of ``workers``."""
    return {
        "id": name, "hostname": "api-3", "pid": pid, "state": state, "started_at": START_MS - 273_600_000,
        "last_heartbeat": START_MS - more.pop("silent_ms", 0), "tasks": tasks, "ahead": 0, "done": 0, "cpu": 0.0, "cpu_s": 12.5,
        "rss": 88 << 20, **more,
    }  # fmt: skip


CREW = [
    worker("w1", 4410, "busy", [301, 302, 303], done=91_204, cpu=187.4, rss=212 << 20, ahead=2),
    worker("w2", 4409, "busy", [304, 305], done=90_117, cpu=31.0, rss=198 << 20),
    worker("w3", 4411, "busy", [306], done=12_004, cpu=9.2, rss=1_450 << 20, silent_ms=22_000),
    worker("w4", 4412, "idle", [], done=410),
    worker("w5", 4413, "draining", [307], done=88_010, cpu=20.0, rss=201 << 20),
    worker("w6", 4500, "starting", []),
]
WORK = {
    301: task(301, "running", "mail.send", 200), 302: task(302, "running", "mail.send", 100),
    303: task(303, "running", "report.build", 12_400, progress=0.62, queue="reports", label="november"),
    304: task(304, "running", "mail.send", 100), 305: task(305, "running", "bill.charge", 4_800, queue="billing"),
    306: task(306, "running", "shell", 29_100, suspended=True), 307: task(307, "running", "report.build", 41_000, queue="reports"),
}  # fmt: skip


def schedule(name: str, next_in_ms: int, **more: Any) -> Body:
    """A row of ``schedules``."""
    return {
        "name": name, "cron": "", "every_ms": 0, "at": 0, "tz": "UTC", "jitter_ms": 0, "only": (), "from_at": 0, "until_at": 0,
        "misfire": "coalesce", "overlap": "allow", "paused": False, "type": "shell", "on_failure": None, "on_recovery": None,
        "on_missed": None, "missed_after_ms": 0, "alert_each": False, "declared": False,
        "next_at": START_MS + next_in_ms if next_in_ms else 0, "held_at": 0, "last": None, "failing": 0, "overdue_at": 0, **more,
    }  # fmt: skip


def _last(number: int, state: str, slot_ago_ms: int, late_ms: int, took_ms: int) -> Body:
    slot = START_MS - slot_ago_ms
    return {
        "id": number, "slot_at": slot, "state": state, "started_at": slot + late_ms, "finished_at": slot + late_ms + took_ms,
        "exit_code": 0,
    }  # fmt: skip


SCHEDULES = [
    schedule("backup", 0, cron="30 4 * * 0", paused=True, last=_last(540, "succeeded", 6 * DAY_MS, 100, 252_000)),
    schedule("gc", 173_000, every_ms=300_000, last=_last(520, "succeeded", 127_000, 20, 200), jitter_ms=5_000),
    schedule("hook-retry", 53_000, cron="*/1 * * * *", last=_last(512, "failed", 7_000, 100, 5_000), failing=509),
    schedule("launch-mail", 9 * DAY_MS + 18 * HOUR_MS, at=START_MS + 9 * DAY_MS + 18 * HOUR_MS, type="mail.send"),
    schedule(
        "nightly-report", 11 * HOUR_MS + 28 * 60_000, cron="0 2 * * *", tz="Europe/Berlin", type="report.build", overlap="skip",
        last=_last(530, "succeeded", 45_127_000, 41_000, 41_000), only=("00:00-06:00",), on_failure="shell, 40 bytes", declared=True,
    ),
]  # fmt: skip
WHOLE: dict[str, Body] = {
    "nightly-report": {
        "payload": msgpack.packb({"day": "yesterday", "fmt": "pdf", "token": "s3cret"}), "options": {"queue": "reports", "priority": 3},
        "alerts": {}, "runs": [[START_MS - number * DAY_MS, 530 - number] for number in range(11, -1, -1)],
    },
    "hook-retry": {
        "payload": msgpack.packb({"argv": [b"curl", b"-f", b"https://hooks.example/again now"]}), "options": {}, "alerts": {},
        "runs": [[START_MS - number * 60_000, 512 - number] for number in range(3, -1, -1)] + [[0, 599]],
    },
}  # fmt: skip
RUNS = {
    **{530 - number: task(530 - number, "succeeded", "report.build", number * DAY_MS + 1, 38_000) for number in range(12)},
    525: task(525, "failed", "report.build", 5 * DAY_MS, 2_100, error="OSError: no space left on device"),
    **{512 - number: task(512 - number, "failed", "shell", number * 60_000 + 1, 30_000, error="ExitCode: 22") for number in range(3)},
    599: task(599, "running", "shell", 2_000),
}  # fmt: skip
SPANS = {"gc": 300_000, "hook-retry": 60_000, "nightly-report": DAY_MS, "backup": 7 * DAY_MS}


def event(number: int, what: str, target: str, who: str = "user 1000 (pid 5120)", **more: Any) -> Body:
    """An event of ``events``; the newer the nearer to now."""
    return {"number": number, "at": START_MS - (2_000 - number) * 7_000, "who": who, "what": what, "target": target,
            "before": more.get("before"), "after": more.get("after")}  # fmt: skip


def history(number: int = 1_000) -> list[Body]:
    """So many events, the oldest first."""
    turns: list[tuple[str, str, str, Body]] = [
        ("paused", "billing", "user 1000 (pid 5120)", {"before": {"paused": False}, "after": {"paused": True}}),
        ("slot_skipped", "schedule gc", "tq", {"after": {"slot_at": START_MS - HOUR_MS, "why": "overlap", "tasks": [301]}}),
        ("set_queue", "mail", "user 1001 (pid 77)", {"before": {"slots": 2, "keep_ms": 0}, "after": {"slots": 8, "keep_ms": 3_600_000}}),
        ("cancelled", "4242", "user 1000 (pid 5120)", {}),
        ("restarted", "workers", "user 1000 (pid 5121)", {"after": {"workers": ["w1", "w2"]}}),
        ("chore_done", "17", "tq", {"after": {"verb": "retry", "seen": 213, "changed": 213, "left": {}}}),
    ]
    found = []
    for at in range(1, number + 1):
        what, target, who, changes = turns[(number - at) % len(turns)]
        found.append(event(at + 2_000 - number, what, target, who, **changes))
    return found


class Crew:
    """Answers ``workers rows schedules next_slots events`` and what changes them, for a FakeDaemon; ``done`` has what was changed."""

    def __init__(self) -> None:
        self.workers: list[Body] = [dict(one) for one in CREW]
        self.tasks: dict[int, list[Any]] = {number: list(row) for number, row in {**WORK, **RUNS}.items()}
        self.schedules: list[Body] = [dict(one) for one in SCHEDULES]
        self.whole: dict[str, Body] = {name: dict(one) for name, one in WHOLE.items()}
        self.events = history()
        self.sizes = {"min": 4, "max": 8}

    def scenario(self) -> Scenario:
        """A daemon at work, with what it says of itself."""
        found = busy()
        found.status |= {"options": {"min_workers": self.sizes["min"], "max_workers": self.sizes["max"], "slots": 4}}
        return found

    def serve(self, daemon: FakeDaemon) -> None:
        """Answer what this one knows."""
        self.daemon = daemon
        daemon.verbs |= {
            "workers": self._workers, "rows": lambda args: {"rows": [self.tasks.get(one) for one in args["ids"]]},
            "schedules": self._schedules, "next_slots": self._slots, "events": self._events, "scale_workers": self._scale,
            "drain_worker": lambda _: dict(self.sizes), "restart_workers": lambda args: {"workers": [args["id"]]},
            "set_schedule": self._set, "run_schedule": lambda _: {"id": 777}, "remove_schedule": self._remove,
        }  # fmt: skip

    def _workers(self, _: Body) -> Body:
        passed = self.daemon.clock.now_ms() - START_MS
        return {"workers": [{**one, "last_heartbeat": one["last_heartbeat"] + passed} for one in self.workers]}

    def _scale(self, args: Body) -> Body:
        self.sizes = {"min": args["min"], "max": args["max"]}
        self.daemon.scenario.status["options"] |= {"min_workers": args["min"], "max_workers": args["max"]}
        return self.sizes

    def _schedules(self, args: Body) -> Body:
        nothing: Body = {"payload": b"", "options": {}, "alerts": {}, "runs": []}
        if "name" in args:
            return {
                "schedules": [
                    {**one, **nothing, **self.whole.get(one["name"], {})} for one in self.schedules if one["name"] == args["name"]
                ]
            }
        return {"schedules": self.schedules, "next": None}

    def _slots(self, args: Body) -> Body:
        one = next(one for one in self.schedules if one["name"] == args["name"])
        first, span = one["next_at"] or START_MS + HOUR_MS, SPANS.get(one["name"], 0)
        number = args["count"] if span else 1
        return {"slots": [[first + at * span, first + at * span] for at in range(number)], "paused": one["paused"], "tz": one["tz"]}

    def empty(self) -> None:
        """Nothing there, nothing done."""
        self.workers, self.schedules, self.events = [], [], []

    def _set(self, args: Body) -> Body:
        said = {name: value for name, value in args.items() if name not in ("name", "new", "task")}
        if args.get("new"):
            self.schedules.append(schedule(args["name"], HOUR_MS, **said, type=args["task"][0]))
        for one in self.schedules:
            if one["name"] == args["name"]:
                if any(rule in said for rule in ("cron", "every_ms", "at")):
                    one.update(cron="", every_ms=0, at=0)
                one.update(said)
        return {}

    def _remove(self, args: Body) -> Body:
        self.schedules = [one for one in self.schedules if one["name"] != args["name"]]
        return {}

    def _events(self, args: Body) -> Body:
        if "after" in args:
            return {"events": [one for one in self.events if one["number"] > args["after"]][: args["limit"]]}
        found = [one for one in reversed(self.events) if one["number"] < args.get("before", 1 << 60)]
        return {"events": found[: args["limit"]]}


@contextlib.asynccontextmanager
async def at(where: Path, screen: str, crew: Crew | None = None, **wanted: Any) -> AsyncIterator[tuple[Driven, Crew]]:
    """A monitor with the screen of this digit in front, and the crew behind it."""
    crew = crew or Crew()
    async with driven(where, crew.scenario(), **wanted) as monitor:
        crew.serve(monitor.daemon)
        await monitor.press(screen)
        await monitor.shows(2)
        yield monitor, crew
