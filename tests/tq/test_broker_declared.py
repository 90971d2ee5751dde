"""Queues in the settings file: what tables mean, what a daemon's start makes of them, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker.declared import declared_queues
from tq.broker.declared_limits import declared_limits
from tq.broker.resources import declared_resources
from tq.config import load_settings
from tq.config.settings import Settings
from tq.config.tables import TABLES
from tq.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tq.toml"


def queue(d: Driver, name: str) -> dict[str, Any]:
    return next(row for row in d.ask("queues")["queues"] if row["name"] == name)


def test_the_example_says_every_setting_and_only_what_it_names_itself_differs_from_the_default(data_dir: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    (data_dir / "tq.toml").write_text(text)
    settings = load_settings({"data_dir": data_dir}, {})
    plain = Settings(data_dir=data_dir, file=settings.file)
    assert replace(settings, queues={}, alerts={}, limits={}, resources={}) == plain
    assert declared_resources(EXAMPLE, settings.resources) == {"gpu": 2, "licence": 1}
    assert declared_limits(EXAMPLE, settings.limits) == {
        "mail": {"scope": "type", "of": "mail.send", "rate": 100, "per_ms": 60_000, "window": "sliding"},
        "shop": {
            "scope": "queue", "of": "shop", "adaptive": "running", "low": 1, "high": 50, "latency_ms": 2000, "failures": 10, "factor": 90,
        },
    }  # fmt: skip
    for keys in TABLES.values():
        assert [key for key in keys if f"\n{key} = " not in text and f"\n# {key} = " not in text] == []
    mail = declared_queues(EXAMPLE, settings.queues)["mail"]
    assert mail == {
        "slots": 4, "retries": 5, "backoff": ["linear", 10_000, 2.0, 600_000, True], "timeout_ms": 30_000, "max_tasks": 100_000,
        "keep_ms": 2 * 86_400_000, "routes": ["mail.*"],
    }  # fmt: skip
    night = declared_queues(EXAMPLE, settings.queues)["night shift"]
    assert {key: value for key, value in night.items() if key.startswith("hold_")} == {
        "hold_load": 4.0, "hold_memory": 2 << 30, "hold_probe": "test ! -e /run/backup.pid", "hold_every_ms": 30_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"wieght": 2}, r"tq\.toml: \[queues\.q\]: expected a setting of a queue, got 'wieght'\. Did you mean 'weight'"),
        ({"max_retry": 2}, "Did you mean 'max_retries'"),
        ({"zzz": 1}, "The settings of a queue are: external, weight,"),
        ({"paused": True}, "got 'paused'"),
        ({"workers": 2, "slots": 3}, "expected slots once"),
        ({"workers": "many"}, "slots: expected int, got 'many'"),
        ({"weight": 0}, "weight: expected a number from 1 to 100, got 0"),
        ({"default_timeout": "soon"}, "timeout: expected a duration"),
        ({"hold_load": 0}, "hold_load: expected a load average above 0"),
        ({"hold_load": "high"}, "hold_load: expected float, got 'high'"),
        ({"hold_memory": "much"}, "hold_memory: expected a size such as 500M"),
        ({"hold_probe": ["true"]}, "hold_probe: expected str"),
        ({"hold_every": "10ms"}, "hold_every_ms: expected a number from 100"),
        ({"hold_prob": "true"}, "Did you mean 'hold_probe'"),
        ({"retry_strategy": "steep"}, "backoff: expected fixed, linear, exponential"),
        ({"retry_strategy": "steep", "max_delay": "1s"}, "expected fixed, linear, exponential"),
        ({"jitter": 1}, "jitter: expected true or false"),
        ({"route": "a.*"}, "route: expected a list of patterns"),
    ],
)
def test_a_table_that_cannot_be_names_the_file_the_queue_and_the_key(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        declared_queues("tq.toml", {"q": table})


def test_the_file_holds_from_each_start_on_and_leaves_the_rest_as_it_was_set(d: Driver) -> None:
    d.ask("set_queue", name="mail", slots=9, weight=7)
    d.broker.declare({"mail": {"slots": 2}, "new": {"retries": 4}}, {}, "/etc/tq.toml", d.now)
    assert (queue(d, "mail")["slots"], queue(d, "mail")["weight"], queue(d, "new")["retries"]) == (2, 7, 4)
    assert d.ask("set_queue", name="mail", slots=5) == {"new": False, "declared": ["slots"]}
    assert d.ask("set_queue", name="mail", weight=3) == {"new": False}
    row = queue(d, "mail")
    assert (row["slots"], row["declared"], d.ask("queues")["file"]) == (5, {"slots": 2}, "/etc/tq.toml")
    d.reopen()
    assert queue(d, "mail")["slots"] == 5  # a start without that file
    d.broker.declare({"mail": {"slots": 2}}, {"mail": {"slots": 2}}, "/etc/tq.toml", d.now)
    assert (queue(d, "mail")["slots"], queue(d, "mail")["weight"]) == (2, 3)
    last = d.ask("events", limit=1)["events"][0]
    assert (last["who"], last["what"], last["target"], last["after"]) == ("/etc/tq.toml", "set_queue", "mail", {"slots": 2})


def test_what_the_file_says_no_more_has_its_default_again_unless_it_was_set_since(d: Driver) -> None:
    first: dict[str, dict[str, Any]] = {"mail": {"slots": 2, "retries": 1, "routes": ["a.*"]}, "other": {"weight": 5}}
    d.broker.declare(first, {}, "f", d.now)
    d.ask("set_queue", name="mail", retries=8)
    d.reopen()
    d.broker.declare({}, first, "f", d.now)
    row = queue(d, "mail")
    assert (row["slots"], row["retries"], list(row["routes"]), queue(d, "other")["weight"]) == (0, 8, [], 1)
    assert "declared" not in row
    d.broker.declare({}, {"mail": {"nonsense": 1}}, "f", d.now)  # somebody wrote into what the daemon remembered


def test_a_start_that_changes_nothing_writes_no_event(d: Driver) -> None:
    said = {"mail": {"routes": ["a.*"], "backoff": ["fixed", 1, 1.0, 1, True], "slots": 1}}
    d.broker.declare(said, {}, "f", d.now)
    before = d.ask("events", limit=10)["events"]
    d.reopen()
    d.broker.declare(said, said, "f", d.now)
    assert d.ask("events", limit=10)["events"] == before


# limits


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"type": "t", "rat": "5/s"}, r"tq\.toml: \[limits\.l\]: expected a setting of a limit, got 'rat'\. Did you mean 'rate'"),
        ({"type": "t", "zzz": 1}, "The settings of a limit are: queue, type, tenant, each, rate, running, adaptive, burst"),
        ({"rate": "5/s"}, "expected one of queue, type, tenant, each, got none"),
        ({"type": "t", "queue": "q", "rate": "5/s"}, "got queue and type"),
        ({"each": "type", "rate": "5/s"}, "each: expected tenant, flow or worker, got 'type'"),
        ({"each": "worker", "rate": "5/s"}, "expected one of queue, type, tenant, each, got none"),
        ({"each": "worker", "tenant": "a", "rate": "5/s"}, "each: expected none, or worker with a queue or a type"),
        ({"type": "t"}, "expected a rate, or how many may be running"),
        ({"type": "t", "rate": 5}, "rate: expected so many in a time, such as 500/s, 100/m or 5/10s, got 5"),
        ({"type": "t", "rate": "5/s", "window": "round"}, "window: expected one of none, fixed, sliding"),
        ({"type": "t", "rate": "5/s", "latency": "2s"}, "latency_ms: expected it with a limit that is adaptive"),
        ({"type": "t", "running": "1..5"}, "adaptive: expected true beside a range"),
        ({"type": "t", "running": 5, "adaptive": True}, "adaptive: expected one range"),
        ({"type": "t", "running": 5, "adaptive": "yes"}, "adaptive: expected true or false, got 'yes'"),
        ({"type": "t", "running": "1..x", "adaptive": True}, r"running: expected two whole numbers, such as 1\.\.50"),
        ({"type": "t", "running": "1..5", "adaptive": True, "factor": 2}, "factor: expected a number from 0.01 to 0.99, got 2"),
        ({"type": "t", "running": "1..5", "adaptive": True, "failures": "many"}, "failures: expected so many in a hundred"),
        ({"type": "t", "running": "1..5", "adaptive": True, "latency": "soon"}, "latency: expected a duration"),
        ({"type": "t", "running": "many"}, "running: expected int, got 'many'"),
        ({"type": 7, "running": 1}, "of: expected str, got 7"),
    ],
)
def test_a_table_that_is_no_limit_is_refused_with_its_place(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        declared_limits("tq.toml", {"l": table})


def test_no_more_limits_are_declared_than_there_may_be() -> None:
    with pytest.raises(ConfigError, match="expected at most 100 limits, got 101"):
        declared_limits("tq.toml", {f"l{number}": {"type": "t", "running": 1} for number in range(101)})


def test_declared_limits_are_set_changed_and_gone_unless_somebody_changed_them(d: Driver) -> None:
    def there() -> dict[str, tuple[int, int]]:
        return {row["name"]: (row["rate"], row["running"]) for row in d.ask("limits")["limits"]}

    first = declared_limits("tq.toml", {"mail": {"type": "t", "rate": "5/s"}, "own": {"type": "u", "running": 3}})
    d.broker.declare_limits(first, {}, "/etc/tq.toml", d.now)
    assert (there(), d.ask("limits")["file"]) == ({"mail": (5, 0), "own": (0, 3)}, "/etc/tq.toml")
    assert d.ask("set_limit", name="own", running=4) == {"new": False, "declared": True}
    second = declared_limits("tq.toml", {"each": {"each": "flow", "running": 1}})
    d.broker.declare_limits(second, first, "/etc/tq.toml", d.now)
    assert there() == {"each": (0, 1), "own": (0, 4)}, "what a person changed stays"
    assert d.ask("remove_limit", name="each") == {"declared": True}
    assert d.ask("remove_limit", name="own") == {}
    said = [(one["what"], one["target"], one["who"]) for one in d.ask("events", limit=99)["events"]]
    assert ("remove_limit", "limit mail", "/etc/tq.toml") in said
    d.broker.declare_limits(first, second, "/etc/tq.toml", d.now)
    count = len(d.ask("events", limit=99)["events"])
    d.broker.declare_limits(first, first, "/etc/tq.toml", d.now)
    assert len(d.ask("events", limit=99)["events"]) == count, "what is so already is no event"


def test_a_declared_limit_that_follows_the_work_stays_where_it_stands(d: Driver) -> None:
    table = {"type": "t", "running": "1..50", "adaptive": True}
    first = declared_limits("tq.toml", {"l": table})
    d.broker.declare_limits(first, {}, "f", d.now)
    d.ask("set_limit", name="l", low=7)
    d.broker.declare_limits(first, first, "f", d.now)
    (row,) = d.ask("limits")["limits"]
    assert (row["running"], row["low"]) == (7, 1)
    d.broker.declare_limits(declared_limits("tq.toml", {"l": {**table, "running": "9..10"}}), first, "f", d.now)
    assert d.ask("limits")["limits"][0]["running"] == 9
    d.broker.declare_limits({}, declared_limits("tq.toml", {"l": {**table, "running": "9..10"}}), "f", d.now)
    assert d.ask("limits") == {"limits": []}
