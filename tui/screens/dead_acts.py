"""What a person does to dead letters, a group at a time: retry, at once or spread, discard, export.

For: ``DeadActs``, which the screen is; ``ACTIONS``.
Not for: what is shown (dead), one task (its own page), exports (export_acts).
Runs in: the monitor, on Textual.
Promises: each act counts first, and the daemon refuses it if by then they are others; what is discarded is typed as a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tq.config.tables import spoken
from tq.errors import TqError
from tq.model import duration_ms
from tq.query.terms import written
from tui.actions import Action, Context
from tui.formats import age, clip, counted
from tui.screens.export_acts import PAGE, Pages, export_tasks, export_title, found, may_export
from tui.screens.screen import MonitorScreen
from tui.screens.sorting import sort_actions
from tui.state import Body
from tui.widgets.confirm import Question

PARTS = 6
SPREAD_MOST, STEPS = 10_000, 60
"""Tasks that are spread, and the most instants at which some of them come."""


def filter_of(group: Body) -> str:
    """A filter for the tasks of a group: of its message what does not vary from task to task."""
    error = f"{group.get('error') or 'Error'}: {group.get('message') or ''}"
    parts = [part for part in error.split("#") if len(part.strip()) > 1][:PARTS]
    kind = [f"type:{written(group['type'])}"] if group.get("type") else []
    return " ".join(["state:failed", *kind, *(f"error:{written(part)}" for part in parts)])


class DeadActs(MonitorScreen):
    """A screen that acts on groups of dead letters."""

    @property
    def chosen(self) -> Sequence[Body]:
        """The rows of ``dead`` that an act is about; each has a ``group``."""
        raise NotImplementedError

    async def _counted(self, verb: str) -> list[tuple[Body, int]]:
        """The groups that have any, with how many."""
        found = []
        for group in self.chosen:
            answer = await self.monitor.call(verb, {**_which(group), "dry_run": True})
            found.append((group, int(answer["count"])))
        return [(group, number) for group, number in found if number]

    def _facts(self, groups: Sequence[tuple[Body, int]]) -> list[tuple[str, str]]:
        now = self.monitor.clock.now_ms()
        errors = [f"{group.get('error') or 'no type'}: {group.get('message') or ''}" for group, _ in groups]
        queues = sorted({queue for group, _ in groups for queue in group.get("queues") or ()})
        first, last = (pick(group[name] for group, _ in groups) for pick, name in ((min, "first_at"), (max, "last_at")))
        more = f" and {len(errors) - 1} more groups" if len(errors) > 1 else ""
        types = ", ".join(sorted({str(group.get("type")) for group, _ in groups}))
        return [
            ("error", clip(errors[0], 40 if more else 56) + more), ("type", types),
            ("queues", ", ".join(queues)), ("failed", f"{age(now - first)} to {age(now - last)} ago"),
        ]  # fmt: skip

    async def _each(self, verb: str, groups: Sequence[tuple[Body, int]]) -> list[int]:
        """Leave it to the daemon, group by group; the numbers of its chores."""
        chores = []
        for group, number in groups:
            try:
                chores.append(int((await self.monitor.call(verb, {**_which(group), "expected": number}))["chore"]))
            except TqError as error:
                done = f" Chores {', '.join(map(str, chores))} go on." if chores else " Nothing was done."
                raise ValueError(f"group {group['group']}: {error.message}{done}") from None
        self.monitor.refresher.again("dead")
        return chores

    async def _again(self, verb: str) -> str:
        return (
            f"the daemon would {'retry' if verb == 'retry' else 'discard'} {sum(number for _, number in await self._counted(verb)):,} now"
        )

    # the acts

    async def retry(self, over: str = "") -> None:
        """Retry the groups, all at once, or ``over`` so long (``10m``). ValueError: that is no duration."""
        monitor, over_ms = self.monitor, duration_ms(over.strip()) if over.strip() else 0
        groups = await self._counted("retry")
        number = sum(count for _, count in groups)
        if over_ms and number > SPREAD_MOST:
            raise ValueError(f"expected at most {SPREAD_MOST:,} tasks to spread, got {number:,}: retry without a time, or fewer groups")
        if not number:
            monitor.say("Nothing is left of it to retry.")
            return
        spread = f"over {spoken(over_ms)}" if over_ms else "all at once; :retry 10m spreads them"
        question = Question(
            "Retry dead letters", f"{counted(number, 'task')} will run again", f"Retry {number:,}", 2,
            facts=[*self._facts(groups), ("when", spread)], dry_run=lambda: self._again("retry"),
        )  # fmt: skip
        if number > 1 and not await monitor.confirm(question):
            return
        if over_ms:
            monitor.say(await self._spread(groups, over_ms))
        else:
            chores = await self._each("retry", groups)
            monitor.say(f"Retrying {counted(number, 'task')} (chore {', '.join(map(str, chores))}).")

    async def _spread(self, groups: Sequence[tuple[Body, int]], over_ms: int) -> str:
        """Retry them in equal steps of time, the oldest first; what became of it, in words."""
        ids = sorted([row["id"] for group, _ in groups async for rows in found(self.monitor, _which(group)) for row in rows])[:SPREAD_MOST]
        steps = max(min(STEPS, len(ids)), -(-len(ids) // PAGE))
        retried = 0
        try:
            for step in range(steps):
                part = ids[step * len(ids) // steps : (step + 1) * len(ids) // steps]
                answer = await self.monitor.call("retry", {"ids": part, "changes": {"delay_ms": over_ms * step // steps}})
                retried += answer["outcomes"].count("retried")
        except TqError as error:
            raise ValueError(f"{retried:,} of {counted(len(ids), 'task')} were retried, then: {error.message}") from None
        self.monitor.refresher.again("dead")
        left = f"; {len(ids) - retried:,} were left as they are" if retried < len(ids) else ""
        return f"Retried {counted(retried, 'task')} over {spoken(over_ms)}{left}."

    async def discard(self) -> None:
        """Forget the groups' tasks for good, once their number was typed."""
        monitor = self.monitor
        groups = await self._counted("remove")
        number = sum(count for _, count in groups)
        if not number:
            monitor.say("Nothing is left of it to discard.")
            return
        question = Question(
            "Discard dead letters", f"{counted(number, 'task')} will be deleted for good", f"Discard {number:,}", 3,
            facts=self._facts(groups), typed=str(number), dry_run=lambda: self._again("remove"),
        )  # fmt: skip
        if await monitor.confirm(question):
            chores = await self._each("remove", groups)
            monitor.say(f"Discarding {counted(number, 'task')} (chore {', '.join(map(str, chores))}).")

    def tasks(self) -> None:
        """Show the group's tasks where tasks are listed."""
        self.monitor.open_place("filter", filter_of(self.chosen[0]))

    async def export(self, words: str = "") -> None:
        """Write the groups' tasks to a file; without ``words`` its name is asked for."""
        monitor, groups = self.monitor, list(self.chosen)

        async def pages() -> Pages:
            for group in groups:
                async for rows in found(monitor, _which(group)):
                    yield rows

        await export_tasks(monitor, "dead", words, sum(int(group["count"]) for group in groups), pages())


