"""``tq why``: one sentence that says why a task is where it is, and what would help.

For: the reasons of ``tq.wire`` in words.
Not for: finding them (daemon).
Runs in: the ``tq`` command.
Promises: every reason has its words, and one of a newer daemon its name; times are UTC; what a task or an operator named is cleaned.
"""

from __future__ import annotations

from typing import Any

from tq.cli.limits import rate_words
from tq.cli.options import task_ids
from tq.cli.render import clean, held_words, instant, json_line, plain, seconds
from tq.client import Client

WHY = {
    "not_due": ("it is not due before {due_at}", "`tq edit {id} --in 0` brings it forward."),
    "retry_not_due": (
        "attempt {attempt} is due at {due_at}, since it failed {failures} of {most} times{error}",
        "`tq edit {id} --in 0` brings it forward.",
    ),
    "blocked": ("it waits for {waits} of {of} tasks: {parents}", "`tq why` says of each of them why it is not over."),
    "running": ("attempt {attempt} runs on {worker} since {since}{ends}{progress}", "`tq log {id} -f` shows what it writes."),
    "handed_out": ("it was handed to {worker} at {since}, which has not come to it yet", "`tq worker list` shows what it does."),
    "suspended": ("it is suspended, and its time limit stands still", "`tq resume {id}` lets it go on."),
    "cancel_asked": ("it was asked to end{by}", ""),
    "over": ("it {end} at {at}{how}", "`tq retry {id}` runs it again."),
    "draining": ("the daemon is stopping and begins nothing new", "It goes on when a daemon runs again: `tq daemon start`."),
    "queue_paused": ("queue {queue} is paused{since_when}{by}", "`tq queue resume {queue}` lets it go on."),
    "queue_held": ("queue {queue} is held: {held}", "`tq queue set {queue} --unset {rules}` lets it go."),
    "breaker": (
        "the breaker of type {type} {breaker}", "`tq breaker show type:{type}` says more, `tq breaker reset type:{type}` closes it now.",
    ),
    "service_down": ("its last attempt was turned away: {said}", "`tq breaker list` shows the service, `tq breaker reset` closes it now."),
    "queue_external": ("queue {queue} is left to consumers outside the pool, which hold {running} of its tasks", "One must claim it."),
    "no_worker_knows_type": (
        "no worker has ever named the type {type}", "Start the daemon with an application that has it (`tq daemon start --app`).",
    ),
    "no_worker_has_type": (
        "none of the {workers} workers has the type {type} any more", "Start the daemon with an application that has it.",
    ),
    "type_suspected": (
        "the type {type} is held back, since {crashes} runs in a row have killed their workers; one is tried at {try_at}",
        "`tq list 'type:{type} error:WorkerDied'` shows which.",
    ),
    "limit_reached": (
        "limit {limit} ({rule}) of {scope} {of} is reached{until}", "`tq limit set {limit}` changes it, `tq limit list` shows all.",
    ),
    "quota_reached": (
        "tenant {tenant} runs {running} tasks, and its quota is {quota}", "`tq tenant set {tenant} --running N` changes it.",
    ),
    "gathers": ("a call takes up to {batch} of type {type}, and {waiting} wait; it begins at {begins_at}, or when there are enough", ""),
    "resource_taken": (
        "it waits for {amount} of resource {resource}: {in_use} of {total} are in use{users}", "`tq resource set {resource} N` gives more.",
    ),
    "resource_short": (
        "it needs {amount} of resource {resource}, of which there is {total}",
        "`tq resource set {resource} {amount}` makes it so, `tq edit {id} --use ''` lets it run without.",
    ),
    "kept": ("what is free of {what} is kept for task {other}, which has waited longer", "`tq why {other}` says what that lacks."),
    "queue_slots_taken": (
        "running tasks of queue {queue} take {running} of its {slots} slots{needed}", "`tq queue set {queue} --slots N` gives it more.",
    ),
    "workers_busy": (
        "{active} of {slots} slots of the workers are taken{needed}", "`tq worker list` shows by what, `tq worker scale N` starts more.",
    ),
    "workers_start": ("the workers ({starting}) are starting", "`tq worker list` shows them."),
    "no_workers": ("there are no workers", "`tq worker scale N` starts some."),
    "place": ("{ahead} tasks of queue {queue} go before it{estimate}", "`tq edit {id} --priority high` lets it pass lower ones."),
    "next": ("it is the next one of queue {queue}{estimate}", ""),
    "expires": ("it expires at {expires_at} if it has not begun", ""),
}  # fmt: skip
"""The words of ``tq.wire`` for people: what is so, and what would help."""

_ENDS = {"succeeded": "succeeded", "failed": "failed for good", "cancelled": "was cancelled", "expired": "expired"}
_FOR_GOOD = {
    "retries": "with attempt {attempts}, the last of {most}",
    "permanent": "with attempt {attempts}, after which its handler wanted no other",
    "no_time": "with attempt {attempts}, after which there was no time for another",
    "once": "with attempt {attempts}, which was cut short and, as a task to be run once, is not begun again",
    "poison": "since its worker died under it {crashes} times",
    "interrupts": "since it was interrupted {interrupts} times",
    "parent": "since a task that it was to run after did not succeed",
    "ttl": "since it was not done within its time to live",
    "deadline": "since it was not over by its deadline",
}
_TIMES = ("due_at", "since", "at", "ends_at", "try_at", "begins_at", "expires_at", "until", "opens_at")


