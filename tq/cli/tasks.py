"""Commands about tasks that stream or print much: ``run``, ``show list peek log``.

For: the verbs of tasks that are not on the thin path.
Not for: parsing, rendering, the hot verbs, many tasks at once (many).
Runs in: the ``tq`` command.
Promises: ``run`` ends with the command's own exit code and passes Ctrl-C and TERM on.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from signal import Signals, signal
from textwrap import indent
from typing import Any

from tq.cli import hot
from tq.cli.command import command_task
from tq.cli.control import chosen
from tq.cli.log import Screen, Writes, follow
from tq.cli.options import a_name, after_newest, task_ids, whole
from tq.cli.render import (
    attempts_of,
    clean,
    code_of,
    held_words,
    instant,
    json_line,
    plain,
    run_time,
    seconds,
    status_line,
    table,
    task_object,
    value_of,
)
from tq.cli.send import Passing
from tq.client import Client, format_error
from tq.client.acting import READ_WITHIN
from tq.errors import NoSuchTask, TqError, UsageError
from tq.query.orders import order_of
from tq.query.terms import NAMES

_TERM = re.compile(r"([a-z_]+)(?:\.[^:=<>!]+)?(?:[:=<>]|!=)")
END_WITHIN = 10.0
"""Seconds that a command may go on printing after Ctrl-C has cancelled its task."""


# running


def run(client: Client, values: dict[str, Any]) -> int:
    if values["cron_name"] is not None:
        from tq.cli.cronjob import run_of_cron

        return run_of_cron(client, values)
    passes = values["interactive"] or values["tty"]
    if passes and values["retries"] not in (None, "0"):
        text = "expected either --retries or --interactive and --tty, got both. What is typed is not kept, so a retry would wait for it; "
        raise UsageError(text + "`tq add` takes both, and `tq send` sends to whichever attempt runs.")
    body = hot.sent(client.call, command_task(after_newest(client.call, values)), values)
    task_id = body["ids"][0]
    hot.say_existing([task_id] if body.get("existing") else [])
    screen = Screen(values["raw"], live=True)
    row, code = until_over(client, task_id, screen, Passing(client.data_dir, task_id, values["tty"]) if passes else nullcontext())
    if code:
        return code
    screen.end()
    if row is not None and (row["exit_code"] is None or (row["error"] or {}).get("type", "ExitCode") != "ExitCode"):
        hot.say_end(row)  # a command that failed by itself has said so
    return code_of_run(row)


def code_of_run(row: dict[str, Any] | None) -> int:
    """The exit code of a command that ran: one of --ok-codes is its own code nevertheless."""
    return row["exit_code"] or 0 if row is not None and row["state"] == "succeeded" else code_of(row)


def until_over(client: Client, task_id: int, screen: Writes, passing: AbstractContextManager[object]) -> tuple[dict[str, Any] | None, int]:
    """Show what a task writes until it is over: the task, None if nobody knows how it ended, and 0; or, if Ctrl-C or TERM ended it, the
    exit code of that."""
    ended: dict[str, Any] = {}
    code = 130

    def terminate(*_: object) -> None:
        nonlocal code
        code = 143
        raise KeyboardInterrupt

    before = signal(Signals.SIGTERM, terminate)
    try:
        with passing:
            ended = follow(client, task_id, screen)
    except KeyboardInterrupt:
        _interrupted(client, task_id)
        return None, code
    finally:
        signal(Signals.SIGTERM, before)
    row = hot.waited(client.call, [task_id], None)[0]
    if row is None and ended:  # it is forgotten already
        row = {"id": task_id, "error": None, **ended}
    return row, 0


def _interrupted(client: Client, task_id: int) -> None:
    """Ctrl-C, or TERM: end the task, too. (A hangup or a closed pipe leaves it running: it is the daemon's.)"""
    try:
        client.cancel([task_id])
    except (KeyboardInterrupt, TqError) as error:
        why = "the second Ctrl-C came first" if isinstance(error, KeyboardInterrupt) else str(error)
        hot.say(f"tq: task {task_id} may go on: it could not be asked to end ({why}). End it with `tq cancel {task_id}`.")
        return
    try:
        hot.waited(client.call, [task_id], int(END_WITHIN * 1000))
    except (KeyboardInterrupt, TqError):
        hot.say(f"tq: task {task_id} was asked to end; see `tq status {task_id}`.")


# reading


def show(client: Client, values: dict[str, Any]) -> int:
    ids = task_ids(client.call, [values["id"]])
    row = client.call("get", {"ids": ids, "how": True})["tasks"][0]
    if row is None:
        raise NoSuchTask(hot.no_such(ids[0]))
    show_row(row, values["json"])
    return 0


def show_row(row: dict[str, Any], as_json: bool) -> None:
    """Everything about a task."""
    if as_json:
        print(json_line(task_object(row)))
        return
    print(status_line(row))
    lines: list[tuple[str, object]] = [("priority", row["priority"]), ("retries", row["retries"])]
    lines += [("timeout", seconds(row["timeout_ms"] / 1000))] if row["timeout_ms"] else []
    lines += [(key[:-3], instant(row[key])) for key in ("created_at", "due_at", "started_at", "finished_at", "expires_at")]
    for name, key in (("retry until", "retry_for_ms"), ("deadline", "deadline_ms")):
        lines += [(name, instant(row["created_at"] + row[key]))] if row[key] else []
    lines += [(key, row[key]) for key in ("worker", "failures", "crashes", "interrupts", "key", "unique", "tenant", "correlation_id")]
    lines += [("slots", row["slots"] if row.get("slots", 1) > 1 else "")]
    lines += [("uses", "  ".join(f"{name}:{amount}" for name, amount in (row.get("uses") or {}).items()))]
    lines += [("meta", "  ".join(f"{key}={value}" for key, value in (row["meta"] or {}).items()))]
    how = dict.fromkeys(row.get("parents_any") or (), " (however it ends)") | dict.fromkeys(
        row.get("parents_failed") or (), " (if it fails)"
    )
    lines += [("after", ", ".join(f"{one}{how.get(one, '')}" for one in row["parents"]))]
    lines += [("if one fails", "it fails, too" if row.get("on_parent_failure") == "fail" else "")]
    lines += [("waits for", f"{row['waits']} of them" if row.get("waits") else "")]
    lines += [(key, json_line(plain(value_of(row[key])))) for key in ("payload", "result") if row[key]]
    lines += _how_lines(row.get("how") or {})
    for name, value in lines:
        if value not in (None, "", 0) or name in ("priority", "retries"):
            print(f"  {name:<15} {clean(value)}")
    _show_attempts(row)
    if row["output"]:
        hot.say(f"It has written output: tq log {row['id']}")


def _how_lines(how: dict[str, Any]) -> list[tuple[str, object]]:
    """How a command is run, in words; its whole environment only ``--json`` shows."""
    found: list[tuple[str, object]] = [("directory", how.get("cwd"))]
    found += [("environment", f"{len(how['env'])} variables (--json shows them)")] if how.get("env") is not None else []
    found += [("and in it", "  ".join(f"{name}={value}" for name, value in (how.get("set") or {}).items()))]
    found += [("umask", f"{how['umask']:04o}")] if isinstance(how.get("umask"), int) else []
    limits = {name: one for name, one in (how.get("limits") or {}).items() if isinstance(one, list)}
    found += [("limits", "  ".join(f"{name}={one[0]}" for name, one in limits.items())), ("nice", how.get("nice"))]
    found += [("I/O class", how["io"])] if how.get("io") else []
    return [*found, ("ok codes", ", ".join(map(str, how.get("ok") or ())))]


def _show_attempts(row: dict[str, Any]) -> None:
    """Each attempt with its times, its worker and how it ended, tracebacks and all."""
    attempts = attempts_of(row)
    if attempts and attempts[0]["attempt"] > 1:
        print(f"  attempts 1 to {attempts[0]['attempt'] - 1} are not kept")
    told: object = None
    for one in attempts:
        parts = [f"attempt {one['attempt']}", instant(one["started_at"]) or "-", clean(one["outcome"])]
        if one["finished_at"] and one["started_at"]:
            parts.append(f"after {seconds((one['finished_at'] - one['started_at']) / 1000)}")
        parts += [f"on {clean(one['worker'])}"] if one["worker"] else []
        parts += [exit_words(one["exit_code"])] if one["exit_code"] is not None else []
        print("  " + "  ".join(parts))
        if one["error"]:
            print(indent("the same error" if one["error"] == told else format_error(one["error"]), "      "))
        told = one["error"]
    if row["error"] and row["error"] not in [one["error"] for one in attempts]:
        print(f"\n{format_error(row['error'])}")


def exit_words(code: int) -> str:
    """An exit code, and the signal that it stands for."""
    try:
        return f"exit code {code} ({Signals(code - 128).name})"
    except ValueError:
        return f"exit code {code}"


def print_rows(pages: Iterable[list[dict[str, Any]]], as_json: bool) -> bool:
    """Tasks in a table, or an object a line as they come; False: a person is told that there are none."""
    if as_json:
        for page in pages:
            for row in page:
                print(json_line(task_object(row)))
        return True
    rows = [row for page in pages for row in page]
    if not rows:
        hot.say("no tasks")
        return False
    why = "why" in rows[0]
    cells = [
        (row["id"], row["state"], row["type"], row["queue"], row["priority"], *([row["why"]] if why else []), row["attempt"],
         instant(row["created_at"]), "-" if (took := run_time(row)) is None else seconds(took), row["label"] or _brief(row))
        for row in rows
    ]  # fmt: skip
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    head = ("id", "state", "type", "queue", "prio", *(["goes by"] if why else []), "runs", "created", "took", "what")
    print(table(head, cells, width))
    return True


def _brief(row: dict[str, Any]) -> str:
    """What a task without a label is about: its command, or the beginning of its payload."""
    value = value_of(row["payload"])
    if row["type"] == "shell" and isinstance(value, dict) and isinstance(value.get("argv"), list):
        return " ".join(os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in value["argv"])[:60]
    return "" if value is None else json_line(plain(value))[:60]


def list_tasks(client: Client, values: dict[str, Any]) -> int:
    _no_option_meant_as_filter(values)
    words = " ".join(values["filter"] or [])
    where = f"({values['where']}) ({words})" if words and values["where"] else words
    which = chosen(values, "queue", "type", "label", "tenant", where=where)
    limit = 50 if values["limit"] is None else whole("--limit", values["limit"])
    order = None if values["sort"] is None else str(order_of(values["sort"], "--sort"))
    found = pages(client, which, limit) if order is None else pages_by(client, which, order, limit)
    if not print_rows(found, values["json"]) and which.get("where"):
        _say_what_terms_match(client, which["where"])
    return 0


def _say_what_terms_match(client: Client, where: str) -> None:
    """Which word of a filter of several leaves nothing over."""
    terms = client.explain(where)
    if len(terms) > 1:
        hot.say("; ".join(f"{clean(text)} alone: {'not counted' if count is None else f'{count:,}'}" for text, count in terms))


def _no_option_meant_as_filter(values: dict[str, Any]) -> None:
    """``tq list -type:x`` means everything but x, and not the type ``ype:x``."""
    given = [("q", values["queue"]), ("t", values["type"]), ("l", values["label"]), *(("s", word) for word in values["state"] or [])]
    for flag, value in given:
        term = _TERM.match(f"{flag}{value}") if value is not None else None
        if term and term[1] in NAMES:
            raise UsageError(f"expected a filter that does not begin with -, got {f'-{flag}{value}'!r}. Write 'NOT {flag}{value}'.")


def pages(client: Client, which: dict[str, Any], left: int) -> Iterator[list[dict[str, Any]]]:
    """The newest ``left`` tasks that match, page by page."""
    before: bytes | None = None
    while left > 0:
        body = client.call("find", {**which, "limit": min(left, 100)} | ({"before": before} if before else {}), READ_WITHIN)
        yield body["tasks"]
        left -= len(body["tasks"])
        before = body["next"]
        if before is None or not body["tasks"]:
            return


def pages_by(client: Client, which: dict[str, Any], order: str, most: int) -> Iterator[list[dict[str, Any]]]:
    """The first ``most`` tasks that match in an order of ``tq.query.orders``, page by page."""
    view, at = client.call("view", {**which, "sort": order}, READ_WITHIN)["view"], 0
    while at < most:
        rows = client.call("page", {"view": view, "offset": at, "limit": min(most - at, 100)}, READ_WITHIN)["rows"]
        ids = [row[0] for row in rows if row is not None]
        if ids:
            yield [row for row in client.call("get", {"ids": ids})["tasks"] if row is not None]
        at += len(rows)
        if not rows:
            return


def peek(client: Client, values: dict[str, Any]) -> int:
    limit = 10 if values["limit"] is None else whole("--limit", values["limit"])
    name = None if values["queue"] is None else a_name("--queue", values["queue"])
    tenant = None if values["tenant"] is None else a_name("--tenant", values["tenant"])
    asked = {"limit": limit, **({"queue": name} if name else {}), **({"tenant": tenant} if tenant else {})}
    rows = client.call("peek", asked)["tasks"]
    held = [] if rows or tenant else [row for row in client.queues() if name in (None, row["name"]) and _held(row)]
    for row in held:
        hot.say(f"queue {clean(row['name'])} {_held(row)}: {row['states']['pending']} wait")
    if rows or not held:
        print_rows([rows], values["json"])
    return 0


def _held(queue: dict[str, Any]) -> str:
    """Why no worker takes what waits in a queue, if tasks do wait in it."""
    if not (queue["states"] or {}).get("pending"):  # None: it has settings, and had no tasks yet
        return ""
    if queue.get("held") and not queue["paused"]:
        return f"is held: {held_words(queue['held'])}"
    return "is paused" if queue["paused"] else "is left to consumers outside the pool" if queue.get("external") else ""
