"""``tq workflow run|list|show|cancel|retry``: named graphs of tasks, from a TOML file or from Python.

For: reading the file, and showing a workflow as a tree with states and times.
Not for: what a workflow is and how it is found again (``tq.workflows``), when a step runs (the daemon).
Runs in: the ``tq`` command.
Promises: a file that cannot be used is a UsageError that names the step, and nothing is stored; steps that wait for each other in a
circle are named; the names of steps are hostile text.

A file::

    name = "deploy"

    [steps.build]
    command = ["make", "all"]

    [steps.test]
    after = "build"                        # or a list; also after_any, after_failure
    map = ["unit", "flows"]                # a task for each: {} stands for it
    command = "pytest tests/{}"            # a text is a line for /bin/sh, and there $1 is the item, too
    retries = 1
    timeout = "10m"

    [steps.tell]
    after_any = ["test"]
    type = "mail"
    payload = {to = "team", subject = "deployed"}

Beside ``command`` (with ``cwd``, ``env`` and the other options of `tq add`) or ``type`` and ``payload``, a step takes the options of
`tq enqueue` as keys, with ``-`` or ``_``. A mapped step is one task for each item; who comes after it waits for all of them. Of a mapped
``type`` the item is the payload, or takes the place of ``"{}"`` in the one given.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tq import workflows
from tq.cli import hot
from tq.cli.command import command_payload, extras_of, line_words
from tq.cli.options import HOW, TASK, task_ids, task_options, unicode_text, whole
from tq.cli.payloads import packed
from tq.cli.render import clean, code_of, instant, json_line, print_table, seconds, task_object
from tq.client import Client
from tq.errors import UsageError
from tq.model import SHELL

LIMIT = 20
NAMED = 10
"""Tasks of a mapped step that are told one by one."""
_AFTER = ("after", "after_any", "after_failure")
_OWN = frozenset({"command", "shell", "type", "payload", "map", "in", *_AFTER})
_NOT = frozenset({"key", "on_conflict", "wait_for_room"})
_KEYS = (_OWN | {option.key for option in (*TASK, *HOW)}) - _NOT

Place = int
Row = list[Any]


# the file


def rows_of(file: Mapping[str, Any]) -> tuple[str, list[Row]]:
    """The name of the workflow and its tasks as ``enqueue`` takes them. UsageError names what cannot be."""
    name, steps = file.get("name"), file.get("steps")
    if unknown := sorted(file.keys() - {"name", "steps"}):
        raise UsageError(f"expected name and steps in a workflow's file, got {unknown[0]!r}.")
    if not isinstance(name, str) or not isinstance(steps, dict) or not steps or not all(isinstance(one, dict) for one in steps.values()):
        raise UsageError(
            'expected name = "..." and a table [steps.NAME] for each step in a workflow\'s file. See `tq workflow run --help`.'
        )
    given = {step: {key.replace("-", "_"): value for key, value in keys.items()} for step, keys in steps.items()}
    for step, keys in given.items():
        _check(step, keys, given)
    places: dict[str, list[Place]] = {}
    rows: list[Row] = []
    names: list[str] = []
    for step in _in_order(given):
        keys = given[step]
        links = {key: [place for one in _names(keys.get(key)) for place in places[one]] for key in _AFTER}
        try:
            found = list(_tasks(keys))
        except UsageError as error:
            raise UsageError(f"step {step!r}: {error.message}") from None
        for row in found:
            row[2] = {**(row[2] or {}), **{key: some for key, some in links.items() if some}}
        places[step] = [-1 - len(rows) - at for at in range(len(found))]
        rows += found
        names += [step] if "map" not in keys else [f"{step}[{at}]" for at in range(len(found))]
    for row, notes in zip(rows, workflows.marks(name, names), strict=True):
        row[2]["meta"] = {**(row[2].get("meta") or {}), **notes}
    return name, rows


def _check(step: str, keys: Mapping[str, Any], steps: Mapping[str, Any]) -> None:
    """UsageError for keys that a step does not have, and steps that there are none of."""
    if unknown := sorted(keys.keys() - _KEYS):
        close = difflib.get_close_matches(unknown[0], _KEYS, 1)
        raise UsageError(
            f"step {step!r}: expected command or type, and options such as after, map and retries, got {unknown[0]!r}."
            + (f" Did you mean {close[0]!r}?" if close else "")
        )
    if ("command" in keys) == ("type" in keys):
        raise UsageError(
            f"step {step!r}: expected either a command or a type (with a payload), got {'both' if 'type' in keys else 'none'}."
        )
    if "map" in keys and (not isinstance(keys["map"], list) or not keys["map"]):
        raise UsageError(f"step {step!r}: map: expected a list of at least one item, got {keys['map']!r}.")
    for key in _AFTER:
        given = keys.get(key, [])
        if not isinstance(given, str | list) or not all(isinstance(one, str) for one in given):
            raise UsageError(f"step {step!r}: {key}: expected the name of a step, or a list of names, got {given!r}.")
        if missing := [one for one in _names(given) if one not in steps]:
            close = difflib.get_close_matches(missing[0], steps, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"step {step!r}: {key}: expected a step of this file, got {missing[0]!r}.{hint}")


def _names(given: str | Sequence[str] | None) -> Sequence[str]:
    return [given] if isinstance(given, str) else given or []


def _in_order(steps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The steps, each behind those that it comes after, else as they stand in the file."""
    graph = TopologicalSorter({step: [one for key in _AFTER for one in _names(keys.get(key))] for step, keys in steps.items()})
    try:
        return list(graph.static_order())
    except CycleError as error:
        raise UsageError(f"expected steps that do not wait for each other in a circle, got {' > '.join(error.args[1])}.") from None


