"""What the settings of a running daemon are, where each comes from, and how somebody changes them while it runs.

For: ``config`` and ``configure``: the values in force beside those of the file, checking changes, and the file's next text.
Not for: reading and writing the file (config.editing), taking values over (daemon), settings that verbs of their own change.
Runs in: the daemon, on the thread of its loop, when somebody asks.
Promises: a revision is another one whenever the file or a value in force is; what would keep the next start from starting is not
written; what looks secret is masked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tq.broker.declared import declared_queues
from tq.broker.declared_limits import declared_limits
from tq.broker.resources import declared_resources
from tq.broker.rules import declared_rules
from tq.config import editing, tables
from tq.config.editing import KEYS, NAMES, Sources
from tq.config.settings import OPTIONS, UNITS, Settings
from tq.errors import ConfigError, Refused, UsageError
from tq.launch import MASK, is_secret
from tq.model import brief

Answer = dict[str, Any]
NAMED_MOST = 500
"""Lines of the file's own tables that are told."""
VALUE_MOST = 4096
"""Characters of a value."""
COMMAND_LINE = "the command line"


@dataclass(frozen=True, slots=True)
class Standing:
    """How the settings stand: in force by option, the file, and what the next start would make of it (None: ``problem`` says why)."""

    values: Mapping[str, object]
    file: tables.Text | None
    next: Settings | None
    problem: str
    revision: str


def sound(sources: Sources, file: tables.Text | None = None) -> tuple[Settings, dict[str, str]]:
    """The settings of a daemon that starts, and who said them; ConfigError if it would not, also for what the file's own tables say."""
    settings, said = sources.load(file)
    declared_queues(settings.file, settings.queues)
    declared_rules(settings.file, settings.alerts)
    declared_resources(settings.file, settings.resources)
    declared_limits(settings.file, settings.limits)
    return settings, said


