"""Tasks in a file, as NDJSON or CSV.

For: ``create`` (the file) and ``export`` (pages of tasks into it).
Not for: which tasks (screens), asking where to (export_acts), what the command line prints (``tq list --json``).
Runs in: the monitor's event loop; writes page by page.
Promises: a file that is there already is touched only if that is said, and then only replaced by one that is whole; nobody else may
read the new one; NDJSON is ASCII and exact; in CSV no cell begins what a spreadsheet would compute, and nothing steers a terminal; an
export that is broken off leaves no file.
"""

from __future__ import annotations

import csv
import io
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from tq.client.core import decode
from tq.model import safe_text

Row = Mapping[str, Any]
ENDINGS = (".ndjson", ".jsonl", ".csv")
_TIMES = ("created_at", "due_at", "started_at", "finished_at")
_KEPT = ("id", "type", "queue", "state", "priority", "attempt", "retries", "label", "meta", "worker", "exit_code", "error")
_COLUMNS = ("id", "type", "queue", "state", "attempt", "created_at", "finished_at", "label", "error", "message", "payload")


def plain(value: Any) -> Any:
    """A value as JSON can hold it: bytes in base64, what is no number as its name."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return repr(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _instant(ms: int) -> str | None:
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z" if ms else None
    except (ValueError, OverflowError, OSError):  # an instant that no calendar has
        return f"{ms} ms after 1970"


def task_of(row: Row) -> dict[str, Any]:
    """A task as an object: times in RFC 3339, the payload as a value."""
    found = {name: plain(row.get(name)) for name in _KEPT} | {name: _instant(int(row.get(name) or 0)) for name in _TIMES}
    return found | {"payload": plain(decode(row.get("payload")))}


def ndjson(rows: Sequence[Row]) -> str:
    """A line of ASCII JSON for each."""
    return "".join([json.dumps(task_of(row), allow_nan=False) + "\n" for row in rows])


def _cell(value: object) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    text = safe_text(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not isinstance(value, int | float) else text


def table(rows: Sequence[Row], *, head: bool) -> str:
    """A line of CSV for each; ``head``: the names of the columns before them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if head:
        writer.writerow(_COLUMNS)
    for row in rows:
        task = task_of(row)
        error = task["error"] or {}
        task |= {"error": error.get("type"), "message": error.get("message")}
        writer.writerow([_cell(task[name]) for name in _COLUMNS])
    return out.getvalue()


class Out(NamedTuple):
    """Where tasks go: the file that there is in the end, and the one that is written, which takes its place once it is whole."""

    path: Path
    part: Path


class Exists(ValueError):
    """There is a file at ``path`` already."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: there is a file of this name")
        self.path = path


def create(name: str, *, over: bool = False) -> Out:
    """The new, empty file of this name, to replace the one that is there if ``over``. Exists: there is one; ValueError: its ending says
    no form, or it cannot be made."""
    try:
        path = Path(name.strip()).expanduser()
    except RuntimeError:  # ~somebody
        path = Path(name.strip())
    if path.suffix not in ENDINGS:
        raise ValueError(f"expected a name that ends in {' or '.join(ENDINGS)}, got {name.strip()!r}")
    part = path.with_name(f".{path.name}.{os.getpid()}.part") if over else path
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        if path.is_file() and not over:
            raise Exists(path) from None
        raise ValueError(f"{path}: expected a file that can be made: {error.strerror}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a file that can be made: {getattr(error, 'strerror', error)}") from None
    return Out(path, part)


async def export(out: Out, pages: AsyncIterator[Sequence[Row]]) -> int:
    """Write the tasks of these pages into a file made by ``create``; how many they were. ValueError: it cannot be written."""
    number = 0
    done = False
    try:
        with out.part.open("a", encoding="utf-8") as file:
            async for rows in pages:
                file.write(table(rows, head=not number) if out.path.suffix == ".csv" else ndjson(rows))
                number += len(rows)
        if out.part != out.path:
            os.replace(out.part, out.path)
        done = True
    except OSError as error:
        raise ValueError(f"{out.path}: {error.strerror}; nothing was exported") from None
    finally:
        if not done:
            with suppress(OSError):
                os.unlink(out.part)
    return number
