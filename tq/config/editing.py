"""Changing ``tq.toml`` for a person: which settings there are, what may stand there, and a new text that keeps the rest as it was.

For: the daemon's verbs about settings, and ``tq config set``.
Not for: what a setting does, taking it over in a running daemon (daemon), settings of queues, alerts, limits and resources (their verbs).
Runs in: the daemon and the command line, when somebody changes settings; tomlkit is imported then, and here only.
Promises: a file is replaced whole or not at all, with its mode, its owner, its comments and the order of what was not asked for; a new
text is read again before it is written, and says exactly what was asked for, or nothing is written.

A setting is named by table and key, ``workers.count``; its value is what would stand in the table: a number, or text such as ``4``,
``90s``, ``7d``, ``256K``. None, and an empty text, take it out of the file.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tq.config import data_dir_of, tables
from tq.config.settings import MOST, OPTIONS, UNITS, Settings, check_option, settings_and_sources
from tq.errors import ConfigError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table

KEYS = {f"{table}.{key}": name for table, keys in tables.TABLES.items() for key, name in keys.items()}
"""Each setting's name in the file: the option that it is."""
NAMES = {name: key for key, name in KEYS.items()}
FILE_MOST = 1 << 20
"""Bytes of a file that are read; a longer one is not changed."""
Changes = Mapping[str, object]
_NUMBER = re.compile(r"[+-]?\d{1,25}(\.\d{1,20})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an instance's settings come from: what its command line said, and its environment."""

    arguments: Mapping[str, object]
    environ: Mapping[str, str]

    @classmethod
    def fixed(cls, settings: Settings) -> Sources:
        """Those of a daemon whose program gave it its settings; a file may lie in its data directory alone."""
        given = {name: getattr(settings, name) for name, option in OPTIONS.items() if getattr(settings, name) != default_of(name)}
        return cls({"data_dir": str(settings.data_dir), **given}, {"XDG_CONFIG_HOME": str(settings.data_dir)})

    @property
    def data_dir(self) -> Path:
        option = self.arguments.get("data_dir")
        return Path(data_dir_of(str(option) if option else None, self.environ))

    def file(self) -> tables.Text:
        """The settings file; one that is not there yet is empty, in the data directory. ConfigError as ``tables.read_text``."""
        found = tables.read_text(self.data_dir, self.environ)
        return found or tables.Text(tables.places(self.data_dir, self.environ)[0], b"")

    def load(self, file: tables.Text | None = None) -> tuple[Settings, dict[str, str]]:
        """The settings, and who said them; ``file``: as if that were the file. ConfigError names the culprit."""
        return settings_and_sources(self.arguments, self.environ, file)


def default_of(name: str) -> object:
    """What an option is if nobody says."""
    option = OPTIONS[name]
    return option.default_factory() if callable(option.default_factory) else option.default


def schema() -> list[dict[str, Any]]:
    """Each setting: ``key``, the option's ``name``, ``kind`` (text, whole or number), ``unit``, ``least`` and ``most`` in that unit (None:
    any), ``choices``, ``default`` as it would be written ("" for none), ``live`` (or it waits for a restart), ``expects``, ``says``."""
    found = []
    for key, name in KEYS.items():
        about = OPTIONS[name].metadata
        text, most = _is_text(name), about["high"]
        found.append({
            "key": key, "name": name, "kind": "text" if text else "number" if str(OPTIONS[name].type) == "float" else "whole",
            "unit": about["unit"], "least": None if text else about["low"], "most": None if text or most >= MOST else most,
            "choices": list(about["words"]), "default": tables.written(about["unit"], default_of(name)), "live": about["live"],
            "expects": expects(name), "says": about["says"],
        })  # fmt: skip
    return found


def _is_text(name: str) -> bool:
    return str(OPTIONS[name].type).startswith("str")


def expects(name: str) -> str:
    """What may be written for an option, in words."""
    about = OPTIONS[name].metadata
    unit, low, high, words = about["unit"], about["low"], about["high"], about["words"]
    if words:
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if _is_text(name):
        return f"a {unit}"
    span = f"{tables.written(unit, low)} to {tables.written(unit, high)}" if high < MOST else f"{tables.written(unit, low)} or more"
    if unit in ("seconds", "milliseconds"):
        return f"a duration such as 90s or 7d, {span}"
    return f"bytes, or a size such as 256K or 1G, {span}" if unit == "bytes" else f"a whole number of {unit}, {span}"


def word_of(name: str, value: object) -> object:
    """What would stand in the file for a value of a change; None takes it out."""
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if not _is_text(name) and _NUMBER.fullmatch(value):
            return float(value) if "." in value else int(value)
    return value


def problems(changes: Changes) -> Iterator[tuple[str, str]]:
    """What is wrong with each change by itself: its key, and why."""
    for key, value in changes.items():
        name = KEYS.get(key)
        if name is None:
            yield key, str(tables.unknown("changes", key, KEYS))
            continue
        word = word_of(name, value)
        try:
            if word is not None:
                check_option(name, tables.in_unit(UNITS[name], word))
        except ConfigError:
            yield key, f"expected {expects(name)}, got {value!r:.80}"


def in_file(file: tables.Text) -> dict[str, str]:
    """What a file says of each setting that it names, as it is written in a table."""
    values, _ = tables.options_of(file.path, file.parsed(), UNITS)
    return {NAMES[name]: tables.written(UNITS[name], value) for name, value in values.items()}


def edited(file: tables.Text, changes: Changes) -> tables.Text:
    """The file with these changes, each sound by itself (``problems``). ConfigError: it cannot be changed so, and by hand it can."""
    before = file.parsed()
    if len(file.text) >= FILE_MOST:
        raise ConfigError(f"{file.path}: expected a file below {FILE_MOST} bytes, got more. Change it by hand.")
    unusual = f"{file.path}: expected a file that can be changed here, got one of an unusual form. Change it by hand."
    try:
        text = _rewritten(file.text.decode(), changes)
    except ValueError as error:  # of tomlkit
        raise ConfigError(unusual) from error
    after = tables.Text(file.path, (text if file.text else text.strip() + "\n").encode())
    wanted = _values(file.path, before) | {KEYS[key]: _in_unit(KEYS[key], value) for key, value in changes.items()}
    rest = [{name: value for name, value in one.items() if name not in {*tables.TABLES, *OPTIONS}} for one in (before, after.parsed())]
    if _values(file.path, after.parsed()) != {name: value for name, value in wanted.items() if value is not None} or rest[0] != rest[1]:
        raise ConfigError(unusual)
    return after


def _rewritten(text: str, changes: Changes) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    for key, value in changes.items():
        _put(document, key, word_of(KEYS[key], value))
    return tomlkit.dumps(document)


def _values(path: Path, parsed: Mapping[str, Any]) -> dict[str, Any]:
    return tables.options_of(path, parsed, UNITS)[0]


def _in_unit(name: str, value: object) -> object:
    return tables.in_unit(UNITS[name], word_of(name, value))


def _put(document: TOMLDocument, key: str, word: object) -> None:
    """Set one key, or take it out, where the file has it; a new one stands in its table, unless that word is taken."""
    import tomlkit
    from tomlkit.items import AbstractTable, Table

    table, _, inner = key.partition(".")
    name = KEYS[key]
    there = document.get(table)
    if (name in document and not isinstance(document[name], AbstractTable)) or (there is not None and not isinstance(there, AbstractTable)):
        place: Any = document
        inner, word = name, None if word is None else tables.in_unit(UNITS[name], word)  # at the top each is in its own unit
    elif there is None:
        if word is None:
            return
        if document.body:
            document.add(tomlkit.nl())
        place = tomlkit.table()
        document.add(table, place)
    else:
        place = there
    if word is None:
        if inner in place:
            del place[inner]
    elif inner in place or not isinstance(place, Table):
        place[inner] = word
    else:
        _append(place, inner, word)


def _append(place: Table, key: str, word: object) -> None:
    """A new key behind the last one of a table: comments below that are about what follows them."""
    body = place.value.body
    last = max((at for at, (one, _) in enumerate(body) if one is not None), default=-1)
    below = body[last + 1 :]
    del body[last + 1 :]
    place.append(key, word)
    body.extend(below)


def replace_file(file: tables.Text) -> None:
    """Write a settings file whole or not at all, on disk when this returns; mode and owner stay. ConfigError: it cannot be."""
    place = Path(os.path.realpath(file.path))  # what a link leads to, so that the link stays
    fresh = ""
    try:
        number, fresh = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        with os.fdopen(number, "wb") as out:
            _like(number, place)
            out.write(file.text)
            out.flush()
            os.fsync(number)
        os.replace(fresh, place)
        fresh = ""
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{file.path}: expected a file that can be written, got: {error.strerror}. Nothing was changed.") from error
    finally:
        if fresh:
            os.unlink(fresh)


def _like(number: int, place: Path) -> None:
    """Give an open file the owner and the mode of another; of one that is not there its own, and nobody else's."""
    try:
        about = place.stat()
    except FileNotFoundError:
        return
    mine = os.fstat(number)
    if (about.st_uid, about.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(number, about.st_uid, about.st_gid)
    os.fchmod(number, stat.S_IMODE(about.st_mode))
