"""``python -m tests.tui.pictures``: the pictures of the monitor under ``examples/screenshots``, made anew.

For: ``shot`` (seven screens, as SVG, of a made-up instance at a time that stands still) and writing them.
Not for: noticing each changed colour (test_app_pictures); what a real instance looks like (``tq monitor --demo``).
Runs in: a terminal, from the root of a checkout, and in the test that keeps the pictures true.
Promises: no daemon, no clock and no chance: the same monitor gives the same files; a picture asks for nothing from anywhere.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from tests.tui.crew import Crew
from tests.tui.fake import START_MS, Body, Driven, course, driven, text_of
from tests.tui.jobs import ERROR, Jobs, task
from tests.tui.nightly import Flows, nightly
from tests.tui.stock import Stock, stocked
from tq.model import pack

SCREENSHOTS = Path(__file__).resolve().parents[2] / "examples" / "screenshots"
SIZE = (120, 36)
FONTS = "ui-monospace, 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
"""Fonts that a machine has: a picture on a page may fetch none."""
PLACES = {
    "overview": ["1"],
    "queues": ["2"],
    "tasks": ["3", "/", *"state:failed,retrying age<1h", "enter"],
    "task": ["enter"],
    "schedules": ["escape", "5", "j", "j"],
    "dead": ["6"],
    "workflow": ["9", "enter", "f"],
}
"""Each picture: the keys that lead there from the one before."""


def tasks() -> list[Body]:
    """What the list of tasks shows: all kinds of lives, the newest a moment ago."""
    kinds = [
        ("mail.send", "default", "succeeded"), ("mail.send", "default", "succeeded"), ("hook.push", "webhooks", "retrying"),
        ("thumb.make", "thumbs", "running"), ("bill.charge", "billing", "pending"), ("report.build", "reports", "scheduled"),
        ("hook.push", "webhooks", "failed"), ("gc.sweep", "gc", "cancelled"), ("mail.send", "mail", "failed"),
    ]  # fmt: skip
    wrong = [
        ERROR, {**ERROR, "type": "ConnectionError", "message": "[Errno 111] hooks.example refused"},
        {**ERROR, "type": "HTTPError", "message": "503 Service Unavailable"},
    ]  # fmt: skip
    found = []
    for number in range(1, 91):
        kind, queue, state = kinds[number % len(kinds)]
        ago = (90 - number) * 7_300
        one = task(48_110 + number, state, kind, queue, created_at=START_MS - ago - 51_400)
        for name in ("started_at", "finished_at"):
            one[name] -= ago if one[name] else 0
        one["attempts"] = [[attempt, start - ago, end - ago, *rest] for attempt, start, end, *rest in one["attempts"]]
        if one["error"]:
            one["error"] = wrong[number % 3]
            one["attempts"] = [[*rest[:5], one["error"], rest[6]] for rest in one["attempts"]]
        if state == "failed":
            one["retries"] = one["attempt"] - 1
        one["payload"] = pack({"url": "https://hooks.example/in", "order": 7_000 + number, "api_key": "s3cret"})
        found.append(one)
    return found


def _history(monitor: Driven, args: Body) -> Body:
    """Ten minutes of each queue, or of all: floods of their own, and one that stands still since it was paused."""
    name, step, limit = args["queue"] or "", args["step_s"], args["limit"]
    until = monitor.clock.now_ms() // (step * 1000) * step * 1000
    seed = sum(map(ord, name)) + 3
    most = {"": 210, "default": 120, "mail": 60, "thumbs": 12, "webhooks": 9, "reports": 2, "billing": 20}.get(name, 1)
    low = {"": 0.4, "default": 0.5, "mail": 0.2}.get(name, 0.0)
    highest = {
        "added": most, "succeeded": most, "retried": most / 25, "pending": most * 60, "running": min(most, 64),
        "scheduled": most * 4, "retrying": most * 1.6, "dead": 37 * most / 210, "p50": 42, "p95": 412, "p99": 1900,
    }  # fmt: skip
    series = {key: course(720, high * low, high, seed + at)[-limit:] for at, (key, high) in enumerate(highest.items())}
    series |= {key: [round(value) for value in values] for key, values in series.items() if not key.startswith("p9")}
    series["failed"] = [int(value > 0.95 and name in ("", "mail")) for value in course(720, 0, 1, seed)[-limit:]]
    if name == "billing":
        since = min(182 // step, limit)
        series |= {key: [*series[key][: limit - since], *([0] * since)] for key in ("succeeded", "failed", "retried", "running")}
    return {"step_s": step, "until": until, "series": series}


def _serve(monitor: Driven) -> None:
    """Let one daemon answer for queues, dead letters, workers, schedules and tasks."""
    stock, crew = Stock(monitor.daemon), Crew()
    stock.types = [{"name": name, "queue": "default"} for name in ("mail.send", "thumb.make", "report.build")]
    dead = [stock.tasks(group["group"])[0] for group in stock.dead]
    crew.serve(monitor.daemon)
    runs = monitor.daemon.verbs["rows"]
    jobs = Jobs(monitor.daemon, tasks())
    rows, get, wanted = monitor.daemon.verbs["rows"], monitor.daemon.verbs["get"], {one["id"]: one for one in dead}

    def both(args: Body) -> Body:
        return {"rows": [a or b for a, b in zip(rows(args)["rows"], runs(args)["rows"], strict=True)]}

    monitor.daemon.verbs |= {
        "rows": both, "events": lambda _: {"events": []}, "history": lambda args: _history(monitor, args),
        "get": lambda args: {"tasks": [a or wanted.get(one) for a, one in zip(get(args)["tasks"], args["ids"], strict=True)]},
    }  # fmt: skip
    failing = {"failed", "retrying"}
    usual = jobs.matching
    jobs.matching = lambda args: (  # type: ignore[method-assign]
        [one for one in usual({}) if jobs.tasks[one]["state"] in failing] if args.get("where") else usual(args)
    )


def _plain(svg: str) -> str:
    """A picture that names only fonts of the machine it is looked at on, and never differs without a reason."""
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]+;", f"font-family: {FONTS};", svg)
    svg = svg.replace("font-size: 20px;", "font-size: 21px;")  # so high that blocks and lines of one row meet those of the next
    svg = re.sub(r"terminal-\d+-", "t-", svg)
    colours = dict(re.findall(r"\.(t-r\d+) \{ fill: (#\w+)", svg))

    def closed(found: re.Match[str]) -> str:
        return f'<text class="{found[1]}" stroke="{colours[found[1]]}" stroke-width="2.4"{found[2]}'

    svg = re.sub(r'<text class="(t-r\d+)"([^>]*>(?:[▁▂▃▄▅▆▇█]|&#160;)+</text>)', closed, svg)  # no font's blocks are as high as a row
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


async def shot(where: Path) -> dict[str, tuple[str, str]]:
    """By name: the picture, and the text that it shows. ``where``: an empty directory named tq."""
    found = {}
    scenario = stocked()
    figures = {"completed": 989_800, "failure_rate": 0.001, "p95": 0.18}
    scenario.totals["types"] = dict.fromkeys(("mail.send", "thumb.make", "report.build"), figures)
    async with driven(where, scenario, size=SIZE, start=False) as monitor:
        _serve(monitor)
        await monitor.daemon.start()
        await monitor.shows(1.5)
        for name, keys in PLACES.items():
            if name == "workflow":  # which asks for whole tasks, and for no others
                Flows(monitor.daemon, nightly())
            await monitor.press(*keys)
            for _ in range(4):
                states = scenario.totals["states"] | {"succeeded": scenario.totals["states"]["succeeded"] + 59}
                scenario.totals |= {"states": states, "completed": states["succeeded"]}
                monitor.daemon.tell_totals()
                await monitor.shows(0.5)
            found[name] = (_plain(monitor.app.export_screenshot(title="tq monitor")), text_of(monitor.app))
    return found


def main() -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        where = Path(home, "tq")
        where.mkdir()
        for name, (svg, _) in asyncio.run(shot(where)).items():
            (SCREENSHOTS / f"{name}.svg").write_text(svg, "utf-8")
            print(f"{name}.svg {len(svg.encode()) >> 10} KiB")


if __name__ == "__main__":
    main()
