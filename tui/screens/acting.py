"""Acting on tasks: one, those that are marked, or all that match; asked for as heavily as it weighs, and told what became of it.

For: the verbs of the list and of the page of a task: retry, cancel, remove, move, priority, edit.
Not for: which tasks are meant (the screens say), asking itself (widgets.confirm, widgets.choosing).
Runs in: the monitor, on Textual; inside the worker of an action.
Promises: what is done to many is counted by the daemon first, is refused by it if that no longer holds, and is one request if all that
match are meant; what could not be done is said by number and reason, and stays marked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from tq.client.acting import end_of
from tq.errors import UsageError
from tq.model import pack, priority_of, unpack
from tui.formats import clip, counted
from tui.widgets.choosing import Ask, Write
from tui.widgets.confirm import Question

if TYPE_CHECKING:
    from tui.app import MonitorApp

Body = dict[str, Any]
AT_ONCE = 500
"""Ids of one request."""
EVENTS = 200
LOOK_S = 0.5
"""How often what is known is looked at for the end of a chore; nobody is asked for that."""


@dataclass(frozen=True, slots=True)
class Meant:
    """Which tasks a verb is about: ``ids``, or all that ``where`` and ``states`` match."""

    ids: tuple[int, ...] = ()
    where: str = ""
    states: tuple[str, ...] = ()
    name: str = ""
    """What one task is called."""
    state: str = ""
    """The state of one task."""

    @property
    def one(self) -> bool:
        return len(self.ids) == 1

    @property
    def args(self) -> Body:
        """For the daemon."""
        if self.ids:
            return {"ids": list(self.ids)}
        if self.states:
            return {"states": list(self.states), **({"where": self.where} if self.where else {})}
        return {"where": self.where or "id>0"}

    @property
    def described(self) -> str:
        if self.one:
            return f"task {self.ids[0]} {self.name}".rstrip()
        return counted(len(self.ids), "marked task") if self.ids else "all that match"


@dataclass(frozen=True, slots=True)
class Verb:
    """What is done. ``done``: words of outcomes that count as done; weights as in ``tui.actions``."""

    name: str
    title: str
    will: str
    past: str
    done: tuple[str, ...]
    weight_one: int
    weight_many: int


RETRY = Verb("retry", "Retry", "will run again, counting from zero", "retried", ("retried", "waiting"), 0, 2)
CANCEL = Verb("cancel", "Cancel", "will be cancelled; those that run are asked to end", "cancelled", ("cancelled", "asked"), 0, 2)
REMOVE = Verb("remove", "Delete", "will be deleted for good", "deleted", ("removed",), 3, 3)
EDIT = Verb("edit", "Change", "will be changed, those of them that wait", "changed", ("edited",), 0, 2)


@dataclass(frozen=True, slots=True)
class Came:
    """What became of it: how many were done, the others by reason, and their ids (of those that were named). ``chore``: it goes on."""

    done: int = 0
    left: Mapping[str, int] = field(default_factory=dict)
    failed: Sequence[int] = ()
    chore: int = 0


async def act(monitor: MonitorApp, verb: Verb, meant: Meant, changes: Body | None = None, doing: str = "") -> Came | None:
    """Ask, do it, and say what became of it; None: the person said no. The daemon's errors. ``doing``: what changes, in words."""
    args = {**meant.args, **({"changes": changes} if changes else {})}
    number = len(meant.ids)
    some: Sequence[int] = meant.ids[:5]
    if not meant.ids:
        found = await monitor.call(verb.name, {**args, "dry_run": True})
        number, some = int(found["count"]), tuple(found.get("some") or ())
        if not number:
            monitor.say(f"{verb.title}: none of them can be {verb.past}.", "$warn")
            return None
    if not await _allowed(monitor, verb, meant, args, number, some, doing):
        return None
    if meant.ids:
        came = await _named(monitor, verb, meant.ids, changes)
        _tell(monitor, verb, came)
        return came
    answer = await monitor.call(verb.name, {**args, "expected": number})
    chore = int(answer["chore"])
    monitor.say(f"{verb.title}: {counted(number, 'task')} under way; the status line tells how far.")
    monitor.run_worker(_followed(monitor, verb, chore), group="chores", exit_on_error=False)
    return Came(number, chore=chore)


async def _allowed(monitor: MonitorApp, verb: Verb, meant: Meant, args: Body, number: int, some: Sequence[int], doing: str) -> bool:
    """Whether the person wants it; of one thing that is not lost nobody is asked, unless it runs and would end."""
    runs = meant.one and verb is CANCEL and meant.state == "running"
    weight = 1 if runs else verb.weight_one if meant.one else verb.weight_many
    if not weight:
        return True
    what = meant.described if meant.one else counted(number, "task")
    facts = [("where", " ".join([*(f"state:{state}" for state in meant.states), meant.where]).strip() or "all")] if not meant.ids else []
    facts += [("tasks", ", ".join(map(str, some)) + (" ..." if number > len(some) else ""))]
    facts += [("change", doing)] if doing else []

    async def dry_run() -> str:
        if meant.ids:
            return f"{counted(number, 'task')} named by id; what cannot be {verb.past} is left and told."
        found = await monitor.call(verb.name, {**args, "dry_run": True})
        return f"The daemon counts {counted(int(found['count']), 'task')} now."

    question = Question(
        title=f"{verb.title} {'task' if number == 1 else 'tasks'}", says=f"{clip(what, 40)} {verb.will}", facts=facts, weight=weight,
        verb=f"{verb.title} {number:,}" if not meant.one else verb.title, typed=str(meant.ids[0] if meant.one else number),
        dry_run=None if meant.one else dry_run,
    )  # fmt: skip
    return await monitor.confirm(question)