def _which(group: Body) -> dict[str, Any]:
    return {"states": ["failed"], "group": group["group"]}


def _some(context: Context) -> bool:
    return bool(context.screen.chosen)


def _has_tasks(context: Context) -> bool:
    return len(context.screen.chosen) == 1 and "tasks" in context.app.MODES


def _number(context: Context) -> str:
    return f"{sum(int(group['count']) for group in context.screen.chosen):,}"


ACTIONS = (
    Action(
        id="dead.retry", title="Retry", help="Retry all of the group, or of the marked ones; :retry 10m spreads them over ten minutes.",
        keys="r", run=lambda context: context.screen.retry(context.words), screen="dead", weight=2, writes=True, applies=_some,
        says=lambda context: f"Retry {_number(context)}", words=("retry",), takes="[OVER]", choices=lambda _: ("1m", "10m", "1h"),
        footer=10, group="Dead",
    ),
    Action(
        id="dead.discard", title="Discard…", help="Delete all of the group, or of the marked ones, for good; their number is to be typed.",
        keys="D", run=lambda context: context.screen.discard(), screen="dead", weight=3, writes=True, applies=_some,
        says=lambda context: f"Discard {_number(context)}…", words=("discard",), footer=12, group="Dead",
    ),
    Action(
        id="dead.export", title="Export", help="Write all of the group, or of the marked ones, to a file: NDJSON, or CSV by its ending.",
        keys="x", run=lambda context: context.screen.export(context.words), screen="dead", words=("export",), says=export_title,
        applies=lambda context: may_export(context) and _some(context), takes="[FILE]", footer=14, group="Dead",
    ),
    Action(
        id="dead.tasks", title="Tasks of the group", keys="t",
        help="Show the tasks of the group, as a filter, on the screen of the tasks; enter does the same.",
        run=lambda context: context.screen.tasks(), screen="dead", applies=_has_tasks, words=("show-tasks",), footer=13, short="Tasks",
        group="Dead",
    ),
    Action(
        id="dead.copy", title="Copy the error", help="Copy the error of the newest task of the group, with its traceback.", keys="y",
        run=lambda context: context.screen.copy(), screen="dead", applies=_some, words=("copy",), footer=16, short="Copy", group="Dead",
    ),
    *sort_actions("dead", "Dead"),
)  # fmt: skip
