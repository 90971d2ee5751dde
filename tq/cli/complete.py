"""Completion in shells: what may stand where the cursor is, and the scripts that let bash, zsh and fish ask.

For: ``tq completion SHELL``, and ``tq __complete SHELL WORDS...``, which those scripts call at each Tab.
Not for: parsing in earnest (fast, app).
Runs in: the ``tq`` command, on the thin path: at each Tab somebody waits.
Promises: no daemon is started, and none answering is silence; a name that a shell would not take for one plain word is
not offered, since some shells put it into the line as it stands; descriptions are one clean line.

The answer's first line says what follows: ``words`` (a candidate and its description a line, a tab between them),
``files``, ``dirs``, or ``command N``: the words from the Nth on are a command of their own.
"""

from __future__ import annotations

import os
import sys

from tq.cli.fast import _Line, _NotThere
from tq.cli.options import COMMANDS
from tq.cli.table import DATA_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from tq.cli.table import Command, Option

WITHIN_S = 0.3
"""The longest that somebody waits for a daemon at a Tab."""
MANY = 50
"""Tasks that are offered, the newest first."""
SHELLS = ("bash", "zsh", "fish")
_WAITING = ["scheduled", "blocked", "pending", "retrying"]
_OVER = ["succeeded", "failed", "cancelled", "expired"]
_STATES = {
    "cancel": [*_WAITING, "running"], "wait": [*_WAITING, "running"], "edit": _WAITING, "retry": _OVER, "result": ["succeeded"],
    "suspend": ["running"], "resume": ["running"], "send": ["running"],
    "dead show": ["failed"], "dead retry": ["failed"], "dead purge": ["failed"],
}  # fmt: skip
"""Which tasks a command is about; others are about all."""
_WORDS = {
    "state": [*_WAITING, "running", *_OVER], "priority": ["low", "medium", "high", "critical"],
    "backoff": ["fixed", "linear", "exponential"],
    "on_conflict": ["reject", "existing", "replace"], "on_parent_failure": ["cancel", "fail", "run"],
    "log_level": ["debug", "info", "warning", "error"],
    "misfire": ["coalesce", "skip", "all"], "overlap": ["allow", "skip", "queue_one", "cancel_old"],
    "clear": ["jitter", "only", "from", "until"], "ionice": ["idle", "best-effort", "realtime"],
    "unset": ["weight", "slots", "aging", "aging-share", "priority", "retries", "backoff", "timeout", "keep", "route",
              "max-tasks", "max-bytes", "hold-load", "hold-memory", "hold-probe", "hold-every"],
}  # fmt: skip
_FILES = {"payload", "batch", "app", "file"}
_DIRS = {"data_dir", "dest", "source", "dir", "cwd"}
_PLAIN = frozenset("_-./:@%+,")


class _Quick(_Line):
    """A connection for which nobody waits long."""

    def limit(self, which: int, seconds: float) -> None:
        self.socket.settimeout(WITHIN_S)

    def _again(self, verb: str, args: dict[str, Any], within: float) -> NoReturn:
        raise _NotThere


def complete(argv: list[str]) -> int:
    """Print what may stand for the last of the words; ``argv`` is the shell and the words after ``tq``."""
    try:
        print("\n".join(_answer(argv[0], argv[1:])))
    except Exception:  # noqa: BLE001 - somebody is writing a line: nothing may be said into it
        return 1
    return 0


def _answer(shell: str, words: list[str]) -> list[str]:
    words = _joined(words) if shell == "bash" else words
    current = words.pop() if words else ""
    kind, found = _candidates(words, current)
    if kind != "words":
        return [kind]
    lead, equals, rest = current.partition("=") if current.startswith("--") else ("", "", current)
    lead += equals
    typed = rest if equals else current
    if shell == "bash":
        lead = ""  # of a word with = or : in it, bash replaces what stands behind that
    cut = typed.rfind(":") + 1 if shell == "bash" else 0
    return ["words", *(f"{lead if equals else ''}{word[cut:]}\t{_line(text)}" for word, text in found if word.startswith(typed))]


def _joined(words: list[str]) -> list[str]:
    """The words as they were written: bash cuts them at each = and colon."""
    found: list[str] = []
    glue = False
    for word in words:
        if word in (":", "=") and found and (word == ":" or found[-1].startswith("--")):
            found[-1] += word
            glue = True
        elif glue:
            found[-1] += word
            glue = False
        else:
            found.append(word)
    return found


