"""The ``tq`` command: a quick parser of command lines, and the thin path of the verbs that live in shell loops.

For: every command, parsed from the option table; ``enqueue add status wait result cancel stats`` with nothing but C modules.
Not for: what it does not know exactly: help, abbreviations, mistakes. That goes to Typer (app) untouched, and so do its words.
What is no thin verb, or has no daemon, goes to ``perform``.
Runs in: the ``tq`` command.
Promises: the values and the requests are those of Typer's path; an enqueue whose answer was lost is repeated under its
number; it never hands over what it has already sent. Typer's path costs 17 bare interpreters, the thin one 1.3.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from tq.cli.table import Command

HOT = ("enqueue", "add", "status", "wait", "result", "cancel", "stats")
ANSWER_WITHIN = 30.0


def parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The command and its values, or None if this is for Typer."""
    from tq.cli.options import COMMANDS
    from tq.cli.table import DATA_DIR

    words = list(argv)
    values: dict[str, Any] = {}
    if words and words[0].startswith("--data-dir"):
        flag, equals, value = words.pop(0).partition("=")
        if flag != DATA_DIR.flags[0] or not (equals or words):
            return None
        values["data_dir"] = value if equals else words.pop(0)
    name = " ".join(words[: 1 if words and words[0] in COMMANDS else 2])
    command = COMMANDS.get(name)
    if command is None:
        return None
    rest = _options(words[name.count(" ") + 1 :], command, values)
    if rest is None:
        return None
    some, one = bool(rest), len(rest) == 1
    fits = {"none": not rest, "one": one, "optional": one or not rest, "any": True, "some": some, "rest": some, "named": some}
    if not fits[command.takes]:
        return None
    if rest and command.takes in ("any", "some", "rest"):
        values[command.argument] = rest
    elif rest:
        values[command.argument] = rest.pop(0)
    if rest and command.takes == "named":
        values["command"] = rest
    return name, values


def _options(words: list[str], command: Command, values: dict[str, Any]) -> list[str] | None:
    """Take the options of a command into ``values``; what is left, or None if this is for Typer."""
    known = {flag: option for option in command.options for flag in option.flags}
    rest: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            return rest + words
        if word[:1] != "-" or word == "-":
            rest.append(word)
            if command.takes != "rest":
                continue
            return rest + words
        flag, equals, value = word.partition("=")
        option = known.get(flag.replace("--no-", "--", 1) if flag.startswith("--no-") else flag)
        if option is None or (equals and not flag.startswith("--")):
            return None
        if option.kind in ("flag", "switch"):
            if equals or (flag.startswith("--no-") and option.kind == "flag"):
                return None
            values[option.key] = not flag.startswith("--no-")
            continue
        if flag.startswith("--no-"):
            return None
        if not equals:
            if not words or (words[0].startswith("-") and words[0] != "-"):
                return None
            value = words.pop(0)
        if option.kind == "many":
            values.setdefault(option.key, []).append(value)
        else:
            values[option.key] = value
    return rest


def is_thin(name: str, values: dict[str, Any]) -> bool:
    """Whether a command does without a client: one that lives in shell loops, of one task or of some ids."""
    if name not in HOT or values.get("batch") is not None or "each" in values or "null" in values:
        return False
    if name != "cancel":
        return True
    ids = values.get("ids", ())  # else it is a filter, or meant as one: that may be long work
    return bool(ids) and not values.keys() - {"data_dir", "ids"} and all(word == "@last" or word.isdecimal() for word in ids)


