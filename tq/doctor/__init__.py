"""The doctor: looks at an instance and its surroundings, and says what is wrong and what to do about it.

For: ``tq doctor``: ``examine`` gives what was found, check by check.
Not for: looking itself (sights), words on a terminal (cli), mending anything.
Runs in: the ``tq`` command, whether a daemon runs, none does, or the directory is damaged.
Promises: nothing is changed; a check that cannot be made is a finding, not an end; "wrong" is what endangers or stops tasks,
"note" is good to know; every finding that is not "ok" says what to do, unless nothing needs to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tq import __version__
from tq.broker.declared import declared_queues
from tq.broker.declared_limits import declared_limits
from tq.broker.resources import declared_resources
from tq.config import check_data_dir
from tq.doctor import sights
from tq.doctor.sights import Scene
from tq.errors import TqError
from tq.store.room import DISK_RESERVE, map_reserve

MIB = 1 << 20
CLOCK_SLACK_MS = 60_000
"""So far may what is stored lie in the future: a turn's time never falls, so a small step back leaves such."""
STEP_MS = 10_000
"""A step of the clock that is worth a word."""
WORKER_BYTES, DAEMON_BYTES = 32 * MIB, 64 * MIB
"""What an idle worker and a daemon take at the most, without the pages of the store."""
TOLD = 5
IN_MEMORY, PASSING = ("tmpfs", "ramfs", "devtmpfs"), ("overlay", "aufs")


class Finding(NamedTuple):
    """``level``: "ok", "note" or "wrong"."""

    check: str
    level: str
    found: str
    advice: str = ""


Found = tuple[str, str, str]
"""Level, what was found, what to do."""
Check = Callable[[Scene], Iterator[Found]]


def examine(data_dir: Path, now_ms: int, environ: Mapping[str, str]) -> list[Finding]:
    """Look at everything; in the order of ``CHECKS``, at least one finding for each."""
    scene = Scene(data_dir, now_ms, environ)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        before = len(findings)
        try:
            findings += [Finding(name, *found) for found in check(scene)]
        except TqError as error:
            findings.append(Finding(name, "wrong", error.message))
        except (OSError, ValueError) as error:
            findings.append(Finding(name, "wrong", f"this cannot be looked at: {error}", "Run tq doctor as the user whose instance it is."))
        if len(findings) == before:
            findings.append(Finding(name, "ok", "nothing to say"))
    return findings


# the place


def _directory(scene: Scene) -> Iterator[Found]:
    where = scene.where
    if not scene.exists:
        yield "note", f"{where} is not there yet", "The first task, or tq daemon start, makes it."
        return
    try:
        check_data_dir(where, scene.environ)
    except TqError as error:
        yield "wrong", error.message, ""
        return
    kind, options = sights.file_system_of(where)
    words = f"{where}, on {kind or 'an unknown file system'}"
    if kind in IN_MEMORY:
        yield "note", f"{words}, which is memory", "All tasks are gone with a reboot: choose a directory on a disk."
    elif kind in PASSING:
        yield "note", f"{words}, the layer of a container", "All tasks are gone with the container: put a volume there."
    elif options & {"nobarrier", "barrier=0"}:
        yield "wrong", f"{words}, mounted without barriers", "A power cut may lose accepted tasks: mount it with barriers."
    else:
        yield "ok", words, ""


def _modes(scene: Scene) -> Iterator[Found]:
    open_ones = sights.not_private(scene.where)
    for path, why, advice in open_ones[:TOLD]:
        yield "wrong", f"{path}: {why}", advice
    if not open_ones:
        yield "ok", "everything belongs to this user alone", ""


def _space(scene: Scene) -> Iterator[Found]:
    free, inodes, all_inodes = sights.free_space(scene.place)
    yield room(free, inodes, all_inodes)


def room(free: int, inodes: int, all_inodes: int) -> Found:
    """The finding for so many free bytes, and free inodes among all (0: the file system does not count them)."""
    words = f"{free // MIB:,} MiB" + (f" and {inodes:,} files" if all_inodes else "") + " are free"
    if free < DISK_RESERVE:
        return "wrong", words, f"New tasks are refused below {DISK_RESERVE // MIB} MiB: make room on that disk."
    if all_inodes and inodes < 100:
        return "wrong", words, "The output of tasks cannot be kept: remove files on that disk."
    if free < 8 * DISK_RESERVE or 0 < inodes < all_inodes // 100:
        return "note", words, "Make room before it is short: new tasks are refused then."
    return "ok", words, ""


def _settings(scene: Scene) -> Iterator[Found]:
    said = scene.sources  # a ConfigError, with what to do, if they cannot be used
    declared_queues(scene.settings.file, scene.settings.queues)
    declared_resources(scene.settings.file, scene.settings.resources)
    declared_limits(scene.settings.file, scene.settings.limits)
    yield "ok", ", ".join(f"{name} ({where})" for name, where in said.items()) or "all are the defaults", ""


# the daemon


