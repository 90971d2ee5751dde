"""Every option of the daemon: unit, default, and one sentence on what it is for.

For: ``Settings``, and reading it from where a person may have written it.
Not for: per-task options (they travel with the task), or what clients need (only the data directory).
Runs in: the daemon and the command line's help, never on a hot command.
Promises: a Settings that exists is checked; each refusal is a ConfigError that names the source, the key, what was
expected and what came. The environment and ``tq.toml`` are read here and nowhere else.

Sources, the later wins: defaults, then ``DATA_DIR/tq.toml`` or else ``$XDG_CONFIG_HOME/tq/tq.toml`` (``tables`` says what it
may hold), then the environment (``TQ_`` and the name in capitals, e.g. ``TQ_WORKERS``), then the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tq.config import data_dir_of, tables
from tq.errors import ConfigError

LOG_LEVELS = ("debug", "info", "warning", "error")
DAY_MS = 86_400_000
MAX_WORKERS = 1024
CENTURY_S = 100 * 366 * 86_400
CENTURY_MS = CENTURY_S * 1000
"""The longest duration that any option takes, of a task too."""
MOST = 1 << 60
"""More tasks, or bytes, than there can be; and it still fits where the store keeps numbers."""


def _cpus() -> int:
    return len(os.sched_getaffinity(0))  # what this process may use, which a container makes smaller


def _option(
    default: Any, unit: str, says: str, low: float = 0, high: float = MOST, words: tuple[str, ...] = (), *, live: bool = False
) -> Any:  # fmt: skip
    """``live``: a running daemon takes it over; the others wait for its next start."""
    about = {"unit": unit, "says": says, "low": low, "high": high, "words": words, "live": live}
    return field(default_factory=default, metadata=about) if callable(default) else field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The daemon's settings; ``dataclasses.fields`` gives each one's unit and sentence as metadata."""

    data_dir: Path
    file: Path | None = None
    """The settings file that was read."""
    queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Its tables ``[queues.NAME]`` as they stand there; ``tq.broker.declared`` knows what they mean."""
    alerts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Its tables ``[alerts.NAME]``; ``tq.broker.rules`` knows what they mean."""
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Its tables ``[limits.NAME]``; ``tq.broker.declared_limits`` knows what they mean."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Its table ``[resources]``, as it stands there; ``tq.broker.resources`` knows what that means."""
    app: str | None = _option(None, "module", "The application that workers import: package.module, module:app or path/to/file.py.")
    workers: int = _option(_cpus, "processes", "Worker processes; 0 leaves all work to outside consumers.", 0, MAX_WORKERS, live=True)
    min_workers: int | None = _option(
        None, "processes", "The fewest worker processes, if their number follows the work.", 0, MAX_WORKERS, live=True
    )
    max_workers: int | None = _option(
        None, "processes", "The most worker processes, if their number follows the work.", 0, MAX_WORKERS, live=True
    )
    scale_cooldown_s: float = _option(10.0, "seconds", "A worker that was not needed for so long is let go.", 0.1, 86_400, live=True)
    slots: int = _option(1, "tasks", "Tasks that one worker runs at a time.", 1, 4096)
    worker_recycle: int = _option(0, "tasks", "A worker is replaced after so many tasks; 0 never.", live=True)
    worker_max_rss: int = _option(0, "bytes", "A worker is replaced when it takes more memory after a task; 0 never.", live=True)
    worker_failing: int = _option(
        0, "tasks", "A worker is replaced when so many tasks in a row have failed on it, one a minute; 0 never.", 0, 10_000, live=True
    )
    log_level: str = _option("info", "word", "What the daemon writes to daemon.log.", words=LOG_LEVELS, live=True)
    grace_s: float = _option(25.0, "seconds", "How long a drain waits for running tasks.", 0, 86_400, live=True)
    kill_grace_s: float = _option(5.0, "seconds", "Time between asking a task to end and killing it.", 0, 3600)
    retries_functions: int = _option(3, "runs", "Runs after the first, for functions that do not say.", 0, 1_000_000)
    timeout_functions_s: float = _option(300.0, "seconds", "Time limit of a run, for functions that do not say; 0 is none.", 0, CENTURY_S)
    max_payload: int = _option(256 << 10, "bytes", "The largest payload of a task.", 1024, 512 << 20)
    max_result: int = _option(64 << 10, "bytes", "The largest result that is kept.", 1024, 512 << 20)
    log_bytes: int = _option(1 << 20, "bytes", "Output kept for each task: its head and its tail.", 4096, 1 << 40)
    max_frame: int = _option(1 << 20, "bytes", "The largest message of a client.", 64 << 10, 1 << 30)
    max_connections: int = _option(1024, "connections", "Clients that may be connected at once.", 1, 1 << 20)
    queue_tasks: int = _option(20_000_000, "tasks", "Unfinished tasks a queue takes before it refuses more.", 1)
    queue_bytes: int = _option(16 << 30, "bytes", "Their payloads together.", 1)
    keep: int = _option(100_000, "tasks", "Finished tasks that are kept, failed ones counted apart.")
    keep_bytes: int = _option(4 << 30, "bytes", "What finished tasks that are kept may take, failed ones counted apart.", 1 << 20)
    keep_logs: int = _option(1 << 30, "bytes", "Output of all tasks on disk; beyond it the oldest goes first.", 1 << 20, live=True)
    keep_ms: int = _option(7 * DAY_MS, "milliseconds", "How long succeeded, cancelled and expired tasks are kept.", 0, CENTURY_MS)
    keep_failed_ms: int = _option(30 * DAY_MS, "milliseconds", "How long failed tasks are kept.", 0, CENTURY_MS)
    keep_requests_ms: int = _option(600_000, "milliseconds", "How long a repeated enqueue gives the same ids.", 0, CENTURY_MS)
    keep_keys_ms: int = _option(DAY_MS, "milliseconds", "How long a key names its task after that one has ended.", 0, CENTURY_MS)
    keep_events: int = _option(10_000, "events", "What operators and the daemon did, as `tq events` lists it.", 1, 10_000_000)
    map_size: int = _option(64 << 30, "bytes", "Address space for the store: the most its file can grow to.", 16 << 20, 1 << 46)

    def __post_init__(self) -> None:
        for option in fields(self):
            if option.metadata:
                check_option(option.name, getattr(self, option.name))
        most = self.max_frame - (64 << 10)  # a frame carries more than the payload
        if self.max_payload > most:
            text = f"max_payload: expected at most max_frame - 64 KiB = {most}, got {self.max_payload}. Raise max_frame too."
            raise ConfigError(text, option="max_payload")
        low, high = self.worker_range
        if low > high:
            text = f"min_workers: expected at most max_workers = {high}, got {low}. Raise max_workers too."
            raise ConfigError(text, option="min_workers")

    @property
    def worker_range(self) -> tuple[int, int]:
        """The fewest and the most workers; what is not said is ``workers``, or as near to it as the other allows."""
        low, high = self.min_workers, self.max_workers
        if low is None:
            low = self.workers if high is None else min(self.workers, high)
        return low, max(self.workers, low) if high is None else high


