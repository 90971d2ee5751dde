"""Settings and a real daemon: changed through its socket, in force at once or after a restart, and whoever sets them told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.living import Daemon, wait_until
from tq import Client
from tq.errors import NotAllowed, Refused

pytestmark = pytest.mark.flow


def test_a_change_counts_at_once_or_waits_for_a_restart_and_an_old_revision_is_refused(data_dir: Path) -> None:
    file = data_dir / "tq.toml"
    file.write_text("# ours\n[workers]\ncount = 1  # one is enough\n")
    one = Daemon(data_dir, {"TQ_GRACE_S": "3"})
    del one.options["workers"]
    try:
        one.start()
        with Client(data_dir) as client:
            told = client.call("config", {"ask": "get"})
            changes = {"workers.count": "2", "retention.finished": "2d", "daemon.grace": "9s"}
            done = client.call("configure", {"changes": changes, "revision": told["revision"]})
            assert done["applied"] == ["workers.count"]
            assert done["waits"] == ["retention.finished"]
            assert done["wins"] == {"daemon.grace": "TQ_GRACE_S"}
            assert file.read_text().startswith("# ours\n[workers]\ncount = 2  # one is enough\n")
            wait_until(lambda: len(client.call("workers", {})["workers"]) == 2, 20)
            with pytest.raises(Refused, match="changed meanwhile") as caught:
                client.call("configure", {"changes": changes, "revision": told["revision"]})
            assert caught.value.details["now"] == {"workers.count": "2", "retention.finished": "2d", "daemon.grace": "9s"}
            assert row(client, "retention.finished") == ("7d", "default", "2d")
            client.call("hello", {"protocol": 1, "client": "test", "read_only": True})
            with pytest.raises(NotAllowed):
                client.call("configure", {"changes": changes, "revision": done["revision"]})
        one.restart()
        with Client(data_dir) as client:
            assert row(client, "retention.finished") == ("2d", "file", None)
            assert row(client, "daemon.grace") == ("3s", "environment", None)
            assert len(client.call("workers", {})["workers"]) == 2
            assert [event["what"] for event in client.call("events", {"limit": 5})["events"]] == ["configured"]
    finally:
        left = one.end()
    assert left == []


def row(client: Client, key: str) -> tuple[Any, ...]:
    """Value, source and the next value of a setting."""
    found = next(one for one in client.call("config", {"ask": "get"})["options"] if one["key"] == key)
    return found["value"], found["source"], found["next"]