def _daemon(scene: Scene) -> Iterator[Found]:
    status, holder, where = scene.status, scene.holder, scene.where
    if status is not None and holder is None:
        yield (
            "wrong",
            f"pid {status['pid']} answers at the socket, but does not hold the directory",
            (f"Its lock file was removed, or somebody took its socket: end it (kill {status['pid']}), then tq daemon start."),
        )
    elif status is not None:
        yield "ok", f"runs: pid {status['pid']}, version {status['version']}", ""
        if status["version"] != __version__:
            yield "note", f"the daemon is tq {status['version']}, this command is {__version__}", "tq daemon restart"
    elif holder is not None:
        yield (
            "wrong",
            f"pid {holder or 'unknown'} holds the directory but does not answer",
            (f"It starts, or hangs: read {where}/daemon.log. To kill it (kill -9) loses no accepted task."),
        )
    elif (where / "tq.sock").exists():
        yield "note", "none runs; its socket is still there, so it was killed", "Nothing is lost; tq daemon start."
    else:
        yield "ok", "none runs", ""


def _application(scene: Scene) -> Iterator[Found]:
    name = scene.options.get("app") if scene.status else scene.settings.app
    if not name:
        yield "ok", "none: only commands can be run", ""
        return
    refused = scene.refused_application(str(name))
    if refused is None:
        yield "ok", f"{name} imports", ""
    else:
        yield "wrong", refused, "Mend it, or start the daemon where it can be found: workers cannot."


def _log(scene: Scene) -> Iterator[Found]:
    errors = sights.errors_in_log(scene.where / "daemon.log")
    if errors:
        yield "note", f"{len(errors)} errors at the end of daemon.log, the last: {errors[-1]}", f"Read {scene.where}/daemon.log."
    else:
        yield "ok", "no errors at the end of daemon.log", ""


# the store


def _store(scene: Scene) -> Iterator[Found]:
    if not scene.has_store:
        yield "ok", "there is none yet", ""
        return
    problems = scene.problems
    for problem in problems[:TOLD]:
        yield "wrong", problem, ""
    if problems:
        yield "wrong", f"{len(problems)} problems in all", "Stop the daemon, then restore a backup: tq restore DIR"
        return
    found = scene.survey
    yield "ok", f"sound: {found.tasks:,} tasks", ""
    yield fill(found.size, found.live, scene.settings.map_size)


def fill(size: int, live: int, map_size: int) -> Found:
    """The finding for a file of ``size`` bytes with ``live`` bytes of records, which may grow to ``map_size``."""
    words = f"{size // MIB:,} MiB, of which {live // MIB:,} MiB are records; it may grow to {map_size // MIB:,} MiB"
    if live > map_size - map_reserve(map_size):
        return "wrong", words, "New tasks are refused: let tasks run, remove finished ones, or raise map_size."
    if live > map_size - map_size // 4:
        return "note", words, "Raise map_size before it is full."
    if size >= 64 * MIB and live < size // 2:
        return "note", words, "tq compact gives the rest back to the disk."
    return "ok", words, ""


def _readers(scene: Scene) -> Iterator[Found]:
    if not scene.has_store or scene.problems:
        yield "ok", "none", ""
        return
    dead = sorted({pid for pid in scene.survey.readers if not sights.alive(pid)})
    if dead:
        yield (
            "note",
            f"readers that are dead pin pages of the store: pid {', '.join(map(str, dead))}",
            "A running daemon clears them within minutes.",
        )
    else:
        yield "ok", f"{len(scene.survey.readers)} read the store", ""


def _leftovers(scene: Scene) -> Iterator[Found]:
    beside, boards = sights.beside_store(scene.where)
    for path, size in beside:
        yield (
            "note",
            f"{path}: {size // MIB:,} MiB of a store that was replaced, or of a step that was cut short",
            (f"Remove it when you no longer need it: rm -r {path}"),
        )
    if boards and scene.status is None and scene.holder is None:
        yield "note", f"{boards} workers' pages of a daemon that was killed", "Nothing is lost; the next start looks at them."
    if scene.has_store and not scene.problems and scene.newest_output > scene.survey.last_id:
        yield (
            "note",
            f"there is output of task {scene.newest_output}, but the store's last is {scene.survey.last_id}",
            (f"It is another store's, and would be shown as that of new tasks: remove it from {scene.where}/logs."),
        )


def _clock(scene: Scene) -> Iterator[Found]:
    newest = scene.survey.newest_at if scene.has_store and not scene.problems else 0
    yield clock(scene.now_ms, newest, scene.stepped_ms)


def clock(now_ms: int, newest_ms: int, stepped_ms: int) -> Found:
    """The finding for a clock at ``now_ms``, the latest instant stored, and how far it was stepped since the daemon's start."""
    ahead = (newest_ms - now_ms) / 1000
    if newest_ms > now_ms + CLOCK_SLACK_MS:
        return (
            "wrong",
            f"the store has seen a time {ahead:,.0f} s from now",
            "The clock was set back: set it right, or delays are too long.",
        )
    if abs(stepped_ms) > STEP_MS:
        back = "back" if stepped_ms < 0 else "forward"
        text = f"the clock was set {back} by {abs(stepped_ms) / 1000:,.0f} s since the daemon was started"
        return "note", text, "Tasks that wait for a time came due that much sooner or later."
    return "ok", "agrees with what is stored", ""


