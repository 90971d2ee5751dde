"""A task told: its course, its facts and why it waits, as lines that may be shown.

For: the page of a task, and the pane beside the list: ``course``, ``facts``, ``gist`` and ``why_lines``.
Not for: payload, result, traceback and output (documents), fetching any of it (screens), rows of lists (screens.tasks).
Runs in: the monitor; pure, without Textual or clock.
Promises: it is given a task as the daemon sends it (``get``), and cleans every text of it here; all stretches of one course have one
scale; what began and is not over grows until ``now``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any

from tui.documents import Line, cut, traceback_lines
from tui.formats import NOTHING, Glyphs, age, clip, clock, day, duration, size

Task = Mapping[str, Any]
FINAL = ("succeeded", "failed", "cancelled", "expired")
_SIGNS = {"succeeded": "succeeded", "failed": "failed", "timeout": "failed", "crashed": "failed", "interrupted": "cancelled",
          "cancelled": "cancelled"}  # fmt: skip
"""By how an attempt ended: the state whose sign it has."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that began; ``finished_at`` 0: it goes on. ``error`` is as the daemon has it, not cleaned."""

    number: int
    started_at: int
    finished_at: int
    outcome: str
    worker: str
    error: Mapping[str, Any] | None
    exit_code: int | None


def attempts_of(task: Task) -> list[Attempt]:
    """All runs that are known, oldest first; the daemon keeps the last of them apart from those before it."""
    found = [Attempt(*row) for row in task.get("attempts") or ()]
    last, state = int(task.get("attempt") or 0), str(task["state"])
    if state == "running" and (not last or last in [one.number for one in found]):
        last += 1  # a run that goes on is counted when it is over
    if last and task.get("started_at") and last not in [one.number for one in found]:
        over = int(task.get("finished_at") or 0) if state != "running" else 0
        error = task.get("error") if isinstance(task.get("error"), dict) else None
        outcome = "running" if state == "running" else state
        found.append(Attempt(last, int(task["started_at"]), over, outcome, str(task.get("worker") or ""), error, task.get("exit_code")))
    return sorted(found, key=lambda one: one.number)


def errors_of(task: Task) -> list[tuple[int, Mapping[str, Any]]]:
    """Numbers of attempts and their errors; that of a task that failed without running, or was stopped, as attempt 0."""
    found: list[tuple[int, Mapping[str, Any]]] = [(one.number, one.error) for one in attempts_of(task) if isinstance(one.error, dict)]
    error = task.get("error")
    if isinstance(error, dict) and not any(one == error for _, one in found):
        found.append((int(task.get("attempt") or 0), error))
    return found


def name_of(task: Task) -> str:
    """What a task is called in a title: its label if it is a command with one, else its type."""
    label = task.get("label")
    return cut(str(label if label and task.get("type") == "shell" else task.get("type") or ""), 120)


def tries(task: Task) -> str:
    """The attempt it is at, and how many there may be: ``2/5``."""
    runs = attempts_of(task)
    return of_tries(runs[-1].number if runs else task.get("attempt") or 0, task.get("retries") or 0)


def of_tries(attempt: int, retries: int) -> str:
    """``2/5``; ``6`` of a task that a person has run again, since its attempts go on and what is counted against them began anew."""
    return f"{attempt}/{retries + 1}" if attempt <= retries + 1 else str(attempt)


def bar(ms: float, longest: float, width: int, glyphs: Glyphs) -> str:
    """A stretch of time on the scale of the longest, at least one cell."""
    return glyphs.full * max(1, round(width * ms / longest)) if longest > 0 else glyphs.full


