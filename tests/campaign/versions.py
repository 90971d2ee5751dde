"""T21: the data directories of released versions: kept as files, opened by every later version.

For: ``fixtures`` (those that are kept), ``Kept`` (one of them, laid down and compared), and making the next one:
``python -m tests.campaign.versions`` writes ``fixtures/VERSION.tar.xz`` of the tq that is here, to be committed with its release.
Not for: damage, other stores than LMDB.
Runs in: pytest; a terminal, once for each release.
Promises: a fixture holds a data directory with tasks in every state, and beside it in ``tasks.json`` what was shown of each;
one that is there is not written again: a released version's stays as it was. Before its release a version's is made anew
whenever the format changes: the old one first gets another name, `VERSION.formatN.tar.xz`, and is opened by every later version, too.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.campaign.session import DATA, LIMITS, Session
from tests.tq.broker_driver import Driver
from tq import __version__
from tq.model import STATES
from tq.store.lmdb import LmdbStore

PLACE = Path(__file__).with_name("fixtures")
SHOWN = "tasks.json"
ERROR = {"type": "ValueError", "message": "no such page", "frames": [["shop.py", 7, "charge", "raise ValueError(page)"]]}


def fixtures() -> list[Path]:
    return sorted(PLACE.glob("*.tar.xz"))


def shown(data: Path) -> dict[str, Any]:
    """By id what a client is shown of each task; and queues, types and events."""
    store = LmdbStore(data / "store", LIMITS)
    try:
        rows = {str(n): plain(task.row()) for n in range(1, store.last_id() + 1) for task in store.get([n]) if task is not None}
        queues = {name: plain(info.row()) for name, info in store.queues().items()}
        events = [plain(event.row()) for event in store.events(None, 1000)]
        return {"tasks": rows, "queues": queues, "types": sorted(store.types()), "events": events}
    finally:
        store.close()


def plain(value: Any) -> Any:
    """The value as JSON has it."""
    return json.loads(json.dumps(value, default=bytes.hex))


def lay_down(fixture: Path, root: Path) -> dict[str, Any]:
    """Unpack a fixture into ``root``; what was shown of it when it was made."""
    with tarfile.open(fixture) as tar:
        tar.extractall(root, filter="data")
    found: dict[str, Any] = json.loads((root / SHOWN).read_text("utf-8"))
    return found


def missing(old: Any, new: Any) -> list[str]:
    """What was shown and is not shown so any more; what is shown in addition is no loss."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [f"{key}: {line}" for key in old for line in missing(old[key], new.get(key))]
    if isinstance(old, list) and isinstance(new, list):
        return [f"{at}: {line}" for at, one in enumerate(old) for line in missing(one, new[at] if at < len(new) else None)]
    return [] if old == new else [f"expected {old!r:.200}, found {new!r:.200}"]


def make(root: Path) -> None:
    """A data directory in ``root`` with tasks in every state."""
    Session(root, 21, lambda _: None).run(until="do_forget")
    d = Driver("lmdb", root / DATA / "store", LIMITS)
    d.now += 60_000
    d.add(2, delay_ms=86_400_000, queue="later", label="l", meta={"a": "b"}, tenant="x")
    d.add(4, queue="ends", priority=9, retries=2, key=None)
    tired, dead, *_ = tasks = d.grant(4)
    d.broker.settled([d.result(tired, "failed", error=ERROR), d.result(dead, "failed", error=ERROR, permanent=True)])
    d.turn()
    d.submit("remove", queue="later", states=["pending"])
    d.ask("set_queue", name="ends", paused=True, weight=2, slots=3)
    d.add(after=[tasks[2].id, tired.id], after_any=[tired.id], payload=b"waits")
    d.store.close()
    found = shown(root / DATA)
    states = {row["state"] for row in found["tasks"].values()}
    if states != set(STATES):
        raise RuntimeError(f"expected tasks in all states, found none that is {', '.join(set(STATES) - states)}")
    (root / SHOWN).write_text(json.dumps(found), "utf-8")


def main() -> None:
    target = PLACE / f"{__version__}.tar.xz"
    if target.exists():
        sys.exit(f"{target}: expected no fixture of {__version__} yet, found one. Of a released version it stays; else rename it first.")
    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as where:
        root = Path(where)
        make(root)
        with tarfile.open(target, "w:xz") as tar:
            for name in (f"{DATA}/store/data.mdb", SHOWN):
                tar.add(root / name, name, filter=_nobodys)
    print(target)


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o600
    return member


if __name__ == "__main__":
    main()
