"""Workflows: graphs of tasks with a name, whose steps have names, too; looked at, cancelled and run again as a whole.

For: ``tq.workflow("nightly")`` in Python; what ``tq workflow`` shows and does, also of graphs that a file describes (``tq.cli.workflows``).
Not for: which task waits for which, and when (the daemon), single chains and groups (signature).
Runs in: programs that enqueue, and the ``tq`` command.
Promises: a workflow is one request, so it is stored whole or not at all; looking at one costs its tasks, however many others there are.

There is no record of a workflow but its tasks, which were stored together and so have ids that follow each other. Three notes of each
(``meta``) say the rest: ``workflow`` its name, ``workflow.step`` that of the step, and ``workflow.place``, ``3/12``: the third task of
twelve. So any of its ids leads to all of them without an index, a copied store or a restart changes nothing, nothing has to be kept in
step, and every filter knows them: ``tq list 'meta.workflow:nightly state:failed'``. The id of a workflow is that of its first task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tq.client import Client
from tq.client.core import Body, Duration, Options
from tq.errors import NoSuchTask, TaskTimeout, UsageError
from tq.model import brief, is_name
from tq.signature import Ends, Flow, Plan

R = TypeVar("R")
NAME, STEP, PLACE = "workflow", "workflow.step", "workflow.place"
ROWS_A_CALL = 100
_ENDED = ("succeeded", "failed", "cancelled", "expired")
_NOT_OF_STEPS = frozenset({"key", "on_conflict"})
"""With these a task may be one that was there already, whose id is none of the workflow's."""


def marks(workflow: str, steps: Sequence[str]) -> list[dict[str, str]]:
    """The notes of a workflow's tasks, one of each of ``steps``. UsageError for a name that is none."""
    for name in {workflow, *steps}:
        if not is_name(name) or not name.isprintable():
            raise UsageError(f"expected a printable name of 1 to 200 bytes for a workflow and its steps, got {brief(name)}.")
    return [{NAME: workflow, STEP: step, PLACE: f"{at}/{len(steps)}"} for at, step in enumerate(steps, 1)]


@dataclass(frozen=True, slots=True)
class Step(Generic[R]):
    """A step of a workflow that is being written: what others come after."""

    name: str
    ends: Ends = field(repr=False)


Steps = Step[Any] | Iterable[Step[Any]]


def _several(steps: Steps) -> list[Step[Any]]:
    return [steps] if isinstance(steps, Step) else list(steps)


class Workflow:
    """A workflow that is being written; see ``workflow``."""

    def __init__(self, name: str) -> None:
        marks(name, ())
        self.name = name
        self._plan = Plan()
        self._steps: dict[str, int] = {}
        self._names: list[str] = []

    def step(self, name: str, call: Flow[R], *, after: Steps = (), after_any: Steps = (), after_failure: Steps = ()) -> Step[R]:
        """Add a step: a signature, or a chain or group of such. It runs after other steps, if all of ``after`` succeed, however those of
        ``after_any`` end, and only if those of ``after_failure`` fail. A call with ``s`` gets the result of the step in ``after`` as
        its first argument (of a group the list, of several steps one list of all), one with ``si`` does not.

        UsageError for a name that another step has, TypeError for a call that does not fit its function.
        """
        if name in self._steps:
            raise UsageError(f"workflow {self.name!r}: expected a name of its own for each step, got {name!r} twice.")
        marks(self.name, [name])
        first = len(self._plan.rows)
        ends = [step.ends for step in _several(after)]
        giving = [place for end in ends for place in end.after[: end.giving]]
        others = [place for end in ends for place in end.after[end.giving :]]
        before = Ends(
            (*giving, *others), len(giving), len(ends) > 1 or any(end.many for end in ends),
            tuple(place for step in _several(after_any) for place in step.ends.after),
            tuple(place for step in _several(after_failure) for place in step.ends.after),
        )  # fmt: skip
        found: Step[R] = Step(name, call.lay(self._plan, before))
        count = len(self._plan.rows) - first
        self._steps[name] = count
        self._names += [name] if count == 1 else [f"{name}[{at}]" for at in range(count)]
        return found

    def rows(self) -> list[tuple[str, Any, Options]]:
        """Its tasks, for ``enqueue_graph``. UsageError: there is none, or one has a ``key``."""
        if not self._names:
            raise UsageError(f"workflow {self.name!r}: expected at least one step, got none.")
        rows: list[tuple[str, Any, Options]] = []
        for (kind, payload, options), notes in zip(self._plan.through(), marks(self.name, self._names), strict=True):
            if bad := sorted(_NOT_OF_STEPS & options.keys()):
                raise UsageError(
                    f"workflow {self.name!r}, step {notes[STEP]!r}: {bad[0]}: expected a task of its own, not one known before."
                )
            marked: Options = {**options, "meta": {**options.get("meta", {}), **notes}}
            rows.append((kind, payload, marked))
        return rows

    def enqueue(self, client: Client | None = None) -> Run:
        """Send it, by this process's client or another; returns when it is on disk. At most 10,000 tasks, in a frame of at most a MiB."""
        from tq.client import default

        client = client or default()
        return Run(client, client.enqueue_graph(self.rows())[0])