def course(task: Task, now: int, width: int, glyphs: Glyphs, zone: tzinfo | None = UTC) -> list[Line]:
    """Every change of a task with its time, and how long it took from one to the next."""
    runs = attempts_of(task)
    state = str(task.get("state"))
    lengths = [max(0, (one.finished_at or now) - one.started_at) for one in runs]
    longest = max(lengths, default=0)
    room = max(4, min(40, width - 24))
    found: list[Line] = []

    def event(at: int, sign: str, style: str, text: str, more: str = "") -> None:
        found.append([(f"{clock(at, zone, millis=True):12} ", "dim"), (f"{glyphs.state(sign)} {text}", style), (f"  {more}", "dim")])

    def stretch(text: str) -> None:
        found.append([(" " * 13, "dim"), (f"{glyphs.bar}  {text}", "dim")])

    created = int(task.get("created_at") or 0)
    event(created, "pending", "text", "sent", day(created, zone))
    before = created
    for at, one in enumerate(runs):
        if one.started_at > before:
            stretch(f"{'waited' if at == 0 else 'waited again'} {duration(one.started_at - before)}")
        event(one.started_at, "running", "running", f"try {one.number}", cut(one.worker, 40))
        length = lengths[at]
        style = "running" if not one.finished_at else _SIGNS.get(one.outcome, "text")
        found.append([(" " * 13, "dim"), (bar(length, longest, room, glyphs), style), (f" {duration(length)}", "dim")])
        if one.finished_at:
            sign = _SIGNS.get(one.outcome, "failed")
            event(one.finished_at, sign, sign, cut(_end_of(one), 300))
        before = one.finished_at or now
    finished = int(task.get("finished_at") or 0)
    if state in FINAL and (not runs or runs[-1].outcome not in (state, "timeout", "crashed")):
        event(finished or before, state, state, state, cut(_message(task.get("error")), 200))
    elif state in ("retrying", "scheduled"):
        due = int(task.get("due_at") or 0)
        event(due, state, state, f"due in {duration(max(0, due - now))}", "" if state == "scheduled" else f"try {len(runs) + 1}")
    elif state in ("pending", "blocked"):
        since = max(before, int(task.get("ready_at") or 0))
        event(since, state, state, f"{'waits' if state == 'pending' else 'blocked'} for {duration(max(0, now - since))}")
    return found


def _end_of(one: Attempt) -> str:
    code = f"exit code {one.exit_code}" if one.exit_code else ""
    return _message(one.error) or code or one.outcome


