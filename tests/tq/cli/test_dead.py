"""``tq dead list|show|retry|purge`` against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tq import wire

Run = Callable[..., tuple[int, str, str]]
GROUP = {
    "group": "g1a2b3c4d", "type": "email", "error": "SMTPError", "message": "port # closed", "count": 12,
    "first_at": 1_700_000_000_000, "last_at": 1_700_000_060_000, "last_id": 5, "queues": ["default", "mail"],
}  # fmt: skip
ERROR = {"type": "SMTPError", "message": "port 25 closed", "frames": [["mail.py", 3, "send", "connect()"]]}


@pytest.fixture
def groups(fake: Any, task_row: Any) -> Any:
    fake.verbs["dead"] = lambda _: {"groups": [GROUP]}
    fake.verbs["get"] = lambda args: {
        "tasks": [task_row(i, state="failed", error=ERROR) if i < 50 else task_row(i) if i < 100 else None for i in args["ids"]]
    }
    return fake


def test_list_shows_each_group_with_its_count_error_and_times(groups: Any, run: Run) -> None:
    code, out, _ = run("dead", "list")
    assert code == 0
    for words in ("g1a2b3c4d", "12", "SMTPError", "port # closed", "2023-11-14T22:13:20.000Z", "2023-11-14T22:14:20.000Z"):
        assert words in out
    one = json.loads(run("dead", "list", "--json")[1])
    assert (one["count"], one["last_at"]) == (12, "2023-11-14T22:14:20.000Z")
    groups.verbs["dead"] = lambda _: {"groups": []}
    assert run("dead", "list") == (0, "", "no dead letters\n")


def test_list_asks_for_what_its_options_say(groups: Any, run: Run) -> None:
    assert run("dead", "list", "-q", "mail", "-t", "email", "--older-than", "1d", "--newer-than", "3d", "--where", "a OR b")[0] == 0
    (args,) = groups.asked("dead")
    assert (args["queue"], args["type"]) == ("mail", "email")
    assert args["where"] == "finished<=-1d finished>=-3d (a OR b)"
    assert run("dead", "list", "--group", "g1")[0] == 2


def test_list_of_tasks_asks_for_failed_ones_alone(groups: Any, run: Run) -> None:
    code, out, _ = run("dead", "list", "--tasks", "--group", "g1a2b3c4d", "-n", "3", "--json")
    assert (code, json.loads(out)["id"]) == (0, 7)
    assert groups.asked("find") == [{"group": "g1a2b3c4d", "states": ["failed"], "limit": 3}]


def test_show_of_a_group_is_what_they_have_in_common_and_the_newest_with_its_traceback(groups: Any, run: Run) -> None:
    code, out, _ = run("dead", "show", "g1a2b3c4d")
    assert code == 0
    for words in ("12 tasks of email", "SMTPError: port # closed", "default, mail", "5  failed", 'File "mail.py", line 3, in send'):
        assert words in out
    assert json.loads(run("dead", "show", "g1a2b3c4d", "--json")[1])["newest"]["id"] == 5
    assert run("dead", "show", "g9")[0] == 2


def test_show_of_an_id_is_the_task(groups: Any, run: Run) -> None:
    code, out, err = run("dead", "show", "7")
    assert (code, err) == (0, "")
    assert out.startswith("7  failed")
    assert "no dead letter" in run("dead", "show", "60")[2]
    assert run("dead", "show", "200")[0] == 66


def test_ids_that_are_no_dead_letters_are_left_alone(groups: Any, run: Run) -> None:
    groups.verbs["retry"] = lambda args: {"outcomes": ["retried"] * len(args["ids"])}
    code, _, err = run("dead", "retry", "1", "60", "200", "2", "--payload", "3", "--queue", "slow")
    assert code == 75
    assert groups.asked("retry") == [{"ids": [1, 2], "changes": {"payload": wire.pack(3), "queue": "slow"}}]
    assert "task 60: is succeeded, no dead letter" in err
    assert "got 200" in err
    groups.verbs["remove"] = lambda args: {"outcomes": ["removed"] * len(args["ids"])}
    assert run("dead", "purge", "1", "2") == (0, "", "task 1: removed\ntask 2: removed\n")


@pytest.mark.parametrize(
    ("argv", "verb", "sent"),
    [
        (["retry", "--all"], "retry", {"states": ["failed"]}),
        (["retry", "--group", "g1", "-p", "high"], "retry", {"states": ["failed"], "group": "g1", "changes": {"priority": 2}}),
        (["retry", "--where", "error:timeout"], "retry", {"states": ["failed"], "where": "error:timeout"}),
        (["purge", "--older-than", "3d", "-q", "mail"], "remove", {"states": ["failed"], "queue": "mail", "where": "finished<=-3d"}),
    ],
)  # fmt: skip
def test_bulk_acts_touch_dead_letters_only(groups: Any, run: Run, argv: list[str], verb: str, sent: Any) -> None:
    groups.verbs[verb] = lambda args: {"chore": 3} if "dry_run" not in args else {"count": 2, "some": [1, 2]}
    assert run("dead", *argv)[:2] == (0, "3\n")
    assert run("dead", *argv, "--dry-run")[:2] == (0, "2\n")
    assert groups.asked(verb) == [sent, {**sent, "dry_run": True}]


@pytest.mark.parametrize("argv", [[], ["1", "--all"], ["--all", "--group", "g1"], ["1", "--older-than", "1d"], ["--where", ""]])
def test_neither_nothing_nor_two_things_at_once_are_taken(groups: Any, run: Run, argv: list[str]) -> None:
    for verb in ("retry", "purge"):
        assert run("dead", verb, *argv)[0] == 2
    assert not groups.requests
