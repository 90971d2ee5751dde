"""The page of the batches: how many members of each stand where, and which of its callbacks were sent.

For: the table of the newest, a pane of the one under the cursor, and cancelling, retrying and closing one.
Not for: workflows, whose steps wait for each other (workflows); handlers that take several tasks in one call.
Runs in: the monitor, on Textual.
Promises: the daemon counts members, so that a batch of a million costs one row; what is done to many is asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, tzinfo
from operator import itemgetter
from typing import Any, ClassVar

from tui.actions import Action, Context
from tui.formats import Glyphs, clock, count, counted, day, duration
from tui.screens.lists import ListPage, has_row
from tui.screens.screen import entitle
from tui.screens.sorting import Orders, sort_actions
from tui.screens.workflow_words import BAR, bar_of, took
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.confirm import Question
from tui.widgets.painting import Run, Runs
from tui.widgets.panes import TextPane
from tui.widgets.table import Column

"""Batches of one answer, the newest."""
DAY_MS = 86_400_000
OVER = ("succeeded", "failed", "cancelled", "expired")
STATES = {"open": ("pending", "pending"), "running": ("running", "running"), "complete": ("succeeded", "succeeded")}
"""By a batch's state: the state of a task whose sign it has, and its style."""
GROUP = "Batches"
NO_BATCHES = (("There is no batch yet.", "text"), ("tq batch create  makes the first.", "dim"))


def row_of(batch: Body, glyphs: Glyphs) -> Body:
    """What the table shows of a row of ``batches``."""
    over = sum(batch[word] for word in OVER)
    bad = batch["failed"] + batch["expired"]
    sign, style = STATES.get(batch["state"], ("", "dim"))
    word = f"{glyphs.state(sign)} {batch['state']}"
    if bad and batch["state"] == "complete":
        word, style = f"{glyphs.bad} failed", "failed"
    elif batch.get("cancelled_at"):
        word, style = glyphs.word("cancelled"), "cancelled"
    return {
        "id": batch["id"], "name": batch["name"] or "", "state": batch["state"], "word": word, "style": style, "over": over,
        "total": batch["total"], "share": over / batch["total"] if batch["total"] else None, "bad": bad, "running": batch["running"],
        "again": bad + batch["cancelled"],
        "bar": bar_of(batch, batch["total"], glyphs), "created": batch["created_at"], "ended": batch["finished_at"] or 0,
        "left": batch["total"] - over,
    }  # fmt: skip


def lines_of(batch: Body | None, glyphs: Glyphs, now: int, zone: tzinfo | None = UTC) -> list[Runs]:
    """A batch in a few lines: its members, times, and callbacks."""
    if batch is None:
        return [[("nothing is selected", "dim")]]
    members = [(f"{batch[word]:,} {glyphs.word(word)}   ", word) for word in OVER if batch[word]]
    waits = [(f"{batch['running']:,} {glyphs.word('running')}   ", "running"), (f"{batch['waiting']:,} wait", "text")]
    lines: list[Runs] = [
        [("members ", "head"), (f"{batch['total']:,}   ", "strong"), *members, *waits],
        [("made    ", "head"), (clock(batch["created_at"], zone), "text"), ("   closed ", "head"),
         (clock(batch["closed_at"], zone), "text"),
         ("   over ", "head"), (clock(batch["finished_at"], zone), "text"), ("   took ", "head"),
         (duration(took(batch["created_at"], batch["finished_at"] or 0, now)), "text")],
    ]  # fmt: skip
    for name, (kind, task) in batch["callbacks"].items():
        sent = f"task {task}" if task else "it is refused for now, and sent later" if name in batch["owed"] else "not sent"
        lines.append([(f"{name.removeprefix('on_'):8} ", "head"), (f"{kind}   ", "text"), (sent, "key" if task else "dim")])
    return lines


def _act(id_: str, title: str, help_: str, keys: str, run: Callable[[Context], Any], footer: int, **rest: Any) -> Action:
    return Action(
        id=f"batches.{id_}", title=title, help=help_, keys=keys, run=run, footer=footer, screen="batches", group=GROUP,
        applies=rest.pop("applies", has_row), **rest,
    )  # fmt: skip


def _may(check: Callable[[Body], bool]) -> Callable[[Context], bool]:
    return lambda context: has_row(context) and check(context.screen.here)


def _twin(verb: str) -> Callable[[Context], str]:
    return lambda context: f"tq batch {verb} {context.screen.here['id']}"