def _message(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    kind, text = str(error.get("type") or "Error"), str(error.get("message") or "").split("\n", 1)[0]
    return f"{kind}: {text}" if text else kind


def facts(task: Task, now: int, glyphs: Glyphs, zone: tzinfo | None = UTC) -> list[Line]:
    """What there is to know of it but its course, name and value by name and value; what it has not is not named."""
    state = str(task.get("state"))
    runs = attempts_of(task)
    ran = sum(max(0, (one.finished_at or now) - one.started_at) for one in runs)
    kind, base, factor, most, jitter = (*(task.get("backoff") or ()), None, None, None, None, None)[:5]
    policy = f"{kind} from {duration(base)}{f' x{factor:g}' if factor != 1 else ''} to {duration(most)}{', jitter' if jitter else ''}"
    ready, started = int(task.get("ready_at") or 0) or int(task.get("created_at") or 0), runs[0].started_at if runs else 0
    deadline = int(task.get("created_at") or 0) + int(task.get("deadline_ms") or 0) if task.get("deadline_ms") else 0
    rows: list[tuple[str, str]] = [
        ("queue", f"{task.get('queue')}   priority {task.get('priority')}"),
        ("type", str(task.get("type"))),
        ("label", str(task.get("label") or "")),
        ("tries", f"{tries(task)}   failures {task.get('failures') or 0}"),
        ("backoff", policy if task.get("retries") and kind else ""),
        ("times", f"waited {duration(max(0, (started or now) - ready))}   ran {duration(ran) if runs else NOTHING}"),
        ("worker", str(task.get("worker") or "")),
        ("exit", "" if task.get("exit_code") is None else str(task["exit_code"])),
        ("timeout", duration(task["timeout_ms"]) if task.get("timeout_ms") else ""),
        ("deadline", f"{clock(deadline, zone)} (in {duration(deadline - now)})" if deadline and state not in FINAL else ""),
        ("expires", f"{clock(int(task['expires_at']), zone)}" if task.get("expires_at") and state not in FINAL else ""),
        ("parents", ", ".join(map(str, [*(task.get("parents") or ()), *(task.get("parents_any") or ())][:8]))),
        ("key", str(task.get("key") or "")),
        ("unique", str(task.get("unique") or "")),
        ("flow", str(task.get("flow") or "")),
        ("tenant", str(task.get("tenant") or "")),
        ("belongs to", str(task.get("correlation_id") or "")),
        ("uses", ", ".join(f"{amount} {name}" for name, amount in (task.get("uses") or {}).items())),
        ("meta", "  ".join(f"{key}:{value}" for key, value in (task.get("meta") or {}).items())),
    ]
    word = glyphs.word(state) + (f", {glyphs.paused} suspended" if task.get("suspended") else "")
    word += ", cancel asked" if task.get("cancel_asked") and state not in FINAL else ""
    found: list[Line] = [[("state      ", "dim"), (word, state)]]
    return found + [[(f"{name:10} ", "dim"), (cut(value, 400), "text")] for name, value in rows if value]


def gist(task: Task, now: int, width: int, glyphs: Glyphs, zone: tzinfo | None = UTC) -> list[Line]:
    """A task in a narrow pane: who it is, its course, its last error."""
    state = str(task.get("state"))
    found: list[Line] = [
        [(clip(name_of(task), max(8, width - 18)), "strong"), (f"  {glyphs.word(state)}", state), (f"  try {tries(task)}", "dim")],
        [(cut(f"{task['id']}  {task.get('queue')}  priority {task.get('priority')}", 200), "dim")],
        [],
        *course(task, now, width, glyphs, zone),
    ]
    progress = task.get("progress")
    if isinstance(progress, list | tuple) and len(progress) == 2 and state == "running":
        found += [[], [(progress_text(progress, width, glyphs), "running")]]
    if isinstance(error := task.get("error"), dict):
        found += [[], *traceback_lines(error)[-12:]]
    found += [[], [(f"payload {size(len(task.get('payload') or b''))}", "dim")]]
    return found


def progress_text(progress: Sequence[Any], width: int, glyphs: Glyphs) -> str:
    """How far a task says it is: a gauge, the share, and its words."""
    share = min(max(float(progress[0] or 0.0), 0.0), 1.0)
    cells = max(4, min(20, width // 3))
    full = round(cells * share)
    return f"{glyphs.full * full}{glyphs.empty * (cells - full)} {share:.0%}  {cut(str(progress[1] or ''), 120)}".rstrip()


_REASONS = {
    "not_due": "it is not due yet", "retry_not_due": "its next try is not due yet", "running": "it runs on {worker}",
    "handed_out": "it was handed to {worker}", "suspended": "it is suspended", "cancel_asked": "it was asked to end",
    "draining": "the daemon is draining", "queue_paused": "queue {queue} is paused", "queue_held": "queue {queue} is held: {why}",
    "queue_external": "queue {queue} is left to consumers outside the pool",
    "queue_slots_taken": "running tasks take {running} of the {slots} slots of queue {queue}",
    "limit_reached": "limit {limit} of {scope} {of} is reached", "quota_reached": "tenant {tenant} runs {running} tasks of at most {quota}",
    "resource_taken": "resource {resource}: {in_use} of {total} are in use, it needs {amount}",
    "resource_short": "resource {resource}: there is {total}, it needs {amount}", "kept": "what is free is kept for task {id}",
    "no_worker_knows_type": "no worker has ever named the type {type}", "no_worker_has_type": "no worker has the type {type} any more",
    "type_suspected": "runs of {type} killed their workers {crashes} times in a row", "no_workers": "there are no workers",
    "gathers": "a call waits for up to {batch} of type {type}",
    "workers_start": "the workers are starting", "workers_busy": "{active} of {slots} slots of the workers are taken",
    "place": "{ahead} tasks of queue {queue} go before it", "next": "it is the next one of queue {queue}",
    "expires": "it expires if it has not begun by then", "over": "it is over: {why}",
}  # fmt: skip


def why_lines(reasons: Iterable[Sequence[Any]], now: int) -> list[Line]:
    """Why a task stands where it stands, the most telling first; a word that is not known here stands as it is."""
    found: list[Line] = []
    for word, details in reasons:
        known = {str(key): value for key, value in details.items()} if isinstance(details, Mapping) else {}
        if word == "blocked":
            parents = known.get("parents") or ()
            text = f"it waits for {', '.join(f'{one[0]} ({one[1]})' for one in parents[:6])}"
        else:
            text = _REASONS.get(str(word), str(word)).format_map(_Known(known))
        due = known.get("due_at")
        if isinstance(due, int) and due > now:
            text += f", but in {duration(due - now)}"
        since = known.get("since")
        if isinstance(since, int) and 0 < since <= now:
            text += f", for {age(now - since)}"
        found.append([("why        " if not found else " " * 11, "dim"), (cut(text, 400), "text")])
    return found or [[("why        ", "dim"), ("nothing holds it, it starts at once", "text")]]


class _Known(dict[str, Any]):
    """Details by name; one that is missing is a question mark."""

    def __missing__(self, _: str) -> str:
        return "?"