def _tasks(keys: Mapping[str, Any]) -> Iterable[Row]:
    """The tasks of a step, without what they wait for."""
    options = {key: value for key, value in keys.items() if key not in _OWN or key == "in"}
    command = "command" in keys
    how = {option.key: options.pop(option.key) for option in HOW if option.key in options}
    if how and not command:
        raise UsageError(f'{next(iter(how))}: expected a "command" beside it, got none. It says how a command is run.')
    wire = task_options(options) or {}
    if command:
        wire["extras"] = extras_of(how)
    for item in keys.get("map", [None]):
        if command:
            yield [SHELL, _command(keys, item, "map" in keys), dict(wire)]
        else:
            value = _filled(keys["payload"], item, "map" in keys) if "payload" in keys else item
            yield [unicode_text("type", str(keys["type"])), packed(value), dict(wire)]


def _command(keys: Mapping[str, Any], item: Any, mapped: bool) -> bytes:
    """The payload of a command. In a line for the shell an item is an argument, and never part of the program."""
    words = line_words({"command": keys["command"], "shell": isinstance(keys["command"], str)})
    if not mapped:
        return command_payload(words)
    if isinstance(keys["command"], str):
        return command_payload([*words[:-1], words[-1].replace("{}", '"$1"'), "sh", str(item)])
    return command_payload([word.replace("{}", str(item)) for word in words])


def _filled(value: Any, item: Any, mapped: bool) -> Any:
    """A payload with the item where ``{}`` stands; alone in a text it keeps its kind."""
    if not mapped:
        return value
    if isinstance(value, dict):
        return {key: _filled(one, item, mapped) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, item, mapped) for one in value]
    if isinstance(value, str):
        return item if value == "{}" else value.replace("{}", str(item))
    return value


# the commands


def workflow_run(client: Client, values: dict[str, Any]) -> int:
    name = values["file"]
    try:
        with open(name, "rb") as file:
            _, rows = rows_of(tomllib.load(file))
    except OSError as error:
        raise UsageError(f"expected a workflow's file that can be read, got {name!r}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: expected TOML, got something else: {error}.") from None
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}") from None
    ids = client.call("enqueue", {"tasks": rows, "again": False})["ids"]
    hot.print_ids(ids[:1])
    if not values["wait"]:
        hot.say(f"workflow {ids[0]} of {len(ids)} tasks: `tq workflow show {ids[0]}`")
        return 0
    return _code(hot.waited(client.call, ids, None))


def _code(rows: Iterable[Mapping[str, Any] | None]) -> int:
    """The exit code of a workflow: that of the first task that did not succeed and was not left out."""
    codes = (code_of(dict(row)) for row in rows if row is not None and not workflows.is_left_out(row))
    return next((code for code in codes if code), 0)


