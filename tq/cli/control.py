"""``tq cancel|retry|edit|remove|suspend|resume``: what a person does to tasks, by their ids or to all that match a filter.

For: outcomes in words; long work over many tasks, its dry runs and its progress; what ``dead`` and ``queues`` share of it.
Not for: what a task becomes (daemon), ``cancel`` with ids alone (hot).
Runs in: the ``tq`` command.
Promises: nothing is done without ids or a filter; words of time in a filter mean the wall clock of who wrote them; an id
that was left as it is is named with the reason and what to do, and the exit code says so.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Any

from tq.cli import hot
from tq.cli.options import a_name, task_ids, task_options
from tq.cli.payloads import json_value, packed, source
from tq.cli.table import Option
from tq.client import Client
from tq.client.acting import READ_WITHIN
from tq.errors import TqError, UsageError
from tq.model import state_named
from tq.query import parse

IDS_A_FILTER = 90
"""Ids that a filter's text takes."""
TELL_EVERY = 1.0
DONE = {
    "cancel": "cancelled", "retry": "retried", "edit": "changed", "remove": "removed", "suspend": "suspended", "resume": "resumed",
}  # fmt: skip
_FUNCTION = "is a function, which runs in a worker that others need: only commands stand still. Pause its queue, or cancel it"
_OUTCOMES: dict[str, dict[str, tuple[str, int]]] = {
    "retry": {
        "retried": ("will run again", 0),
        "waiting": ("waits already, and was not changed. `tq edit` changes tasks that wait", 75),
        "running": ("runs. Wait for its end, or cancel it first", 75),
        "taken": ("stays as it is: another live task has its unique name. Wait for that one, or cancel it", 75),
    },
    "edit": {
        "edited": ("changed", 0),
        "running": ("runs already, so nothing was changed. Cancel it, and retry it with the change", 75),
        "over": ("is over, so nothing was changed. `tq retry` runs it again, with another payload or priority if you like", 75),
    },
    "remove": {"removed": ("removed", 0), "running": ("runs. Cancel it first, or wait for its end", 75)},
    "suspend": {
        "suspended": ("stopped where it stood; `tq resume` lets it go on", 0),
        "not_running": ("does not run here now, so it was not stopped", 75),
        "over": ("is over already", 75),
        "function": (_FUNCTION, 2),
    },
    "resume": {
        "resumed": ("goes on", 0),
        "not_suspended": ("is not suspended", 75),
        "over": ("is over already", 75),
        "function": (_FUNCTION, 2),
    },
}
"""What became of a task, and the exit code for it."""
_LEFT = {
    "full": "no room in the queue. Ask again when there is",
    "taken": "another live task has its unique name",
    "over": "one that it runs after did not end as it should",
    "telling": "those that it runs after are still told of. Ask again",
    "function": "only commands stand still, not functions",
    "not_running": "not run by a worker of this daemon, or not begun",
    "not_suspended": "not suspended",
}
"""Why a chore left tasks as they are."""


def chosen(values: dict[str, Any], *names: str, where: str = "") -> dict[str, Any]:
    """Which tasks the options mean, as arguments of a verb: ``names`` among queue, type, label, tenant and group, the
    states and the filter, which is ``where`` or the option's. Empty: nothing was said."""
    found: dict[str, Any] = {name: a_name(f"--{name}", values[name]) for name in names if values.get(name) is not None}
    try:
        states = [state_named(word).word for given in values.get("state") or [] for word in given.split(",")]
    except ValueError as error:
        raise UsageError(f"--state: {error}.") from None
    if states:
        found["states"] = states
    if values.get("where") == "":  # an empty variable of a script must not mean everything
        raise UsageError("--where: expected a filter such as 'state:failed age>1h', got an empty text. For all tasks: 'id>0'.")
    text = where or values.get("where")
    if text:
        found["where"] = str(parse(text, int(time() * 1000)))
    return found


def changes_of(values: dict[str, Any], options: tuple[Option, ...]) -> dict[str, Any]:
    """What the options say is to be changed, as it travels."""
    found = task_options({option.key: values[option.key] for option in options}) or {}
    if values["payload"] is not None:
        found["payload"] = packed(json_value("--payload", source("--payload", values["payload"])))
    return found


def cancel(client: Client, values: dict[str, Any]) -> int:
    return _act(client, "cancel", values, chosen(values, "queue", "type", "tenant"), {})


def remove(client: Client, values: dict[str, Any]) -> int:
    return _act(client, "remove", values, chosen(values, "queue", "type", "tenant"), {})


def suspend(client: Client, values: dict[str, Any]) -> int:
    return _act(client, "suspend", values, chosen(values, "queue", "type", "tenant"), {})


def resume(client: Client, values: dict[str, Any]) -> int:
    return _act(client, "resume", values, chosen(values, "queue", "type", "tenant"), {})


def retry(client: Client, values: dict[str, Any]) -> int:
    from tq.cli.options import RETRY

    return _act(client, "retry", values, chosen(values, "type", "tenant"), changes_of(values, RETRY))


