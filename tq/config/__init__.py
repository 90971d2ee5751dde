"""Where an instance lives, and its settings.

For: the data directory (which one, and whether it may be used) and ``Settings`` (every option of the daemon).
Not for: what an option does; the rooms that read it know. Nothing else in tq reads ``tq.toml``.
Runs in: every process; this file imports only ``os``, because every command of the shell pays for it.
Promises: a data directory that ``prepare_data_dir`` accepts belongs to this user alone, lies on a local file system and
has room for the socket's name; everything it refuses is a ConfigError that says what to do.

The data directory of an instance, first that is given: ``--data-dir``, ``TQ_DATA_DIR``, ``$XDG_STATE_HOME/tq``, for root
``/var/lib/tq``, else ``~/.local/state/tq``. It holds ``lock``, ``tq.sock``, ``store/``, ``logs/`` (output of tasks),
``run/`` (pages shared with workers), ``daemon.log``, ``history.bin`` (how it went, for charts) and, if somebody wrote one, ``tq.toml``.
"""

from __future__ import annotations

import os

from tq.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tq.config.settings import Settings, load_settings

__all__ = ["OF_A_TASK", "SETTINGS_FILE", "Settings", "check_data_dir", "data_dir_of", "file_system", "load_settings", "prepare_data_dir"]

SETTINGS_FILE = "tq.toml"
OF_A_TASK = {"TQ_COMMAND", "TQ_TASK_ID", "TQ_ATTEMPT", "TQ_PARENTS", "TQ_BATCH"}
"""What a command finds in its environment, and is for it alone. A daemon that it starts must not have it, being no part of its task and
not ending with it; nor a task that it adds, which has its own."""
_SOCKET = "/tq.sock"  # as in tq.wire, which lies above this room
_MAX_SOCKET_PATH = 107
_NETWORK = {"9p", "afs", "beegfs", "ceph", "coda", "glusterfs", "gpfs", "lustre", "ncpfs", "orangefs", "prl_fs", "vboxsf"}
MOUNTS = "/proc/self/mountinfo"
_NETWORK_FAMILIES = ("nfs", "smb", "cifs", "fuse.")


def __getattr__(name: str) -> object:
    """``Settings`` and ``load_settings`` when they are asked for: dataclasses cost twice a bare interpreter."""
    if name in {"Settings", "load_settings"}:
        from tq.config import settings

        return getattr(settings, name)
    raise AttributeError(f"module 'tq.config' has no attribute {name!r}")


def data_dir_of(option: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> str:
    """The absolute path of the instance's directory; ``option`` is what ``--data-dir`` said. It need not exist."""
    env = os.environ if environ is None else environ
    if option is not None and not os.fspath(option):
        raise ConfigError("--data-dir: expected the path of a directory, got nothing. Leave it out for the default one.")
    path = os.fspath(option) if option is not None else env.get("TQ_DATA_DIR")
    if not path:
        state = env.get("XDG_STATE_HOME")
        if state:
            path = state + "/tq"
        elif os.geteuid() == 0:
            path = "/var/lib/tq"
        else:
            path = os.path.expanduser("~/.local/state/tq")
    return os.path.abspath(os.path.expanduser(path))


def prepare_data_dir(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None, mounts: str = MOUNTS) -> Path:
    """Make the directory (0700) if it is not there, and make sure that it may be used (``check_data_dir``); gives it as a Path."""
    from pathlib import Path

    where = Path(os.path.abspath(path))
    _check_length(str(where))
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        try:
            where.mkdir(mode=0o700)
        except FileExistsError:
            pass
    except OSError as error:
        raise _not_made(str(where), error) from error
    check_data_dir(where, environ, mounts)
    return where


def _check_length(where: str) -> None:
    size = len(os.fsencode(f"{where}{_SOCKET}"))
    if size > _MAX_SOCKET_PATH:
        raise ConfigError(
            f"{where}: expected a path whose socket ({where}{_SOCKET}) has at most {_MAX_SOCKET_PATH} bytes, got {size}. "
            "Choose a shorter one with --data-dir or TQ_DATA_DIR."
        )


def _not_made(where: str, error: OSError) -> ConfigError:
    text = f"{where}: expected a data directory that can be made, got: {error.strerror}. Choose another with --data-dir or TQ_DATA_DIR."
    return ConfigError(text)


def check_data_dir(where: Path, environ: Mapping[str, str] | None = None, mounts: str = MOUNTS) -> None:
    """Make sure that a data directory, an absolute path, may be used; nothing is changed.

    ConfigError: it is a link or no directory, another user's, writable by others, on a network file system (where
    locks and shared memory do not hold; ``TQ_ALLOW_NETWORK_FS=1`` overrides that), or its path is too long for a socket.
    """
    import stat

    _check_length(str(where))
    try:
        found = where.lstat()
    except OSError as error:
        raise _not_made(str(where), error) from error
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{where}: expected a directory, got a symbolic link. Give the place it points to: --data-dir {where.resolve()}")
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{where}: expected a directory, got a file. Move it away, or choose another with --data-dir.")
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"{where}: expected a directory of user {os.geteuid()}, got one of user {found.st_uid}. "
            "Run tq as that user, or choose another directory with --data-dir."
        )
    if found.st_mode & 0o022:
        raise ConfigError(
            f"{where}: expected a directory that only its owner can write, got mode {stat.S_IMODE(found.st_mode):04o}. "
            f"Look at what lies in it, then: chmod 700 {where}"
        )
    env = os.environ if environ is None else environ
    kind = file_system(str(where.resolve()), mounts)
    if (kind in _NETWORK or kind.startswith(_NETWORK_FAMILIES)) and env.get("TQ_ALLOW_NETWORK_FS") != "1":
        raise ConfigError(
            f"{where}: expected a local file system, got {kind}, where locks and shared memory are not safe and tasks could be lost. "
            "Choose a local directory with --data-dir, or set TQ_ALLOW_NETWORK_FS=1 if you know better."
        )


def file_system(path: str, mounts: str = MOUNTS) -> str:
    """The type of the file system that holds ``path``, from the kernel's list of mounts (proc(5)); "" if it does not say."""
    best, kind = -1, ""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                left, _, right = line.partition(" - ")
                fields = left.split()
                if len(fields) < 5 or not right:
                    continue
                point = fields[4]
                for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                    point = point.replace(code, char)
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= best:  # a later mount on the same point covers the earlier one
                    best, kind = len(point), right.split()[0]
    except OSError:
        return ""
    return kind
