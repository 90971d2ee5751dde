"""What the options of a command mean: how ``tq add``, ``tq run``, a schedule and a line of a batch say that it is to be run.

For: the task of a command: its words, its options and its extras, as ``tq.launch`` has them.
Not for: the options of any task (options), running anything.
Runs in: the ``tq`` command; imports no more than its hot verbs may.
Promises: what is not said is as this process has it: directory, environment, umask, limits; words and names travel as they are,
bytes that are no UTF-8, empty words and newlines too.
"""

from __future__ import annotations

import os

from tq import wire
from tq.cli.options import task_options, whole
from tq.config import OF_A_TASK
from tq.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, NoReturn

SHELL_WORDS = ("/bin/sh", "-c")
KEPT = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TZ", "USER")
"""What is left of an environment that is to be clean."""
_LIMITS = ("as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack")
_CLASSES = {"realtime": 1, "best-effort": 2, "idle": 3, "1": 1, "2": 2, "3": 3}
CPU_GRACE_S = 5
"""From XCPU, which a command may catch, to KILL."""


def _refuse(flag: str, text: str) -> NoReturn:
    raise UsageError(f"{flag}: {text}. See `tq run --help`.")


def raw(text: str) -> str | bytes:
    """Text as it may travel: names and arguments that are not UTF-8 go as their bytes. UsageError: half a character, out of JSON."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode(errors="surrogateescape")
        except UnicodeEncodeError as error:
            half = f"U+{ord(text[error.start]):04X}"  # and not the rest, which may be secret
            raise UsageError(f"expected text, got {half} at {error.start}: half of a character. Write it as UTF-8.") from None
    return text


def command_task(values: Mapping[str, Any]) -> list[Any]:
    """[type, payload, options] of ``tq add`` and ``tq run``: the command, and how this process would run it."""
    words = words_of(values)
    options = task_options(values) or {}
    options["extras"] = extras_of(values)
    return ["shell", command_payload(words), options]


def command_payload(words: Iterable[str]) -> bytes:
    """The payload of a command: its words as they were given."""
    return wire.pack({"argv": [raw(word) for word in words]})


def words_of(values: Mapping[str, Any]) -> Sequence[str]:
    """The words of the command; with ``--shell`` those that give its one line to a shell."""
    words: Sequence[str] = values["command"]
    if not words or not words[0]:
        got = "an empty word" if words else "none"
        raise UsageError(f"expected a command after --, got {got}. For example: tq add -- make all")
    if not values.get("shell"):
        return words
    if len(words) > 1:
        raise UsageError(f"--shell: expected one line in quotes, got {len(words)} words. For example: tq add --shell -- 'ls | wc -l'")
    return (*SHELL_WORDS, words[0])


def line_words(row: Mapping[str, Any]) -> Sequence[str]:
    """The words of the command of a line of a batch: ``{"command": ["make", "all"]}`` or ``{"command": "ls | wc -l", "shell": true}``."""
    command, shell = row["command"], row.get("shell")
    if shell not in (None, True, False):
        raise UsageError(f"shell: expected true or false, got {shell!r}.")
    if shell and type(command) is str:
        return words_of({"command": [command], "shell": True})
    if shell or type(command) is not list or not all(type(word) is str for word in command):
        raise UsageError('command: expected a list of words such as ["make", "all"], or one line and "shell": true.')
    return words_of({"command": command})


def extras_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The extras of the command's task."""
    umask = os.umask(0o077)
    os.umask(umask)
    kept = ((name, os.environ[name]) for name in KEPT if name in os.environ) if values.get("clean_env") else os.environ.items()
    env = {raw(key): raw(value) for key, value in kept if key not in OF_A_TASK}
    extras: dict[str, Any] = {"cwd": raw(_directory(values.get("cwd"))), "env": env, "umask": umask}
    own = _variables(values.get("env"))
    if own:
        extras["set"] = own
    extras["limits"] = _limits(values.get("max_memory"), values.get("cpu_time"))
    if values.get("nice") is not None:
        extras["nice"] = _niceness(values["nice"])
    if values.get("ionice") is not None:
        extras["io"] = _io_class(values["ionice"])
    if values.get("stdin") and (values.get("interactive") or values.get("tty")):
        raise UsageError("expected either --stdin or what keeps its input open (--interactive, --tty), got both. Drop one.")
    if values.get("max_stdin") is not None and not values.get("stdin"):
        raise UsageError("--max-stdin: expected --stdin beside it, got none. It says how much of that is kept.")
    if values.get("interactive"):
        extras["interactive"] = True
    if values.get("tty"):
        from tq.cli.send import window

        extras["tty"] = list(window())
    if values.get("ok_codes") is not None:
        extras["ok"] = _codes(values["ok_codes"])
    return extras