class Book:
    """The settings of one daemon. ``said``: by option, who said it, for those that are no defaults; kept up by who takes them over."""

    def __init__(self, sources: Sources, said: Mapping[str, str]) -> None:
        self.sources, self.said = sources, dict(said)

    @classmethod
    def given(cls, settings: Settings) -> Book:
        """That of a daemon whose program gave it its settings."""
        sources = Sources.fixed(settings)
        return cls(sources, {name: COMMAND_LINE for name in sources.arguments if name in OPTIONS})

    def look(self, settings: Settings, by_hand: Mapping[str, object]) -> Standing:
        """How it stands; ``by_hand``: options that verbs of their own have changed since."""
        values = {name: getattr(settings, name) for name in OPTIONS} | dict(by_hand)
        file, upcoming, problem = None, None, ""
        try:
            file = self.sources.file()
            upcoming = sound(self.sources, file)[0]
        except ConfigError as error:
            problem = error.message
        told = repr((file and (str(file.path), file.text), problem if file is None else "", values))
        return Standing(values, file, upcoming, problem, hashlib.blake2b(told.encode(), digest_size=6).hexdigest())

    def told(self, standing: Standing, by_hand: Mapping[str, object]) -> Answer:
        """The body of ``config`` that asks to ``get``."""
        file = standing.file
        written, named = _of_file(file)
        rows = [self._row(name, standing, by_hand, written) for name in KEYS.values()]
        return {
            "revision": standing.revision, "file": str(file.path) if file is not None else "", "exists": bool(file and file.text),
            "problem": standing.problem, "options": rows, "named": named[:NAMED_MOST],
        }  # fmt: skip

    def _row(self, name: str, standing: Standing, by_hand: Mapping[str, object], written: Mapping[str, str]) -> Answer:
        key, unit = NAMES[name], UNITS[name]
        value = tables.written(unit, standing.values[name])
        after = None if standing.next is None else tables.written(unit, getattr(standing.next, name))
        said = self.said.get(name, "")
        source = "default" if not said else "environment" if said == _variable(name) else "command line" if said == COMMAND_LINE else "file"
        if name in by_hand:
            source, said = "runtime", ""
        return {
            "key": key, "value": value, "source": source, "from": said, "file": written.get(key), "next": None if after == value else after,
        }  # fmt: skip

    def errors(self, standing: Standing, changes: Mapping[str, object]) -> list[Answer]:
        """What is wrong with changes, by key ("" for the whole); empty if they can be made."""
        found = [{"key": key, "reason": reason} for key, reason in editing.problems(changes)]
        if not found:
            try:
                self.after(standing, changes)
            except ConfigError as error:
                option = str(error.details.get("option"))
                found.append({"key": NAMES.get(option, ""), "reason": error.message.removeprefix(f"{option}: ")})
        return found

    def after(self, standing: Standing, changes: Mapping[str, object]) -> tuple[tables.Text, Settings, dict[str, str]]:
        """The file with sound changes, and the settings and sources that it means. ConfigError: it cannot be."""
        if standing.file is None:
            raise ConfigError(standing.problem)
        file = editing.edited(standing.file, changes)
        return file, *sound(self.sources, file)

    def change(self, standing: Standing, revision: str, changes: Mapping[str, object]) -> tuple[Settings, dict[str, str], Answer, Answer]:
        """Write the file; gives the settings and sources that it means now, and what it said before and says now, by key.

        Refused: it is another revision. ConfigError: the changes cannot be made, as ``details["errors"]`` says, or the file not written.
        """
        before = _of_file(standing.file)[0]
        if revision != standing.revision:
            there = {key: before.get(key) for key in changes if key in KEYS}
            text = f"the settings were changed meanwhile: expected revision {standing.revision}, got {brief(revision)}. Look at them again."
            raise Refused(text, revision=standing.revision, now=there)
        if errors := self.errors(standing, changes):
            raise ConfigError(f"{errors[0]['key'] or 'the settings'}: {errors[0]['reason']}", errors=errors)
        file, settings, said = self.after(standing, changes)
        if standing.file is not None and file.text != standing.file.text:
            editing.replace_file(file)
        now = editing.in_file(file)
        was, become = ({key: one[key] for key in changes if key in one} for one in (before, now))
        return settings, said, was, become

    def wins(self, name: str) -> str:
        """Who says an option and wins over the file; "" for nobody."""
        for one in (name, "workers") if name in ("min_workers", "max_workers") else (name,):  # a later word for both is for both
            said = self.said.get(one, "")
            if said in (_variable(one), COMMAND_LINE):
                return said
        return ""


def _variable(name: str) -> str:
    return f"TQ_{name.upper()}"


def changes_of(verb: str, given: Mapping[Any, Any]) -> dict[str, object]:
    """Changes as a client sent them; UsageError unless keys are texts, and values texts, numbers or nil."""
    for key, value in given.items():
        sound = isinstance(value, str | int | float | None) and not isinstance(value, bool)
        if not isinstance(key, str) or not sound or (isinstance(value, str) and len(value) > VALUE_MOST):
            raise UsageError(
                f"{verb}: changes: expected texts of at most {VALUE_MOST} characters, numbers or nil by key, got {brief(value)}."
            )
    if not given:
        raise UsageError(f"{verb}: changes: expected at least one setting, such as workers.count, got none.")
    return dict(given)


def _of_file(file: tables.Text | None) -> tuple[dict[str, str], list[Answer]]:
    """What a file says of settings by key, and the lines of its own tables; nothing of one that cannot be read."""
    try:
        if file is None:
            return {}, []
        parsed = file.parsed()
        written = editing.in_file(file)
    except ConfigError:
        return {}, []
    named: list[Answer] = []
    for table in (tables.QUEUES, tables.ALERTS, tables.LIMITS, tables.RESOURCES, tables.MONITOR):
        _flatten(table, parsed.get(table, {}), named)
    return written, named


def _flatten(key: str, value: object, found: list[Answer]) -> None:
    if isinstance(value, dict):
        for name, one in value.items():
            _flatten(f"{key}.{name}", one, found)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        secret = is_secret(key.rpartition(".")[2], text)
        found.append({"key": key[:200], "value": MASK if secret else text[:200]})
