"""What the doctor sees: the one place where it looks at files, processes and the kernel.

For: facts, each found when it is asked for.
Not for: whether they are good or bad (doctor).
Runs in: the ``tq`` command.
Promises: nothing is changed; a daemon is asked, never waited for longer than ``ANSWER_WITHIN``; a store is opened only after
its pages were found sound.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgpack
import psutil

from tq.client import Client
from tq.config import MOUNTS, file_system
from tq.config.settings import Settings, settings_and_sources
from tq.errors import DaemonError, NotAllowed, TqError
from tq.model import safe_text
from tq.output import newest
from tq.store.survey import BINDING, Survey, survey
from tq.store.verify import verify

ANSWER_WITHIN = 10.0
IMPORT_WITHIN = 60.0
LOG_TAIL = 64 << 10
ENTRY = re.compile(rb"\btq\.cli\b|-m tq\b")
"""What a script that starts this tq has in it."""
PRIVATE = ("lock", "tq.sock", "store", "logs", "run", "daemon.log", "daemon.out", "history.bin", "store/data.mdb", "store/lock.mdb")


class Scene:
    """One instance, and what is asked of it more than once; TqError where something cannot be had."""

    def __init__(self, where: Path, now_ms: int, environ: Mapping[str, str]) -> None:
        self.where, self.now_ms, self.environ = where, now_ms, environ
        self.exists = where.is_dir()
        self.has_store = (where / "store").exists()

    @property
    def place(self) -> Path:
        """The directory, or the nearest above it that is there."""
        return next(path for path in (self.where, *self.where.parents) if path.is_dir())

    @cached_property
    def _settled(self) -> tuple[Settings, dict[str, str]]:
        return settings_and_sources({"data_dir": self.where}, self.environ)

    @property
    def settings(self) -> Settings:
        return self._settled[0]

    @property
    def sources(self) -> dict[str, str]:
        return self._settled[1]

    @cached_property
    def status(self) -> dict[str, Any] | None:
        """What the daemon says of itself; None: nobody answers."""
        try:
            with Client(self.where, timeout=ANSWER_WITHIN) as client:
                return client.status()
        except (DaemonError, NotAllowed):
            return None

    @property
    def options(self) -> dict[str, Any]:
        """What the running daemon was started with."""
        return dict(self.status["options"]) if self.status else {}

    @cached_property
    def holder(self) -> int | None:
        """The pid in the lock file if somebody holds it (0: it does not say), else None."""
        try:
            fd = os.open(self.where / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(fd, 32, 0).strip()
            return int(text) if text.isdigit() else 0
        else:
            return None
        finally:
            os.close(fd)

    @cached_property
    def problems(self) -> list[str]:
        """What ``tq verify`` says."""
        return verify(self.where)

    @cached_property
    def survey(self) -> Survey:
        return survey(self.where)

    @cached_property
    def newest_output(self) -> int:
        return newest(self.where / "logs")

    @property
    def stepped_ms(self) -> int:
        """How far the wall clock has been set since the daemon was started: its own word against the kernel's."""
        if self.status is None:
            return 0
        try:
            begun = psutil.Process(self.status["pid"]).create_time() * 1000
        except psutil.Error:
            return 0
        return int(begun - self.status["started_at"])

    def refused_application(self, name: str) -> str | None:
        """Why the application does not import; None: it does. A running daemon tries it where its workers would."""
        if self.status is not None:
            try:
                with Client(self.where, timeout=ANSWER_WITHIN) as client:
                    client.call("check_app", {}, IMPORT_WITHIN)
            except TqError as error:
                return error.message
            return None
        code = "import sys\nfrom tq.app import load\nfrom tq.errors import TqError\ntry:\n    load(sys.argv[1])\n"
        code += "except TqError as error:\n    sys.exit(error.message)\n"
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                timeout=IMPORT_WITHIN, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"the application {name!r} does not import within {IMPORT_WITHIN:g} s"
        return None if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip()[-2000:]


# files


def file_system_of(where: Path, mounts: str = MOUNTS) -> tuple[str, set[str]]:
    """The kind of the file system that holds ``where``, and the options it is mounted with."""
    options: set[str] = set()
    device = os.stat(where).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            if left.split()[2:3] == [name]:
                options = {*left.split()[5].split(","), *right.split()[-1].split(",")}
    return file_system(str(where.resolve()), mounts), options


