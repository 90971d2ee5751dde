"""The page of the tenants: what each has, how much of its quotas that is, and what all have together.

For: the table, a pane of the one under the cursor, its weight and quotas in a form, and the way to its tasks.
Not for: whose turn it is and what a quota refuses (the daemon), limits (flow_acts).
Runs in: the monitor, on Textual.
Promises: a tenant is changed only in what was changed in the form, and ``u`` takes that back; of two names that look the same none is
changed; where there are more than are listed, it says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

from tq.client.acting import SIZES, size_of
from tq.errors import UsageError
from tq.model import safe_text
from tui.actions import Action, Context
from tui.formats import Glyphs, count, counted, duration, size
from tui.screens.lists import ListPage, has_row
from tui.screens.screen import entitle
from tui.screens.sorting import Orders, sort_actions
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.form import Field, Form
from tui.widgets.painting import Run
from tui.widgets.panes import TextPane
from tui.widgets.table import Column

FULL = 0.9
"""The share of a quota from which on it is marked."""
QUOTAS = ("queued", "running", "per_day", "bytes")
ENDED = ("succeeded", "failed", "cancelled", "expired")
HINTS = {
    "weight": "its share beside other tenants of a queue", "queued": "tasks that wait for it at most; empty: any number",
    "running": "tasks of it that run at once; empty: any number", "per_day": "tasks it may send in a day (UTC); empty: any number",
    "bytes": "of payloads that are not over: 500M, 1G; empty: any number",
}  # fmt: skip
LABELS = {"per_day": "per day"}
GROUP = "Tenants"
NO_TENANTS = (("No task has a tenant yet.", "text"), ("tq add --tenant acme -- make  sends the first.", "dim"))


def used_of(row: Mapping[str, Any]) -> dict[str, int]:
    """How much of each quota there is."""
    return {"queued": row["waiting"], "running": row["states"]["running"], "per_day": row["today"], "bytes": row["bytes"]}


def row_of(tenant: Body) -> Body:
    """What the table shows of a row of ``tenants``."""
    return {
        "name": tenant["name"], "weight": tenant["weight"], **{f"has_{name}": number for name, number in used_of(tenant).items()},
        **{f"of_{name}": tenant["quotas"][name] or 0 for name in QUOTAS}, "done": tenant["states"]["succeeded"],
        "failed": tenant["states"]["failed"], "mean": tenant["mean_ms"], "set": tenant["set"],
    }  # fmt: skip


def share(row: Body, quota: str) -> Run:
    """So much of so much, marked where that is nearly all."""
    shown: Any = (lambda number: size(number, narrow=True)) if quota == "bytes" else count
    has, most = row[f"has_{quota}"], row[f"of_{quota}"]
    if not most:
        return (shown(has), "text" if has else "dim")
    return (f"{shown(has)}/{shown(most)}", "bad" if has >= most else "warn" if has >= most * FULL else "text")


def lines_of(tenant: Body | None, total: Body | None, glyphs: Glyphs) -> list[list[Run]]:
    """One tenant in full, and all together."""
    lines: list[list[Run]] = []
    for one, title in ((tenant, ""), (total, "all")):
        if one is None:
            continue
        states = [f"{number:,} {glyphs.word(word)}" for word, number in one["states"].items() if number]
        head = title or str(one["name"])
        lines.append([(f"{head}   ", "strong"), ("   ".join(states) or "nothing", "text")])
        mean = "" if one["mean_ms"] is None else f"   {duration(one['mean_ms'])} on average"
        kept = "" if title else f"   weight {one['weight']}{'' if one['set'] else ', nothing is set for it'}"
        lines.append([(f"        {one['today']:,} accepted today   {size(one['bytes'])} of payload{mean}{kept}", "dim")])
    return lines or [[("nothing is selected", "dim")]]


def texts_of(tenant: Mapping[str, Any]) -> dict[str, str]:
    """Weight and quotas as they stand in the form."""
    quotas = tenant["quotas"]
    found = {"weight": str(tenant["weight"]), **{name: str(quotas[name]) if quotas[name] else "" for name in QUOTAS}}
    if quotas["bytes"]:
        letter, shift = max(((one, by) for one, by in SIZES.items() if quotas["bytes"] % (1 << by) == 0), key=itemgetter(1))
        found["bytes"] = f"{quotas['bytes'] >> shift}{letter.upper()}"
    return found


def changes_of(before: Mapping[str, str], texts: Mapping[str, str]) -> Body:
    """The arguments of ``set_tenant`` that make of the one the other. ValueError: what cannot be meant."""
    found: Body = {}
    for name, text in ((name, text.strip()) for name, text in texts.items()):
        if text == before[name]:
            continue
        try:
            if name == "bytes" and text:
                found[name] = size_of(text)
            elif text and not re.fullmatch(r"\d{1,18}", text, re.ASCII):
                raise ValueError(f"expected a whole number, got {text!r:.60}")
            else:
                found[name] = int(text or ("1" if name == "weight" else "0"))
        except (ValueError, UsageError) as error:
            raise ValueError(f"{LABELS.get(name, name)}: {error}") from None
    return found


def back_to(tenant: Mapping[str, Any]) -> Body:
    """The arguments of ``set_tenant`` that make it as it is."""
    return {"weight": tenant["weight"], **{name: tenant["quotas"][name] or 0 for name in QUOTAS}}


def _set(context: Context) -> bool:
    return has_row(context) and bool(context.screen.here["set"])


def _twin(context: Context) -> str:
    return f"tq tenant show {context.screen.here['name']}"


ACTIONS = (
    Action(
        id="tenants.tasks", title="Tasks of it", short="Tasks", help="Show the tasks of the tenant on the screen of the tasks.", keys="t",
        run=lambda context: context.screen.tasks(), screen="tenants", by="enter", words=("show-tasks",), applies=has_row, twin=_twin,
        footer=10, group=GROUP,
    ),
    Action(
        id="tenants.edit", title="Weight and quotas", short="Edit", help="Weight and quotas of the tenant in a form; u takes it back.",
        keys="e", run=lambda context: context.screen.edit(), screen="tenants", writes=True, words=("edit",), applies=has_row, footer=12,
        group=GROUP,
    ),
    Action(
        id="tenants.forget", title="Forget what is set", short="Forget", keys="D",
        help="Forget weight and quotas of the tenant; its tasks stay, and u takes it back.", run=lambda context: context.screen.forget(),
        screen="tenants", writes=True, words=("forget",), applies=_set, footer=14, group=GROUP,
    ),
    *sort_actions("tenants", GROUP),
)  # fmt: skip


class TenantsPage(ListPage):
    """The page behind ``:tenants``."""

    title_id, name_long, name_short = "tenants", "Tenants", "Tenants"
    BEHIND, TERM, MOST, EVERY_S = "Queues", "tenant", 500, 2.0
    LIST, TOPIC, AUTO_FOCUS = "tenant-list", "tenants", "#tenant-list"
    ACTIONS = ACTIONS
    ORDERS: ClassVar[Orders] = {
        "name": itemgetter("name"), "weight": itemgetter("weight"), "waiting": itemgetter("has_queued"),
        "running": itemgetter("has_running"), "today": itemgetter("has_per_day"), "bytes": itemgetter("has_bytes"),
        "done": itemgetter("done"), "failed": itemgetter("failed"), "mean": itemgetter("mean"),
    }  # fmt: skip
    FIRST, RISING = "waiting", ("name",)

    def columns(self) -> list[Column]:
        def part(id_: str, title: str, quota: str, width: int, shown_from: int = 0) -> Column:
            return Column(id_, title, width, lambda row: [share(row, quota)], right=True, shown_from=shown_from)

        return [
            Column("name", "TENANT", 0, lambda row: [(row["name"], "strong")], least=10),
            Column("weight", "WEIGHT", 7, lambda row: [(count(row["weight"]), "text" if row["set"] else "dim")], right=True),
            part("waiting", "WAITING", "queued", 15), part("running", "RUN", "running", 9), part("today", "TODAY", "per_day", 15, 80),
            part("bytes", "BYTES", "bytes", 11, 100),
            Column("done", "DONE", 9, lambda row: [(count(row["done"]), "text")], right=True, shown_from=100),
            Column("failed", "FAILED", 7, lambda row: [(count(row["failed"]), "failed" if row["failed"] else "dim")], right=True),
            Column("mean", "MEAN", 7, lambda row: [(duration(row["mean"]), "text")], right=True, shown_from=100),
        ]  # fmt: skip

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.told()
        if dirty & {"all", "standing", "tenants"}:
            self._source.show(self.order.sorted(row_of(row) for row in self.rows))
            self.explained(*NO_TENANTS)
            self.sought()
            self.tell()

    def about(self, pane: TextPane) -> None:
        tenant, monitor = self.row, self.monitor
        pane.show_lines(lines_of(tenant, (monitor.known.get("tenants") or {}).get("total"), monitor.glyphs), stay=True)
        entitle(pane, str(tenant["name"]) if tenant else "Tenants")

    def status(self) -> Sequence[Piece]:
        if unknown := self.unknown():
            return unknown
        body = self.monitor.known.get("tenants") or {}
        more = "the first " if body.get("next") is not None else ""
        full = [row for row in self.rows if any(row["quotas"][name] and used_of(row)[name] >= row["quotas"][name] for name in QUOTAS)]
        found = [Piece(f"{more}{counted(len(self.rows), 'tenant')}   ")]
        if full:
            found.append(Piece(f"{self.monitor.glyphs.warn} {counted(len(full), 'quota is', 'quotas are')} used up   ", "$warn"))
        return [*found, self.sign()]

    # what a person does

    async def _raw(self) -> Body:
        """The tenant under the cursor as it is now, uncleaned. ValueError: it is gone, or two look the same."""
        name = self.here["name"] if self.here is not None else ""
        rows = (await self.monitor.feed.call("tenants", {"limit": self.MOST}))["tenants"]
        found = [row for row in rows if safe_text(row["name"]) == name]
        if len(found) != 1:
            why = "tenants look the same here; `tq tenant list` tells them apart" if found else "there is nothing of it any more"
            raise ValueError(f"{name}: {why}")
        return dict(found[0])

    async def edit(self) -> None:
        """Show weight and quotas in a form, and set what was changed in it."""
        tenant, monitor = await self._raw(), self.monitor
        texts, name = texts_of(tenant), safe_text(tenant["name"])

        async def save(wanted: dict[str, str]) -> None:
            if changes := changes_of(texts, wanted):
                await monitor.call("set_tenant", {"name": tenant["name"], **changes})
                monitor.refresher.again("tenants")
                monitor.say(f"Set {counted(len(changes), 'setting')} of tenant {name}.", undo=lambda: self._put_back(tenant))

        fields = [Field(one, LABELS.get(one, one), text, HINTS[one]) for one, text in texts.items()]
        await monitor.push_screen_wait(Form("Tenant", f"{name}: what is accepted already stays", fields, "Set", save))

    async def forget(self) -> None:
        """Forget what is set for it."""
        tenant = await self._raw()
        await self.monitor.call("remove_tenant", {"name": tenant["name"]})
        self.monitor.refresher.again("tenants")
        self.monitor.say(f"Nothing is set for tenant {safe_text(tenant['name'])} any more.", undo=lambda: self._put_back(tenant))

    async def _put_back(self, tenant: Body) -> None:
        """Have set for it what was."""
        if tenant["set"]:
            await self.monitor.call("set_tenant", {"name": tenant["name"], **back_to(tenant)})
        else:
            await self.monitor.call("remove_tenant", {"name": tenant["name"]})
        self.monitor.refresher.again("tenants")

    def show_item(self, kind: str, name: str) -> bool:
        return kind == "tenant" and self.seek(name)
