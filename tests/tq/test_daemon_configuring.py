"""tq.daemon.configuring: settings told and changed while the daemon runs, through its verbs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.frames import House
from tq import wire
from tq.config.editing import Sources
from tq.daemon.configuring import Book

FILE = "# ours\n[workers]\nslots = 2 # two\n[queues.mail]\nslots = 3\n[alerts.late]\nwatch = 'oldest_wait'\nabove = '1h'\nrun = 'https://u:p@host/'\n"


class Instance:
    """A daemon without workers whose settings come from a file, two variables and a command line."""

    def __init__(self, where: Path) -> None:
        self.file = where / "tq.toml"
        self.house = House(where, slots=2, grace_s=7.0)
        sources = Sources({"data_dir": str(where), "workers": 0, "map_size": 64 << 20}, {"TQ_GRACE_S": "7", "XDG_CONFIG_HOME": str(where)})
        self.house._book = Book(sources, sources.load()[1])
        self.house._settings = sources.load()[0]
        self.sizes: list[tuple[int, int]] = []
        pool: Any = self.house._pool
        pool.set_sizes = lambda low, high, _: self.sizes.append((low, high))
        self.client = self.house.connect()

    def ask(self, verb: str, **args: Any) -> Any:
        """The body of an answer."""
        kind, body = self.house.ask(self.client, verb, **args)
        assert kind == wire.ANSWER, body
        return body

    def refused(self, verb: str, **args: Any) -> list[Any]:
        """Code, message and details of a refusal."""
        kind, body = self.house.ask(self.client, verb, **args)
        assert kind == wire.ERROR, body
        found: list[Any] = body
        return found

    @property
    def got(self) -> Any:
        return self.ask("config", ask="get")

    def row(self, key: str) -> dict[str, Any]:
        return next(one for one in self.got["options"] if one["key"] == key)

    def set(self, **changes: object) -> Any:
        return self.ask("configure", changes={key.replace("__", "."): one for key, one in changes.items()}, revision=self.got["revision"])


@pytest.fixture
def one(data_dir: Path) -> Iterator[Instance]:
    (data_dir / "tq.toml").write_text(FILE)
    made = Instance(data_dir)
    yield made
    made.house.close()


def test_each_value_says_who_said_it_and_secrets_are_masked(one: Instance) -> None:
    assert one.row("workers.slots") == {
        "key": "workers.slots", "value": "2", "source": "file", "from": str(one.file), "file": "2", "next": None,
    }  # fmt: skip
    rows = {row["key"]: (row["value"], row["source"], row["from"]) for row in one.got["options"]}
    assert rows["daemon.grace"] == ("7s", "environment", "TQ_GRACE_S")
    assert rows["workers.count"] == ("0", "command line", "the command line")
    assert rows["retention.failed"] == ("30d", "default", "")
    assert rows["daemon.app"] == ("", "default", "")
    assert rows["logging.level"] == ("warning", "runtime", "")  # as by the verb that changes it while it runs
    assert {"key": "queues.mail.slots", "value": "3"} in one.got["named"]
    assert {"key": "alerts.late.run", "value": "***"} in one.got["named"]
    assert len(one.ask("config", ask="schema")["options"]) == len(rows)


def test_a_change_is_in_the_file_in_force_if_it_can_be_and_remembered(one: Instance) -> None:
    before = one.got["revision"]
    told = one.set(logging__level="debug", retention__finished="2d", daemon__grace="9s", workers__recycle="5", workers__min="1")
    assert told == {
        "revision": one.got["revision"], "applied": ["workers.recycle", "logging.level"], "waits": ["retention.finished"],
        "wins": {"daemon.grace": "TQ_GRACE_S", "workers.min": "the command line"},
    }  # fmt: skip
    assert told["revision"] != before
    text = one.file.read_text()
    assert text.startswith("# ours\n[workers]\nslots = 2 # two\nrecycle = 5\nmin = 1\n[queues.mail]\n")
    assert one.row("retention.finished")["value"] == "7d"
    assert one.row("retention.finished")["next"] == "2d"
    assert (one.row("logging.level")["value"], one.row("logging.level")["source"]) == ("debug", "file")
    assert (one.house._log.level, one.house._pool._recycle_after) == ("debug", 5)
    (event,) = one.ask("events", limit=1)["events"]
    assert (event["what"], event["target"], event["who"], event["before"]) == ("configured", "settings", "user 0 (pid 1)", {})
    assert event["after"]["retention.finished"] == "2d"
    assert one.set(retention__finished="")["waits"] == []
    assert "finished" not in one.file.read_text()


def test_output_beyond_a_new_bound_is_looked_for_at_once_and_workers_follow(one: Instance) -> None:
    one.house._sweeper.due_at = None
    one.set(retention__logs="1M")
    assert (one.house._sweeper.most, one.house._sweeper.due_at is None) == (1 << 20, False)
    assert one.sizes == []
    one.set(workers__count="3")  # by a daemon whose command line says otherwise, which wins
    assert one.sizes == [(0, 0)]
    assert one.row("workers.count")["file"] == "3"


def test_who_changes_another_revision_is_told_what_it_says_now(one: Instance) -> None:
    revision = one.got["revision"]
    one.file.write_text(FILE.replace("slots = 2 # two", "slots = 4"))
    code, message, details = one.refused("configure", changes={"workers.slots": 8, "daemon.app": "x"}, revision=revision)
    assert code == "refused"
    assert "changed meanwhile" in message
    assert details == {"revision": one.got["revision"], "now": {"workers.slots": "4", "daemon.app": None}}
    assert "slots = 4" in one.file.read_text()
    assert one.row("workers.slots")["next"] == "4"


def test_what_would_keep_the_next_start_from_starting_is_not_written(one: Instance) -> None:
    revision = one.got["revision"]
    for changes, key, reason in (
        ({"workers.slots": "many"}, "workers.slots", "expected a whole number of tasks, 1 to 4096, got 'many'"),
        (
            {"daemon.max_payload": "9M"},
            "daemon.max_payload",
            "expected at most max_frame - 64 KiB = 983040, got 9437184. Raise max_frame too.",
        ),
    ):
        assert one.ask("config", ask="validate", changes=changes) == {"errors": [{"key": key, "reason": reason}]}
        code, message, details = one.refused("configure", changes=changes, revision=revision)
        assert (code, message, details) == ("config", f"{key}: {reason}", {"errors": [{"key": key, "reason": reason}]})
    assert one.ask("config", ask="validate", changes={"daemon.max_payload": "9M", "daemon.max_frame": "10M"}) == {"errors": []}
    assert one.file.read_text() == FILE


def test_a_file_that_cannot_be_used_is_told_and_not_touched(one: Instance) -> None:
    one.file.write_text("[workers\n")
    told = one.got
    assert "expected TOML" in told["problem"]
    assert {row["next"] for row in told["options"]} == {None}
    assert "expected TOML" in one.refused("configure", changes={"workers.slots": 8}, revision=told["revision"])[1]
    one.file.write_text("[queues.mail]\nslotz = 3\n")
    assert "got 'slotz'" in one.got["problem"]
    assert "got 'slotz'" in one.refused("configure", changes={"workers.slots": 8}, revision=one.got["revision"])[1]
    one.file.chmod(0o666)
    assert "only its owner" in one.got["problem"]
    assert one.file.read_text() == "[queues.mail]\nslotz = 3\n"


def test_a_reader_may_look_and_check_but_not_change(one: Instance) -> None:
    reader = one.house.connect(greet=False)
    one.house.take(reader, wire.frame([0, "hello", {"protocol": wire.PROTOCOL, "client": "paper", "read_only": True}]))
    assert one.house.ask(reader, "config", ask="get")[0] == wire.ANSWER
    assert one.house.ask(reader, "config", ask="validate", changes={"workers.slots": 3}) == [wire.ANSWER, {"errors": []}]
    assert one.house.ask(reader, "configure", changes={"workers.slots": 3}, revision="x")[1][0] == "not_allowed"


@pytest.mark.parametrize(
    "changes", [{}, {"workers.slots": True}, {"workers.slots": [1]}, {"daemon.app": "x" * 5000}, {b"workers.slots": 1}]
)
def test_changes_that_are_none_are_refused(one: Instance, changes: dict[Any, object]) -> None:
    assert one.refused("config", ask="validate", changes=changes)[0] == "usage"
    assert one.refused("config", ask="everything")[0] == "usage"


def test_a_daemon_that_drains_takes_no_changes(one: Instance) -> None:
    one.house._draining = True
    assert one.refused("configure", changes={"workers.slots": 3}, revision=one.got["revision"])[0] == "refused"
    one.house._draining = False
