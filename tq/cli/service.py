"""``tq service install|uninstall|status``: the daemon as a service of systemd, of a user or of the machine.

For: the texts of the two units, where they lie, and asking ``systemctl`` to take or leave them.
Not for: what the daemon says to systemd (tq.daemon.supervised), daemons that are started by hand (daemon).
Runs in: the ``tq`` command.
Promises: a unit that ``install`` did not write is neither changed nor removed; without systemd nothing is written, and the
error says what does the same there; ``--dry-run`` prints what would be written and asks nobody.

``NAME.socket`` listens at the daemon's socket from boot on, so that no client ever finds nobody; ``NAME.service`` is the
daemon. Of the environment only the settings (``TQ_...``) are taken over; ``tq add`` and ``tq run`` bring their own with each task.
"""

from __future__ import annotations

import math
import os
import pwd
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tq.cli.hot import put, say
from tq.cli.render import clean, json_line
from tq.client import Client
from tq.config import prepare_data_dir
from tq.config.settings import OPTIONS, Settings, load_settings
from tq.errors import ConfigError, DaemonError, DaemonNotRunning, NotAllowed, Refused, UsageError
from tq.model import MAX_NAME
from tq.wire import SOCKET

BOOTED = Path("/run/systemd/system")
"""There if systemd is what this machine was booted with (sd_booted(3))."""
SYSTEM_UNITS = Path("/etc/systemd/system")
LINGERING = Path("/var/lib/systemd/linger")
WATCHDOG_S = 120
"""Without a sign of life for so long the daemon is replaced. It gives one at half of it, which is all that an idle one does."""
MARK = "# Written by `tq service install` for "
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


@dataclass(frozen=True)
class Place:
    """Where a service's units lie; ``system``: of the machine, else of the user."""

    name: str
    system: bool

    @property
    def folder(self) -> Path:
        if self.system:
            return SYSTEM_UNITS
        return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "systemd" / "user"

    @property
    def units(self) -> list[str]:
        """The socket first: a service that is stopped before its socket is started by the next client."""
        return [f"{self.name}.socket", f"{self.name}.service"]

    @property
    def words(self) -> list[str]:
        return ["systemctl"] if self.system else ["systemctl", "--user"]

    def data_dir(self) -> str | None:
        """Whose units lie here; None: there are none. ConfigError: they are not ours."""
        path = self.folder / f"{self.name}.service"
        try:
            first = path.read_text("utf-8", "surrogateescape").partition("\n")[0]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{path}: expected a unit that can be read, got: {error.strerror}.") from error
        if not first.startswith(MARK):
            raise ConfigError(f"{path}: expected a unit that `tq service install` wrote, got another. Choose another name with --name.")
        return first.removeprefix(MARK)


def _place(values: dict[str, Any], usual: bool) -> Place:
    name = "tq" if values["name"] is None else values["name"]
    if not name or len(name) > MAX_NAME or not _NAME_CHARS.issuperset(name) or name[0] in ".-":
        raise UsageError(f"--name: expected letters, digits, - _ and ., got {name!r}.")
    if values["user"] and values["system"]:
        raise UsageError("expected either --user or --system, got both. Drop one.")
    return Place(name, values["system"] or (usual and not values["user"]))


def _found(values: dict[str, Any]) -> tuple[Place, str] | None:
    """The service that is installed, and its directory: where the options say, else the user's, else the machine's."""
    root = os.geteuid() == 0
    places = [_place(values, root)]
    if not values["user"] and not values["system"]:
        places.append(Place(places[0].name, not root))
    found = ((place, place.data_dir()) for place in places)
    return next(((place, where) for place, where in found if where is not None), None)


# the units


def _plain(text: str) -> str:
    """Text of a unit file that is taken as it is, to the end of its line."""
    if "\n" in text or text != text.strip():
        raise ConfigError(f"expected a path without line breaks, or spaces at its ends, got {text!r}: a unit cannot name it.")
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """A word of a command line in a unit file."""
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if any(char in " \t'\";" for char in text) or not text else escaped


