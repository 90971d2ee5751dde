"""``tq man DIR``: man pages, made from the same table as ``--help`` and from the settings' own words.

For: ``tq(1)``, a page for each command or group such as ``tq-queue(1)``, and ``tq.toml(5)``.
Not for: what the words say (options, app, config.settings, config.tables).
Runs in: the ``tq`` command: a person's, or a packager's at build time (``tq man debian/tq/usr/share/man``).
Promises: the same tq makes the same bytes; every command, option and setting is on a page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from tq import __version__
from tq.broker.declared import KEYS, WORDS
from tq.broker.rules import KEYS as RULE_KEYS
from tq.broker.rules import WATCHES
from tq.cli.app import EPILOG, GROUPS
from tq.cli.hot import put, say
from tq.cli.options import COMMANDS
from tq.cli.table import DATA_DIR, Command, Option
from tq.config.settings import DAY_MS, OPTIONS
from tq.config.tables import TABLES
from tq.errors import UsageError

_FRONT = """Shell commands and Python functions in one queue that survives whatever happens to the machine. One daemon keeps the tasks
of a directory and runs its workers; the first command that needs it starts it."""
_FILE = """TOML, read when the daemon starts, from DATA_DIR/tq.toml or else $XDG_CONFIG_HOME/tq/tq.toml. The environment and the options
of tq daemon start win over it. A setting stands in its table, where durations are seconds or text such as 90s and 7d and sizes are
bytes or text such as 256K; or at the top of the file under its own name, which is given in brackets, and in its own unit. What is
not known is an error. `tq config check` tells before a daemon needs it."""
_QUEUES = """Settings of a queue, as tq queue set names them; see tq-queue(1). What stands here is set again at each start, and at a
SIGHUP; what does not stays as it was set. A setting that is taken out of the file has its default again, unless it was set since."""
_ALERTS = """An alert rule, which tells when a condition comes true and when it is over; `python -m pydoc tq.broker.rules` has what each key
means. tq-alerts(1) shows the rules."""
_SIGNALS = """At a SIGHUP the daemon reads the file again: queues, alert rules, log level, the number of workers and when they are
replaced, the grace and how much output is kept are taken over, and the application is imported anew. What needs a restart is named in
the log; a file with a fault changes nothing."""
ABOUT = "a durable task queue for one machine"
_ROFF = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"})
"""What roff would take for something else, or print as something else."""
_TAKES = {
    "none": "", "one": " {}", "optional": " [{}]", "any": " [{}...]", "some": " {}...", "rest": " [--] {}...",
    "named": " {} [-- COMMAND...]",
}  # fmt: skip


def man(_client: object, values: dict[str, Any]) -> int:
    """Write the pages below a directory of man pages."""
    root = Path(values["dir"]).expanduser()
    try:
        for name, text in pages().items():
            place = root / f"man{name[-1]}" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
            put(place)
    except OSError as error:
        raise UsageError(f"expected a directory that can be written, got {os.fspath(root)!r}: {error.strerror}.") from None
    say(f"read them with `man -M {root} tq`, or without -M if that is where man looks")
    return 0


def pages() -> dict[str, str]:
    """The text of each page, by its file's name."""
    found = {"tq.1": _front(), "tq.toml.5": _settings()}
    for head in dict.fromkeys(name.partition(" ")[0] for name in COMMANDS):
        commands = {name: one for name, one in COMMANDS.items() if name.partition(" ")[0] == head}
        found[f"tq-{head}.1"] = _page(head, GROUPS.get(head) or commands[head].help, commands)
    return found


def _text(words: str) -> str:
    """Words as roff takes them for words."""
    text = (
        words.replace("\\", "\\e")
        .replace("-", "\\-")
        .replace("'", "\\(aq")
        .replace("`", "\\(ga")
        .replace("^", "\\(ha")
        .replace("~", "\\(ti")
    )
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _bold(words: str) -> str:
    return f"\\fB{_text(words)}\\fR"


def _head(title: str, section: int, about: str) -> list[str]:
    return [f'.TH "{title.upper()}" "{section}" "" "tq {__version__}" "tq"', ".SH NAME", f"{_text(title)} \\- {_text(about.rstrip('.'))}"]


def _item(term: str, says: str) -> list[str]:
    return [".TP", term, _text(says)]


def _option(option: Option) -> list[str]:
    value = " \\fIVALUE\\fR" if option.kind in ("text", "many") else ""
    flags = [*option.flags, *([f"--no-{option.flags[0][2:]}"] if option.kind == "switch" else [])]
    return _item(", ".join(_bold(flag) + value for flag in flags), option.help)