OPTIONS = {option.name: option for option in fields(Settings) if option.metadata}
UNITS = {name: option.metadata["unit"] for name, option in OPTIONS.items()}
LIVE = tuple(name for name, option in OPTIONS.items() if option.metadata["live"])
"""Settings that a running daemon takes over, besides those of queues, alerts, limits and resources."""


def check_option(name: str, value: object) -> None:
    """ConfigError unless ``value``, in the option's own unit, is of its kind and in its range."""
    kind, about = str(OPTIONS[name].type), OPTIONS[name].metadata
    words, low, high = about["words"], about["low"], about["high"]
    if kind.startswith("str"):
        good = (isinstance(value, str) and (not words or value in words) and value != "") or (value is None and "None" in kind)
        expected = " or ".join(words) if words else "a text"
    elif value is None and "None" in kind:
        return
    else:
        number = isinstance(value, int | float) if kind == "float" else isinstance(value, int)
        good = number and not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high
        whole = "a number" if kind == "float" else "a whole number"
        expected = f"{whole} of {about['unit']}, at least {low} and at most {high}"
    if not good:
        raise ConfigError(f"{name}: expected {expected}, got {value!r}. {about['says']}", option=name)


def load_settings(arguments: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from all sources; ``arguments`` are the command line's (None: not given). ConfigError names the culprit."""
    return settings_and_sources(arguments, environ)[0]


def settings_and_sources(
    arguments: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, file: tables.Text | None = None
) -> tuple[Settings, dict[str, str]]:
    """The same, and who said those that are no defaults: a file, a variable or the command line. ``file``: as if it stood so there."""
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    env = os.environ if environ is None else environ
    option = given.pop("data_dir", None)
    data_dir = Path(data_dir_of(option if isinstance(option, str | os.PathLike) else None, env))
    for name in given:
        if name not in OPTIONS:
            raise tables.unknown("the command line", name, OPTIONS)
    values: dict[str, Any] = {}
    said: dict[str, str] = {}
    path, in_file, named = _from_file(*((file.path, file.parsed()) if file is not None else tables.read(data_dir, env)))
    for where, source in ((str(path), in_file), ("", _from_environment(env)), ("the command line", given)):
        if "workers" in source:  # which means both, unless the same source says more
            values.pop("min_workers", None)
            values.pop("max_workers", None)
        values |= source
        said |= {name: where or f"TQ_{name.upper()}" for name in source}
    queues, alerts = named.get(tables.QUEUES, {}), named.get(tables.ALERTS, {})
    resources, limits = named.get(tables.RESOURCES, {}), named.get(tables.LIMITS, {})
    settings = Settings(data_dir=data_dir, file=path, queues=queues, alerts=alerts, limits=limits, resources=resources, **values)
    return settings, {name: where for name, where in said.items() if name in values}


def _from_file(path: Path | None, text: Mapping[str, Any]) -> tuple[Path | None, dict[str, Any], tables.Named]:
    """The settings file that is read, the options that it names, and its tables of queues and of alert rules."""
    if path is None:
        return None, {}, {}
    values, named = tables.options_of(path, text, UNITS)
    try:
        for name, value in values.items():
            check_option(name, value)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", **error.details) from error
    return path, values, named


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """``TQ_WORKERS=4`` and the like. Other ``TQ_`` variables are not settings (``TQ_TASK_ID`` is set for commands)."""
    values: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        text = env.get(f"TQ_{name.upper()}")
        if not text:
            continue
        kind = str(option.type)
        value: object = text
        if not kind.startswith("str"):
            try:
                value = float(text) if kind == "float" else int(text)
            except ValueError:
                pass  # stays text, which the check refuses with the right words
        try:
            check_option(name, value)
        except ConfigError as error:
            raise ConfigError(f"TQ_{name.upper()}: {error}") from error
        values[name] = value
    return values
