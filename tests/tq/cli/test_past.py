"""``tq stats --history`` against a daemon of paper: which steps are asked for, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tq.history import COUNTS, GAUGES, KEPT, TIMES

Run = Callable[..., tuple[int, str, str]]
AT = 1_893_456_000_000  # 2030-01-01T00:00:00Z


@pytest.fixture
def asked(fake: Any) -> list[dict[str, Any]]:
    """What was asked for: each bucket's ``added`` is the number of its step before AT; every second has nothing else."""
    found: list[dict[str, Any]] = []

    def answer(args: dict[str, Any]) -> dict[str, Any]:
        found.append(args)
        step, until = args["step_s"] * 1000, args["until"] or AT
        series: dict[str, list[int | None]] = {name: [2] * args["limit"] for name in (*COUNTS, *GAUGES, *TIMES)}
        series["added"] = [(AT - until) // step + back for back in range(args["limit"], 0, -1)]
        series["p95"] = [None if back % 2 else 1500 for back in range(args["limit"], 0, -1)]
        return {"step_s": args["step_s"], "until": until, "series": series}

    fake.verbs["history"] = answer
    return found


@pytest.mark.parametrize(
    ("span", "step", "rows"),
    [("1s", 1, 1), ("2m", 1, 120), ("121s", 10, 13), ("20m", 10, 120), ("2h", 60, 120), ("1d", 600, 144), ("30d", 600, 4320)],
)
def test_the_steps_are_those_that_are_kept_for_so_long(asked: list[dict[str, Any]], run: Run, span: str, step: int, rows: int) -> None:
    code, out, _ = run("stats", "--history", span, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, len(found)) == (0, rows)
    assert {one["step_s"] for one in asked} == {step}
    assert max(one["limit"] for one in asked) <= 720
    assert rows <= KEPT[step]
    assert [one["added"] for one in found] == list(range(rows, 0, -1))  # oldest first, none twice, none left out
    assert found[-1]["at"] == {1: "2029-12-31T23:59:59.000Z", 10: "2029-12-31T23:59:50.000Z", 60: "2029-12-31T23:59:00.000Z"}.get(
        step, "2029-12-31T23:50:00.000Z"
    )


def test_a_line_has_rates_and_times_of_people_and_json_has_seconds(asked: list[dict[str, Any]], run: Run) -> None:
    code, out, _ = run("stats", "--history", "200s", "-q", "mail")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["time", "added/s", "done/s", "failed/s", "retried/s", "pending", "running", "p50", "p95"]
    assert lines[-2].split() == ["2029-12-31T23:59:40", "0.2", "0.2", "0.2", "0.2", "2", "2", "2", "ms", "1.5", "s"]
    assert lines[-1].split() == ["2029-12-31T23:59:50", "0.1", "0.2", "0.2", "0.2", "2", "2", "2", "ms", "-"]
    assert [one["queue"] for one in asked] == ["mail"]
    last = json.loads(run("stats", "--history", "200s", "--json")[1].splitlines()[-1])
    assert last == {
        "at": "2029-12-31T23:59:50.000Z", "seconds": 10, "added": 1, "succeeded": 2, "failed": 2, "retried": 2, "pending": 2, "running": 2,
        "scheduled": 2, "retrying": 2, "dead": 2, "p50": 0.002, "p95": None, "p99": 0.002,
    }  # fmt: skip


def test_time_without_a_daemon_is_dashes_and_null(fake: Any, run: Run) -> None:
    fake.verbs["history"] = lambda args: {
        "until": AT, "series": {name: [None] * args["limit"] for name in (*COUNTS, *GAUGES, *TIMES)},
    }  # fmt: skip
    assert run("stats", "--history", "1s")[1].splitlines()[-1].split() == ["2029-12-31T23:59:59", *["-"] * 8]
    assert json.loads(run("stats", "--history", "1s", "--json")[1])["pending"] is None


@pytest.mark.parametrize("words", [["--queue", "mail"], ["--history", "500ms"], ["--history", "30d1s"]])
def test_what_cannot_be_shown_is_said_before_anything_is_asked_for(asked: list[dict[str, Any]], run: Run, words: list[str]) -> None:
    code, out, err = run("stats", *words)
    assert (code, out) == (2, "")
    assert "expected" in err
    assert not asked
