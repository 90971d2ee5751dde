"""``tq schedule import``: the lines of a crontab as schedules.

For: reading a crontab, saying what becomes of each line, and storing that.
Not for: what a line means (``tq.crontab``), schedules one by one (schedules).
Runs in: the ``tq`` command.
Promises: nothing is asked for before all lines are read, and nothing stored if one is refused, unless ``--skip-bad`` says so; the same
crontab again changes nothing; a variable that changes is changed in the schedules that are there, and a line that changes is a new one.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from tq import wire
from tq.cli import hot
from tq.cli.command import command_payload, raw
from tq.cli.options import a_name, task_options
from tq.cli.render import clean, instant, json_line, plain, table, value_of
from tq.cli.schedules import TELLS, said_of
from tq.client import Client
from tq.crontab import OF_MAIL, ZONE, Line, read
from tq.errors import TqError, UsageError
from tq.launch import shown
from tq.model import brief
from tq.schedule import REBOOT, Rule

MOST = 4 << 20
"""Bytes of a crontab."""
MARK = "crontab"
"""The note of a schedule's tasks that says from what line and variables it was made."""
UMASK = 0o022
_OF_REBOOT = "it runs when the daemon first starts after a boot: `tq service install` starts it with the machine"
_USUAL: dict[str, Any] = {
    "misfire": "skip", "overlap": "allow", "on_failure": [], "on_recovery": [], "on_missed": [], "missed_after_ms": 0, "alert_each": False,
}  # fmt: skip
"""What cron does: it makes up for nothing, and does not look whether the run before goes on."""


@dataclass(slots=True)
class _Made:
    """What was made of a line: ``outcome`` is new, changed, unchanged, skipped, refused, or variable for a line that sets one."""

    line: Line
    outcome: str
    why: str = ""
    name: str = ""
    rule: Rule | None = None
    sent: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def schedule_import(client: Client, values: dict[str, Any]) -> int:
    policies, options = _USUAL | said_of(values), task_options(values)
    prefix = "cron" if values["prefix"] is None else a_name("--prefix", values["prefix"])
    usual = values["tz"] or _own_zone()
    account = _account()
    lines = read(_text(values["file"]), values["system"])
    made = [_made(line, usual, account) for line in lines]
    _name_them(made, prefix)
    for one in made:
        if one.rule is not None:
            one.sent = _sent(one, account, policies, options)
    bad = [one for one in made if one.outcome == "refused"]
    stops = bool(bad) and not values["skip_bad"]
    if stops and not values["dry_run"]:
        for one in bad:
            hot.say(f"tq: line {one.line.number}: {clean(one.why)}.")
        hot.say(f"tq: nothing was stored. Mend {'that' if len(bad) == 1 else 'those'}, or import the rest with --skip-bad.")
        return UsageError.exit_code
    there = {row["name"] for row in client.schedules()}
    _compare(client, made, there)
    if not values["dry_run"]:
        _store(client, [one for one in made if one.outcome in ("new", "changed")])
    _tell(made, values)
    _tell_others(there - {one.name for one in made}, prefix)
    return UsageError.exit_code if stops else 0


# what there is


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        raise UsageError(
            f"expected a user with a name and a home, as cron needs one, got user {os.geteuid()}, whom nobody knows."
        ) from None


