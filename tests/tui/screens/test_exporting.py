"""Exports: exact as NDJSON, harmless as CSV, never over a file that is there, and whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tui.screens.exporting import Exists, create, export, ndjson, plain, table, task_of

ROW: dict[str, Any] = {
    "id": 1 << 60, "type": "mail.send", "queue": "mail", "state": "failed", "attempt": 3, "created_at": 1_763_735_527_123, "finished_at": 0,
    "label": "=1+1", "error": {"type": "KeyError", "message": "\x1b[2J@sku"},
    "payload": msgpack.packb({"url": "a", "raw": b"\x00", "n": -5}),
}  # fmt: skip


async def pages(*rows: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
    for one in rows:
        yield one


def test_a_task_is_told_with_its_times_and_its_payload_as_values() -> None:
    task = task_of(ROW)
    assert task["created_at"] == "2025-11-21T14:32:07.123Z"
    assert task["finished_at"] is None
    assert task["payload"] == {"url": "a", "raw": "AA==", "n": -5}
    assert task_of({**ROW, "created_at": 1 << 62})["created_at"] == f"{1 << 62} ms after 1970"


def test_ndjson_is_ascii_and_exact() -> None:
    text = ndjson([ROW, {**ROW, "label": "日本\u202e"}])
    assert text.isascii()
    first, second = [json.loads(line) for line in text.splitlines()]
    assert first["id"] == 1 << 60
    assert first["error"]["message"] == "\x1b[2J@sku"
    assert second["label"] == "日本\u202e"


def test_no_cell_of_csv_computes_or_steers() -> None:
    head, row = csv.reader(table([ROW], head=True).splitlines())
    found = dict(zip(head, row, strict=True))
    assert found["label"] == "'=1+1"
    assert found["message"] == "\\x1b[2J@sku"
    assert found["error"] == "KeyError"
    assert json.loads(found["payload"])["n"] == -5
    assert found["id"] == str(1 << 60)


def test_what_json_cannot_hold_is_named() -> None:
    assert plain([float("inf"), b"a", {1: None}, 3 + 0j]) == ["inf", "YQ==", {"1": None}, "(3+0j)"]


def test_a_new_file_is_the_persons_own_and_one_that_is_there_stays(tmp_path: Path) -> None:
    path = create(f" {tmp_path}/a.csv ").path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("kept")
    with pytest.raises(Exists) as found:
        create(str(path))
    assert found.value.path == path
    assert path.read_text() == "kept"
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(ValueError, match="File exists"):
        create(f"{tmp_path}/dir.csv")
    for name in ("~nobody-at-all/a.csv", "\0.csv"):
        with pytest.raises(ValueError, match="expected a file that can be made"):
            create(name)


@pytest.mark.parametrize("name", ["a.txt", "", "nowhere/at/all.csv"])
def test_a_file_that_cannot_be_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        create(f"{tmp_path}/{name}")


@pytest.mark.asyncio
async def test_pages_become_one_file_with_one_head(tmp_path: Path) -> None:
    out = create(f"{tmp_path}/a.csv")
    assert await export(out, pages([ROW, ROW], [ROW])) == 3
    assert len(out.path.read_text().splitlines()) == 4
    lines = create(f"{tmp_path}/a.ndjson")
    assert await export(lines, pages([ROW], [ROW])) == 2
    assert len(lines.path.read_text().splitlines()) == 2


@pytest.mark.asyncio
async def test_an_export_that_is_broken_off_leaves_no_file(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[Sequence[Any]]:
        yield [ROW]
        raise ConnectionError(32, "the daemon went away")

    with pytest.raises(ValueError, match="the daemon went away; nothing was exported"):
        await export(create(f"{tmp_path}/a.ndjson"), broken())
    assert os.listdir(tmp_path) == []


@pytest.mark.asyncio
async def test_a_file_is_replaced_by_a_whole_one_or_stays_as_it_is(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[Sequence[Any]]:
        yield [ROW]
        raise ConnectionError(32, "the daemon went away")

    path = tmp_path / "a.ndjson"
    path.write_text("kept")
    path.chmod(0o644)
    with pytest.raises(ValueError, match="nothing was exported"):
        await export(create(str(path), over=True), broken())
    assert path.read_text() == "kept"
    assert await export(create(str(path), over=True), pages([ROW])) == 1
    assert json.loads(path.read_text())["id"] == 1 << 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [path.name]
