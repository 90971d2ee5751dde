r"""Crontabs: what each line of one says, as the cron of Debian reads it.

For: ``tq schedule import``: expressions, variables, users, commands and what they read; a schedule's name and the words of its command.
Not for: storing schedules (the command line), when they come due (``tq.schedule``), running anything.
Runs in: the ``tq`` command.
Promises: pure; every line that is not blank and no comment has a ``Line``, and one that cannot be taken over says why; nothing in it is
run or expanded; the same line has the same name, wherever it stands and whatever variables are above it.

WHAT A LINE IS

- ``NAME = value`` sets a variable for the lines below it. Blanks around ``=`` and at the value's end are left out; quotes (single or
  double, around the whole name or value) keep those at its beginning. Nothing is expanded. ``LOGNAME`` stays the user's own.
- ``minute hour day month weekday command``, or ``@reboot @hourly @daily @midnight @weekly @monthly @yearly @annually`` and a command.
  With a user field (``/etc/crontab``, ``/etc/cron.d``) that stands before the command. What cron refuses is refused here: ``5/15``, a
  range that falls, ``L`` and ``#``, a command that begins with ``*``.
- In a command, the first ``%`` that has no backslash before it ends it; what follows is its standard input, where further ones are
  line ends. ``\%`` is a percent sign. Before the first ``%``, cron makes one backslash of two.
- ``CRON_TZ`` names the zone whose clock the lines below follow, as in cronie; the cron of Debian knows only the machine's. ``TZ`` is
  the command's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from tq.errors import UsageError
from tq.model import brief
from tq.schedule import Rule, wire_when

LINE_MOST = 100_000
"""Characters of a line: what fits into one word of a command."""
PATH = "/usr/bin:/bin"
SHELL = "/bin/sh"
ZONE = "CRON_TZ"
OF_MAIL = ("MAILTO", "MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING")

_SETS = re.compile(r"""("[^"=]*"|'[^'=]*'|[^\s="'][^\s=]*)[ \t\f\v]*=(.*)""", re.DOTALL)
_QUOTED = re.compile(r"""(["'])(.*)\1""", re.DOTALL)
_WORD = r"(?:\d{1,4}|[a-z]{3})"
_FIELD = re.compile(rf"(?:\*|{_WORD}-{_WORD})(?:/\d{{1,4}})?|{_WORD}", re.ASCII | re.IGNORECASE)
_FIELDS = ("minute", "hour", "day", "month", "weekday")
_FEEDS = 'exec "$0" -c "$1" <<END\n$2\nEND\n'
"""A line for /bin/sh: the shell, the command and what it reads are words behind it, so nothing in them is expanded."""
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
_ASSIGNS = re.compile(r"[A-Za-z_]\w*=")
_NAME_MOST = 40


@dataclass(frozen=True, slots=True)
class Line:
    """``number`` counts from 1. It sets ``variable``, or runs ``command`` by ``cron`` (``user`` "" if none is named), or is ``wrong``.

    ``stdin``: what the command reads, None for nothing. ``variables``: those above it.
    """

    number: int
    variable: str = ""
    cron: str = ""
    user: str = ""
    command: str = ""
    stdin: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    wrong: str = ""

    def zone(self, usual: str) -> str:
        """The zone whose clock it follows; ``usual`` is that of lines that name none."""
        return self.variables.get(ZONE) or usual

    def rule(self, usual: str) -> Rule:
        """UsageError: the zone is none, or the expression never comes."""
        wire_when({"cron": self.cron, "tz": self.zone(usual)}, None)
        return Rule(cron=self.cron, tz=self.zone(usual))

    def environment(self, logname: str, home: str) -> dict[str, str]:
        """All that its command finds in its environment, as cron has it."""
        return {"SHELL": SHELL, "PATH": PATH, "HOME": home, **self.variables, "LOGNAME": logname}

    def argv(self) -> list[str]:
        """The words that run its command by its shell; what it reads is among them, since each run reads it anew."""
        shell = self.variables.get("SHELL") or SHELL
        if not self.stdin:
            return [shell, "-c", self.command]
        return [SHELL, "-c", _FEEDS, shell, self.command, self.stdin.removesuffix("\n")]

    def name(self, prefix: str) -> str:
        """``PREFIX-WORD-HASH``: of the command's first word, and of when, who, what and what it reads."""
        words = [word for word in self.command.split() if not _ASSIGNS.match(word)] or ["command"]
        word = _PLAIN.sub("-", os.path.basename(words[0].rstrip("/"))).strip("-.")[:_NAME_MOST] or "command"
        told = "\0".join((self.cron, self.variables.get(ZONE, ""), self.user, self.command, self.stdin or ""))
        return f"{prefix}-{word}-{blake2b(told.encode('utf-8', 'surrogateescape'), digest_size=4).hexdigest()}"


