"""The hot verbs themselves, for both parsers: what is asked, printed and returned.

For: ``enqueue add status wait result cancel stats``, over any ``call`` that sends a request.
Not for: parsing; verbs that stream or read files (tasks).
Runs in: the ``tq`` command; on success imports only ``options`` and ``render``.
Promises: an id is printed only after the answer that says it is stored; exit codes are those of ``tq --help``.
"""

from __future__ import annotations

import sys

from tq.cli.options import after_newest, duration, enqueue_task, task_ids
from tq.errors import DaemonError, NoSuchTask, Refused, TaskTimeout, TqError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tq.cli.options import Call

ANSWER_WITHIN = 30.0
WAIT_SLICE_MS = 60_000  # a longer wait is asked for in slices, so that a daemon that hangs is noticed
IDS_A_CALL = 500


def say(text: str) -> None:
    """Words for people, on stderr, safe for a terminal."""
    if not text.isprintable():
        from tq.model import safe_text

        text = safe_text(text, newlines=True)
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            pass  # it fails again, and is reported, when the command ends
    print(text, file=sys.stderr, flush=True)


def put(text: object, lines: bool = False) -> None:
    """Text on stdout that others chose, such as a path: as it is for a script, safe for a terminal. ``lines``: it has several."""
    words = str(text)
    if not words.isprintable() and sys.stdout is not None and sys.stdout.isatty():
        from tq.model import safe_text

        words = safe_text(words, newlines=lines)
    print(words)


def print_ids(ids: Sequence[int]) -> None:
    """Each on a line of its own, in one write: what runs side by side must not mix its ids. TqError names what is stored."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write("".join(f"{task_id}\n" for task_id in ids))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # what is left in it would fail again at the end
        stored = f"task {ids[0]} is" if len(ids) == 1 else f"tasks {ids[0]} to {ids[-1]} are"
        raise TqError(f"the output cannot be written: {error.strerror}. But {stored} stored: do not send it again.") from None


def report(error: TqError, name: str, values: dict[str, Any]) -> int:
    """Say what went wrong with a command, in the words of its options; the exit code."""
    from tq.cli.saying import in_options

    say(f"tq: {in_options(error.message, name, values)}")
    return error.exit_code


def run(verb: str, call: Call, values: dict[str, Any]) -> int:
    """Do a hot verb; its exit code."""
    try:
        return VERBS[verb](call, values)
    except TqError as error:
        return report(error, verb, values)


def sent(call: Call, task: list[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The answer to an enqueue; with ``--stdin`` what is to be read is on disk before that is sent."""
    if not values.get("stdin"):
        return _sent(call, task, values)
    from tq.cli.command import forget_input, input_of

    call("status", {})  # or all of it would be read and kept for nobody; a daemon that is started makes its directory
    name = input_of(values)
    task[2]["extras"]["stdin"] = name
    try:
        body = _sent(call, task, values)
    except DaemonError:
        raise  # it may have been stored
    except TqError:
        forget_input(values, name)
        raise
    if body.get("existing"):
        forget_input(values, name)
    return body


def _sent(call: Call, task: list[Any], values: dict[str, Any]) -> dict[str, Any]:
    """What is refused for now is sent again for as long as ``--wait-for-room`` says, then Refused."""
    wait = values.get("wait_for_room")
    limit = 0 if wait is None else duration("--wait-for-room", wait)
    args = {"tasks": [task], "again": False}
    try:
        return call("enqueue", args)
    except Refused as error:
        if not limit:
            raise
        refused = error
    from time import sleep

    from tq.cli.command import hold_input
    from tq.client.core import Room

    room = Room(limit / 1000)
    say(f"tq: {refused.message} Trying again for {wait}.")
    while (pause := room.pause(refused)) is not None:
        sleep(pause)
        if values.get("stdin"):
            hold_input(values, task[2]["extras"]["stdin"])
        try:
            return call("enqueue", args)
        except Refused as error:
            refused = error
    raise refused


def say_existing(ids: Sequence[int]) -> None:
    """Which tasks an enqueue did not store, since their key or unique name had one already."""
    if len(ids) == 1:
        say(f"tq: task {ids[0]} was there already: nothing was stored.")
    elif ids:
        some = ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")
        say(f"tq: {len(ids)} tasks were there already, and were not stored again: {some}")


def _stored(call: Call, task: list[Any], values: dict[str, Any]) -> int:
    body = sent(call, task, values)
    ids = body["ids"]
    print_ids(ids)
    say_existing([ids[at] for at in body.get("existing", ())])
    return exit_code(ids, waited(call, ids, None)) if values.get("wait") else 0


def enqueue(call: Call, values: dict[str, Any]) -> int:
    return _stored(call, enqueue_task(after_newest(call, values)), values)


def add(call: Call, values: dict[str, Any]) -> int:
    from tq.cli.command import command_task

    return _stored(call, command_task(after_newest(call, values)), values)


