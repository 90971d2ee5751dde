"""What a person does to queues: pause and resume, more and fewer slots, settings, and emptying one.

For: ``QueueActs``, which the list of queues and the page of one are; ``ACTIONS``, the same on both.
Not for: what is shown (queues), what settings mean (queue_settings), tasks of a queue (their own screen).
Runs in: the monitor, on Textual.
Promises: each act looks first at how the queues stand now, and at no other queue whose name only looks the same; all but emptying can
be undone; a queue is emptied only of what was counted, after its name was typed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tq.errors import TqError
from tq.model import WAITING, safe_text
from tq.query.terms import written
from tui.actions import Action, Context
from tui.formats import cleaned, counted
from tui.screens import flow_acts
from tui.screens.queue_settings import SETTINGS, back_to, changes_of, texts_of
from tui.screens.screen import MonitorScreen
from tui.screens.sorting import sort_actions
from tui.state import Body
from tui.widgets.confirm import Question
from tui.widgets.form import Field, Form

MOST_SLOTS = 1_000_000


class QueueActs(MonitorScreen):
    """A screen that acts on queues: those of ``names``."""

    lists = False
    """Whether it is the list, which can be sorted and gone about in."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()  # two quick keys are two steps, each from where the one before has led
        self._stepped: dict[str, int] = {}  # slots before the steps that one undo takes back

    @property
    def names(self) -> Sequence[str]:
        """The queues that an act is about, as they are shown."""
        raise NotImplementedError

    def row(self, name: str) -> Body | None:
        """What is known of a queue; None: nothing."""
        return next((row for row in self.monitor.known.rows("queues", "queues") if row["name"] == name), None)

    def types_of(self, name: str) -> list[str]:
        """The types whose tasks come to a queue."""
        return [str(row["name"]) for row in self.monitor.known.rows("types", "types") if row.get("queue") == name]

    @property
    def all_paused(self) -> bool:
        """Whether every queue that an act would be about is paused."""
        rows = [self.row(name) for name in self.names]
        return bool(rows) and all(row is not None and row.get("paused") for row in rows)

    async def _now(self) -> list[Body]:
        """The rows of ``names`` as they are now, uncleaned. ValueError: one is gone, or two look the same."""
        names = list(self.names)
        found: dict[str, list[Body]] = {}
        for row in (await self.monitor.feed.call("queues"))["queues"]:
            found.setdefault(safe_text(row["name"]), []).append(row)
        for name in names:
            if len(found.get(name, ())) != 1:
                why = "look the same here; `tq queue` tells them apart" if name in found else "is there no more"
                raise ValueError(f"{name}: {'queues that ' * (name in found)}{why}")
        return [found[name][0] for name in names]

    async def _set(self, each: Mapping[str, Mapping[str, Any]]) -> str:
        """Set these settings by queues; a note on what the settings file says, too. On an error those before it are set."""
        declared: list[str] = []
        for name, settings in each.items():
            answer = await self.monitor.call("set_queue", {"name": name, **settings})
            declared += answer.get("declared") or ()
        self.monitor.refresher.again("queues")
        return " The settings file says otherwise from the daemon's next start on." if declared else ""

    def _told(self, done: str, note: str, back: Mapping[str, Mapping[str, Any]]) -> None:
        """Say what was done, and how it is undone."""

        async def undo() -> None:
            self._stepped = {}
            await self._set(back)

        self.monitor.say(done + note, undo=undo)

    # the acts

    async def pause(self) -> None:
        """Pause those that are not, or, if all are, resume them."""
        async with self._turn:
            rows = await self._now()
            if not rows:
                return
            pause = not all(row["paused"] for row in rows)
            names = [row["name"] for row in rows if row["paused"] != pause]
            note = await self._set({name: {"paused": pause} for name in names})
            self._stepped = {}
            what = safe_text(names[0]) if len(names) == 1 else counted(len(names), "queue")
            done = f"Paused {what}: what runs goes on, nothing more starts." if pause else f"Resumed {what}."
            self._told(done, note, {name: {"paused": not pause} for name in names})

    async def step(self, by: int) -> None:
        """So many slots more, or fewer; never fewer than one, since none would be any number."""
        async with self._turn:
            rows = await self._now()
            wanted = {row["name"]: row["slots"] + by for row in rows if row["slots"] and 1 <= row["slots"] + by <= MOST_SLOTS}
            if not wanted:
                none = bool(rows) and not rows[0]["slots"]
                raise ValueError("there is no limit of slots here: e sets one" if none else "one slot is the least: p pauses")
            note = await self._set({name: {"slots": slots} for name, slots in wanted.items()})
            if not self.monitor.can_undo:
                self._stepped = {}
            before = {row["name"]: row["slots"] for row in rows}
            self._stepped = {name: before[name] for name in wanted} | self._stepped
            told = ", ".join(f"{safe_text(name)} {before[name]:,} to {slots:,}" for name, slots in list(wanted.items())[:4])
            more = f" and {len(wanted) - 4} more" if len(wanted) > 4 else ""
            self._told(f"Slots: {told}{more}.", note, {name: {"slots": slots} for name, slots in self._stepped.items()})

    async def edit(self) -> None:
        """Show the settings in a form, and set what was changed in it."""
        raw = (await self._now())[0]
        row, name = cleaned(raw), raw["name"]
        texts, declared = texts_of(row), row.get("declared") or {}
        fields = [
            Field(one.name, one.label, texts[one.name], one.hint + ("; the settings file says it, too" if one.name in declared else ""))
            for one in SETTINGS
        ]

        async def save(wanted: dict[str, str]) -> None:
            changes = changes_of(row, wanted)
            if changes:
                note = await self._set({name: changes})
                self._stepped = {}
                self._told(f"Set {counted(len(changes.keys() - {'unset'}) + len(changes.get('unset', ())), 'setting')} of {row['name']}.",
                           note, {name: back_to(raw, changes)})  # fmt: skip

        await self.monitor.push_screen_wait(Form("Settings", f"{row['name']}: an empty line is the default", fields, "Set", save))

    async def limit(self) -> None:
        """Make a limit, or change one."""
        await flow_acts.edit_limit(self.monitor, self.names[0], self.types_of(self.names[0]))

    async def unlimit(self) -> None:
        """Remove a limit."""
        await flow_acts.drop_limit(self.monitor, self.names[0], self.types_of(self.names[0]))

    async def breaker(self) -> None:
        """Open or close a breaker."""
        await flow_acts.turn_breaker(self.monitor, self.types_of(self.names[0]))

    def tasks(self) -> None:
        """Show the queue's tasks where tasks are listed."""
        self.monitor.open_place("filter", f"queue:{written(self.names[0])}")

    async def purge(self) -> None:
        """Cancel and forget all that waits in the queue, once its name was typed."""
        monitor, name = self.monitor, (await self._now())[0]["name"]
        which = {"queue": name, "states": sorted(state.word for state in WAITING)}
        found = int((await monitor.call("remove", {**which, "dry_run": True}))["count"])
        shown = safe_text(name)
        if not found:
            monitor.say(f"Nothing waits in {shown}.")
            return
        states = (self.row(shown) or {}).get("states") or {}
        waiting = "   ".join(f"{word} {states[word]:,}" for word in which["states"] if states.get(word))

        async def count_again() -> str:
            return f"now {counted(int((await monitor.call('remove', {**which, 'dry_run': True}))['count']), 'task')}"

        question = Question(
            "Purge a queue", f"{counted(found, 'task')} that wait will be cancelled and forgotten", f"Purge {found:,}", 4,
            facts=[("queue", shown), ("waiting", waiting), ("running", f"{states.get('running') or 0:,}, which go on")], typed=shown,
            dry_run=count_again,
        )  # fmt: skip
        if await monitor.confirm(question):
            try:
                chore = (await monitor.call("remove", {**which, "expected": found}))["chore"]
            except TqError as error:
                raise ValueError(f"Nothing was purged: {error.message}") from None
            monitor.say(f"Chore {chore} purges {shown}; the line below shows how far it is.")
            monitor.refresher.again("queues")


