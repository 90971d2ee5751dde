"""The shape of ``tq.toml``: its tables, what their keys and values mean, and where the file lies.

For: finding the file, reading it, and turning tables into the options of ``Settings`` and the settings of queues.
Not for: what an option may be (settings), what a queue's settings mean (broker.declared).
Runs in: the daemon, and the commands about settings.
Promises: a file that others could have written is not believed; a key that is not known is a ConfigError that names the
file, the table and the closest key that there is.

An option stands in its table, ``[workers] count = 4``, where durations are seconds or text such as ``90s`` and ``7d`` and
sizes are bytes or text such as ``256K``; or at the top of the file under its own name and in its own unit, ``workers = 4``.
``[queues.NAME]`` holds settings of a queue, ``[alerts.NAME]`` an alert rule, ``[limits.NAME]`` a limit,
``[resources]`` how much there is of named resources,
``[monitor]`` what people want of ``tq monitor``, which reads that itself.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tq.config import SETTINGS_FILE
from tq.errors import ConfigError

TABLES: dict[str, dict[str, str]] = {
    "daemon": {
        "app": "app", "grace": "grace_s", "retries_functions": "retries_functions", "timeout_functions": "timeout_functions_s",
        "max_payload": "max_payload", "max_result": "max_result", "max_frame": "max_frame", "max_connections": "max_connections",
        "queue_tasks": "queue_tasks", "queue_bytes": "queue_bytes", "map_size": "map_size",
    },
    "workers": {
        "count": "workers", "min": "min_workers", "max": "max_workers", "slots": "slots", "scale_cooldown": "scale_cooldown_s",
        "recycle": "worker_recycle", "max_rss": "worker_max_rss", "failing": "worker_failing",
        "kill_grace": "kill_grace_s",
    },
    "retention": {
        "tasks": "keep", "bytes": "keep_bytes", "logs": "keep_logs", "finished": "keep_ms", "failed": "keep_failed_ms",
        "keys": "keep_keys_ms", "requests": "keep_requests_ms", "events": "keep_events",
    },
    "logging": {"level": "log_level", "task_bytes": "log_bytes"},
}  # fmt: skip
"""Tables of the file: the option that each key stands for."""
QUEUES, ALERTS, LIMITS, RESOURCES, MONITOR = "queues", "alerts", "limits", "resources", "monitor"
Named = dict[str, dict[str, Any]]
"""Tables of the file's own names, by QUEUES, ALERTS, LIMITS and RESOURCES; none of them is there if the file has none."""
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SIZE = re.compile(r"(\d{1,18})([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def places(data_dir: Path, env: Mapping[str, str]) -> tuple[Path, Path]:
    """Where a settings file may lie; the first that is there is read, alone."""
    home = Path(env.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    return data_dir / SETTINGS_FILE, home / "tq" / SETTINGS_FILE


@dataclass(frozen=True, slots=True)
class Text:
    """A settings file as it stands, or would stand, at ``path``."""

    path: Path
    text: bytes

    def parsed(self) -> dict[str, Any]:
        """What it says; ConfigError if it is not TOML."""
        try:
            return tomllib.loads(self.text.decode())
        except ValueError as error:  # not UTF-8, or not TOML: the message has the line
            raise ConfigError(f"{self.path}: expected TOML, got: {error}. Mend that line.") from error


def read(data_dir: Path, env: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    """The first settings file that exists, and what it says; ConfigError if it is not TOML, or others could have written it."""
    found = read_text(data_dir, env)
    return (None, {}) if found is None else (found.path, found.parsed())


def read_text(data_dir: Path, env: Mapping[str, str]) -> Text | None:
    """The first settings file that exists, unparsed; ConfigError if others could have written it."""
    for path in places(data_dir, env):
        try:
            with path.open("rb") as file:
                about = os.fstat(file.fileno())
                text = file.read(1 << 20)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{path}: expected a file that can be read, got: {error.strerror}. Mend or remove it.") from error
        if about.st_uid not in {0, os.geteuid()} or stat.S_IMODE(about.st_mode) & 0o022:
            raise ConfigError(
                f"{path}: expected a file that only its owner (user {os.geteuid()} or root) can write, "
                f"got user {about.st_uid}, mode {stat.S_IMODE(about.st_mode):04o}: it names code to run. Check it, then: chmod go-w {path}"
            )
        return Text(path, text)
    return None


def options_of(path: Path, values: Mapping[str, Any], units: Mapping[str, str]) -> tuple[dict[str, Any], Named]:
    """The options that a file names, by their own names and in their own units (not checked yet), and the tables of its own names.

    ``units`` has the options there are.
    """
    found: dict[str, Any] = {}
    own: Named = {}
    for name, value in values.items():
        if name in (QUEUES, ALERTS, LIMITS) and isinstance(value, dict):
            own[name] = _named(path, name, value)
        elif name == RESOURCES and isinstance(value, dict):
            own[name] = dict(value)
        elif name == MONITOR and isinstance(value, dict):
            pass  # what somebody wants of the monitor, which reads it itself
        elif name in TABLES and isinstance(value, dict):
            for key, word in value.items():
                option = TABLES[name].get(key)
                if option is None:
                    raise _unknown(f"{path}: [{name}]", key, TABLES[name], _elsewhere(key, name))
                _once(path, option, found)
                found[option] = in_unit(units[option], word)
        elif name in units:
            _once(path, name, found)
            found[name] = value
        else:
            raise unknown(str(path), name, units, (*TABLES, QUEUES, ALERTS, LIMITS, RESOURCES, MONITOR) if isinstance(value, dict) else ())
    return found, own


def _once(path: Path, option: str, found: Mapping[str, Any]) -> None:
    if option in found:
        raise ConfigError(f"{path}: expected {option} once, got it in its table and at the top of the file. Drop one.")


def _named(path: Path, kind: str, table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name, settings in table.items():
        if not isinstance(settings, dict):
            text = f"{path}: [{kind}]: expected tables such as [{kind}.mail], got {name} = {settings!r}. "
            raise ConfigError(text + ("Limits of all queues are queue_tasks and queue_bytes in [daemon]." if kind == QUEUES else ""))
    return {name: dict(settings) for name, settings in table.items()}


def _elsewhere(key: str, table: str) -> str:
    """Where a key belongs that stands in the wrong table."""
    found = [other for other, keys in TABLES.items() if other != table and key in keys]
    return f"It belongs into [{found[0]}]." if found else ""


def _unknown(where: str, name: str, known: Iterable[str], hint: str = "") -> ConfigError:
    close = difflib.get_close_matches(name, known, 1)
    hint = hint or (f"Did you mean {close[0]!r}?" if close else f"The settings are: {', '.join(known)}.")
    return ConfigError(f"{where}: expected a setting, got {name!r}. {hint}")


def unknown(source: str, name: str, options: Iterable[str], tables: Iterable[str] = ()) -> ConfigError:
    """What to say of a name that is no option (and, in a file, no table)."""
    if name == "data_dir":
        return _unknown(source, name, options, "It says where settings are read from: give --data-dir or TQ_DATA_DIR instead.")
    close = difflib.get_close_matches(name, tables, 1)
    return _unknown(source, name, options, f"Did you mean the table [{close[0]}]?" if close else "")


def in_unit(unit: str, value: object) -> object:
    """What a value of a table is in the option's own unit; what is no duration or size is left for the check to refuse."""
    if unit in ("seconds", "milliseconds"):
        seconds: object = value
        if isinstance(value, str) and _DURATION.fullmatch(value):
            seconds = sum(float(number) * _SECONDS[word] for number, word in re.findall(r"([\d.]+)(ms|[smhdw])", value))
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and abs(seconds) * 1000 < float("inf"):
            return round(seconds * 1000) if unit == "milliseconds" else seconds
    elif unit == "bytes" and isinstance(value, str) and (size := _SIZE.fullmatch(value)):
        return int(size[1]) << _SHIFTS[size[2].lower()]
    return value


def written(unit: str, value: object) -> str:
    """How a value in an option's own unit is written in a table: ``1m30s``, ``7d``, ``256K``, ``4``; None: "", nonsense as it is."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not 0 <= value < 1 << 63:
        return str(value)[:40]
    if unit in ("seconds", "milliseconds") and isinstance(value, int | float):
        ms = value * 1000 if unit == "seconds" else value
        return spoken(int(ms)) if ms == int(ms) else f"{value:g}"
    if unit == "bytes" and isinstance(value, int) and value:
        letter, shift = max(((letter, shift) for letter, shift in _SHIFTS.items() if value % (1 << shift) == 0), key=lambda one: one[1])
        return f"{value >> shift}{letter.upper()}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def spoken(ms: int) -> str:
    """A duration as it is typed: ``1h30m``, ``250ms``, ``0``."""
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, ms = divmod(ms, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0"