def _synopsis(name: str, command: Command) -> str:
    return f"{_bold('tq ' + name)} [options]{_text(_TAKES[command.takes].format(command.argument.upper()))}"


def _page(head: str, about: str, commands: dict[str, Command]) -> str:
    lines = [*_head(f"tq-{head}", 1, about.partition(". ")[0]), ".SH SYNOPSIS"]
    for name, command in commands.items():
        lines += [_synopsis(name, command), ".br"]
    lines[-1] = ".SH DESCRIPTION"
    if len(commands) == 1 and head in commands:
        lines += [_text(about), ".SH OPTIONS"]
        for option in commands[head].options:
            lines += _option(option)
    else:
        lines.append(_text(about))
        for name, command in commands.items():
            lines += [f".SS {_text(f'tq {name}')}", _text(command.help)]
            for option in command.options:
                if option is not DATA_DIR:
                    lines += _option(option)
        lines += [".SH COMMON OPTIONS", *_option(DATA_DIR)]
    return "\n".join([*lines, ".SH EXIT STATUS", _text(EPILOG), ".SH SEE ALSO", f"{_bold('tq')}(1), {_bold('tq.toml')}(5)"]) + "\n"


def _front() -> str:
    lines = [
        *_head("tq", 1, ABOUT), ".SH SYNOPSIS", f"{_bold('tq')} [{_bold('--data-dir')} \\fIDIR\\fR] \\fICOMMAND\\fR ...",
        ".SH DESCRIPTION", _FRONT,
        ".SH OPTIONS", *_option(DATA_DIR), *_item(_bold("--version"), "Print the version."), *_item(_bold("--help"), "Show the help."),
        ".SH COMMANDS",
    ]  # fmt: skip
    for name, command in COMMANDS.items():
        lines += _item(_bold(f"tq {name}"), f"{command.help} See tq-{name.partition(' ')[0]}(1).")
    lines += [".SH ENVIRONMENT"]
    for name, says in (
        ("TQ_DATA_DIR", "The directory of the instance, where --data-dir does not say."),
        ("TQ_AUTOSTART", "0: no command starts a daemon by itself."),
        ("TQ_APP, TQ_WORKERS, ...", "Any setting of tq.toml(5) by its own name in capitals, for a daemon that is started here."),
    ):
        lines += _item(_bold(name), says)
    lines += [".SH FILES", *_item("\\fIDATA_DIR/tq.toml\\fR", "Settings; see tq.toml(5)."),
              *_item("\\fIDATA_DIR/daemon.log\\fR", "What the daemon did, one JSON object a line."),
              ".SH EXIT STATUS", _text(EPILOG), ".SH SEE ALSO"]  # fmt: skip
    heads = dict.fromkeys(name.partition(" ")[0] for name in COMMANDS)
    return "\n".join([*lines, ", ".join([*(f"{_bold(f'tq-{head}')}(1)" for head in heads), f"{_bold('tq.toml')}(5)"])]) + "\n"


def _settings() -> str:
    lines = [
        *_head("tq.toml", 5, "settings of tq"), ".SH DESCRIPTION",
        _text(_FILE),
    ]  # fmt: skip
    for table, keys in TABLES.items():
        lines.append(f".SH [{table}]")
        for key, name in keys.items():
            about = OPTIONS[name].metadata
            lines += _item(f"{_bold(key)} [{_text(name)}, {about['unit']}; default: {_text(_default(name))}]", about["says"])
    lines += [
        ".SH [queues.NAME]",
        _text(_QUEUES),
        ".PP", ", ".join(_bold(key) for key in KEYS), ".PP",
        "Usual words are understood, too: " + ", ".join(f"{_bold(word)} is {_text(key)}" for word, key in WORDS.items()) + ".",
        ".SH [alerts.NAME]",
        _text(_ALERTS),
        ".PP", ", ".join(_bold(key) for key in RULE_KEYS), ".PP",
        f"{_bold('watch')} is one of " + ", ".join(_bold(watch) for watch in WATCHES) + ".",
        ".SH SIGNALS",
        _text(_SIGNALS),
        ".SH SEE ALSO", f"{_bold('tq')}(1), {_bold('tq-config')}(1), {_bold('tq-queue')}(1)",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _default(name: str) -> str:
    """In words; the same on every machine."""
    option = OPTIONS[name]
    value = option.default
    if not isinstance(value, int | float | str):
        return "one for each CPU" if name == "workers" else "none"
    if option.metadata["unit"] == "milliseconds":
        return f"{value}, which is {int(value) // DAY_MS} days" if int(value) >= DAY_MS else str(value)
    return str(value)