def read(text: str, users: bool) -> list[Line]:
    """The lines of a crontab, but blank ones and comments; ``users``: commands have the name of a user before them."""
    found: list[Line] = []
    variables: dict[str, str] = {}
    for number, whole in enumerate(text.split("\n"), 1):
        line = whole.lstrip(" \t")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, value = _setting(_sound(line)) or ("", "")
            if name:
                variables = {**variables, name: value}
                found.append(Line(number, variable=name, variables=variables))
            else:
                found.append(_entry(number, line, users, variables))
        except ValueError as error:
            found.append(Line(number, wrong=f"{error}", variables=variables))
    return found


def _sound(line: str) -> str:
    if len(line) > LINE_MOST:
        raise ValueError(f"expected a line of at most {LINE_MOST} characters, got {len(line)}")
    if "\0" in line:
        raise ValueError("expected text, got a NUL in it")
    if line.endswith("\r"):
        raise ValueError("expected a line that ends in a newline, got a carriage return before it, which would belong to the command")
    return line


def _setting(line: str) -> tuple[str, str] | None:
    """The name and the value, if the line sets a variable."""
    match = _SETS.fullmatch(line)
    if match is None:
        return None
    name, value = match[1], match[2].strip()
    if name[0] in "\"'":
        name = name[1:-1]
    if not name:
        raise ValueError(f"expected the name of a variable before =, got {brief(line)}")
    quoted = _QUOTED.fullmatch(value)
    if value[:1] in ('"', "'") and (quoted is None or quoted[1] in quoted[2]):
        raise ValueError(f"{brief(name)}: expected a value in one pair of quotes, or without, got {brief(value)}")
    value = quoted[2].rstrip() if quoted else value  # cron drops blanks at the end, quotes or not, and then looks for quotes again
    again = _QUOTED.fullmatch(value)
    return name, again[2] if again else value


def _entry(number: int, line: str, users: bool, variables: Mapping[str, str]) -> Line:
    count = 1 if line.startswith("@") else 5
    what = [*(("time",) if count == 1 else _FIELDS), *(("user",) if users else ()), "command"]
    words = re.split(r"[ \t]+", line, maxsplit=len(what) - 1)
    if len(words) < len(what) or not words[-1].strip():
        raise ValueError(f"expected {' '.join(what)}, got {brief(line)}")
    if words[-1].startswith("*"):
        raise ValueError(f"expected a command behind five fields, got {brief(words[-1])}, which looks like a sixth")
    command, stdin = _parted(words[-1])
    if not command.strip():
        raise ValueError(f"expected a command before the first %, got {brief(line)}")
    user = words[-2] if users else ""
    return Line(number, cron=_expression(words[:count]), user=user, command=command, stdin=stdin, variables=variables)


def _expression(words: list[str]) -> str:
    """The expression, if cron would take it; ValueError says which field is wrong."""
    if len(words) > 1:
        for word, name in zip(words, _FIELDS, strict=True):
            for part in word.split(","):
                if not _FIELD.fullmatch(part):
                    hint = " (a step stands behind * or a range)" if re.fullmatch(r"\d+/\d+", part) else ""
                    raise ValueError(f"{name}: expected *, numbers, names of three letters, ranges and steps, got {brief(word)}{hint}")
    cron = " ".join(words)
    try:
        wire_when({"cron": cron}, None)
    except UsageError as error:
        why = error.message.removesuffix(".").rpartition(": ")[2]
        raise ValueError(f"expected minute hour day month weekday, or @daily, @reboot and their like, got {brief(cron)}: {why}") from None
    return cron


def _parted(text: str) -> tuple[str, str | None]:
    """The command, and what it reads."""
    command, at = [], 0
    while at < len(text) and text[at] != "%":
        if text[at] == "\\" and text[at + 1 : at + 2] in ("%", "\\"):
            at += 1
        elif text[at] == "\\" and at + 1 < len(text):
            command.append(text[at])
            at += 1
        command.append(text[at])
        at += 1
    if at == len(text):
        return "".join(command), None
    fed = re.sub(r"\\%|%", lambda match: "\n" if match[0] == "%" else "%", text[at + 1 :])
    return "".join(command), fed if not fed or fed.endswith("\n") else f"{fed}\n"