def service_text(place: Place, data_dir: str, settings: Settings | None, app: str | None, user: str | None) -> str:
    """``NAME.service``. ``settings`` None: they are another user's to read."""
    grace = Settings(data_dir=Path(data_dir)) if settings is None else settings
    words = [sys.executable, "-m", "tq.daemon", "--data-dir", data_dir, "--foreground", *(["--app", app] if app else [])]
    # What the application is called depends on where it is looked for: here, as `tq daemon start` would.
    folder = os.getcwd() if app or (settings is not None and settings.app) else "~" if not place.system else "/"
    said = [f"TQ_{name.upper()}" for name in OPTIONS]
    given = [f"{name}={os.environ[name]}" for name in said if os.environ.get(name) and not (app and name == "TQ_APP")]
    lines = [
        f"{MARK}{data_dir}",
        "[Unit]",
        f"Description=tq, the task queue in {_plain(data_dir)}",
        f"Requires={place.name}.socket",
        f"After={place.name}.socket",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(map(_word, words))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={_plain(folder)}",
        *(f'Environment="{_environment(one)}"' for one in given),
        *([f"User={user}"] if user else []),
        f"WatchdogSec={WATCHDOG_S}",
        "TimeoutStartSec=120",
        f"TimeoutStopSec={math.ceil(grace.grace_s + grace.kill_grace_s) + 60}",
        "# The daemon ends its workers itself, when their tasks are over.",
        "KillMode=mixed",
        "Restart=on-failure",
        "RestartSec=1",
        "# Settings that cannot be used, or another daemon in the directory: trying again does not help.",
        "RestartPreventExitStatus=2 69",
        "# A task that takes too much memory is that task's failure.",
        "OOMPolicy=continue",
        "",
        "[Install]",
        f"WantedBy={'multi-user' if place.system else 'default'}.target",
        f"Also={place.name}.socket",
    ]
    return "\n".join(lines) + "\n"


def _environment(text: str) -> str:
    return _plain(text).replace("\\", "\\\\").replace('"', '\\"')