def why(client: Client, values: dict[str, Any]) -> int:
    (task_id,) = task_ids(client.call, [values["id"]])
    body = client.call("why", {"id": task_id})
    row, told = body["task"], [_words(body["task"], word, details) for word, details in body["reasons"]]
    reasons = "; ".join(text for text, _ in told) or "nothing holds it, and it starts with the next turn"
    sentence = f"task {task_id} ({clean(row['type'])}, queue {clean(row['queue'])}) is {row['state']}: {reasons}."
    if values["json"]:
        found = [{"reason": word, **_object(details)} for word, details in body["reasons"]]
        print(json_line(plain({"id": task_id, "state": row["state"], "why": sentence, "reasons": found})))
        return 0
    print(sentence)
    for _, hint in told[:1]:
        if hint:
            print(f"  {hint}")
    return 0


def _object(details: dict[str, Any]) -> dict[str, Any]:
    """Details for ``--json``: times in RFC 3339, durations in seconds."""
    told: dict[str, Any] = {}
    for key, value in details.items():
        if key in _TIMES:
            told[key] = instant(value)
        elif key.endswith("_ms"):
            told[key.removesuffix("_ms")] = value / 1000
        elif key == "parents":
            told[key] = [{"id": parent, "state": state} for parent, state in value]
        else:
            told[key] = value
    return told


def _words(row: dict[str, Any], word: str, details: dict[str, Any]) -> tuple[str, str]:
    """What a reason says, and what would help."""
    if word == "place" and not details["ahead"]:
        word = "next"
    known = {key: clean(instant(value) if key in _TIMES else value) for key, value in {"worker": "", "needed": "", **details}.items()}
    known |= {
        "id": str(row["id"]),
        "most": str(details.get("retries", row["retries"]) + 1),
        "error": _error(details.get("error") if word != "service_down" else None),
    }
    known["estimate"] = f", which may take {seconds(details['estimate_ms'] / 1000)}" if details.get("estimate_ms") else ""
    known["since_when"] = f" since {known['since']}" if details.get("since") else ""
    known["by"] = f" by {clean(details['who'])}" if details.get("who") else ""
    if word == "breaker":
        until = f" until {known['until']}" if details["until"] else " until it is reset"
        opens = f"is open{until}" if details["state"] == "open" else f"lets only probes run, {details['probes']} of them now"
        known["breaker"] = f"{opens} ({known['why']})"
    elif word == "service_down":
        known["said"] = clean(details["error"])
    if word == "queue_held":
        known |= {"held": held_words(details), "rules": ",".join(f"hold-{clean(rule)}" for rule in details["rules"] or ["probe"])}
    if details.get("or_more"):
        known["ahead"] = f"at least {known['ahead']}"
    if details.get("needs", 1) > 1:
        too_many = ", more than there are" if details["needs"] > details["slots"] else ""
        known["needed"] = f", and it needs {details['needs']}{too_many}"
    if word == "limit_reached":
        rules = [rate_words(details)] if details["rate"] else []
        rules += [f"{details['most']} at a time"] if details["most"] else []
        known |= {"rule": ", ".join(rules), "scope": {"flow": "flow key"}.get(details["scope"], known["scope"])}
        known["until"] = f" until {known['opens_at']}" if details["opens_at"] else f": {details['running']} of its tasks run"
    elif word == "resource_taken":
        more = details["of"] - len(details["tasks"])
        some = ", ".join(map(str, details["tasks"])) + (f" and {more} more" if more else "")
        known["users"] = f" by task{'s' if details['of'] > 1 else ''} {some}" if some else ""
    elif word == "kept":
        slots = f"the slots of queue {known['queue']}" if details["resource"] is None else "the workers' slots"
        known |= {"what": f"resource {known['resource']}" if details["resource"] else slots, "other": str(details["id"])}
    if word == "blocked":
        more = details["waits"] - len(details["parents"])
        known["parents"] = ", ".join(f"{parent} ({clean(state)})" for parent, state in details["parents"]) + (
            f" and {more} more" if more else ""
        )
    elif word == "running":
        known["ends"] = f" and may do so until {known['ends_at']}" if details["ends_at"] else ""
        share, text = details["progress"] or (None, "")
        known["progress"] = "" if share is None else f", {share:.0%} done{f' ({clean(text)})' if text else ''}"
    elif word == "over":
        known |= {"end": _ENDS[row["state"]], "how": _how(row, details, known)}
    text, hint = WHY.get(word, (clean(word).replace("{", "{{").replace("}", "}}"), ""))
    return text.format_map(known), hint.format_map(known)


def _error(error: dict[str, Any] | None) -> str:
    return f" ({clean(error['type'] or 'Error')}: {clean(error['message'])})" if error else ""


def _how(row: dict[str, Any], details: dict[str, Any], known: dict[str, str]) -> str:
    """The rest of how it ended."""
    if row["state"] == "succeeded":
        return f" with attempt {details['attempts']}"
    if row["state"] == "cancelled":
        return known["by"] + known["error"]
    return f", {_FOR_GOOD[details['why']].format_map(known)}{known['error']}" if details.get("why") in _FOR_GOOD else known["error"]
