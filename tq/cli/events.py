"""``tq events``: what happened, to a task or to the whole instance.

For: the list of what people and the daemon did, a task's steps read back, the live stream.
Not for: keeping any of it (daemon), daemon.log.
Runs in: the ``tq`` command.
Promises: each live event is printed when it comes, and how many were too many to be told is told; a task's steps are what its
state and attempts say, and nothing is made up for those that are no longer kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from tq.cli import hot
from tq.cli.options import task_ids, whole
from tq.cli.render import (
    attempts_of,
    clean,
    instant,
    json_line,
    option_name,
    option_words,
    options_object,
    plain,
    print_table,
    seconds,
)
from tq.client import Client
from tq.errors import UsageError
from tq.model import FINAL

_FINAL = {state.word for state in FINAL}
_ALWAYS = ("topic", "number", "at", "event", "id", "type", "queue")
PAGE = 500


def events(client: Client, values: dict[str, Any]) -> int:
    task_id = task_ids(client.call, [values["id"]])[0] if values["id"] is not None else None
    if values["follow"]:
        if values["limit"] is not None:
            raise UsageError("expected either --follow or --limit, got both. What has happened: `tq events`, without --follow.")
        return _follow(client, task_id, values["json"])
    limit = 50 if values["limit"] is None else whole("--limit", values["limit"])
    if task_id is not None:
        row = hot.rows_of(client.call, [task_id])[0]
        _print_steps(list(_steps(row))[-limit:] if limit else [], values["json"])
        return 0
    _print_done(_done(client, limit), values["json"])
    return 0


# what people and the daemon did


def _done(client: Client, left: int) -> Iterator[dict[str, Any]]:
    before: int | None = None
    while left > 0:
        page = client.events(min(left, PAGE), before)
        yield from page
        left -= len(page)
        if len(page) < PAGE:
            return
        before = page[-1]["number"]


def _print_done(found: Iterable[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for event in found:
            changed = {key: event[key] and options_object(event[key]) for key in ("before", "after")}
            print(json_line(plain({**event, "at": instant(event["at"]), **changed})))
        return
    cells = [(instant(one["at"]), one["who"], one["what"], one["target"], _change(one["before"], one["after"])) for one in found]
    print_table(("at", "who", "did", "to", "change"), cells, "no events yet")


def _change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """``timeout 30s -> 1h``, or what there is to say of it."""
    words = []
    for key, new in {**(before or {}), **(after or {})}.items():
        was = f"{option_words(key, (before or {})[key])} -> " if key in (before or {}) else ""
        words.append(f"{option_name(key)} {was}{option_words(key, new)}")
    return "  ".join(words)


def _brief(value: object) -> str:
    return value if isinstance(value, str) else json_line(plain(value))


# a task's own steps


def _steps(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What happened to it, as far as its state and the attempts that are kept tell, and what is due."""
    yield {"at": row["created_at"], "event": "added", "priority": row["priority"], "queue": row["queue"]}
    attempts = attempts_of(row)
    if attempts and attempts[0]["attempt"] > 1:
        yield {"at": 0, "event": "not_kept", "attempts": attempts[0]["attempt"] - 1}
    for one in attempts:
        about = {"attempt": one["attempt"], "worker": one["worker"] or None}
        yield {"at": one["started_at"], "event": "started", **about}
        if one["finished_at"]:
            error = one["error"] and {key: one["error"].get(key) for key in ("type", "message")}
            ran_ms = one["finished_at"] - one["started_at"] if one["started_at"] else None
            yield {
                "at": one["finished_at"],
                "event": one["outcome"],
                **about,
                "run_ms": ran_ms,
                "exit_code": one["exit_code"],
                "error": error,
            }
    state = row["state"]
    if state in ("scheduled", "retrying"):
        yield {"at": row["due_at"], "event": "due", "attempt": row["attempt"] + 1}
    ended_so = attempts and attempts[-1]["finished_at"] == row["finished_at"] and attempts[-1]["outcome"] == state
    if row["finished_at"] and not ended_so:
        yield {"at": row["finished_at"], "event": state}


def _print_steps(steps: Iterable[dict[str, Any]], as_json: bool) -> None:
    for step in steps:
        print(json_line(plain(_step_object(step))) if as_json else _step_line(step))


def _step_object(step: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in step.items() if key not in ("run_ms", "topic") and value is not None}
    found["at"] = instant(step["at"])
    if step.get("run_ms") is not None:
        found["run"] = step["run_ms"] / 1000
    return found


def _step_line(step: dict[str, Any]) -> str:
    more = {key: value for key, value in step.items() if key not in _ALWAYS and value is not None}
    error, run_ms = more.pop("error", None), more.pop("run_ms", None)
    parts = [instant(step["at"]) or "-" * 24, *([str(step["id"])] if step.get("id") else []), f"{clean(step['event']):<10}"]
    parts += [clean(step[key]) for key in ("type", "queue") if step.get(key)]
    parts += [f"{clean(key.replace('_', ' '))} {clean(_brief(value))}" for key, value in more.items()]
    parts += [f"after {seconds(run_ms / 1000)}"] if run_ms is not None else []
    if isinstance(error, dict):
        parts.append(clean(f"{error.get('type') or 'Error'}: {error.get('message') or ''}")[:200])
    elif error:
        parts.append(clean(error))
    return "  ".join(parts).rstrip()


# the live stream


def _follow(client: Client, task_id: int | None, as_json: bool) -> int:
    """Print what happens until Ctrl-C, or until the one task is over."""
    with closing(client.watch(["steps"], None if task_id is None else [task_id])) as stream:
        if task_id is not None and hot.rows_of(client.call, [task_id])[0]["finished_at"]:
            hot.say(f"task {task_id} is over: `tq events {task_id}` has its steps")
            return 0
        for event in stream:
            what = event["event"]
            if task_id is not None and what in ("chore_done", "left_out"):
                continue  # a chore of that number, or steps of others
            print(json_line(plain(_step_object(event))) if as_json else _step_line(event))
            sys.stdout.flush()
            if task_id is not None and (what in ("succeeded", "removed") or event.get("state") in _FINAL):
                break
    return 0
