"""What a person does to limits and breakers from the queues: set and remove a limit, open a breaker by hand and close it again.

For: ``edit_limit``, ``drop_limit`` and ``turn_breaker``, each of which first asks which one is meant.
Not for: words and the form's texts (flow_words), slots and settings of a queue (queue_acts).
Runs in: the monitor, on Textual; inside the worker of an action.
Promises: a limit is changed only in what was changed in the form; what is set or removed is taken back by ``u``; that tasks are to be
held back is asked first, with whom it is about.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from tq.model import safe_text
from tui.formats import cleaned
from tui.screens import flow_words as words_of
from tui.state import Body
from tui.widgets.choosing import Ask, Choice, Choose
from tui.widgets.confirm import Question
from tui.widgets.form import Form

if TYPE_CHECKING:
    from tui.app import MonitorApp

NEW = ""
"""The key of what is not there yet."""


async def _one_of(monitor: MonitorApp, title: str, choices: list[Choice]) -> str | None:
    """Which of these; None: none of them."""
    found = await monitor.push_screen_wait(Choose(title, choices, glyphs=monitor.glyphs))
    return None if not found else str(found[0])


async def _limits(monitor: MonitorApp) -> dict[str, Body]:
    """The limits there are, uncleaned, by their names as they are shown."""
    return {safe_text(row["name"]): row for row in (await monitor.feed.call("limits"))["limits"]}


def _choices(limits: dict[str, Body], queue: str, types: Collection[str]) -> list[Choice]:
    """Those that have to do with the queue first."""
    own = [row["name"] for row in words_of.limits_of(queue, types, [cleaned(row) for row in limits.values()])]
    names = sorted(limits, key=lambda name: (name not in own, name))
    return [Choice(name, name, safe_text("".join(_rule(limits[name])))) for name in names]


def _rule(limit: Body) -> tuple[str, ...]:
    rate, running = words_of.rate_text(limit), limit["running"]
    return (words_of.whom(limit), f"  {rate}" if rate else "", f"  {running:,} at a time" if running else "")


async def edit_limit(monitor: MonitorApp, queue: str, types: Collection[str]) -> None:
    """Make a limit in a form, or change one."""
    limits = await _limits(monitor)
    which: str | None = NEW
    if limits:
        which = await _one_of(monitor, "Limits", [Choice(NEW, "a new one", f"of queue {queue}"), *_choices(limits, queue, types)])
    if which is None:
        return
    old = limits.get(which)
    texts = words_of.texts_of(old, queue)

    async def save(wanted: dict[str, str]) -> None:
        changes = words_of.changes_of(texts if old is not None else None, wanted)
        if not changes:
            return
        was = limits.get(safe_text(changes["name"]))
        if was is not None and was is not old:
            raise ValueError(f"name: there is a limit {changes['name']!r:.60} already")
        await monitor.call("set_limit", changes)
        monitor.refresher.again("limits", "queues")

        async def undo() -> None:
            await (
                monitor.call("remove_limit", {"name": changes["name"]}) if was is None else monitor.call("set_limit", words_of.back_to(was))
            )
            monitor.refresher.again("limits", "queues")

        monitor.say(
            f"Limit {safe_text(changes['name'])} is {'new' if was is None else 'changed'}; what runs goes on, and counts.", undo=undo
        )

    says = "how many begin in a time, and run at a time"
    await monitor.push_screen_wait(Form("Limit", says, words_of.fields_of(texts, new=old is None), "Set", save))


async def drop_limit(monitor: MonitorApp, queue: str, types: Collection[str]) -> None:
    """Remove a limit; what it held back goes on. ValueError: there is none."""
    limits = await _limits(monitor)
    if not limits:
        raise ValueError("there is no limit: L makes one")
    which = await _one_of(monitor, "Remove a limit", _choices(limits, queue, types))
    if which is None:
        return
    row = limits[which]
    question = Question(
        "Remove a limit", "what it holds back begins at once", "Remove", 2,
        facts=(("limit", which), ("of", safe_text("".join(_rule(row))))),
    )  # fmt: skip
    if await monitor.confirm(question):
        await monitor.call("remove_limit", {"name": row["name"]})
        monitor.refresher.again("limits", "queues")

        async def undo() -> None:
            await monitor.call("set_limit", words_of.back_to(row))
            monitor.refresher.again("limits", "queues")

        monitor.say(f"Removed limit {which}.", undo=undo)


async def turn_breaker(monitor: MonitorApp, types: Collection[str]) -> None:
    """Open a breaker by hand, or close one that is not closed. ValueError: there is none."""
    rows = {safe_text(words_of.called(row)): row for row in (await monitor.feed.call("breakers"))["breakers"]}
    rows |= {f"type:{one}": {"type": one, "name": "", "state": "closed"} for one in types if f"type:{one}" not in rows}
    if not rows:
        raise ValueError("there is no breaker, and no type to open one for")
    own = [name for name, row in rows.items() if row["type"] and safe_text(row["type"]) in types]
    names = sorted(rows, key=lambda name: (rows[name]["state"] == "closed", name not in own, name))
    notes = {name: safe_text(words_of.breaker_note(rows[name])) if "rule" in rows[name] else "it has none yet" for name in names}
    which = await _one_of(monitor, "Breakers: enter opens or closes one", [Choice(name, name, notes[name]) for name in names])
    if which is None:
        return
    row = rows[which]
    about = {"type": row["type"]} if row["type"] else {"name": row["name"]}
    what = f"no task of type {safe_text(row['type'])} begins" if row["type"] else f"no call of {which} is let through"
    if row["state"] != "closed":
        question = Question("Reset a breaker", f"{which} is closed at once: all may go on", "Reset", 2, facts=(("it is", notes[which]),))
        if await monitor.confirm(question):
            await monitor.call("reset_breaker", about)
            monitor.say(f"Breaker {which} is closed.")
    else:
        span = await monitor.push_screen_wait(Ask("Open it for how long (10m; empty: until it is reset)", "", words_of.span_of))
        if span is None:
            return
        how_long = f"for {span}" if span else "until it is reset"
        question = Question("Trip a breaker", f"{what}, {how_long}", "Trip", 2, facts=(("breaker", which),))
        if await monitor.confirm(question):
            await monitor.call("trip_breaker", {**about, **words_of.span_of(span)})
            monitor.say(f"Breaker {which} is open {how_long}: {what}.")
    monitor.refresher.again("breakers", "queues")