async def _named(monitor: MonitorApp, verb: Verb, ids: Sequence[int], changes: Body | None) -> Came:
    left: Counter[str] = Counter()
    failed: list[int] = []
    for at in range(0, len(ids), AT_ONCE):
        some = list(ids[at : at + AT_ONCE])
        answer = await monitor.call(verb.name, {"ids": some, **({"changes": changes} if changes else {})})
        for id_, word in zip(some, answer["outcomes"], strict=True):
            if word not in verb.done:
                left[word] += 1
                failed.append(id_)
    return Came(len(ids) - len(failed), left, failed)


REASONS = {
    "over": "over already", "running": "running", "unknown": "gone", "taken": "another live task has the unique name",
    "full": "the queue is full",
}  # fmt: skip


def _left(left: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {REASONS.get(word, word)}" for word, number in sorted(left.items(), key=lambda one: -one[1]))


def _tell(monitor: MonitorApp, verb: Verb, came: Came) -> None:
    if not came.left:
        monitor.say(f"{counted(came.done, 'task')} {verb.past}.")
        return
    marked = " They stay marked." if len(came.failed) > 1 or came.done else ""
    monitor.say(f"{counted(came.done, 'task')} {verb.past}, {sum(came.left.values()):,} not: {_left(came.left)}.{marked}", "$warn")


async def _followed(monitor: MonitorApp, verb: Verb, chore: int) -> None:
    """Wait until a chore is no longer among those under way, then ask once what it did."""
    asked = monitor.clock.now_ms()
    while monitor.known.taken.get("chores", 0) <= asked or any(one.get("id") == chore for one in monitor.known.rows("chores", "chores")):
        await monitor.clock.sleep(LOOK_S)
    found = end_of(chore, (await monitor.call("events", {"limit": EVENTS}))["events"])
    if found is None:
        monitor.say(f"{verb.title}: done; what became of each is no longer known.", "$warn")
        return
    left = found.get("left") or {}
    words = f"{counted(int(found.get('changed') or 0), 'task')} {verb.past}"
    monitor.say(f"{words}, {sum(left.values()):,} skipped: {_left(left)}." if left else f"{words}.", "$warn" if left else "")


# what is asked for first


async def _asked(monitor: MonitorApp, question: Ask | Write) -> str | None:
    found: str | None = await monitor.push_screen_wait(cast("Any", question))
    return found


async def reprioritise(monitor: MonitorApp, meant: Meant, words: str, before: int | None) -> Came | None:
    """Another priority: as typed, or asked for; of one task it can be undone."""
    text = words or await _asked(monitor, Ask("Priority, 0 to 9 or low, medium, high", str(before or ""), priority_of))
    if text is None:
        return None
    new = priority_of(text)
    came = await act(monitor, EDIT, meant, {"priority": new}, f"priority {new}")
    if came and came.done == 1 and meant.one and before is not None:
        monitor.say(
            f"Task {meant.ids[0]} has priority {new}.", undo=lambda: monitor.call("edit", {**meant.args, "changes": {"priority": before}})
        )
    return came


async def move(monitor: MonitorApp, meant: Meant, words: str, before: str) -> Came | None:
    """Into another queue: as typed, or asked for; of one task it can be undone."""

    def check(text: str) -> object:
        if not text or len(text.encode()) > 200:
            raise ValueError("expected the name of a queue, 1 to 200 bytes")
        return text

    name = words or await _asked(monitor, Ask("Move to queue", before, check))
    if name is None:
        return None
    came = await act(monitor, EDIT, meant, {"queue": str(check(name))}, f"to queue {name}")
    if came and came.done == 1 and meant.one and before:
        monitor.say(
            f"Task {meant.ids[0]} is in queue {name}.", undo=lambda: monitor.call("edit", {**meant.args, "changes": {"queue": before}})
        )
    return came


def _offer_undo(monitor: MonitorApp, meant: Meant, now: str, before: Body) -> None:
    monitor.say(f"Task {meant.ids[0]} {now}.", undo=lambda: monitor.call("edit", {**meant.args, "changes": before}))


def json_of(payload: bytes) -> str:
    """A payload as JSON to be edited, every character that a terminal might obey written as an escape. ValueError: JSON cannot say it."""
    try:
        value = unpack(payload) if payload else None
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
        same = pack(json.loads(text)) == pack(value)
    except (ValueError, TypeError, RecursionError):
        same, text = False, ""
    if not same:
        raise ValueError("expected a payload that JSON can say; this one has bytes or keys that are no texts. `tq edit` can replace it.")
    return "".join([one if one.isprintable() or one == "\n" else _escaped(one) for one in text])


def _escaped(one: str) -> str:
    code = ord(one)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code - 0x10000 & 0x3FF):04x}"


def payload_of(text: str) -> bytes:
    """The payload that a JSON text means. ValueError says where it is none."""
    try:
        return pack(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(f"expected what a task may have as its payload, got {type(error).__name__}") from None


async def edit_payload(monitor: MonitorApp, meant: Meant) -> Came | None:
    """Let the person change the payload of one task; one that is over runs again with it."""
    (task,) = (await monitor.feed.call("get", {"ids": list(meant.ids)}))["tasks"]
    if task is None:
        raise UsageError("there is no such task any more.")
    over = task["state"] in ("succeeded", "failed", "cancelled", "expired")
    title = f"Payload of task {task['id']}" + (": it runs again with it" if over else "")
    text = await _asked(monitor, Write(title, json_of(task["payload"]), payload_of))
    if text is None:
        return None
    verb = RETRY if over else EDIT
    came = await _named(monitor, verb, meant.ids, {"payload": payload_of(text)})
    _tell(monitor, verb, came)
    return came
