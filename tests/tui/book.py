"""What the fake daemon says of its settings, for the tests of their screen.

For: ``Book``, which answers ``config`` and ``configure`` for a FakeDaemon: some settings from a file, a variable and a verb.
Not for: what the real daemon answers (tests of its verbs), reading and writing files (tests of config.editing).
Runs in: pytest.
Promises: the same settings each time, on any machine; what is checked is checked as the daemon does.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.tui.fake import Body, Driven, FakeDaemon, busy, driven
from tq.config import editing
from tq.errors import Refused

FILE = "/data/tq/tq.toml"
SCHEMA = [{**row, "default": "4"} if row["key"] == "workers.count" else row for row in editing.schema()]  # which depends on the machine
DEFAULTS = {row["key"]: row["default"] for row in SCHEMA}
LIVE = {row["key"] for row in SCHEMA if row["live"]}


class Book:
    """The settings of a daemon: ``file`` is what its file says, ``force`` what is in force where that is another."""

    def __init__(self) -> None:
        self.file = {"workers.count": "6", "workers.slots": "2", "retention.finished": "2d", "daemon.app": "shop.tasks"}
        self.force = {"retention.finished": "7d", "logging.level": "debug"}
        self.said = {"daemon.grace": ("environment", "TQ_GRACE_S"), "logging.level": ("runtime", "")}
        self.values = {"daemon.grace": "7s"}
        self.named = [("queues.mail.slots", "8"), ("queues.mail.keep", "1h"), ("alerts.deep.run", "***"), ("monitor.theme", "tq-light")]
        self.problem = ""
        self.exists = True

    def empty(self) -> None:
        """Nobody has said anything."""
        self.file, self.force, self.said, self.values, self.named, self.exists = {}, {}, {}, {}, [], False

    @property
    def revision(self) -> str:
        return f"r{zlib.crc32(repr(sorted(self.file.items())).encode()):08x}"

    def serve(self, daemon: FakeDaemon) -> None:
        """Answer what this one knows."""
        daemon.verbs |= {"config": self._config, "configure": self._configure}
        self.daemon = daemon

    def _config(self, args: Body) -> Body:
        if args["ask"] == "schema":
            return {"options": SCHEMA}
        if args["ask"] == "validate":
            return {"errors": [{"key": key, "reason": reason} for key, reason in editing.problems(args["changes"])]}
        named = [{"key": key, "value": value} for key, value in self.named]
        return {
            "revision": self.revision, "file": FILE, "exists": self.exists, "problem": self.problem, "named": named,
            "options": [self._row(key) for key in DEFAULTS],
        }  # fmt: skip

    def _row(self, key: str) -> Body:
        upcoming = self.values.get(key) or self.file.get(key, DEFAULTS[key])
        value = self.force.get(key, upcoming)
        source = "file" if key in self.file and key not in self.force else "default"
        source, origin = self.said.get(key, (source, FILE if source == "file" else ""))
        return {
            "key": key, "value": value, "source": source, "from": origin, "file": self.file.get(key),
            "next": None if upcoming == value else upcoming,
        }  # fmt: skip

    def _configure(self, args: Body) -> Body:
        if args["revision"] != self.revision:
            now = {key: self.file.get(key) for key in args["changes"]}
            raise Refused("the settings were changed meanwhile.", revision=self.revision, now=now)
        for key, value in args["changes"].items():
            if key not in LIVE:
                self.force.setdefault(key, self._row(key)["value"])
            if value:
                self.file[key] = value
            else:
                self.file.pop(key, None)
        waits = [key for key in args["changes"] if self._row(key)["next"] is not None]
        wins = {key: self.said[key][1] for key in args["changes"] if self.said.get(key, ("",))[0] == "environment"}
        return {"revision": self.revision, "applied": [], "waits": waits, "wins": wins}


@contextlib.asynccontextmanager
async def at_settings(where: Path, book: Book | None = None, **wanted: Any) -> AsyncIterator[tuple[Driven, Book]]:
    """A monitor with the screen of settings in front."""
    book = book or Book()
    async with driven(where, busy(), **wanted) as monitor:
        book.serve(monitor.daemon)
        await monitor.press("8")
        await monitor.shows(2)
        yield monitor, book