def _candidates(words: list[str], current: str) -> tuple[str, list[tuple[str, str]]]:
    """What kind of thing may stand for ``current``, behind these words; and which."""
    given, at, data_dir = words, 0, None
    while at < len(given) and given[at].startswith("-"):
        flag, equals, value = given[at].partition("=")
        if flag == DATA_DIR.flags[0] and not equals:
            if at + 1 == len(given):
                return "dirs", []
            at, value = at + 1, given[at + 1]
        data_dir = value if flag == DATA_DIR.flags[0] else data_dir
        at += 1
    name = given[at] if at < len(given) else ""
    if at + 1 < len(given) and f"{name} {given[at + 1]}" in COMMANDS:
        name, at = f"{name} {given[at + 1]}", at + 1
    if name in COMMANDS:
        return _of_command(name, COMMANDS[name], given, at + 1, current, data_dir)
    if current.startswith("-") and not name:
        return ("dirs", []) if "=" in current else ("words", [("--data-dir", DATA_DIR.help), ("--version", "Print the version."), _HELP])
    return "words", _names(name) if at + (name != "") == len(given) else []


_HELP = ("--help", "Show this message and exit.")


def _names(group: str) -> list[tuple[str, str]]:
    """The commands of a group, or those at the top."""
    if group:
        return [(name.partition(" ")[2], one.help) for name, one in COMMANDS.items() if name.startswith(group + " ")]
    found: dict[str, str] = {}
    for name, one in COMMANDS.items():
        head, _, leaf = name.partition(" ")
        found[head] = f"{found[head]}, {leaf}" if head in found else leaf or one.help
    return list(found.items())


def _of_command(
    name: str, command: Command, given: list[str], at: int, current: str, data_dir: str | None
) -> tuple[str, list[tuple[str, str]]]:
    known = {flag: option for option in command.options for flag in option.flags}
    waits: Option | None = None
    taken: list[str] = []
    only_words = False
    while at < len(given):
        word = given[at]
        flag, equals, value = word.partition("=")
        if waits is not None:
            data_dir = word if waits is DATA_DIR else data_dir
            waits = None
        elif word == "--" and not only_words:
            only_words = True
        elif word.startswith("-") and word != "-" and not only_words:
            option = known.get(flag)
            if option is not None and option.kind in ("text", "many") and not equals:
                waits = option
            data_dir = value if option is DATA_DIR and equals else data_dir
        elif command.takes == "rest" or (command.takes == "named" and taken):
            return f"command {at}", []
        else:
            taken.append(word)
        at += 1
    if waits is not None:
        return _values(waits.key, name, data_dir, current)
    if current.startswith("-") and not only_words:
        flag, equals, value = current.partition("=")
        if equals:
            return _values(known[flag].key, name, data_dir, value) if flag in known else ("words", [])
        return "words", [*((_long(option), option.help) for option in command.options), _HELP]
    if command.takes == "rest" or (command.takes == "named" and taken):
        return f"command {at}", []
    if command.takes == "none" or (command.takes in ("one", "optional") and taken):
        return "words", []
    kind, found = _values(f"{command.argument} of {name}", name, data_dir, current)
    return kind, [one for one in found if one[0] not in taken]


def _long(option: Option) -> str:
    return option.flags[0]


def _values(key: str, name: str, data_dir: str | None, typed: str) -> tuple[str, list[tuple[str, str]]]:
    """What an option or, ``ARGUMENT of COMMAND``, an argument may be, of which this much is typed."""
    argument, _, _ = key.partition(" of ")
    if argument in ("filter", "where"):
        return "words", _of_filter(typed, data_dir)
    if argument == "sort":
        from tq.query.orders import SORTS

        return "words", [(dash + field, "") for dash in ("", "-") for field in SORTS]
    if argument in _FILES:
        return "files", []
    if argument in _DIRS:
        return "dirs", []
    if argument in _WORDS:
        return "words", [(word, "") for word in _WORDS[argument]]
    if key == "changes of config set":
        from tq.config.editing import KEYS

        return "words", [(f"{one}=", "") for one in KEYS]
    if key == "level of daemon log-level":
        return "words", [(word, "") for word in _WORDS["log_level"]]
    if key == "shell of completion":
        return "words", [(word, "") for word in SHELLS]
    if argument in ("queue", "type") or key.startswith("name of queue "):
        return "words", _plain(_known("type" if argument == "type" else "queue", data_dir))
    if key.startswith("name of schedule "):
        return "words", _plain(_known("schedule", data_dir)) if name != "schedule add" else []
    if argument in ("use", "name_and_amount") or key.startswith("name of resource "):
        return "words", _plain(_known("resource", data_dir))
    if argument == "name_and_rule" or key.startswith("name of breaker "):
        rows = _ask(data_dir, "breakers", {})["breakers"]
        return "words", _plain([(f"type:{row['type']}" if row["type"] else row["name"], row["state"]) for row in rows])
    if key.startswith("name of limit "):
        return "words", _plain(_known("limit", data_dir))
    if argument == "tenant" or key.startswith("name of tenant "):
        return "words", _plain(_known("tenant", data_dir))
    if key.startswith("id of worker "):
        rows = _ask(data_dir, "workers", {})["workers"]
        return "words", _plain([(row["id"], f"{row['state']}, pid {row['pid']}") for row in rows])
    if argument in ("after", "after_any", "after_failure"):
        return "words", _tasks([*_WAITING, "running"], data_dir)
    if argument in ("id", "ids", "which", "task_id", "id_and_text"):
        return "words", _tasks(_STATES.get(name), data_dir)
    return "words", []


