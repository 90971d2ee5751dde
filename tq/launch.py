"""Launch: how a task says that its command is to be run, and the process that is started so.

For: reading the payload and the extras of a ``shell`` task; starting it with its directory, environment, umask, priorities and limits.
Not for: watching it (shell), keeping any of this (store), making it from options (the command line).
Runs in: the worker, on the thread of the slot that runs the command.
Promises: everything holds from the command's first instruction on, and for all it starts; nothing runs between fork and exec but
the C of the standard library; what the system does not allow is an error before anything runs, never a command run otherwise.

Payload: ``{"argv": [text or bytes, ...]}``. Extras, each of which may be absent (texts may be bytes, too):

    cwd      the directory                    umask    a number
    env      {name: value}: the whole environment (absent: the worker's); the store keeps each distinct one once, and the key in its place
    set      {name: value}: beside that or over it
    nice     so much nicer than the worker (less than 0 needs a privilege)    io       [class 1..3, level 0..7 or nil], as ionice(1)
    limits   {name: soft limit or [soft, hard]}: ``as core cpu data fsize memlock nofile nproc stack``, as getrlimit(2) has them, -1: none
    ok       exit codes beside 0 that are a success
    stdin    the name of what it reads from its standard input, from its beginning in each attempt (``tq.spool``)
    interactive   true: its standard input stays open for what is sent to it (absent: it is empty; see ``tq.inlet``)
    tty      [rows, columns]: its standard streams are one terminal of that size, and what is sent to it is typed there

A niceness and an I/O class are a thread's, and inherited from the one that starts a process: where they are asked for, that is a
thread of their own. Limits are a process's: where they differ from the worker's, prlimit(1) of util-linux sets them and becomes
the command, which takes it some 0.6 ms. A limit that is higher than the worker may have is as high as it may be.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tq.errors import PayloadError
from tq.inlet import size_of
from tq.model import Spec, safe_text, unpack
from tq.spool import is_input

LIMITS = {name: getattr(resource, f"RLIMIT_{name.upper()}") for name in (
    "as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack",
)}  # fmt: skip
"""The limits that a task may name."""
_IOPRIO_SET = {"x86_64": 251, "i686": 289, "armv7l": 314, "ppc64le": 273, "s390x": 282}
"""The number of the system call, which glibc has no function for; elsewhere it is 30 (asm-generic)."""
_THIS_THREAD = 1, 0  # IOPRIO_WHO_PROCESS of pid 0

SECRET = frozenset({
    "AUTH", "COOKIE", "COOKIES", "CREDENTIAL", "CREDENTIALS", "CREDS", "DSN", "KEY", "KEYS", "PASS", "PASSCODE", "PASSPHRASE", "PASSWD",
    "PASSWORD", "PASSWORDS", "PAT", "PRIVATE", "PSK", "PW", "PWD", "SECRET", "SECRETS", "TOKEN", "TOKENS",
})  # fmt: skip
SECRET_END = ("APIKEY", "PASSPHRASE", "PASSWD", "PASSWORD", "SECRET", "TOKEN")
"""A variable is masked in every view if a word of its name (they are parted by ``_``, ``-`` and ``.``) is in SECRET, or ends as in
SECRET_END, in capitals or not: ``AWS_SECRET_ACCESS_KEY``, ``PGPASSWORD``, ``github.token``; but not ``PWD`` and ``OLDPWD``, which are
directories. And so is one whose value is an address with a password in it, ``postgres://user:password@host``."""
MASK = "***"
_DIRECTORIES = ("PWD", "OLDPWD")
_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")

_ON_A_TERMINAL = (b"/bin/sh", b"-c", b': <>"$0"; exec "$@"')
"""The words before a command that give its session the terminal whose path follows: the first to open one has it (tty_ioctl(4))."""

Limit = tuple[int, int]
"""Soft and hard; -1 is none."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One command, as it is to be run. ``umask`` -1: the worker's; ``io``: class and level; ``ok``: exit codes that are a success."""

    argv: list[bytes]
    cwd: bytes | None
    env: dict[bytes, bytes]
    umask: int = -1
    nice: int = 0
    io: tuple[int, int] | None = None
    limits: Mapping[str, Limit] | None = None
    ok: frozenset[int] = frozenset({0})
    interactive: bool = False
    tty: tuple[int, int] | None = None
    stdin: str | None = None

    def start(self, own: Mapping[str, str], terminal: str = "", **streams: Any) -> subprocess.Popen[bytes]:
        """The process, which leads a session of its own; ``own`` are variables of tq's. OSError, ValueError: it cannot be started.

        ``terminal``: the path of the one that its session is to have.
        """
        env = self.env | {os.fsencode(name): os.fsencode(value) for name, value in own.items()}
        there = bool(self.limits or terminal) and self._is_there()
        argv = [*_limiting(self.limits), *self.argv] if self.limits and there else self.argv
        argv = [*_ON_A_TERMINAL, os.fsencode(terminal), *argv] if terminal and there else argv
        found: list[subprocess.Popen[bytes]] = []
        failed: list[BaseException] = []

        def spawn() -> None:
            try:
                if self.nice:
                    _set_nice(self.nice)
                if self.io is not None:
                    _set_io(*self.io)
                found.append(subprocess.Popen(
                    argv, bufsize=0, cwd=self.cwd, env=env, umask=self.umask, close_fds=True, start_new_session=True, **streams
                ))  # fmt: skip
            except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
                failed.append(error)

        if self.nice or self.io is not None:
            thread = threading.Thread(target=spawn, name="tq-launch")
            thread.start()
            thread.join()
        else:
            spawn()
        if failed:
            raise failed[0]
        return found[0]

    def _is_there(self) -> bool:
        """Whether there is such a command: if not, that is said as always, and not by prlimit."""
        word = os.fsdecode(self.argv[0])
        if "/" in word:
            place = os.path.join(os.fsdecode(self.cwd or b""), word)
            return os.path.isfile(place) and os.access(place, os.X_OK)
        places = os.get_exec_path({os.fsdecode(name): os.fsdecode(value) for name, value in self.env.items()})
        path = os.pathsep.join(os.path.join(os.fsdecode(self.cwd or b""), place) for place in places)
        return shutil.which(word, path=path) is not None