def workflow(name: str) -> Workflow:
    """Begin to write a workflow::

    nightly = tq.workflow("nightly")
    rows = nightly.step("extract", extract.si("2030-01-31"))
    parts = nightly.step("transform", transform.map(range(10)), after=rows)
    load = nightly.step("load", load_all.s(), after=parts)
    nightly.step("notify", notify.si("done"), after_any=load)
    run = nightly.enqueue()
    """
    return Workflow(name)


class Run:
    """A workflow that was sent: ``id`` is that of its first task. Holds no copy of it: each question is asked anew."""

    def __init__(self, client: Client, task_id: int, span: tuple[int, str] | None = None) -> None:
        self.client, self.id = client, task_id
        self._span = span  # how many tasks it has, and its name; None: the first of them says it

    def __repr__(self) -> str:
        return f"<workflow {self.id}>"

    def tasks(self) -> list[Body]:
        """Its tasks that are still there, as ``Client.get`` gives them, in the order of their steps."""
        if self._span is None:
            self._span = place_of(self.client.get(self.id))[1:]
        count, name = self._span
        rows = _rows(self.client, range(self.id, self.id + count))
        return [row for row in rows if (row["meta"] or {}).get(NAME) == name]

    def state(self) -> str:
        """See ``state_of``."""
        return state_of(self.tasks())

    def wait(self, timeout: Duration | None = None) -> str:
        """Its state once all of its tasks are over. TaskTimeout if they are not in time."""
        ids = [row["id"] for row in self.tasks()]
        for start in range(0, len(ids), ROWS_A_CALL):
            self.client.wait(ids[start : start + ROWS_A_CALL], timeout)
        state = self.state()
        if state not in _ENDED:  # somebody has retried some of it meanwhile
            raise TaskTimeout(
                f"expected workflow {self.id} to be over within {timeout}, but it is {state}. Nothing was stopped: wait again."
            )
        return state

    def results(self) -> dict[str, Any]:
        """What its tasks that succeeded returned, by their steps: ``{"extract": 3, "transform[0]": ...}``."""
        return {step_of(row): row["result"] for row in self.tasks() if row["state"] == "succeeded"}

    def cancel(self) -> int:
        """Cancel what waits of it and ask what runs to end; how many tasks that were. Last steps first, so that no other begins."""
        ids = [row["id"] for row in self.tasks() if row["state"] not in _ENDED]
        return sum(word in ("cancelled", "asked") for part in _parts(ids[::-1]) for word in self.client.cancel(part))

    def retry(self) -> list[int]:
        """Run it again from where it broke: what did not succeed, and all that comes after that, in its order; the ids. What could
        not be needed (``after_failure`` of a step that succeeded) stays as it is."""
        ids = broken(self.tasks())
        outcomes = self.client.retry_in_order(ids)
        return [one for one, outcome in zip(ids, outcomes, strict=True) if outcome == "retried"]