def workflow_list(client: Client, values: dict[str, Any]) -> int:
    limit = LIMIT if values["limit"] is None else whole("--limit", values["limit"])
    cells = []
    for run in workflows.runs(client, limit, values["name"]):
        rows = run.tasks()
        told = {"id": run.id, "name": rows[0]["meta"][workflows.NAME], "state": workflows.state_of(rows), "tasks": len(rows)}
        done = sum(row["finished_at"] > 0 for row in rows)
        if values["json"]:
            print(json_line({**told, "over": done, "created_at": instant(rows[0]["created_at"]), "took": _took(rows)}))
        cells.append((run.id, told["name"], told["state"], f"{done}/{len(rows)}", instant(rows[0]["created_at"]), _spoken(rows)))
    if not values["json"]:
        head = ("id", "workflow", "state", "tasks over", "begun", "took")
        print_table(head, cells, "no workflows: `tq workflow run FILE` begins one")
    return 0


def _took(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds from the first start to the last end, as far as it has come; None: nothing has begun."""
    starts = [row["started_at"] for row in rows if row["started_at"]]
    ends = [row["finished_at"] for row in rows if row["finished_at"] and row["started_at"]]
    return (max(ends) - min(starts)) / 1000 if starts and ends else None


def _spoken(rows: Sequence[Mapping[str, Any]]) -> str:
    return seconds(took) if (took := _took(rows)) is not None else "-"


def _run(client: Client, values: dict[str, Any]) -> workflows.Run:
    return workflows.run_of(client, task_ids(client.call, [values["id"]])[0])


def workflow_show(client: Client, values: dict[str, Any]) -> int:
    run = _run(client, values)
    rows = run.tasks()
    if values["json"]:
        for row in rows:
            print(json_line({"step": workflows.step_of(row), **task_object(_packed(row))}))
        return 0
    name = clean(rows[0]["meta"][workflows.NAME])
    print(f"workflow {run.id}  {name}  {workflows.state_of(rows)}  {len(rows)} tasks  {_spoken(rows)}")
    for depth, step, some in workflows.tree(rows):
        margin = "  " * (depth + 1)
        ids = str(some[0]["id"]) if len(some) == 1 else f"{some[0]['id']}-{some[-1]['id']}"
        print(f"{margin}{clean(step)}  {ids}  {_states(some)}  {_spoken(some)}{_why(some[0]) if len(some) == 1 else ''}")
        bad = [one for one in some if one["state"] not in ("succeeded", "blocked", "pending")] if len(some) > 1 else []
        for one in bad[:NAMED]:
            print(f"{margin}  {clean(workflows.step_of(one))}  {one['id']}  {_states([one])}  {_spoken([one])}{_why(one)}")
        if len(bad) > NAMED:
            print(f"{margin}  and {len(bad) - NAMED} more")
    return 0


def _packed(row: dict[str, Any]) -> dict[str, Any]:
    """The row as the wire has it, which ``task_object`` reads."""
    return {**row, **{key: packed(row[key]) if row[key] is not None else b"" for key in ("payload", "result")}}


def _states(rows: Sequence[Mapping[str, Any]]) -> str:
    words = ["left out" if workflows.is_left_out(row) else str(row["state"]) for row in rows]
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    return words[0] if len(rows) == 1 else ", ".join(f"{count} {word}" for word, count in counts.items())


def _why(row: Mapping[str, Any]) -> str:
    error = row["error"]
    if not error or workflows.is_left_out(row):
        return ""
    return f"  {clean(error.get('type') or 'Error')}: {clean(str(error.get('message') or '')[:200])}"


def workflow_cancel(client: Client, values: dict[str, Any]) -> int:
    run = _run(client, values)
    hot.say(f"workflow {run.id}: {run.cancel()} tasks are cancelled, or were told to end")
    return 0


def workflow_retry(client: Client, values: dict[str, Any]) -> int:
    run = _run(client, values)
    ids = run.retry()
    hot.say(f"workflow {run.id}: {len(ids)} tasks run again" if ids else f"workflow {run.id} is {run.state()}: nothing to run again")
    return 0 if ids else 75