# the surroundings


def _versions(_: Scene) -> Iterator[Found]:
    found = sights.versions()
    yield from wrong_versions(found)
    if not sights.has_pidfd():
        yield "wrong", "expected a kernel that tells when a process ends (pidfd: Linux 5.3), got none", "Use a newer kernel."
    yield "ok", f"tq {__version__}, " + ", ".join(f"{name} {dotted(version)}" for name, version in found.items()), ""


def wrong_versions(found: Mapping[str, tuple[int, ...]]) -> Iterator[Found]:
    """A finding for each of these that is not of a version that tq is made for."""
    for name, (least, most) in WANTED.items():
        if not least <= found[name] < most:
            words = f"expected {name} {dotted(least)} or newer, before {dotted(most)}, got {dotted(found[name])}"
            yield "wrong", words, "Install tq anew, in an environment of its own."


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


WANTED = {"python": ((3, 11), (4,)), "lmdb": ((3, 0), (4,)), "msgpack": ((1, 1, 2), (2,))}
"""The versions that tq is made for; as in its pyproject.toml."""


def _limits(scene: Scene) -> Iterator[Found]:
    workers = int(scene.options.get("max_workers") or 0) if scene.status else scene.settings.worker_range[1]
    pid = scene.status["pid"] if scene.status else None
    found = list(limits(sights.limits_of(pid), workers, scene.settings.max_connections, scene.settings.map_size))
    yield from found
    if not found:
        yield "ok", "descriptors, processes, file size and address space suffice", ""


def limits(have: Mapping[str, int | None], workers: int, connections: int, map_size: int) -> Iterator[Found]:
    """Findings for the hard limits (None: none) of open files, processes that may still be started, file size, address space."""
    files = 5 * workers + 64
    if (most := have["files"]) is not None and most < connections + files:
        words = f"{most} open files are allowed; {connections} clients and {workers} workers need {connections + files}"
        advice = "Raise it (ulimit -n, LimitNOFILE=), or lower max_connections: clients are turned away."
        yield "wrong" if most < 2 * files else "note", words, advice
    if (most := have["processes"]) is not None and most < 4 * workers:
        yield (
            "wrong",
            f"{most} more processes are allowed, {workers} workers may need more",
            "Raise it (ulimit -u, TasksMax=), or lower workers.",
        )
    if (most := have["file_size"]) is not None and most < map_size:
        yield (
            "note",
            f"a file may have {most // MIB:,} MiB",
            "New tasks are refused when the store has that: raise it (ulimit -f, LimitFSIZE=).",
        )
    if (most := have["address_space"]) is not None and most < map_size + DAEMON_BYTES:
        yield (
            "wrong",
            f"{most // MIB:,} MiB of address space are allowed, the store maps {map_size // MIB:,}",
            "Raise it (ulimit -v), or lower map_size.",
        )


def _memory(scene: Scene) -> Iterator[Found]:
    workers = int(scene.options.get("max_workers") or 0) if scene.status else scene.settings.worker_range[1]
    yield memory(sights.memory_limit(scene.status["pid"] if scene.status else None), workers)


def memory(limit: int | None, workers: int) -> Found:
    """The finding for a limit of the control group (bytes; None: there is none)."""
    if limit is None:
        return "ok", "no limit of a control group", ""
    need = DAEMON_BYTES + workers * WORKER_BYTES
    words = f"the control group may use {limit // MIB:,} MiB; a daemon and {workers} idle workers take up to {need // MIB:,}"
    if limit < need:
        return "wrong", words, "The kernel will kill workers, or the daemon: raise it (MemoryMax=), or lower workers."
    return "ok", words, ""


def _path(scene: Scene) -> Iterator[Found]:
    found = sights.programs_called_tq(scene.environ.get("PATH", ""))
    if not found:
        yield "note", "no tq in PATH", "Call it by its path, or add the directory where it is installed."
        return
    first, ours = found[0]
    if not ours:
        mine = next((path for path, ours in found if ours), None)
        advice = "Debian's package nq has one of that name: remove it, or put this one's directory first in PATH"
        yield "wrong", f"{first}, the first tq in PATH, is another program", f"{advice}{f' ({mine.parent})' if mine else ''}."
    else:
        yield "ok", str(first), ""
        for path, _ in [one for one in found[1:] if not one[1]][:1]:
            yield "note", f"{path}, later in PATH, is another program", ""


CHECKS: dict[str, Check] = {
    "directory": _directory, "modes": _modes, "space": _space, "settings": _settings,
    "daemon": _daemon, "application": _application, "log": _log,
    "store": _store, "readers": _readers, "leftovers": _leftovers, "clock": _clock,
    "versions": _versions, "limits": _limits, "memory": _memory, "path": _path,
}  # fmt: skip
