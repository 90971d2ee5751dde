"""Workflows as the monitor keeps them: each a run of ids, how those tasks stand, and of one that is looked into its steps.

For: ``Graph``, ``head_of`` (from the first task of a workflow), and which of its tasks are to be asked for next.
Not for: what a workflow is (``tq.workflows``), asking (screens), how it is shown (screens.workflow_words).
Runs in: the monitor; pure.
Promises: a workflow of 10,000 tasks takes 170 KB until it is looked into; what has been asked for longest ago comes first again, those
that are not over before the others; every text of a task is cleaned here.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tq import workflows
from tq.errors import NoSuchTask
from tui.formats import cleaned, clip

LEFT_OUT, GONE = "left out", "gone"
WORDS = (
    "", "blocked", "scheduled", "pending", "retrying", "running", "succeeded", "cancelled", "expired", "failed", LEFT_OUT, GONE,
)  # fmt: skip
"""States by the number that is kept: those that are not over come before the others; "" is one that is not known yet."""
_NUMBERS = {word: number for number, word in enumerate(WORDS)}
_OVER = _NUMBERS["succeeded"]
TEXT_MOST = 400
AGAIN = 100
"""Tasks that are over are asked for again, so many at a time: somebody may have retried one."""
ERRORS = 5
"""Of so many tasks that failed, the first, a workflow says why."""
_LEFT_OUT = "ParentNotFailed"
MOST = 10_000
"""Tasks of a workflow, which is one request."""
Row = Mapping[str, Any]


class Graph:
    """A workflow: the ``count`` tasks from ``first`` on."""

    def __init__(self, first: int, count: int, name: str, created_at: int = 0) -> None:
        self.id, self.count, self.name, self.created_at = first, count, clip(cleaned(name), TEXT_MOST), created_at
        self._name = name
        self.rows: dict[int, dict[str, Any]] = {}
        """Of one that is looked into: what is told of each task."""
        self.errors: dict[int, str] = {}
        self._states = bytearray(count)
        self._started, self._finished = array("q", bytes(8 * count)), array("q", bytes(8 * count))
        self._last: dict[str, int] = {}

    @property
    def ids(self) -> range:
        return range(self.id, self.id + self.count)

    # what comes

    def take(self, ids: Sequence[int], rows: Iterable[Sequence[Any] | None]) -> None:
        """Rows of the verb ``rows``, of these ids; None: the task is gone."""
        for number, row in zip(ids, rows, strict=True):
            if row is None:
                self._put(number, GONE, 0, 0, "")
            else:
                self._put(number, str(row[1]), int(row[9] or 0), int(row[10] or 0), str(row[12] or ""))

    def _put(self, number: int, state: str, started: int, finished: int, error: str) -> None:
        at = number - self.id
        if state == "cancelled" and error.startswith(_LEFT_OUT):
            state, error = LEFT_OUT, ""
        self._states[at] = _NUMBERS.get(state, 0)
        self._started[at], self._finished[at] = started, finished
        if state == "failed" and (number in self.errors or len(self.errors) < ERRORS):
            self.errors[number] = clip(cleaned(error), TEXT_MOST)
        else:
            self.errors.pop(number, None)
        if (row := self.rows.get(number)) is not None:
            row |= {"state": state, "started_at": started, "finished_at": finished, "error": clip(cleaned(error), TEXT_MOST)}

    def look_into(self, rows: Iterable[Row | None]) -> None:
        """Whole tasks, as ``get`` gives them: from now on their steps and parents are kept, too."""
        for row in rows:
            if row is None or row["id"] not in self.ids:
                continue
            if (row["meta"] or {}).get(workflows.NAME) != self._name:  # a task that only has an id among these
                self._put(row["id"], GONE, 0, 0, "")
            else:
                error = row["error"] if isinstance(row["error"], Mapping) else {}
                words = f"{error.get('type') or 'Error'}: {error.get('message') or ''}" if error else ""
                self.rows.setdefault(row["id"], {}).update({  # who shows it has this very map
                    "id": row["id"], "meta": {workflows.STEP: clip(cleaned(workflows.step_of(row)), TEXT_MOST)},
                    "parents": tuple(row["parents"]), "any": frozenset(row["parents_any"]), "failure": frozenset(row["parents_failed"]),
                    "type": clip(cleaned(str(row["label"] or row["type"])), TEXT_MOST), "created_at": int(row["created_at"]),
                })  # fmt: skip
                self._put(row["id"], str(row["state"]), int(row["started_at"] or 0), int(row["finished_at"] or 0), words[: 2 * TEXT_MOST])

    def to_ask(self, most: int) -> list[int]:
        """The ids to ask for next: those never asked for, then those that are not over, then some of the others, each kind in turn."""
        unread = [at for at, number in enumerate(self._states) if not number][:most]
        live = self._in_turn("live", [at for at, number in enumerate(self._states) if 0 < number < _OVER], most - len(unread))
        left = min(most - len(unread) - len(live), AGAIN)
        over = self._in_turn("over", [at for at, number in enumerate(self._states) if number >= _OVER], left)
        return sorted([self.id + at for at in (*unread, *live, *over)])

    def _in_turn(self, kind: str, places: list[int], most: int) -> list[int]:
        """So many of these, from behind those that this gave last."""
        start = bisect_right(places, self._last.get(kind, -1))
        some = (places[start:] + places[:start])[: max(most, 0)]
        if some:
            self._last[kind] = some[-1]
        return some

    def not_looked_into(self, most: int) -> list[int]:
        """Tasks of which the steps are not known yet, and that are not known to be gone."""
        found = [one for one in self.ids if one not in self.rows and self._states[one - self.id] != _NUMBERS[GONE]]
        return found[:most]

    # what is known

    @property
    def counts(self) -> Counter[str]:
        """How many stand how; those that are not known, or gone, are not among them."""
        found = Counter({word: self._states.count(number) for number, word in enumerate(WORDS)})
        return Counter({word: number for word, number in found.items() if number and word not in ("", GONE)})

    @property
    def read(self) -> int:
        """How many were asked for already."""
        return self.count - self._states.count(0)

    @property
    def gone(self) -> bool:
        """Whether none of its tasks is there any more."""
        return self._states.count(_NUMBERS[GONE]) == self.count

    @property
    def over(self) -> int:
        return sum(number for word, number in self.counts.items() if _NUMBERS[word] >= _OVER)

    @property
    def state(self) -> str:
        """As ``tq workflow list`` has it; "" while nothing is known."""
        words = [word for word in self.counts if word != LEFT_OUT]
        if not words:
            return "succeeded" if self.counts else ""
        return workflows.state_of([{"state": word, "error": None} for word in words])

    @property
    def began_at(self) -> int:
        """When the first of its tasks began (ms); 0: none has."""
        return min([at for at in self._started if at], default=0)

    @property
    def ended_at(self) -> int:
        """When the last of them ended that had begun; 0: some are not over yet, or none has begun."""
        if self.over + self._states.count(_NUMBERS[GONE]) < self.count:
            return 0
        return max([end for start, end in zip(self._started, self._finished, strict=True) if start], default=0)


def head_of(row: Row) -> Graph | None:
    """The workflow of a whole task; None: it is of none, or its notes say what cannot be."""
    try:
        first, count, name = workflows.place_of(row)
    except (NoSuchTask, KeyError):
        return None
    return Graph(first, count, name, int(row["created_at"])) if count <= MOST else None
