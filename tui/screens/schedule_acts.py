"""Making, editing and skipping: what a person does to schedules in a form, or to their next slot.

For: the screen of the schedules.
Not for: pausing, triggering, removing (schedules), what settings mean (schedule_settings), reckoning slots (the daemon).
Runs in: the monitor, on Textual; inside the worker of an action.
Promises: a schedule is changed from how it is now, and only in what was changed in the form; each of these is taken back by ``u``; a slot
is skipped at most once, however often and from wherever that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui.formats import counted, day
from tui.screens.schedule_settings import back_to, changes_of, fields_of, named, texts_of
from tui.widgets.form import Form

if TYPE_CHECKING:
    from tui.app import MonitorApp


def _again(monitor: MonitorApp, names: Sequence[str]) -> None:
    topics = [f"{kind}:{name}" for name in names for kind in ("schedule", "slots")]
    monitor.refresher.again("schedules", "schedules:tasks", *topics)


async def edit(monitor: MonitorApp, name: str) -> None:
    """Show how it is in a form, and set what was changed in it."""
    row = (await monitor.feed.call("schedules", {"name": name}))["schedules"][0]
    texts = texts_of(row)

    async def undo(back: dict[str, object]) -> None:
        await monitor.call("set_schedule", {"name": row["name"], **back})
        _again(monitor, [name])

    async def save(wanted: dict[str, str]) -> None:
        if changes := changes_of(row, wanted, monitor.clock.now_ms()):
            await monitor.call("set_schedule", {"name": row["name"], **changes})
            _again(monitor, [name])
            number = len([one for one in texts if wanted[one].strip() != texts[one]])
            note = " The application declares it: what it says counts again once that changes." if row["declared"] else ""
            monitor.say(f"Set {counted(number, 'setting')} of {name}.{note}", undo=lambda: undo(back_to(row, changes)))

    says = f"{name}: another rule counts from now"
    await monitor.push_screen_wait(Form("Schedule", says, fields_of(texts), "Set", save))


async def new(monitor: MonitorApp) -> str:
    """Ask for a new one in a form, and make it; its name, "" for none."""
    made: list[str] = []

    async def undo() -> None:
        await monitor.call("remove_schedule", {"name": made[0]})
        _again(monitor, made)

    async def save(texts: dict[str, str]) -> None:
        name = texts["name"].strip()
        if not name:
            raise ValueError("name: expected what the schedule is called, got nothing")
        await monitor.call("set_schedule", {"name": name, "new": True, **changes_of(None, texts, monitor.clock.now_ms())})
        made[:] = [name]
        _again(monitor, made)
        monitor.say(f"Made schedule {name}.", undo=undo)

    says = "it sends a task, or runs a command, again and again"
    await monitor.push_screen_wait(Form("New schedule", says, fields_of(texts_of(None)), "Make", save))
    return made[0] if made else ""


async def skip(monitor: MonitorApp, names: Sequence[str]) -> None:
    """Leave out the next slot of each. ValueError: one has none."""
    slots: dict[str, list[int]] = {}
    for name in names:
        found = [slot for slot, _ in (await monitor.call("next_slots", {"name": name, "count": 2}))["slots"]]
        if not found:
            raise ValueError(f"{name}: there is no slot to skip")
        slots[name] = [*found, 0][:2]

    async def put(at: int) -> None:
        for name, two in slots.items():
            await monitor.call("set_schedule", {"name": name, "next_at": two[at]})
        _again(monitor, names)

    await put(1)
    first, following = slots[names[0]]
    when = day(first, monitor.zone) if len(names) == 1 else "the next slot"
    then = f"; next {day(following, monitor.zone)}" if following and len(names) == 1 else "" if following else "; none comes any more"
    monitor.say(f"Skipped {when} of {named(names)}{then}.", undo=lambda: put(0))