def not_private(where: Path) -> list[tuple[Path, str, str]]:
    """What of the instance others may read or write, or own: (path, why, what to do)."""
    found = []
    for name in (".", *PRIVATE, "tq.toml"):
        path, others = where / name, 0o022 if name == "tq.toml" else 0o077
        try:
            about = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        mode = stat.S_IMODE(about.st_mode)
        if stat.S_ISLNK(about.st_mode):
            found.append((path, "it is a symbolic link", "Put what it points to in its place."))
        elif about.st_uid != os.geteuid() and not (name == "tq.toml" and about.st_uid == 0):
            found.append((path, f"it belongs to user {about.st_uid}, not to user {os.geteuid()}", f"chown {os.geteuid()} {path}"))
        elif mode & others:
            found.append((path, f"others may use it (mode {mode:04o})", f"chmod {'go-w' if others == 0o022 else 'go-rwx'} {path}"))
    return found


def free_space(place: Path) -> tuple[int, int, int]:
    """Free bytes, free inodes, inodes in all (0: not counted)."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize, found.f_favail, found.f_files


def beside_store(where: Path) -> tuple[list[tuple[Path, int]], int]:
    """(Stores and copies beside the store, with their bytes; how many workers' pages there are.)"""
    others = [path for path in sorted(where.iterdir()) if path.is_dir()] if where.is_dir() else []
    others = [path for path in others if path.name.startswith("store.")]
    beside = [(path, sum(one.lstat().st_size for one in path.rglob("*"))) for path in others]
    run = where / "run"
    return beside, len(list(run.glob("*.board"))) if run.is_dir() else 0


def errors_in_log(path: Path) -> list[str]:
    """The errors among the last lines of the daemon's log, in words."""
    try:
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - LOG_TAIL, 0))
            lines = file.read(LOG_TAIL).splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the first may be half a line
        if isinstance(row, dict) and row.get("level") in ("error", "critical"):
            what, why = row.get("message") or row.get("event"), row.get("why") or row.get("error") or ""
            found.append(safe_text(f"{row.get('at')} {what} {why}")[:300])
    return found


# processes and the kernel


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid)


def has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def versions() -> dict[str, tuple[int, ...]]:
    """Of what tq stands on."""
    binding = tuple(int(word) for word in BINDING.split(".") if word.isdigit())
    return {"python": sys.version_info[:3], "lmdb": binding, "msgpack": tuple(msgpack.version[:3])}


_LIMITS = {"files": "Max open files", "processes": "Max processes", "file_size": "Max file size", "address_space": "Max address space"}


def limits_of(pid: int | None) -> dict[str, int | None]:
    """The hard limits of a process (None: this one); of processes, how many more this user may start; None: no limit."""
    own = {
        "files": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC,
        "file_size": resource.RLIMIT_FSIZE, "address_space": resource.RLIMIT_AS,
    }  # fmt: skip
    found: dict[str, int | None] = {}
    text = Path(f"/proc/{pid}/limits").read_text("ascii") if pid else ""
    for name, kind in own.items():
        if pid:
            row = next(line for line in text.splitlines() if line.startswith(_LIMITS[name]))
            word = row[len(_LIMITS[name]) :].split()[1]
            found[name] = None if word == "unlimited" else int(word)
        else:
            hard = resource.getrlimit(kind)[1]
            found[name] = None if hard == resource.RLIM_INFINITY else hard
    if os.geteuid() == 0:
        found["processes"] = None  # which the kernel does not count for root
    elif found["processes"] is not None:
        found["processes"] -= sum(process.info["num_threads"] or 1 for process in _own_processes())
    return found


def _own_processes() -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["uids", "num_threads"]) if one.info["uids"] and one.info["uids"].real == os.getuid()]


def memory_limit(pid: int | None, groups: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int | None:
    """The smallest memory limit of the control groups that a process is in (None: this one), in bytes; None: there is none."""
    try:
        lines = (proc / str(pid or "self") / "cgroup").read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        number, kinds, path = line.split(":", 2)
        if number == "0":
            top, name = groups, "memory.max"
        elif "memory" in kinds.split(","):
            top, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.strip("/")
        for one in (group, *group.parents):
            try:
                text = (one / name).read_text().strip()
            except OSError:
                text = ""
            if text.isdigit():
                found.append(int(text))
            if one == top:
                break
    least = min(found, default=1 << 60)
    return least if least < 1 << 60 else None


def programs_called_tq(path: str) -> list[tuple[Path, bool]]:
    """The programs of that name in the directories of PATH, in order, and whether each is this one."""
    found: list[tuple[Path, bool]] = []
    for folder in path.split(os.pathsep):
        program = Path(folder or ".") / "tq"
        if not (program.is_file() and os.access(program, os.X_OK)):
            continue
        try:
            with program.open("rb") as file:
                ours = bool(ENTRY.search(file.read(4096)))
        except OSError:
            ours = False
        if all(not program.samefile(other) for other, _ in found):
            found.append((program, ours))
    return found
