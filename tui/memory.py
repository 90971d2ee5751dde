"""What the monitor remembers by itself from one run to the next: where a person was, and how that person likes the lists.

For: ``Memory``, ``path_of`` (its file).
Not for: what a person has written down as a wish (preferences, which win), anything of the daemon's.
Runs in: the monitor; reads its file once before the first screen, and writes it seldom and at the end.
Promises: a file that is damaged, of another kind or another person's is never a reason not to start: what cannot be read of it is left
out, and said; the file is replaced whole, is for its owner alone, and holds what two monitors that run at once have changed.

The file is ``$XDG_STATE_HOME/tq-monitor/NAME-HASH.json`` (else under ``~/.local/state``): NAME is the last part of the data directory's
path, HASH tells apart those of one name. It is beside the default data directory and not in it, since that is the daemon's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from tui.formats import cleaned

VERSION = 1
SIZE_MOST = 1 << 20
"""Bytes of the file that are read."""
HISTORY_MOST, TEXT_MOST = 100, 2048
"""Lines of a history that are kept, and characters of a text."""
VIEWS_MOST, NAME_MOST = 100, 40
"""Views that are kept, and characters of a name."""


def path_of(data_dir: str, environ: Mapping[str, str]) -> Path | None:
    """Where what is remembered of the instance at ``data_dir`` lies; None: there is no place for it."""
    state = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if not state.startswith("/"):
        return None
    whole = os.path.realpath(data_dir)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(whole))[:40]
    return Path(state, "tq-monitor", f"{name}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}.json")


def check_name(name: str) -> None:
    """ValueError: no view can be called so."""
    if not 0 < len(name) <= NAME_MOST or not name.isprintable():
        raise ValueError(f"expected a name of 1 to {NAME_MOST} characters, got {name!r:.60}")


class View(NamedTuple):
    """How the list of tasks looked: its filter, the one state that it was about or "", and its order."""

    filter: str
    state: str = ""
    sort: str = "-id"


@dataclass
class Kept:
    """What is remembered. ``orders`` and ``columns``: of lists, by screen; ``filters`` and ``commands``: typed, the newest last;
    ``views``: by the names that they were given."""

    screen: str = ""
    theme: str = ""
    orders: dict[str, str] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    filters: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    views: dict[str, View] = field(default_factory=dict)


Change = Callable[[Kept], None]


class Memory:
    """What is remembered, and its file; without a ``path``, for this run alone. ``problem``: what could not be read or written."""

    def __init__(self, path: Path | None = None) -> None:
        self.kept, self.problem = Kept(), ""
        self._path = path
        self._changes: list[Change] = []
        if path is not None:
            try:
                self.kept, self.problem = _read(path)
            except _Foreign as error:
                self.problem = f"Nothing is remembered: {path}: {error}"
                self._path = None

    @property
    def changed(self) -> bool:
        """Whether there is something to be saved."""
        return bool(self._changes)

    def screen(self, name: str) -> None:
        """The screen in front."""
        if name != self.kept.screen:
            self._change(lambda kept: setattr(kept, "screen", name))

    def theme(self, name: str) -> None:
        """The theme that was chosen."""
        self._change(lambda kept: setattr(kept, "theme", name))

    def order(self, screen: str, written: str) -> None:
        """The order of a screen's list."""
        self._change(lambda kept: kept.orders.update({screen: written}))

    def columns(self, screen: str, ids: list[str]) -> None:
        """The columns of a screen's list."""
        self._change(lambda kept: kept.columns.update({screen: ids}))

    def filter(self, text: str) -> None:
        """A filter that was typed."""
        self._change(lambda kept: _add(kept.filters, text))

    def command(self, text: str) -> None:
        """A line that was typed behind the ``:``."""
        self._change(lambda kept: _add(kept.commands, text))

    def view(self, name: str, view: View | None) -> View | None:
        """Keep a view under a name, None: forget it; the one that was there. ValueError: there can be none of this name, or no more."""
        before = self.kept.views.get(name)
        if view is None:
            self._change(lambda kept: kept.views.pop(name, None) and None)
            return before
        check_name(name)
        if before is None and len(self.kept.views) >= VIEWS_MOST:
            raise ValueError(f"expected at most {VIEWS_MOST} views; :unsave forgets one")
        self._change(lambda kept: kept.views.update({name: view}))
        return before

    def _change(self, change: Change) -> None:
        change(self.kept)
        if self._path is not None:
            self._changes.append(change)

    def save(self) -> None:
        """Write what has changed into the file as it is by now; on an OSError nothing more is, and ``problem`` says why."""
        if self._path is None or not self.changed:
            return
        try:
            there, _ = _read(self._path)
            for change in self._changes:
                change(there)
            _write(self._path, there)
        except (_Foreign, OSError) as error:
            self.problem = f"Nothing more is remembered: {self._path}: {error}"
            self._path = None
        self._changes.clear()


class _Foreign(Exception):
    """The file is not this monitor's to read or to replace."""


def _add(lines: list[str], text: str) -> None:
    """One more line of a history; one that is there already moves to its end."""
    if text and len(text) <= TEXT_MOST:
        lines[:] = [*[one for one in lines if one != text][-HISTORY_MOST + 1 :], text]


def _write(path: Path, kept: Kept) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0 and path.parent.stat().st_uid != 0:
        raise _Foreign("expected a directory of root's, since root is who runs this")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps({"version": VERSION, **vars(kept), "views": {name: one._asdict() for name, one in kept.views.items()}}, indent=1)
    try:
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(file, "w", encoding="ascii") as out:
            out.write(text)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _read(path: Path) -> tuple[Kept, str]:
    """What the file holds, as far as it can be read, and what is wrong with the rest; a file that is not there holds nothing."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return Kept(), ""
    except OSError as error:
        raise _Foreign(error.strerror) from None
    with open(file, "rb") as source:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise _Foreign("expected a file of one's own")
        try:
            data = source.read(SIZE_MOST + 1)
        except OSError as error:
            raise _Foreign(error.strerror) from None
    try:
        body = json.loads(data) if len(data) <= SIZE_MOST else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return Kept(), f"What was remembered is lost: {path} is damaged"
    if body.get("version") != VERSION:
        raise _Foreign(f"expected version {VERSION}, got {body.get('version')!r:.40}")
    return _kept_of(cast("dict[str, Any]", cleaned(body)), path)


def _kept_of(body: Mapping[str, Any], path: Path) -> tuple[Kept, str]:
    kept, wrong = Kept(), []
    for name, read in _READERS.items():
        if name in body:
            try:
                setattr(kept, name, read(body[name]))
            except (ValueError, TypeError, AttributeError):
                wrong.append(name)
    return kept, f"Left out of what was remembered: {', '.join(wrong)} in {path}" if wrong else ""


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MOST:
        raise ValueError(f"expected a text of at most {TEXT_MOST:,} characters")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, tuple):  # as a list comes out of the cleaning
        raise TypeError("expected a list")
    return [_text(one) for one in value[-HISTORY_MOST:]]


_READERS: dict[str, Callable[[Any], Any]] = {
    "screen": _text, "theme": _text, "filters": _texts, "commands": _texts,
    "orders": lambda value: {name: _text(one) for name, one in value.items()},
    "columns": lambda value: {name: _texts(one) for name, one in value.items()},
    "views": lambda value: {name: View(**{key: _text(text) for key, text in one.items()}) for name, one in value.items()},
}  # fmt: skip
"""By field of ``Kept``: what makes it of a value of the file. ValueError, TypeError or AttributeError: it is none."""