def _text(source: str | None) -> str:
    """The crontab; bytes that are no UTF-8 are kept as they are."""
    if source is None:
        return _own()
    try:
        if source == "-":
            data = sys.stdin.buffer.read(MOST + 1)
        else:
            with open(source, "rb") as file:
                data = file.read(MOST + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it has a NUL in its name"
        raise UsageError(f"FILE: expected a crontab that can be read, got {brief(source)}: {why}.") from None
    return _decoded(data)


def _own() -> str:
    tool = shutil.which("crontab")
    if tool is None:
        raise UsageError("expected the crontab command to show your crontab, found none. Name a file, or - for standard input.")
    done = subprocess.run([tool, "-l"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = clean(os.fsdecode(done.stderr).strip())
        raise UsageError(f"expected `crontab -l` to show your crontab, got: {said or f'exit code {done.returncode}'}. Name a file instead.")
    return _decoded(done.stdout)


def _decoded(data: bytes) -> str:
    if len(data) > MOST:
        raise UsageError(f"expected a crontab of at most {MOST >> 20} MiB, got a longer one. Is it one?")
    return data.decode("utf-8", "surrogateescape")


def _own_zone() -> str:
    """The zone whose clock cron follows here: the machine's."""
    try:
        _, found, name = os.readlink("/etc/localtime").partition("zoneinfo/")
        if found:
            return name
    except FileNotFoundError:
        return "UTC"
    except OSError:
        pass  # a copy of the zone's data, which does not say its name
    with suppress(OSError, UnicodeDecodeError), open("/etc/timezone", encoding="utf-8") as file:
        return file.read(200).strip()
    raise UsageError("--tz: expected the time zone of this machine, which /etc/localtime and /etc/timezone do not name. Say it.")


# what becomes of it


def _made(line: Line, usual: str, account: pwd.struct_passwd) -> _Made:
    if line.wrong:
        return _Made(line, "refused", line.wrong)
    if line.variable:
        return _Made(line, "variable", notes=_of_variable(line, usual))
    if line.user and line.user != account.pw_name:
        why = f"it is {line.user}'s, and this is {account.pw_name}'s tq: import it as {line.user}"
        return _Made(line, "skipped", why)
    try:
        rule = line.rule(usual)
        return _Made(line, "new", rule=rule, notes=[_OF_REBOOT] if rule.cron == REBOOT else [])
    except UsageError as error:
        return _Made(line, "refused", error.message.removesuffix("."))


def _of_variable(line: Line, usual: str) -> list[str]:
    name = line.variable
    if name in OF_MAIL:
        return ["tq sends no mail, so it is only a variable of the commands; --on-failure 'mail -s ...' tells of failures"]
    if name == ZONE:
        return [f"the lines below follow the clock of {line.zone(usual)}"]
    if name == "TZ":
        return [f"for the commands only, as in cron: their times are those of {line.zone(usual)}"]
    return ["it stays the user's own, as in cron"] if name == "LOGNAME" else []


def _name_them(made: Iterable[_Made], prefix: str) -> None:
    """The second of two lines that are alike is another schedule."""
    taken: set[str] = set()
    for one in made:
        if one.rule is not None:
            name, count = one.line.name(prefix), 1
            while (found := name if count == 1 else f"{name}-{count}") in taken:
                count += 1
            taken.add(found)
            one.name = found


def _sent(one: _Made, account: pwd.struct_passwd, policies: dict[str, Any], options: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments of ``set_schedule``, whole, with a mark by which they are known again."""
    line, rule = one.line, one.rule
    assert rule is not None
    env = line.environment(account.pw_name, account.pw_dir)
    extras = {"cwd": raw(env["HOME"]), "env": {raw(key): raw(value) for key, value in env.items()}, "umask": UMASK}
    body = {**policies, "cron": rule.cron, "tz": rule.tz}
    payload = command_payload(line.argv())
    told = {**(options or {}), "extras": extras}
    rest = [value[:2] if key in TELLS else value for key, value in sorted(body.items())]  # who imports makes no difference
    mark = blake2b(wire.pack([rest, payload, sorted(told.items())]), digest_size=8).hexdigest()
    return {"name": one.name, **body, "task": ["shell", payload, {**told, "meta": {**told.get("meta", {}), MARK: mark}}]}


def _compare(client: Client, made: Iterable[_Made], there: set[str]) -> None:
    """Which of them are there, and which of those were made of something else."""
    for one in made:
        if one.rule is None:
            continue
        if one.name not in there:
            one.sent["new"] = True
            continue
        row = client.call("schedules", {"name": one.name})["schedules"][0]
        was, now = row["options"] or {}, one.sent["task"][2]
        same = (was.get("meta") or {}).get(MARK) == now["meta"][MARK]
        one.outcome = "unchanged" if same else "changed"
        one.sent["task"][2] = {**dict.fromkeys(was), **now}  # what is not said any more goes


def _store(client: Client, made: Sequence[_Made]) -> None:
    for at, one in enumerate(made):
        try:
            client.call("set_schedule", one.sent)
        except TqError:
            if at:
                hot.say(
                    f"tq: of {len(made)} schedules {at} were stored, up to line {made[at - 1].line.number}. The same again goes on there."
                )
            raise


# words


def _tell(made: Sequence[_Made], values: dict[str, Any]) -> None:
    now = int(time.time() * 1000)
    if values["json"]:
        for one in made:
            print(json_line(_object(one, now)))
    else:
        cells = [_cells(one, now) for one in made if one.outcome != "variable"]
        if cells:
            print(table(("line", "is", "schedule", "when", "next", "command"), cells))
        for one in made:
            for text in [*one.notes, *([f"{one.outcome}: {one.why}"] if one.why else [])]:
                about = f"{one.line.variable}: " if one.line.variable else ""
                print(f"line {one.line.number}: {clean(about + text)}")
    counts = {word: sum(one.outcome == word for one in made) for word in ("new", "changed", "unchanged", "skipped", "refused")}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no line that runs a command"
    hot.say(f"{said}{': nothing was stored, since this is a dry run' if values['dry_run'] else ''}")
    if counts["new"] and not values["dry_run"]:
        hot.say("cron goes on running these lines, too: take them out of the crontab, or pause the schedules")


def _cells(one: _Made, now: int) -> tuple[object, ...]:
    line, rule = one.line, one.rule
    timeless = rule is None or rule.tz == "UTC" or rule.cron == REBOOT
    when = "-" if not line.cron else line.cron if timeless or rule is None else f"{line.cron}  {rule.tz}"
    following = None if rule is None else _next(rule, now) or "at boot"
    return line.number, one.outcome, one.name or None, when, following, clean(line.command)[:80] or None


def _next(rule: Rule, now: int) -> str | None:
    return instant(next(rule.slots(now, now), 0))


def _object(one: _Made, now: int) -> dict[str, Any]:
    line, rule = one.line, one.rule
    told: dict[str, Any] = {"line": line.number, "outcome": one.outcome, "why": one.why or None, "notes": one.notes}
    if line.variable:
        return {**told, "variable": plain(line.variable)}
    told |= {"schedule": one.name or None, "cron": line.cron or None, "tz": rule and rule.tz, "next_at": rule and _next(rule, now)}
    told |= {"user": plain(line.user) or None, "command": plain(line.command) or None, "stdin": plain(line.stdin)}
    _, payload, options = one.sent["task"] if one.sent else ("", b"", {})
    argv = value_of(payload)["argv"] if payload else None
    how = shown(options["extras"]) if options else {}
    return {**told, "argv": plain(argv), "cwd": how.get("cwd"), "env": how.get("env")}


def _tell_others(names: Iterable[str], prefix: str) -> None:
    """What earlier imports left: a line that was changed would else run twice."""
    mine = re.compile(rf"{re.escape(prefix)}-[A-Za-z0-9._-]+-[0-9a-f]{{8}}(?:-\d+)?")
    found = sorted(name for name in names if mine.fullmatch(name))
    if found:
        some = " ".join(found[:10]) + (" ..." if len(found) > 10 else "")
        hot.say(f"of this prefix, but not of this crontab: {some}\nIf their lines are gone or were changed: tq schedule remove NAME")