def whole(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a command as Typer would give them: one for each option, and for the argument."""
    from tq.cli.options import COMMANDS

    command = COMMANDS[name]
    found = {option.key: False if option.kind == "flag" else None for option in command.options}
    if command.takes != "none":
        found[command.argument] = None
    if command.takes == "named":
        found["command"] = None
    return {**found, **values}


class _NotThere(Exception):
    """Nobody answers at the socket."""


class _Line:
    """A connection of one command: requests one after the other."""

    def __init__(self, path: str) -> None:
        import _socket
        import posix

        self.path, self.number, self.buffer = path, 1, b""
        self.nonce = posix.urandom(8)
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.limit(_socket.SO_SNDTIMEO, ANSWER_WITHIN)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise _NotThere from None

    def limit(self, which: int, seconds: float) -> None:
        """A kernel timeout on the blocking socket: a struct timeval of two longs."""
        size = 8 if sys.maxsize > 1 << 32 else 4
        self.socket.setsockopt(1, which, int(seconds).to_bytes(size, sys.byteorder) + bytes(size))  # 1 is SOL_SOCKET

    def call(self, verb: str, args: dict[str, Any], within: float = ANSWER_WITHIN) -> dict[str, Any]:
        """The body of the answer; the errors of ``tq.errors``. ``within`` seconds, whole ones."""
        import _socket

        from tq import wire

        self.number += 1
        data = wire.frame([self.number, verb, args])
        if len(data) - 4 > wire.MAX_FRAME:
            from tq.client.core import Core

            Core().request(verb, args)  # raises, with words
        if self.number == 2:
            data = wire.frame([1, "hello", {"protocol": wire.PROTOCOL, "client": "tq", "nonce": self.nonce}]) + data
        try:
            self.limit(_socket.SO_RCVTIMEO, within)
            self.socket.sendall(data)
            kind, body = self._answer()
        except BlockingIOError:
            from tq.errors import DaemonError

            text = f"the daemon at {self.path} did not answer within {within:g} s; what was asked may or may not have been done. "
            raise DaemonError(text + "Look with `tq daemon status`, then ask again.") from None
        except (OSError, EOFError):
            return self._again(verb, args, within)
        if kind == wire.ERROR:
            from tq.client.core import error_of

            raise error_of(body)
        return body  # type: ignore[no-any-return]

    def _answer(self) -> tuple[int, Any]:
        from tq import wire

        while True:
            while len(self.buffer) < 4 or len(self.buffer) < 4 + int.from_bytes(self.buffer[:4], "big"):
                data = self.socket.recv(65536)
                if not data:
                    raise EOFError
                self.buffer += data
            end = 4 + int.from_bytes(self.buffer[:4], "big")
            number, kind, body = wire.message(self.buffer[4:end])
            self.buffer = self.buffer[end:]
            if number == self.number or kind == wire.ERROR:
                return kind, body

    def _again(self, verb: str, args: dict[str, Any], within: float) -> dict[str, Any]:
        """The answer was lost: the whole client repeats the request under its old number."""
        from tq.client.core import BACK_WITHIN, Core
        from tq.client.link import Link

        link = Link(self.path, ANSWER_WITHIN, Core(self.nonce), patience=BACK_WITHIN)
        link.core.unanswered[self.number] = (verb, args)
        link.open_again()
        try:
            return link.answer(self.number, within)
        finally:
            link.close()


def try_fast(argv: Sequence[str]) -> int | None:
    """The exit code, or None if nothing was done and Typer's path is to do it."""
    if argv and argv[0] == "__complete":
        from tq.cli.complete import complete

        return complete(list(argv[1:]))
    parsed = parse(argv)
    if parsed is None:
        return None
    name, values = parsed
    code = _thin(name, values) if is_thin(name, values) else None
    if code is None:
        from tq.cli.perform import perform

        code = perform(name, whole(name, values))
    return code


def _thin(name: str, values: dict[str, Any]) -> int | None:
    """The exit code, or None if nothing was done: there is no daemon, or no such directory."""
    from tq.config import data_dir_of
    from tq.errors import TqError
    from tq.wire import MAX_SOCKET_PATH, SOCKET

    try:
        path = f"{data_dir_of(values.get('data_dir'))}/{SOCKET}"
    except TqError:
        return None
    if len(path.encode(errors="surrogateescape")) > MAX_SOCKET_PATH:
        return None
    try:
        line = _Line(path)
    except _NotThere:
        return None
    from tq.cli.hot import run

    return run(name, line.call, values)


def main() -> NoReturn:
    """The ``tq`` command. Leaves by ``_exit``: taking an interpreter apart is a fifth of a bare start."""
    import os  # site has loaded it

    if None in (sys.stdin, sys.stdout, sys.stderr):
        _fill_closed()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = 0
    try:
        answer = try_fast(sys.argv[1:])
        if answer is None:
            from tq.cli.app import main as typers_way

            answer = typers_way(sys.argv[1:])
        code = answer
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        code = 141  # whoever read our output is gone, as for any command of a pipe: 128 + SIGPIPE
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        from tq.cli.hot import say

        forbidden, gone = isinstance(error, PermissionError), isinstance(error, FileNotFoundError) and error.filename is None
        place = "the current directory" if gone else "the output" if error.filename is None else ascii(error.filename)
        hint = " Run tq as the user who may, or name another place." if forbidden else " Change to one that is there." if gone else ""
        say(f"tq: {place} cannot be written or read: {error.strerror or error}.{hint}")
        code = code or (77 if forbidden else 1)
    os._exit(code)


def _fill_closed() -> None:
    """Standard streams that the caller closed lead nowhere: no file or socket of ours may take their descriptors."""
    import os

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            while (opened := os.open(os.devnull, os.O_RDWR)) < number:
                pass  # one before it was closed, too: it is filled by this
            if opened > number:
                os.close(opened)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
