"""Queues in the settings file: what tables mean, what a daemon's start makes of them, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker.declared import declared_queues
from tq.broker.resources import declared_resources
from tq.config import load_settings
from tq.config.settings import Settings
from tq.config.tables import TABLES
from tq.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tq.toml"


def queue(d: Driver, name: str) -> dict[str, Any]:
    return next(row for row in d.ask("queues")["queues"] if row["name"] == name)


def test_the_example_says_every_setting_and_none_but_its_queues_resources_and_alerts_differs_from_the_default(data_dir: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    (data_dir / "tq.toml").write_text(text)
    settings = load_settings({"data_dir": data_dir}, {})
    plain = Settings(data_dir=data_dir, file=settings.file)
    assert replace(settings, queues={}, alerts={}, resources={}) == plain
    assert declared_resources(EXAMPLE, settings.resources) == {"gpu": 2, "licence": 1}
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