def _some(context: Context) -> bool:
    return bool(context.screen.names)


def _one(context: Context) -> bool:
    return len(context.screen.names) == 1


def _has_tasks(context: Context) -> bool:
    return _one(context) and "tasks" in context.app.MODES


def _listed(context: Context) -> bool:
    return bool(context.screen.lists)


def _pause_title(context: Context) -> str:
    names = context.screen.names
    return ("Resume" if context.screen.all_paused else "Pause") + (f" {len(names)}" if len(names) > 1 else "")


def _shown_names(context: Context) -> list[str]:
    return [row["name"] for row in context.app.known.rows("queues", "queues")]


ACTIONS = (
    Action(
        id="queues.open", title="Page", help="All of the queue on a page of its own.", run=lambda context: context.screen.open(),
        screen="queues", applies=_listed, by="enter", words=("open",), footer=0, group="Queues",
    ),
    Action(
        id="queues.pause", title="Pause or resume", help="Pause the queue, or those that are marked; resume them if all are paused.",
        keys="p", run=lambda context: context.screen.pause(), screen="queues", writes=True, applies=_some, says=_pause_title,
        words=("pause",), footer=10, short="Pause/Resume", group="Queues",
    ),
    Action(
        id="queues.more", title="One slot more", help="One task more of the queue may run at once.", keys="+",
        run=lambda context: context.screen.step(1), screen="queues", writes=True, applies=_some, words=("more",), footer=12,
        short="More slots", group="Queues",
    ),
    Action(
        id="queues.less", title="One slot fewer", help="One task fewer of the queue may run at once; what runs goes on.", keys="-",
        run=lambda context: context.screen.step(-1), screen="queues", writes=True, applies=_some, words=("less",), footer=13,
        short="Fewer", group="Queues",
    ),
    Action(
        id="queues.edit", title="Edit limits", help="All settings of the queue in a form: limits, defaults of its tasks, holds.", keys="e",
        run=lambda context: context.screen.edit(), screen="queues", writes=True, applies=_one, words=("edit",),
        footer=14, short="Edit", group="Queues",
    ),
    Action(
        id="queues.tasks", title="Tasks of it", help="Show the tasks of the queue on the screen of the tasks.", keys="t",
        run=lambda context: context.screen.tasks(), screen="queues", applies=_has_tasks, words=("show-tasks",), footer=16, short="Tasks",
        group="Queues",
    ),
    Action(
        id="queues.purge", title="Purge…", help="Cancel and forget all tasks that wait in the queue; its name is to be typed.", keys="X",
        run=lambda context: context.screen.purge(), screen="queues", weight=4, writes=True, applies=_one, words=("purge",),
        footer=18, group="Queues",
    ),
    Action(
        id="queues.limit", title="Limits", help="Make or change a limit: how many begin in a time, or run at a time; u takes it back.",
        keys="L", run=lambda context: context.screen.limit(), screen="queues", writes=True, applies=_one, words=("limit",), footer=20,
        group="Queues",
    ),
    Action(
        id="queues.unlimit", title="Remove a limit…", help="Remove a limit: what it holds back begins. It asks first; u takes it back.",
        run=lambda context: context.screen.unlimit(), screen="queues", weight=2, writes=True, applies=_one, words=("unlimit",), footer=0,
        group="Queues",
    ),
    Action(
        id="queues.breaker", title="Breakers…", short="Breakers", keys="B",
        help="Open a breaker of a type or a service by hand, or close one that is open. It asks first.",
        run=lambda context: context.screen.breaker(), screen="queues", weight=2, writes=True, applies=_one, words=("breaker",), footer=22,
        group="Queues",
    ),
    Action(
        id="queues.tenants", title="Tenants", help="What each tenant has, its quotas, and how much of them is used.", keys="a",
        run=lambda context: context.app.carry_out(context.app.registry["tenants"]), screen="queues", applies=_listed, footer=24,
        group="Queues",
    ),
    *sort_actions("queues", "Queues"),
    Action(
        id="queues.go", title="Go to a queue", help="Put the cursor on the queue of this name.",
        run=lambda context: context.screen.go(context.words), screen="queues", applies=_listed, words=("queue",), takes="NAME",
        choices=_shown_names, footer=0, group="Queues",
    ),
)  # fmt: skip