def rows_of(call: Call, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The tasks; NoSuchTask names the first there is none of."""
    rows = call("get", {"ids": ids})["tasks"]
    for task_id, row in zip(ids, rows, strict=True):
        if row is None:
            raise NoSuchTask(no_such(task_id))
    return rows  # type: ignore[no-any-return]


def no_such(task_id: int) -> str:
    return f"expected the id of a task, got {task_id}: there is none, or it was removed. `tq list` shows those there are."


def status(call: Call, values: dict[str, Any]) -> int:
    from tq.cli.render import json_line, status_line, task_object

    word = values.get("task_id") or values.get("id")
    if not word or (values.get("task_id") and values.get("id")):
        raise UsageError("expected one id, `tq status ID` or `tq status --task-id ID`. Waiting and running tasks: `tq list`.")
    row = rows_of(call, task_ids(call, [word]))[0]
    print(json_line(task_object(row)) if values.get("json") else status_line(row))
    return 0


def result(call: Call, values: dict[str, Any]) -> int:
    from tq.cli.render import UNREADABLE, code_of, json_line, plain, value_of

    row = rows_of(call, task_ids(call, [values["id"]]))[0]
    if row["state"] == "succeeded":
        value = value_of(row["result"])
        if value is not None and value is row["result"]:
            say(f"tq: the result of task {row['id']} {UNREADABLE}")
        print(json_line(plain(value)))
        return 0
    if row["state"] not in ("failed", "cancelled", "expired"):
        say(f"tq: task {row['id']} is {row['state']}, so it has no result yet. Wait for it with `tq wait {row['id']}`.")
        return 75
    say_end(row)
    return code_of(row)


def say_end(row: dict[str, Any]) -> None:
    """How a task ended, if it did not succeed; with its traceback if it has one."""
    if row["state"] == "succeeded":
        return
    error = row["error"]
    text = f"tq: task {row['id']} {row['state']}"
    if error:
        from tq.client.core import format_error

        text += f"\n{format_error(error)}" if error.get("frames") else f": {format_error(error)}"
    say(text)


def waited(call: Call, ids: Sequence[int], timeout_ms: int | None, any_one: bool = False) -> list[dict[str, Any] | None]:
    """The tasks once all (``any_one``: one) are over; TaskTimeout if ``timeout_ms`` passes first (None: no limit)."""
    from time import monotonic

    began, rest = monotonic(), 0
    rows: list[dict[str, Any] | None] = []
    for start in range(0, len(ids), IDS_A_CALL):
        part = ids[start : start + IDS_A_CALL]
        while True:
            if timeout_ms is not None:
                rest = timeout_ms - int((monotonic() - began) * 1000)
            left = WAIT_SLICE_MS if timeout_ms is None else min(max(rest, 1), WAIT_SLICE_MS)
            body = call("wait", {"ids": part, "timeout_ms": left, "any": any_one}, left // 1000 + 1 + ANSWER_WITHIN)
            if body["done"]:
                break
            if timeout_ms is not None and monotonic() - began >= timeout_ms / 1000:
                open_ids = [row["id"] for row in body["tasks"] if row and not row["finished_at"]]
                which = f"task {open_ids[0]}" if len(open_ids) == 1 else f"{len(open_ids)} tasks"
                wanted = "one of them" if any_one else "all"
                raise TaskTimeout(f"expected {wanted} to be over in time, but {which} go on. Nothing was stopped: wait again, or cancel.")
        rows += body["tasks"]
    return rows


def exit_code(ids: Sequence[int], rows: Sequence[dict[str, Any] | None]) -> int:
    """The first code that is not 0, in order; says how each that did not succeed ended."""
    from tq.cli.render import code_of

    first = 0
    for task_id, row in zip(ids, rows, strict=True):
        if row is None:
            say(f"tq: {no_such(task_id)}")
        else:
            say_end(row)
        first = first or code_of(row)
    return first


def wait(call: Call, values: dict[str, Any]) -> int:
    timeout = values.get("timeout")
    limit = None if timeout is None else duration("--timeout", timeout)
    ids = task_ids(call, values["ids"])
    if values.get("any"):
        return _waited_for_one(call, values, ids, limit)
    rows = waited(call, ids, limit)
    if values.get("json"):
        from tq.cli.render import json_line, task_object

        for row in rows:
            if row is not None:
                print(json_line(task_object(row)))
    return exit_code(ids, rows)


def _waited_for_one(call: Call, values: dict[str, Any], ids: Sequence[int], limit: int | None) -> int:
    """Print which are over as soon as one is; their exit code."""
    if len(ids) > IDS_A_CALL:
        raise UsageError(f"--any: expected at most {IDS_A_CALL} ids, got {len(ids)}. Wait for fewer at a time.")
    rows = waited(call, ids, limit, any_one=True)
    over = [(task_id, row) for task_id, row in zip(ids, rows, strict=True) if row is None or row["finished_at"]]
    if values.get("json"):
        from tq.cli.render import json_line, task_object

        for _, row in over:
            if row is not None:
                print(json_line(task_object(row)))
    else:
        print_ids([task_id for task_id, row in over if row is not None])
    return exit_code([task_id for task_id, _ in over], [row for _, row in over])


def cancel(call: Call, values: dict[str, Any]) -> int:
    ids = task_ids(call, values["ids"])
    words = {"cancelled": "cancelled", "asked": "runs, and was asked to end", "over": "is over already"}
    code = 0
    for start in range(0, len(ids), IDS_A_CALL):
        part = ids[start : start + IDS_A_CALL]
        for task_id, outcome in zip(part, call("cancel", {"ids": part})["outcomes"], strict=True):
            say(f"task {task_id}: {words[outcome]}" if outcome in words else f"tq: {no_such(task_id)}")
            code = code or (0 if outcome in words else 66)
    return code


def stats(call: Call, values: dict[str, Any]) -> int:
    if values.get("history") is not None or values.get("queue") is not None:
        from tq.cli.past import history

        return history(call, values)
    from tq.cli.render import json_line, stats_object, stats_words

    body = call("stats", {})
    print(json_line(stats_object(body)) if values.get("json") else stats_words(body))
    return 0


VERBS = {"enqueue": enqueue, "add": add, "status": status, "wait": wait, "result": result, "cancel": cancel, "stats": stats}
