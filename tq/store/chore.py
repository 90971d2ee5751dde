"""A chore: work that a verb left behind, as a store keeps it.

For: ``Chore``, and the one that a parent's end leaves behind (``release``).
Not for: working chores off (tq.chores, the broker's families).
Runs in: the daemon.
Promises: a value; its row is what stores keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tq.model import State


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that a verb left behind because it may touch more than SCAN_MOST tasks: done in slices, with a cursor.

    ``id`` 0 is one not stored yet; ``verb`` and ``args`` say what to do to which tasks; ``cursor`` where to go on. ``left``
    counts those that were meant and could not be changed, by the word of why.
    """

    id: int
    verb: str
    args: Mapping[str, Any]
    cursor: bytes | None = None
    seen: int = 0
    changed: int = 0
    left: Mapping[str, int] = field(default_factory=dict)

    def row(self) -> list[Any]:
        return [self.id, self.verb, self.args, self.cursor, self.seen, self.changed, self.left]


RELEASE = "release"


def release(parent: int, state: State, below: int) -> Chore:
    """The chore for a parent that is over in ``state``: those below the id ``below`` that wait for it hear of it."""
    return Chore(0, RELEASE, {"where": f"parent:{parent}", "parent": parent, "state": int(state), "below": below})