def _of_filter(typed: str, data_dir: str | None) -> list[tuple[str, str]]:
    """How a word of a filter may go on."""
    body = _ask(data_dir, "complete", {"text": typed, "at": len(typed)})
    return _plain([(typed[: body["start"]] + text, note) for text, note in body["choices"]])


def _known(noun: str, data_dir: str | None) -> list[tuple[str, str]]:
    rows = _ask(data_dir, noun + "s", {})[noun + "s"]
    return [(row["name"], "paused" if row.get("paused") else "") for row in rows]


def _tasks(states: list[str] | None, data_dir: str | None) -> list[tuple[str, str]]:
    args: dict[str, Any] = {"limit": MANY, **({"states": states} if states else {})}
    return [(str(row["id"]), f"{row['state']}  {_about(row)}") for row in _ask(data_dir, "find", args)["tasks"]]


def _about(row: dict[str, Any]) -> str:
    """What a person knows a task by."""
    if row["type"] == "shell" and not row["label"] and row.get("payload"):
        from msgpack import unpackb

        try:
            return " ".join(map(os.fsdecode, unpackb(row["payload"])["argv"]))  # words that are no UTF-8 come as bytes
        except (LookupError, TypeError, ValueError):
            pass  # a client may have sent anything under this type
    return str(row["label"] or row["type"])


def _plain(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those whose names are one plain word in every shell."""
    return [
        one for one in found if (one[0][:1].isalnum() or one[0][:1] == "_") and all(char.isalnum() or char in _PLAIN for char in one[0])
    ]


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:60])


def _ask(data_dir: str | None, verb: str, args: dict[str, Any]) -> dict[str, Any]:
    from tq.config import data_dir_of
    from tq.wire import SOCKET

    line = _Quick(f"{data_dir_of(data_dir)}/{SOCKET}")
    try:
        return line.call(verb, args)
    finally:
        line.socket.close()


# the scripts

_SCRIPTS = {
    "bash": r"""# bash completion of tq; `tq completion bash` prints it
_tq() {
    local cur=${COMP_WORDS[COMP_CWORD]} line kind
    local -a lines
    mapfile -t lines < <(command tq __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    kind=${lines[0]-}
    COMPREPLY=()
    case $kind in
        words)
            compopt -o nosort 2>/dev/null
            for line in "${lines[@]:1}"; do COMPREPLY+=("${line%%$'\t'*}"); done
            [[ ${COMPREPLY[*]} == *: ]] && compopt -o nospace 2>/dev/null ;;
        files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "${cur#=}") ;;
        dirs) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "${cur#=}") ;;
        command\ *)
            if declare -F _command_offset >/dev/null; then _command_offset $((${kind#command } + 1))
            elif ((COMP_CWORD == ${kind#command } + 1)); then mapfile -t COMPREPLY < <(compgen -c -- "$cur")
            else compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); fi ;;
    esac
}
complete -F _tq tq
""",
    "zsh": r"""#compdef tq
# zsh completion of tq; `tq completion zsh` prints it
_tq() {
    local line kind n
    local -a lines found told more
    lines=("${(@f)$(command tq __complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    kind=$lines[1]
    case $kind in
        words)
            for line in "${(@)lines[2,-1]}"; do
                [[ -n $line ]] || continue
                found+=("${line%%$'\t'*}")
                told+=("${line%%$'\t'*}  ${line#*$'\t'}")
            done
            [[ "$found" == *: ]] && more=(-S '')
            (( $#found )) && compadd $more -V tq -l -d told -a found ;;
        files) [[ -prefix --*= ]] && compset -P '*='; _files ;;
        dirs) [[ -prefix --*= ]] && compset -P '*='; _files -/ ;;
        command\ *)
            n=${kind#command }
            shift $((n + 1)) words
            (( CURRENT -= n + 1 ))
            _normal ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _tq "$@"; else compdef _tq tq; fi
""",
    "fish": r"""# fish completion of tq; `tq completion fish` prints it
function __tq_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines (command tq __complete fish $words[2..-1] "$current" 2>/dev/null)
    switch "$lines[1]"
        case words
            printf '%s\n' $lines[2..-1]
        case files
            __fish_complete_path (string replace -r '^--[^=]*=' '' -- "$current")
        case dirs
            __fish_complete_directories (string replace -r '^--[^=]*=' '' -- "$current")
        case 'command *'
            set -l from (math (string split ' ' $lines[1])[2] + 2)
            complete -C (string join ' ' -- (string escape -- $words[$from..-1]) "$current")
    end
end
complete -c tq -f -a '(__tq_complete)'
""",
}


def completion(_client: object, values: dict[str, Any]) -> int:
    """The script of a shell."""
    script = _SCRIPTS.get(values["shell"])
    if script is None:
        from tq.errors import UsageError

        raise UsageError(f"expected {', '.join(SHELLS)}, got {values['shell']!r}.")
    sys.stdout.write(script)
    return 0
