"""``tq limit list|set|remove`` and ``--flow``, against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]


def limit(name: str, **changes: Any) -> dict[str, Any]:
    row = {"name": name, "scope": "type", "of": "email", "rate": 100, "per_ms": 60_000, "burst": 1, "running": 0, "used": []}
    follows = {"adaptive": "none", "low": 0, "high": 0, "latency_ms": 0, "failures": 0, "factor": 0, "each": "none"}
    return {**row, "window": "none", **follows, **changes}


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["--type", "t", "--rate", "500/s", "--burst", "9"], {"scope": "type", "of": "t", "rate": 500, "per_ms": 1000, "burst": 9}),
        (["--queue", "q", "--running", "3"], {"scope": "queue", "of": "q", "running": 3}),
        (["--each", "flow", "--rate", "5/10s"], {"scope": "flow", "rate": 5, "per_ms": 10_000}),
        (["--tenant", "acme", "--rate", "7/h"], {"scope": "tenant", "of": "acme", "rate": 7, "per_ms": 3_600_000}),
        (["--rate", "0"], {"rate": 0}),
        (["--rate", "9/m", "--window", "fixed"], {"rate": 9, "per_ms": 60_000, "window": "fixed"}),
        (["--window", "none"], {"window": "none"}),
        (["--type", "t", "--each", "worker", "--running", "2"], {"scope": "type", "of": "t", "each": "worker", "running": 2}),
        (["--running", "1..50", "--adaptive"], {"adaptive": "running", "low": 1, "high": 50}),
        (["--rate", "1/m..5/m", "--adaptive", "--burst", "3"], {"adaptive": "rate", "low": 1, "high": 5, "per_ms": 60_000, "burst": 3}),
        (["--latency", "2s", "--failures", "5%", "--factor", "0.5"], {"latency_ms": 2000, "failures": 5, "factor": 50}),
    ],
)  # fmt: skip
def test_a_limit_is_set_and_a_new_one_is_said(fake: Any, run: Run, words: list[str], sent: dict[str, Any]) -> None:
    fake.verbs["set_limit"] = lambda _: {"new": True}
    assert run("limit", "set", "l", *words) == (0, "", "limit l is new. `tq limit list` shows whom it holds.\n")
    assert fake.asked("set_limit") == [{"name": "l", **sent}]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--queue", "q"], "expected --rate 500/s, --running 10 or both"),
        (["--queue", "q", "--type", "t", "--running", "1"], "expected one of --queue"),
        (["--each", "type", "--running", "1"], "--each: expected tenant, flow or worker"),
        (["--each", "worker", "--running", "1"], "--each worker: expected --type or --queue beside it"),
        (["--each", "worker", "--tenant", "a", "--running", "1"], "--each worker: expected --type or --queue beside it"),
        (["--type", "t", "--rate", "5"], "--rate: expected so many in a time"),
        (["--type", "t", "--rate", "5/s", "--window", "round"], "--window: expected sliding, fixed or none, got 'round'"),
        (["--type", "t", "--running", "1..5"], "--running: expected one number, or a range such as 1..5 beside --adaptive"),
        (["--type", "t", "--running", "5", "--adaptive"], "--adaptive: expected one range, --running 1..50 or --rate 10/s..500/s, got"),
        (["--type", "t", "--running", "1..5", "--rate", "1/s..2/s", "--adaptive"], "--adaptive: expected one range"),
        (["--type", "t", "--rate", "1/s..2/m", "--adaptive"], "--rate: expected two rates in the same time"),
        (["--type", "t", "--running", "1..x", "--adaptive"], "--running"),
        (["--type", "t", "--rate", "soon"], "--rate: expected so many in a time, such as 500/s, 100/m or 5/10s, got 'soon'"),
        (["--type", "t", "--rate", "5/fortnight"], "--rate: expected"),
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused_before_it_is_sent(fake: Any, run: Run, words: list[str], says: str) -> None:
    code, out, err = run("limit", "set", "l", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert not fake.asked("set_limit")


def test_limits_are_listed_with_whom_they_hold(fake: Any, run: Run) -> None:
    used = [{"of": key, "running": 1, "tokens": None, "reached": True, "opens_at": 0} for key in ("a", "b\x1b")]
    free = {"of": "email", "running": 2, "tokens": 3, "reached": False, "opens_at": 0}
    rows = [limit("each", scope="flow", of=None, rate=0, running=1, used=used), limit("mail", used=[free])]
    shares = [{"of": name, "running": 2, "tokens": None, "reached": name == "w1", "opens_at": 0} for name in ("w1", "w2")]
    rows.append(limit("here", rate=0, running=2, each="worker", used=shares))
    rows += [limit("win", window="sliding"), limit("aimd", rate=0, running=7, adaptive="running", low=1, high=50)]
    fake.verbs["limits"] = lambda _: {"limits": rows}
    code, out, _ = run("limit", "list")
    assert code == 0
    assert "\x1b" not in out
    each, mail, here, win, aimd = [line.split() for line in out.splitlines()[-5:]]
    assert here == ["here", "type", "email,", "each", "worker", "-", "-", "2", "4", "w1"]
    assert aimd[5:7] == ["7", "(1..50)"]
    assert each[:7] == ["each", "each", "flow", "key", "-", "-", "1"]
    assert mail == ["mail", "type", "email", "100/m", "1", "-", "2", "-"]
    assert win[:5] == ["win", "type", "email", "100/m", "sliding"]
    assert [json.loads(line)["used"] for line in run("limit", "list", "--json")[1].splitlines()][1] == [{**free, "opens_at": None}]


def test_what_the_settings_file_sets_again_is_said(fake: Any, run: Run) -> None:
    fake.verbs |= {"set_limit": lambda _: {"new": False, "declared": True}, "remove_limit": lambda _: {"declared": True}}
    says = "the settings file has limit l: it is set again as that says when the daemon starts. `tq config path`\n"
    assert run("limit", "set", "l", "--running", "2") == (0, "", says)
    assert run("limit", "remove", "l") == (0, "", says)


def test_a_limit_is_removed_and_none_is_said_to_be_none(fake: Any, run: Run) -> None:
    fake.verbs["remove_limit"] = lambda _: {}
    fake.verbs["limits"] = lambda _: {"limits": []}
    assert run("limit", "remove", "l") == (0, "", "")
    assert fake.asked("remove_limit") == [{"name": "l"}]
    assert "no limits yet" in run("limit", "list")[2]


def test_a_task_names_its_flow_key(fake: Any, run: Run) -> None:
    fake.verbs["enqueue"] = lambda _: {"ids": [1]}
    assert run("enqueue", "--type", "t", "--flow", "acme")[0] == 0
    assert fake.asked("enqueue")[0]["tasks"][0][2]["flow"] == "acme"