def edit(client: Client, values: dict[str, Any]) -> int:
    from tq.cli.options import CHANGES

    changes = changes_of(values, CHANGES)
    if not changes:
        raise UsageError("expected something to change (--priority 5, --in 10m, --queue mail, --payload JSON, ...), got nothing.")
    return _act(client, "edit", values, chosen(values, "type", "tenant"), changes)


def _act(client: Client, verb: str, values: dict[str, Any], which: dict[str, Any], changes: dict[str, Any]) -> int:
    words = values["ids"] or []
    if words and which:
        raise UsageError("expected ids or a filter, got both. Put the ids into the filter: --where 'id:17,42 state:failed'.")
    if not words and not which:
        example = {"retry": "state:failed age>1h", "suspend": "queue:builds", "resume": "queue:builds"}.get(verb, "state:pending age>1h")
        raise UsageError(f"expected the ids of tasks, or which ones: tq {verb} --where '{example}'. Got neither.")
    if not words:
        return in_bulk(client, verb, values, which, changes)
    if wrong := next((word for word in words if ":" in word or "=" in word), None):
        raise UsageError(f"expected the id of a task (a number, or @last), got {wrong!r}. For a filter: --where {wrong!r}.")
    if verb == "cancel" and not values["dry_run"]:
        return hot.cancel(client.call, {"ids": words})
    ids = task_ids(client.call, words)
    return dry_run(client, verb, ids, changes) if values["dry_run"] else each(client, verb, ids, changes)


def each(client: Client, verb: str, ids: list[int], changes: dict[str, Any]) -> int:
    """Do it to these tasks and say what became of each; the exit code of the first that was left as it is."""
    code = 0
    for start in range(0, len(ids), hot.IDS_A_CALL):
        part = ids[start : start + hot.IDS_A_CALL]
        outcomes = client.call(verb, {"ids": part, **({"changes": changes} if changes else {})})["outcomes"]
        for task_id, outcome in zip(part, outcomes, strict=True):
            words, own = _OUTCOMES[verb].get(outcome, ("", 66))
            if outcome == "waiting" and not changes:
                words, own = "waits already: it will run", 0
            hot.say(f"task {task_id}: {words}" if words else f"tq: {hot.no_such(task_id)}")
            code = code or own
    return code


def dry_run(client: Client, verb: str, ids: list[int], changes: dict[str, Any]) -> int:
    """Say how many of these ``verb`` would change now."""
    count, some = 0, list[int]()
    for start in range(0, len(ids), IDS_A_FILTER):
        listed = ",".join(map(str, ids[start : start + IDS_A_FILTER]))
        body = _dry(client, verb, {"where": f"id:{listed}"}, changes)
        count += body["count"]
        some += body["some"]
    return _would(verb, count, some)


def _dry(client: Client, verb: str, which: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return client.call(verb, {**which, **({"changes": changes} if changes else {}), "dry_run": True}, READ_WITHIN)


def _would(verb: str, count: int, some: list[int]) -> int:
    print(count)
    listed = ", ".join(map(str, some[:10]))
    examples = "" if not some else f": {listed}" if count <= len(some[:10]) else f", among them {listed}"
    hot.say(f"{counted(count)} would be {DONE[verb]}{examples}")
    return 0


def counted(count: int) -> str:
    return "1 task" if count == 1 else f"{count:,} tasks"


def in_bulk(client: Client, verb: str, values: dict[str, Any], which: dict[str, Any], changes: dict[str, Any]) -> int:
    """Leave it to the daemon to do it to all that match, and print the number of that work; or only count them."""
    if values["dry_run"]:
        body = _dry(client, verb, which, changes)
        return _would(verb, body["count"], body["some"])
    chore: int = client.call(verb, {**which, **({"changes": changes} if changes else {})})["chore"]
    hot.print_ids([chore])
    return in_bulk_done(client, verb, chore, wait=values["wait"])


def in_bulk_done(client: Client, verb: str, chore: int, *, wait: bool) -> int:
    """Say where the work of a chore is seen, or wait for it and say what it did."""
    if not wait:
        hot.say(f"chore {chore} does it. `tq queue chores` shows how far it is.")
        return 0
    told = monotonic()

    def tell(now: dict[str, Any]) -> None:
        nonlocal told
        if monotonic() - told >= TELL_EVERY:
            told = monotonic()
            hot.say(f"chore {chore}: {now['seen']:,} looked at, {now['changed']:,} {DONE[verb]}")

    try:
        done = client.wait_chore(chore, progress=tell)
    except KeyboardInterrupt:
        hot.say(f"tq: chore {chore} goes on. `tq queue chores` shows how far it is.")
        return 130
    except TqError as error:
        error.message += f" Chore {chore} is on disk and goes on when the daemon does."
        raise
    if done is None:
        hot.say(f"chore {chore} is done")
        return 0
    hot.say(f"{counted(done['changed'])} {DONE[verb]}")
    for word, count in done["left"].items():
        hot.say(f"{counted(count)} left as {'it is' if count == 1 else 'they are'}: {_LEFT.get(word, word)}")
    return 75 if "full" in done["left"] else 0