def run_of(client: Client, task_id: int) -> Run:
    """The workflow of a task. NoSuchTask: there is no such task, or it is of none."""
    first, count, name = place_of(client.get(task_id))
    return Run(client, first, (count, name))


def runs(client: Client, limit: int = 20, name: str | None = None) -> list[Run]:
    """The newest workflows, of this name or of any, whose first task is still there. The daemon looks through its tasks for them."""
    where = f"meta.{PLACE}:1/*" + (f' meta.{NAME}:"{name}"' if name is not None else "")
    return [Run(client, row["id"]) for row in client.list(where=where, limit=limit)]


def step_of(row: Mapping[str, Any]) -> str:
    """The name of a task's step."""
    return str((row["meta"] or {}).get(STEP, ""))


def is_left_out(row: Mapping[str, Any]) -> bool:
    """Whether a task was cancelled because it was for a failure that did not come."""
    return row["state"] == "cancelled" and (row["error"] or {}).get("type") == "ParentNotFailed"


def state_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """The state of a workflow with these tasks: running while one is not over, else failed, expired or cancelled if one is and was not
    left out, else succeeded."""
    states = {row["state"] for row in rows if not is_left_out(row)}
    if not states.issubset(_ENDED):
        return "running" if states & {"running", "succeeded", "failed", "retrying"} else "pending"
    return next((word for word in ("failed", "expired", "cancelled") if word in states), "succeeded")


def broken(rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """Of a workflow's tasks, parents before children, the ids of those that did not succeed, and of all that come after these."""
    again: set[int] = set()
    for row in rows:
        if (row["state"] in _ENDED and row["state"] != "succeeded" and not is_left_out(row)) or again.intersection(row["parents"]):
            again.add(row["id"])
    return sorted(again)


def tree(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, str, list[Mapping[str, Any]]]]:
    """Steps with their tasks, each (depth, name, tasks) below the last of those that it comes after."""
    steps: dict[str, list[Mapping[str, Any]]] = {}
    step_of_task: dict[int, str] = {}
    for row in rows:
        name, bracket, _ = step_of(row).rpartition("[")
        step = name if bracket else step_of(row)
        steps.setdefault(step, []).append(row)
        step_of_task[row["id"]] = step
    depth: dict[str, int] = {}
    below: dict[str | None, list[str]] = {}
    for step, some in steps.items():
        above = [step_of_task.get(parent) for row in some for parent in row["parents"]]
        # A parent has a lower id, so its step stands before; but brackets in names can make one step of two.
        home = max((one for one in above if one in depth), key=lambda one: depth[one], default=None)
        depth[step] = 0 if home is None else depth[home] + 1
        below.setdefault(home, []).append(step)
    found: list[tuple[int, str, list[Mapping[str, Any]]]] = []
    waiting = below.get(None, [])[::-1]
    while waiting:
        step = waiting.pop()
        found.append((depth[step], step, steps[step]))
        waiting += below.get(step, [])[::-1]
    return found


def place_of(row: Mapping[str, Any]) -> tuple[int, int, str]:
    """The id of the first task of a task's workflow, how many it has, and its name."""
    notes = row["meta"] or {}
    at, _, count = notes.get(PLACE, "").partition("/")
    if NAME not in notes or not (at.isdecimal() and count.isdecimal() and 0 < int(at) <= int(count)):
        raise NoSuchTask(f"expected a task of a workflow, got {row['id']}, which is of none. `tq workflow list` shows those there are.")
    return row["id"] - int(at) + 1, int(count), notes[NAME]


def _parts(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + ROWS_A_CALL] for start in range(0, len(ids), ROWS_A_CALL))


def _rows(client: Client, ids: Sequence[int]) -> list[Body]:
    """The tasks that are there, whole."""
    found: list[Body] = []
    get: Callable[[Sequence[int]], Sequence[Body | None]] = client.get_many
    for part in _parts(ids):
        found += [whole for row in get(part) if row is not None and (whole := get([row["id"]])[0] if row.get("cut") else row) is not None]
    return found