def launch_of(spec: Spec, environment: bytes | None = None) -> Launch:
    """What a task says; ``environment`` is the packed one that it names. PayloadError if that is no command."""
    extras = spec.header.extras or {}
    try:
        argv = [os.fsencode(word) for word in unpack(spec.payload)["argv"]]
        cwd = os.fsencode(extras["cwd"]) if extras.get("cwd") else None
        given = extras.get("env")
        whole = _variables(os.environ if given is None else given) if environment is None else _unpacked(environment)
        env = whole | _variables(extras.get("set") or {})
        umask, nice, io = extras.get("umask"), extras.get("nice") or 0, extras.get("io")
        limits = {name: _limit(name, value) for name, value in (extras.get("limits") or {}).items()}
        if not argv or not argv[0] or not isinstance(umask, int | None) or not isinstance(nice, int):
            raise ValueError("no command")
        return Launch(
            argv, cwd, env, -1 if umask is None else umask & 0o777, nice, None if io is None else (int(io[0]), int(io[1] or 0)),
            {name: limit for name, limit in limits.items() if limit != resource.getrlimit(LIMITS[name])},
            frozenset({0, *(int(code) for code in extras.get("ok") or ())}),
            bool(extras.get("interactive")), size_of(extras["tty"]) if extras.get("tty") else None,
            extras["stdin"] if is_input(extras.get("stdin")) else None,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise PayloadError(
            'a shell task: expected a payload {"argv": [text, ...]} and extras {"cwd": text, "env": {text: text}, '
            f'"umask": number, ...}}, got others ({type(error).__name__}: {error!s:.80}). Use `tq add -- COMMAND`.'
        ) from None


def is_secret(name: str, value: str) -> bool:
    """Whether a variable looks like a secret; see SECRET_END."""
    words = re.split(r"[_.-]", name.upper())
    looks = any(word in SECRET or word.endswith(SECRET_END) for word in words) and name not in _DIRECTORIES
    return bool(value) and (looks or _WITH_PASSWORD.search(value) is not None)


def shown(extras: Mapping[str, Any]) -> dict[str, Any]:
    """A command's extras as they may be shown to people: texts, and what looks secret masked."""
    found = {name: value for name, value in extras.items() if name not in ("env", "set")}
    for name in ("env", "set"):
        if isinstance(extras.get(name), Mapping):
            found[name] = {_text(one): _text(value) for one, value in extras[name].items()}
            found[name] = {one: MASK if is_secret(one, value) else value for one, value in found[name].items()}
    return {name: _text(value) if isinstance(value, bytes) else value for name, value in found.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


@lru_cache(maxsize=8)
def _unpacked(environment: bytes) -> dict[bytes, bytes]:
    """Its variables, not to be changed: many commands have the same."""
    return _variables(unpack(environment))


def _variables(given: Mapping[Any, Any]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in given.items()}


def _limit(name: str, value: Any) -> Limit:
    """The limit as it can be set here: no higher than the worker's own hard one."""
    most = resource.getrlimit(LIMITS[name])[1]
    soft, hard = (value, -1) if isinstance(value, int) else (int(value[0]), int(value[1]))
    hard = _lower(hard, most)
    return _lower(soft, hard), hard


def _lower(one: int, other: int) -> int:
    return max(one, other) if -1 in (one, other) else min(one, other)


def _limiting(limits: Mapping[str, Limit]) -> list[bytes]:
    """The words before a command that set its limits."""
    tool = shutil.which("prlimit")
    if tool is None:
        raise OSError(0, "expected prlimit (of util-linux) to set its limits, found none: install it")
    words = [f"--{name}={':'.join('unlimited' if one < 0 else str(one) for one in limit)}" for name, limit in limits.items()]
    return [os.fsencode(word) for word in (tool, *words, "--")]


def _set_nice(more: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(os.getpriority(os.PRIO_PROCESS, 0) + more, 19))
    except PermissionError as error:
        raise PermissionError(error.errno, f"it cannot be made nicer by {more}: {error.strerror}") from None


def _set_io(kind: int, level: int) -> None:
    number = _IOPRIO_SET.get(os.uname().machine, 30)
    if ctypes.CDLL(None, use_errno=True).syscall(number, *_THIS_THREAD, kind << 13 | level):
        code = ctypes.get_errno()
        raise OSError(code, f"the I/O class cannot be set: {safe_text(os.strerror(code))}")