def socket_text(data_dir: str, user: str | None) -> str:
    """``NAME.socket``."""
    lines = [
        f"{MARK}{data_dir}",
        "[Unit]",
        f"Description=The socket of tq in {_plain(data_dir)}",
        "",
        "[Socket]",
        f"ListenStream={_plain(data_dir)}/{SOCKET}",
        "SocketMode=0600",
        "DirectoryMode=0700",
        *([f"SocketUser={user}"] if user else []),
        "Backlog=512",
        "RemoveOnStop=yes",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


# the verbs


def service_install(client: Client, values: dict[str, Any]) -> int:
    place = _place(values, os.geteuid() == 0)
    data_dir = str(client.data_dir)
    if not values["dry_run"]:
        _check_machine(place, data_dir)
        _check_free(place, client)
    owner = Path(data_dir).stat().st_uid if os.path.isdir(data_dir) else os.geteuid()
    if owner != os.geteuid() and not (place.system and os.geteuid() == 0):
        prepare_data_dir(data_dir)  # which says what is wrong with another user's
    user = _user(owner) if place.system and owner else None
    settings = load_settings({"data_dir": data_dir, "app": values["app"]}) if owner == os.geteuid() else None
    texts = [socket_text(data_dir, user), service_text(place, data_dir, settings, values["app"], user)]
    if values["dry_run"]:
        for name, text in zip(place.units, texts, strict=True):
            print(f"# {clean(place.folder / name)}")
            put(text, lines=True)
        return 0
    if owner == os.geteuid():
        prepare_data_dir(data_dir)
    _write(place, texts)
    _systemctl(place, "daemon-reload")
    _systemctl(place, "enable", "--now", *place.units)
    say(f"{place.name}.service runs for {data_dir}; its log: journalctl {'' if place.system else '--user '}-u {place.name}")
    if not place.system and not (LINGERING / pwd.getpwuid(os.geteuid()).pw_name).exists():
        say("it ends when you log out, and begins when you log in: `loginctl enable-linger` lets it run from boot on")
    return 0


def service_uninstall(_client: Client, values: dict[str, Any]) -> int:
    found = _found(values)
    if found is None:
        raise UsageError(f"expected a service that is installed, found none called {_place(values, False).name}. `tq service status`")
    place, data_dir = found
    if BOOTED.is_dir():
        _systemctl(place, "disable", "--now", *place.units)
    for name in place.units:
        (place.folder / name).unlink(missing_ok=True)
    if BOOTED.is_dir():
        _systemctl(place, "daemon-reload")
    say(f"{place.name}.service is gone; what is stored in {data_dir} stays. `tq daemon start` goes on with it")
    return 0


def service_status(client: Client, values: dict[str, Any]) -> int:
    found = _found(values)
    report: dict[str, Any] = {"name": _place(values, False).name, "installed": found is not None}
    data_dir = str(client.data_dir)
    if found is not None:
        place, data_dir = found
        report |= {"scope": "system" if place.system else "user", "units": [str(place.folder / name) for name in place.units]}
        if BOOTED.is_dir():
            report |= {word: _asked(place, f"is-{word}") for word in ("enabled", "active")}
    report["data_dir"] = data_dir
    try:
        with Client(data_dir) as one:
            status = one.status()
        report["daemon"] = {"pid": status["pid"], "supervised": bool(status.get("supervised"))}
    except DaemonError:
        report["daemon"] = None
    if values["json"]:
        print(json_line(report))
    else:
        for key, value in report.items():
            words = (
                ", ".join(value)
                if isinstance(value, list)
                else json_line(value)
                if isinstance(value, dict | bool)
                else value or "none answers"
            )
            print(f"{key:<10} {clean(words)}")
    return 0 if found is not None and report["daemon"] else DaemonError.exit_code


def _check_machine(place: Place, data_dir: str) -> None:
    if not BOOTED.is_dir():
        start = shlex.join([sys.executable, "-m", "tq", "--data-dir", data_dir, "daemon", "start"]).replace("%", "\\%")
        raise DaemonError(
            "expected a machine that runs systemd, got one that does not. Nothing was written. "
            f"Start the daemon with `tq daemon start`, and at each boot by a line of `crontab -e`: @reboot {start}"
        )
    if place.system and os.geteuid() != 0:
        raise NotAllowed("expected root for a service of the machine. Run it with sudo, or give --user for a service of your own.")


def _check_free(place: Place, client: Client) -> None:
    """Refused: there is something that the service would not get on with."""
    other = place.data_dir()
    if other is not None and other != str(client.data_dir):
        raise Refused(f"the service {place.name} is for {other}. Give this one another name with --name; nothing was changed.")
    try:
        status = client.status()
    except DaemonNotRunning:
        return
    if not status.get("supervised"):
        raise Refused(f"a daemon that was started by hand (pid {status['pid']}) runs in {client.data_dir}. Stop it first: tq daemon stop")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _write(place: Place, texts: list[str]) -> None:
    place.folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(place.units, texts, strict=True):
        fresh = place.folder / f".{name}.new"
        fresh.write_text(text, "utf-8", "surrogateescape")
        fresh.chmod(0o644)
        os.replace(fresh, place.folder / name)


def _systemctl(place: Place, *words: str) -> None:
    """DaemonError with what ``systemctl`` said, if it could not."""
    try:
        done = subprocess.run([*place.words, *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DaemonError("expected the program systemctl on PATH, found none. Install systemd's own package.") from None
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise DaemonError(
            f"expected `{shlex.join([*place.words, *words])}` to succeed, got: {clean(said)}. The units lie in {place.folder}."
        )


def _asked(place: Place, word: str) -> str:
    """One word: ``enabled``, ``active``, ``failed``, ..."""
    try:
        done = subprocess.run([*place.words, word, f"{place.name}.service"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