def _directory(given: Any) -> str:
    if given is not None and (type(given) is not str or not given):
        _refuse("--cwd", f"expected a directory, got {given!r}")
    if given is not None and given[0] == "/":
        return str(given)
    try:
        return os.path.join(os.getcwd(), given or "").rstrip("/") or "/"
    except OSError as error:
        raise UsageError(f"expected a current directory to run it in, got none: {error.strerror}. Change to one that is there.") from None


def _variables(given: Any) -> dict[str | bytes, str | bytes]:
    """The variables of ``--env K=V``, or an object of them."""
    if isinstance(given, dict):
        for name, value in given.items():
            if not name or "=" in name or "\0" in name or type(value) is not str or "\0" in value:
                _refuse("--env", f'expected an object of texts such as {{"LANG": "C"}}, got another value for {name!r}')
        return {raw(name): raw(value) for name, value in given.items()}
    found = {}
    for pair in given if isinstance(given, list) else [] if given is None else [given]:
        name, equals, value = pair.partition("=") if type(pair) is str else ("", "", "")
        if not name or not equals:
            _refuse("--env", f"expected NAME=VALUE, got one without {'a name' if equals else '='}")  # and not what may be secret
        found[raw(name)] = raw(value)
    return found


def _limits(memory: Any, cpu: Any) -> dict[str, Any]:
    """The soft limits of this process, and over them those that were asked for."""
    import resource

    limits: dict[str, Any] = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[0] for name in _LIMITS}
    if memory is not None:
        limits["as"] = [_size("--max-memory", memory)] * 2
    if cpu is not None:
        from tq.cli.options import duration

        seconds = -(-duration("--cpu-time", cpu) // 1000)
        if not seconds:
            _refuse("--cpu-time", f"expected more than nothing, got {cpu!r}")
        limits["cpu"] = [seconds, seconds + CPU_GRACE_S]
    return limits


def _size(flag: str, given: Any) -> int:
    from tq.client.acting import size_of

    try:
        size = size_of(given)
    except ValueError as error:
        _refuse(flag, str(error))
    if not 0 < size < 1 << 62:
        _refuse(flag, f"expected a size above 0, got {given!r}")
    return size


def input_of(values: Mapping[str, Any]) -> str:
    """The name under which what stands on our standard input is kept now. UsageError: it is too much, or cannot be read or kept."""
    from tq import spool
    from tq.config import data_dir_of

    most = spool.MOST if values.get("max_stdin") is None else _size("--max-stdin", values["max_stdin"])
    try:
        return spool.keep(str(data_dir_of(values.get("data_dir"))), 0, most)
    except OSError as error:
        raise UsageError(f"--stdin: expected input that can be read and kept, got: {error.strerror}. Nothing was stored.") from None


def hold_input(values: Mapping[str, Any], name: str) -> None:
    """The task of this input is still on its way."""
    from tq import spool
    from tq.config import data_dir_of

    spool.hold(str(data_dir_of(values.get("data_dir"))), name)


def forget_input(values: Mapping[str, Any], name: str) -> None:
    """No task has this input."""
    from tq import spool
    from tq.config import data_dir_of

    spool.forget(str(data_dir_of(values.get("data_dir"))), name)


def _niceness(given: Any) -> int:
    text = str(given)
    if type(given) in (int, str) and text.removeprefix("-").isdecimal() and text.isascii() and -20 <= int(text) <= 19:
        return int(text)
    _refuse("--nice", f"expected a number from -20 to 19, got {given!r}")


def _io_class(given: Any) -> list[int | None]:
    name, colon, level = given.partition(":") if type(given) is str else ("", "", "")
    kind = _CLASSES.get(name)
    if kind is None or (colon and (kind == 3 or level not in tuple("01234567"))):
        _refuse("--ionice", f"expected idle, or best-effort or realtime with a level of 0 to 7 as in best-effort:7, got {given!r}")
    return [kind, int(level) if colon else None if kind == 3 else 4]


def _codes(given: Any) -> list[int]:
    codes = given if isinstance(given, list) else str(given).split(",")
    found = [whole("--ok-codes", code.strip() if type(code) is str else code) for code in codes]
    if not found or max(found) > 255:
        _refuse("--ok-codes", f"expected exit codes from 0 to 255 such as 0,2, got {given!r}")
    return found