ACTIONS = (
    _act("tasks", "Tasks of it", "Show the members of the batch where tasks are listed.", "t", lambda c: c.screen.tasks(), 8, by="enter",
         words=("show-tasks",), short="Tasks"),
    _act("retry", "Retry…", "Run again what of the batch did not succeed. It asks first.", "r", lambda c: c.screen.retry(), 10, weight=2,
         writes=True, words=("retry",), twin=_twin("retry"), applies=_may(lambda row: row["again"] > 0)),
    _act("cancel", "Cancel…", "Close the batch, and cancel what of it is not over. It asks first.", "c", lambda c: c.screen.cancel(), 12,
         weight=2, writes=True, words=("cancel",), twin=_twin("cancel"), applies=_may(lambda row: row["state"] != "complete")),
    _act("close", "Close", "Nobody adds to the batch any more, but its members: then it can be over.", "C", lambda c: c.screen.close(), 14,
         writes=True, words=("close",), twin=_twin("close"), applies=_may(lambda row: row["state"] == "open")),
    *sort_actions("batches", GROUP),
)  # fmt: skip


class BatchesPage(ListPage):
    """The page behind ``:batches``."""

    title_id, name_long, name_short = "batches", "Batches", "Batches"
    BEHIND, TERM, MOST = "Workflows", "batch", 50
    LIST, TOPIC, KEY, AUTO_FOCUS = "batch-list", "batches", "id", "#batch-list"
    ACTIONS = ACTIONS
    ORDERS: ClassVar[Orders] = {
        "id": itemgetter("id"), "name": itemgetter("name"), "state": itemgetter("state"), "over": itemgetter("share"),
        "failed": itemgetter("bad"),
    }  # fmt: skip
    FIRST, RISING = "id", ("name", "state")

    def columns(self) -> list[Column]:
        return [
            Column("name", "BATCH", 0, lambda row: [(row["name"], "strong")], least=10),
            Column("state", "STATE", 10, lambda row: [(row["word"], row["style"])]),
            Column("over", "OVER", 15, lambda row: [(f"{row['over']:,}/{row['total']:,}", "text")], right=True),
            Column("bar", "", BAR, lambda row: row["bar"], sorts=False, shown_from=80),
            Column("failed", "FAIL", 7, lambda row: [(count(row["bad"]), "failed" if row["bad"] else "dim")], right=True),
            Column("made", "MADE", 12, self._made, right=True, sorts=False, shown_from=100),
            Column("took", "TOOK", 7, self._took, right=True, ticks=True, sorts=False),
            Column("id", "ID", 9, lambda row: [(str(row["id"]), "dim")], right=True),
        ]

    def _made(self, row: Body) -> list[Run]:
        at, zone = row["created"], self.monitor.zone
        return [(clock(at, zone) if abs(at - self.monitor.clock.now_ms()) < DAY_MS else day(at, zone), "text")]

    def _took(self, row: Body) -> list[Run]:
        return [(duration(took(row["created"], row["ended"], self.monitor.clock.now_ms())), "text" if row["ended"] else "running")]

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.told()
        if dirty & {"all", "standing", "batches"}:
            self._source.show(self.order.sorted(row_of(row, self.monitor.glyphs) for row in self.rows))
            self.explained(*NO_BATCHES)
            self.sought()
        self.tell()

    def about(self, pane: TextPane) -> None:
        batch, monitor = self.row, self.monitor
        pane.show_lines(lines_of(batch, monitor.glyphs, monitor.clock.now_ms(), monitor.zone), stay=True)
        entitle(pane, f"{batch['name'] or 'batch'} {batch['id']}" if batch else "Batch")

    def status(self) -> Sequence[Piece]:
        if unknown := self.unknown():
            return unknown
        number = self._source.total
        newest = "the newest " if number == self.MOST else ""
        return [Piece(f"{newest}{counted(number, 'batch', 'batches')}   "), self.sign()]

    # what a person does

    async def _asked(self, verb: str, title: str, says: str, does: str) -> None:
        row, monitor = self.here, self.monitor
        if row is None:
            return
        question = Question(title, says, does, 2, facts=(("batch", f"{row['name']} {row['id']}".strip()),))
        if await monitor.confirm(question):
            chore = (await monitor.call(verb, {"id": row["id"]}))["chore"]
            done = f"chore {chore} does it; the line below shows how far it is." if chore else "nothing of it was left to do that to."
            monitor.say(f"Batch {row['id']}: {done}")
            monitor.refresher.again("batches")

    async def cancel(self) -> None:
        """Close it, and cancel what is not over."""
        left = self.here["left"] if self.here is not None else 0
        await self._asked("cancel_batch", "Cancel a batch", f"{counted(left, 'member')} will be cancelled, and no more can join", "Cancel")

    async def retry(self) -> None:
        """Run again what did not succeed."""
        await self._asked("retry_batch", "Retry a batch", "what did not succeed will run again", "Retry")

    async def close(self) -> None:
        """Let nobody add to it any more."""
        if self.here is not None:
            await self.monitor.call("close_batch", {"id": self.here["id"]})
            self.monitor.say(f"Batch {self.here['id']} is closed: it is over when its members are.")
            self.monitor.refresher.again("batches")

    def show_item(self, kind: str, name: str) -> bool:
        return kind == "batch" and name.isdecimal() and self.table.select(int(name))
