"""Commands about the instance as a whole: the store's files, the demo and the bench.

For: ``verify backup restore compact doctor config demo bench``.
Not for: tasks (tasks, hot, control), queues (queues), workers (workers), the daemon's life (daemon).
Runs in: the ``tq`` command.
Promises: ``verify``, ``backup``, ``compact`` and ``doctor`` work whether a daemon runs or not; ``demo`` and ``bench`` use instances
of their own.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tq.cli.hot import put, say
from tq.cli.options import whole
from tq.cli.render import clean, json_line, plain, seconds
from tq.client import Client
from tq.config.settings import OPTIONS, Settings, settings_and_sources
from tq.config.tables import places, read
from tq.errors import ConfigError, DaemonNotRunning

MIB = 1 << 20
COMPACT_WITHIN = 600.0
"""Seconds that a daemon may take to compact its store."""


def verify(client: Client, _values: dict[str, Any]) -> int:
    from tq.store.verify import verify as check

    problems = check(Path(client.data_dir))
    for problem in problems:
        print(clean(problem))
    say(f"{len(problems)} problems. Restore a backup." if problems else "the store is sound")
    return 1 if problems else 0


def backup(client: Client, values: dict[str, Any]) -> int:
    from tq.store.files import backup as copy

    put(copy(Path(client.data_dir), Path(values["dest"])))
    return 0


def restore(client: Client, values: dict[str, Any]) -> int:
    from tq.config import prepare_data_dir
    from tq.store.restoring import restore as put_back

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    tasks, aside = put_back(Path(values["source"]).absolute(), prepare_data_dir(client.data_dir), stamp)
    if aside is not None:
        put(aside)
        say(f"the store that was there is kept as {aside}")
    say(f"restored {tasks:,} tasks into {client.data_dir}; those that ran at the time of the backup are taken as interrupted")
    return 0


def compact(client: Client, values: dict[str, Any]) -> int:
    waited = 0.0
    try:
        found = client.call("compact", {}, COMPACT_WITHIN)
        before, after, waited = found["before"], found["after"], found["paused_ms"] / 1000
    except DaemonNotRunning:
        from tq.store.compaction import compact as rewrite

        before, after = rewrite(Path(client.data_dir))
    if values["json"]:
        print(json_line({"before": before, "after": after, "paused": waited}))
    else:
        others = f"; all others waited {seconds(waited)}" if waited else ""
        say(f"the store took {before / MIB:,.1f} MiB and takes {after / MIB:,.1f} MiB now{others}")
    return 0


def doctor(client: Client, values: dict[str, Any]) -> int:
    from tq.doctor import examine

    findings = examine(Path(client.data_dir), int(time.time() * 1000), os.environ)
    for one in findings:
        if values["json"]:
            print(json_line({"check": one.check, "level": one.level, "found": one.found, "advice": one.advice or None}))
            continue
        print(f"{one.level:<6} {one.check:<12} {clean(one.found)}")
        if one.advice:
            print(f"{'':<19} {clean(one.advice)}")
    wrong = sum(one.level == "wrong" for one in findings)
    say(f"{wrong} things are wrong" if wrong > 1 else "1 thing is wrong" if wrong else "nothing is wrong")
    return 1 if wrong else 0


def _settings(client: Client) -> tuple[Settings, dict[str, str]]:
    """The settings and who said them; ConfigError if a daemon could not use them."""
    from tq.broker.declared import declared_queues
    from tq.broker.declared_limits import declared_limits
    from tq.broker.resources import declared_resources
    from tq.broker.rules import declared_rules

    settings, said = settings_and_sources({"data_dir": client.data_dir})
    declared_queues(settings.file, settings.queues)
    declared_resources(settings.file, settings.resources)
    declared_limits(settings.file, settings.limits)
    declared_rules(settings.file, settings.alerts)
    return settings, said


def config_path(client: Client, _values: dict[str, Any]) -> int:
    """The file that is read, or the place where it would be."""
    found, _ = read(Path(client.data_dir), os.environ)
    put(found or places(Path(client.data_dir), os.environ)[0])
    if found is None:
        say("there is no settings file yet")
    return 0


def config_show(client: Client, values: dict[str, Any]) -> int:
    settings, said = _settings(client)
    named = [("queues", name, table) for name, table in settings.queues.items()]
    named += [("alerts", name, table) for name, table in settings.alerts.items()]
    named += [("limits", name, table) for name, table in settings.limits.items()]
    found = {name: getattr(settings, name) for name in OPTIONS}
    if values["json"]:
        told = {name: {"value": value, "source": said.get(name, "default")} for name, value in found.items()}
        for kind, name, table in named:
            told |= {f"{kind}.{name}.{key}": {"value": plain(value), "source": str(settings.file)} for key, value in table.items()}
        print(json_line(told))
        return 0
    for name, value in found.items():
        line = f"# {name} is not set" if value is None else f"{name} = {json_line(value)}"
        print(f"{clean(line):<36}  # {clean(said[name])}" if name in said else clean(line))
    for kind, name, table in named:
        print(f"\n[{kind}.{json_line(name)}]")
        for key, value in table.items():
            print(f"{clean(f'{key} = {json_line(plain(value))}'):<36}  # {clean(settings.file)}")
    return 0


def config_check(client: Client, _values: dict[str, Any]) -> int:
    settings, said = _settings(client)
    queues = f", and settings of {len(settings.queues)} queues" if settings.queues else ""
    queues += f", and {len(settings.alerts)} alert rules" if settings.alerts else ""
    queues += f", and {len(settings.limits)} limits" if settings.limits else ""
    say(f"the settings are sound; {f'{len(said)} of {len(OPTIONS)} are set' if said else 'all are the defaults'}{queues}")
    return 0


def config_set(client: Client, values: dict[str, Any]) -> int:
    """By the daemon, or, where none runs, in the file alone."""
    from tq.cli.several import pairs_of

    changes = pairs_of("config set", values["changes"])
    try:
        revision = client.call("config", {"ask": "get"})["revision"]
        errors = client.call("config", {"ask": "validate", "changes": changes})["errors"]
    except DaemonNotRunning:
        return _set_in_file(client, changes, dry_run=values["dry_run"])
    _refuse(errors)
    if values["dry_run"]:
        say("they can be; nothing was changed")
        return 0
    done = client.call("configure", {"changes": changes, "revision": revision})
    for key in changes:
        waits = "waits for the daemon's next start: `tq daemon restart`" if key in done["waits"] else "counts now"
        say(f"{clean(key)}: {'no effect while ' + clean(done['wins'][key]) + ' says otherwise' if key in done['wins'] else waits}")
    return 0


def _set_in_file(client: Client, changes: dict[str, str], *, dry_run: bool) -> int:
    from tq.config import prepare_data_dir
    from tq.config.editing import Sources
    from tq.daemon.configuring import Book

    book = Book(Sources({"data_dir": client.data_dir}, os.environ), {})
    standing = book.look(Settings(data_dir=Path(client.data_dir)), {})
    _refuse(book.errors(standing, changes))
    if not dry_run:
        prepare_data_dir(client.data_dir)
        book.change(standing, standing.revision, changes)
    say("they can be; nothing was changed" if dry_run else "written; no daemon runs, the next one has them")
    return 0


def _refuse(errors: list[dict[str, Any]]) -> None:
    """ConfigError for the first thing that is wrong."""
    if errors:
        raise ConfigError(": ".join(filter(None, (errors[0]["key"], errors[0]["reason"]))), errors=errors)


def demo(_client: Client, values: dict[str, Any]) -> int:
    from tq.demo.show import run

    return run(keep=values["keep"])


def bench(_client: Client, values: dict[str, Any]) -> int:
    from tq.bench import run

    numbers = {key: whole(f"--{key}", values[key]) for key in ("tasks", "workers") if values[key] is not None}
    return run(as_json=values["json"], **numbers)
