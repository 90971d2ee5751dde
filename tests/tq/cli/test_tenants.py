"""``tq tenant list|show|set|remove`` and ``tq peek --tenant``, against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tq.cli.tenants import size
from tq.model import STATES

Run = Callable[..., tuple[int, str, str]]


def row(name: str | None, quotas: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    states = {**dict.fromkeys(STATES, 0), **changes.pop("states", {})}
    none = {"queued": None, "running": None, "per_day": None, "bytes": None}
    found = {"name": name, "weight": 1, "set": False, "quotas": {**none, **(quotas or {})}, "states": states, "waiting": 0, "bytes": 0}
    return {**found, "today": 0, "mean_ms": None, **changes}


def body(*rows: dict[str, Any], total: dict[str, Any] | None = None, after: str | None = None) -> dict[str, Any]:
    return {"tenants": list(rows), "total": total or row(None), "next": after}


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["--weight", "3"], {"weight": 3}),
        (["--queued", "10", "--running", "2", "--per-day", "1000"], {"queued": 10, "running": 2, "per_day": 1000}),
        (["--bytes", "10MiB"], {"bytes": 10 << 20}),
        (["--queued", "none", "--bytes", "none", "--running", "0"], {"queued": 0, "bytes": 0, "running": 0}),
    ],
)  # fmt: skip
def test_a_tenant_is_set_and_that_nothing_was_set_before_is_said(fake: Any, run: Run, words: list[str], sent: dict[str, Any]) -> None:
    fake.verbs["set_tenant"] = lambda _: {"new": True}
    code, out, err = run("tenant", "set", "acme", *words)
    assert (code, out) == (0, "")
    assert "for tenant acme nothing was set before" in err
    assert fake.asked("set_tenant") == [{"name": "acme", **sent}]


def test_what_is_changed_is_not_talked_about_and_no_setting_is_refused(fake: Any, run: Run) -> None:
    fake.verbs["set_tenant"] = lambda _: {"new": False}
    assert run("tenant", "set", "acme", "--weight", "2") == (0, "", "")
    code, out, err = run("tenant", "set", "acme")
    assert (code, out) == (2, "")
    assert "expected --weight or a quota, such as --queued 1000, got neither" in err


def test_tenants_are_listed_page_by_page_with_their_quotas_and_the_totals_last(fake: Any, run: Run) -> None:
    states = {"pending": 3, "running": 2, "succeeded": 7, "failed": 1}
    some: dict[str, Any] = {"states": states, "waiting": 3, "bytes": 2048, "mean_ms": 250.0}
    first = row("acme", {"queued": 10, "running": 2, "bytes": 10 << 20}, **some, today=4, weight=5)
    second = row("evil\x1b[31m", {"per_day": 9}, today=9)
    total = row(None, **some, today=13)
    pages = {None: body(first, total=total, after="acme"), "acme": body(second, total=total)}
    fake.verbs["tenants"] = lambda args: pages[args.get("after")]
    code, out, _ = run("tenant", "list")
    assert code == 0
    assert "\x1b" not in out
    header, *lines = [line.split() for line in out.splitlines()]
    assert header == ["tenant", "weight", "waiting", "running", "today", "bytes", "succeeded", "failed", "mean"]
    assert lines[0] == ["acme", "5", "3/10", "2/2", "4", "2.0", "KiB/10.0", "MiB", "7", "1", "250", "ms"]
    assert lines[1][1:] == ["1", "0", "0", "9/9", "0", "B", "0", "0", "-"]
    assert lines[2] == ["(all)", "-", "3", "2", "13", "2.0", "KiB", "7", "1", "250", "ms"]
    found = [json.loads(line) for line in run("tenant", "list", "--json")[1].splitlines()]
    assert [(one["name"], one["running"], one["mean"], one["today"]) for one in found][::2] == [("acme", 2, 0.25, 4), (None, 2, 0.25, 13)]
    assert found[0]["quotas"] == {"queued": 10, "running": 2, "per_day": None, "bytes": 10 << 20}


def test_one_tenant_is_shown_in_words(fake: Any, run: Run) -> None:
    states = {"pending": 2, "retrying": 1, "running": 2, "succeeded": 7, "expired": 1}
    one = row("acme\x07", {"queued": 10, "per_day": 5}, states=states, waiting=3, bytes=5, today=4, mean_ms=1500.0)
    fake.verbs["tenants"] = lambda _: body(one)
    code, out, _ = run("tenant", "show", "acme\x07")
    assert (code, fake.asked("tenants")) == (0, [{"name": "acme\x07"}])
    assert "\x07" not in out
    told = {line[2:11].strip(): line[12:] for line in out.splitlines()[1:]}
    assert told == {
        "weight": "1", "waiting": "3 of 10 (2 pending, 1 retrying)", "running": "2", "today": "4 of 5 accepted (UTC)",
        "bytes": "5 B of payload that is not over", "ended": "7 succeeded, 1 expired", "run time": "1.5 s on average",
    }  # fmt: skip
    assert json.loads(run("tenant", "show", "acme\x07", "--json")[1])["states"]["retrying"] == 1


def test_a_tenant_is_removed_and_none_is_said_to_be_none(fake: Any, run: Run) -> None:
    fake.verbs["remove_tenant"] = lambda _: {}
    fake.verbs["tenants"] = lambda _: body()
    assert run("tenant", "remove", "acme") == (0, "", "")
    assert fake.asked("remove_tenant") == [{"name": "acme"}]
    assert "no tenants yet" in run("tenant", "list")[2]


def test_a_peek_asks_for_those_of_a_tenant(fake: Any, run: Run) -> None:
    fake.verbs["peek"] = lambda _: {"tasks": []}
    assert run("peek", "--tenant", "acme", "--json") == (0, "", "")
    assert fake.asked("peek") == [{"limit": 10, "tenant": "acme"}]


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (5 << 50, "5120.0 TiB")]
)
def test_bytes_are_written_as_people_read_them(count: int, words: str) -> None:
    assert size(count) == words
