"""What a person does with workflows: cancel one, run one again from where it broke, see its tasks in the list of tasks.

For: ``WorkflowActs``, which the list of workflows and the page of one are, and reading workflows (``states``, ``steps``).
Not for: what is shown (workflows, workflow), single tasks (acting).
Runs in: the monitor, on Textual.
Promises: what is run again is decided by how the tasks stand at that moment; both ask first and say how many tasks they are about; no
question is for more than BATCH tasks, and only one of a screen is out at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tq import workflows
from tq.errors import TqError
from tui.actions import Action, Context
from tui.feed import Feed
from tui.formats import counted
from tui.graphs import Graph
from tui.screens.screen import MonitorScreen
from tui.screens.workflow_words import title_of
from tui.widgets.confirm import Question

BATCH, WHOLE = 500, 100
"""Tasks of one question for how they stand, and for all of them."""
_LIVE = ("scheduled", "blocked", "pending", "running", "retrying")


async def states(feed: Feed, graph: Graph, most: int) -> None:
    """Ask how so many of its tasks stand, those it is most worth for first."""
    ids = graph.to_ask(most)
    for at in range(0, len(ids), BATCH):
        some = ids[at : at + BATCH]
        graph.take(some, (await feed.call("rows", {"ids": some}))["rows"])


async def whole(feed: Feed, ids: Sequence[int]) -> list[Mapping[str, Any] | None]:
    """These tasks; what did not fit into one answer is asked for alone."""
    rows: list[Mapping[str, Any] | None] = (await feed.call("get", {"ids": list(ids)}))["tasks"]
    for at, row in enumerate(rows):
        if row is not None and row.get("cut"):
            (rows[at],) = (await feed.call("get", {"ids": [row["id"]]}))["tasks"]
    return rows


class WorkflowActs(MonitorScreen):
    """A screen that acts on one workflow."""

    @property
    def graph(self) -> Graph | None:
        """The one that is meant."""
        raise NotImplementedError

    def look(self, *, moved: bool = False) -> None:
        """Ask again, if something may have changed; ``moved``: in any case."""
        raise NotImplementedError

    def tell(self) -> None:
        """Paint what is told of where the cursor is."""
        raise NotImplementedError

    def open(self) -> None:
        """Open what the cursor is on."""
        raise NotImplementedError

    def on_paged_table_cursor_moved(self) -> None:
        self.tell()
        self.lines()

    def on_paged_table_opened(self) -> None:
        self.open()

    def _meant(self) -> Graph:
        if self.graph is None:
            raise ValueError("there is no workflow here")
        return self.graph

    async def cancel(self) -> None:
        """Cancel what is not over of it, the last steps first, so that no other begins."""
        graph, monitor = self._meant(), self.monitor
        ids = []
        for at in range(0, graph.count, BATCH):
            rows = (await monitor.feed.call("rows", {"ids": list(graph.ids[at : at + BATCH])}))["rows"]
            ids += [row[0] for row in rows if row is not None and row[1] in _LIVE]
        if not ids:
            raise ValueError(f"workflow {graph.id}: nothing is left to be cancelled")
        question = Question(
            "Cancel a workflow", f"{counted(len(ids), 'task')} will be cancelled; those that run are asked to end",
            f"Cancel {len(ids):,}", 2, facts=(("workflow", title_of(graph)),),
        )  # fmt: skip
        if await monitor.confirm(question):
            done = await self._each("cancel", ids[::-1], ("cancelled", "asked"))
            monitor.say(f"Workflow {graph.id}: {counted(done, 'task')} cancelled, or asked to end.")

    async def retry(self) -> None:
        """Run again what did not succeed, and all that comes after it."""
        graph, monitor = self._meant(), self.monitor
        rows = []
        for at in range(0, graph.count, WHOLE):
            rows += [row for row in await whole(monitor.feed, graph.ids[at : at + WHOLE]) if row is not None]
        graph.look_into(rows)
        ids = workflows.broken([row for row in rows if row["id"] in graph.rows])
        if not ids:
            raise ValueError(f"workflow {graph.id}: nothing has failed, so there is nothing to run again")
        first = workflows.step_of(graph.rows[ids[0]])
        question = Question(
            "Retry a workflow", f"{counted(len(ids), 'task')} will run again, each after those it comes after", f"Retry {len(ids):,}", 2,
            facts=(("workflow", title_of(graph)), ("from", f"{first} ({ids[0]})")),
        )  # fmt: skip
        if await monitor.confirm(question):
            done = await self._each("retry", ids, ("retried",), in_order=True)
            left = f", {len(ids) - done:,} not: they are not over, or what they come after is not" if done < len(ids) else ""
            monitor.say(f"Workflow {graph.id}: {counted(done, 'task')} run again{left}.", "$warn" if left else "")

    async def _each(self, verb: str, ids: Sequence[int], good: tuple[str, ...], **more: Any) -> int:
        """Do it to all of these; how many it was done to. What was done before an error is told with it."""
        done = 0
        try:
            for at in range(0, len(ids), BATCH):
                outcomes = (await self.monitor.call(verb, {"ids": list(ids[at : at + BATCH]), **more}))["outcomes"]
                done += len([word for word in outcomes if word in good])
        except TqError as error:
            raise ValueError(f"{verb}: done to {counted(done, 'task')}, then: {error.message}") from None
        finally:
            self.look(moved=True)
        return done

    def tasks(self) -> None:
        """Show its tasks where tasks are listed."""
        graph = self._meant()
        self.monitor.open_place("filter", f"id:{graph.id}..{graph.ids[-1]}")


def _there(context: Context) -> bool:
    return isinstance(context.screen, WorkflowActs) and context.screen.is_mounted and context.screen.graph is not None


def _runs(context: Context) -> bool:
    return _there(context) and context.screen.graph.over < context.screen.graph.count


def _broke(context: Context) -> bool:
    return _there(context) and any(context.screen.graph.counts[word] for word in ("failed", "expired", "cancelled"))


def acts_of(screen: str, group: str) -> tuple[Action, ...]:
    """What can be done to a workflow on a screen that shows it."""

    def twin(verb: str) -> Any:
        return lambda context: f"tq workflow {verb} {context.screen.graph.id}"

    return (
        Action(
            id=f"{screen}.retry", title="Retry…", help="Run the workflow again from where it broke: what failed, and all after it.",
            keys="r", run=lambda context: context.screen.retry(), screen=screen, weight=2, writes=True, applies=_broke, words=("retry",),
            twin=twin("retry"), footer=10, group=group,
        ),
        Action(
            id=f"{screen}.cancel", title="Cancel…", help="Cancel all of the workflow that is not over; what runs is asked to end.",
            keys="c", run=lambda context: context.screen.cancel(), screen=screen, weight=2, writes=True, applies=_runs, words=("cancel",),
            twin=twin("cancel"), footer=12, group=group,
        ),
        Action(
            id=f"{screen}.tasks", title="Tasks of it", short="Tasks", help="Show the tasks of the workflow on the screen of the tasks.",
            keys="t", run=lambda context: context.screen.tasks(), screen=screen, applies=_there, words=("show-tasks",), footer=16,
            group=group,
        ),
    )  # fmt: skip
