"""``tq batch create|list|show|close|cancel|retry|wait|remove`` and ``--in-batch``, against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tq.model import SHELL, unpack

Run = Callable[..., tuple[int, str, str]]


def batch(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "id": number, "name": "import", "state": "running", "auto": False, "meta": {}, "created_at": 1_700_000_000_000,
        "closed_at": 1_700_000_001_000, "cancelled_at": 0,
        "finished_at": 0, "total": 4, "waiting": 1, "running": 1, "succeeded": 1, "failed": 1,
        "cancelled": 0, "expired": 0, "callbacks": {"on_failure": ["page", 9], "on_success": ["shell", None]}, "owed": [],
    }  # fmt: skip
    return {**row, **changes}


def test_a_batch_is_made_with_its_callbacks_and_its_id_is_printed(fake: Any, run: Run) -> None:
    fake.verbs["create_batch"] = lambda _: {"id": 3}
    words = ["--on-success", 'type:tell {"to": "ops"}', "--on-failure", "type:page", "--on-complete", "echo done | mail ops", "--auto"]
    assert run("batch", "create", "import", *words, "--meta", "k=v") == (0, "3\n", "")
    (asked,) = fake.asked("create_batch")
    shell = asked.pop("on_complete")
    assert (shell[0], unpack(shell[1])) == (SHELL, {"argv": ["/bin/sh", "-c", "echo done | mail ops"]})
    assert {"cwd", "env", "umask"} <= shell[2]["extras"].keys()
    success = asked.pop("on_success")
    assert (success[0], unpack(success[1])) == ("tell", {"to": "ops"})
    assert asked == {"name": "import", "auto": True, "meta": {"k": "v"}, "on_failure": ["page", b"", {}]}
    assert run("batch", "create") == (0, "3\n", "")
    assert fake.asked("create_batch")[1] == {"auto": False}


@pytest.mark.parametrize("text", ["", "  ", "type:", "type: {}", "type:t {", "type:t nope"])
def test_what_can_be_no_callback_is_refused_before_it_is_sent(fake: Any, run: Run, text: str) -> None:
    code, out, err = run("batch", "create", "--on-complete", text)
    assert (code, out) == (2, "")
    assert err.startswith("tq: --on-complete: expected ")
    assert not fake.asked("create_batch")


@pytest.mark.parametrize(
    "words", [["enqueue", "--type", "t", "--in-batch", "3"], ["add", "--in-batch", "3", "--", "true"], ["add", "--in-batch=3", "true"]]
)
def test_tasks_join_a_batch(fake: Any, run: Run, words: list[str]) -> None:
    fake.verbs["enqueue"] = lambda _: {"ids": [7]}
    assert run(*words)[:2] == (0, "7\n")
    assert fake.asked("enqueue")[0]["tasks"][0][2]["batch"] == 3


def test_batches_are_listed_page_by_page(fake: Any, run: Run) -> None:
    rows = [batch(number, name=None if number % 2 else "a\x1b[2J") for number in range(600, 0, -1)]
    fake.verbs["batches"] = lambda args: {"batches": [row for row in rows if row["id"] < (args["before"] or 1000)][: args["limit"]]}
    code, out, _ = run("batch", "list", "--limit", "501")
    assert code == 0
    assert len(out.splitlines()) == 502
    assert out.splitlines()[0].split() == ["id", "batch", "state", "over", "ends", "created"]
    assert "a\\x1b[2J  running  2/4   1 succeeded, 1 failed  2023-11-14T22:13:20.000Z" in out
    assert [asked["limit"] for asked in fake.asked("batches")] == [500, 1]
    found = [json.loads(line) for line in run("batch", "list", "--json", "-n", "2")[1].splitlines()]
    assert [row["id"] for row in found] == [600, 599]
    assert found[0]["callbacks"] == {"on_failure": {"type": "page", "id": 9}, "on_success": {"type": "shell", "id": None}}
    assert (found[0]["closed_at"], found[0]["finished_at"]) == ("2023-11-14T22:13:21.000Z", None)
    fake.verbs["batches"] = lambda _: {"batches": []}
    assert run("batch", "list") == (0, "", "no batches: `tq batch create NAME` makes one\n")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "2 members that are not over: `tq list 'batch:3 -finished:*'`"),
        ({"state": "open", "closed_at": 0}, "`tq batch close 3`, and 2 members that are not over"),
        ({"state": "open", "waiting": 0, "running": 0}, "`tq batch close 3`\n"),
        ({"state": "open", "auto": True, "total": 0}, "its first member"),
        ({"state": "open", "auto": True}, "2 members that are not over"),
    ],
)
def test_a_batch_says_what_it_waits_for(fake: Any, run: Run, changes: dict[str, Any], says: str) -> None:
    fake.verbs["batch"] = lambda _: {"batch": batch(3, meta={"k\x07": "v"}, **changes)}
    code, out, err = run("batch", "show", "3")
    assert (code, err) == (0, "")
    assert says in out
    assert "on failure   page, sent as task 9" in out
    assert "on success   shell, not sent" in out
    assert "\x07" not in out


def test_one_that_is_complete_waits_for_nothing_and_what_is_owed_is_said(fake: Any, run: Run) -> None:
    fake.verbs["batch"] = lambda _: {"batch": batch(3, state="complete", waiting=0, running=0, owed=["on_success"])}
    _, out, _ = run("batch", "show", "3")
    assert out.startswith("batch 3  import  complete  2 of 4 over  1 succeeded, 1 failed\n")
    assert "waits for" not in out
    assert "on success   shell, refused for now, and tried again" in out
    assert json.loads(run("batch", "show", "3", "--json")[1])["owed"] == ["on_success"]


def test_close_cancel_retry_and_remove(fake: Any, run: Run) -> None:
    fake.verbs["close_batch"] = lambda _: {"batch": batch(3)}
    assert run("batch", "close", "3") == (0, "", "batch 3 is closed\n")
    fake.verbs["close_batch"] = lambda _: {"batch": batch(3, waiting=0, running=0)}
    assert run("batch", "close", "3") == (0, "", "batch 3 is complete\n")
    fake.verbs["cancel_batch"] = fake.verbs["retry_batch"] = lambda _: {"chore": 5}
    assert run("batch", "cancel", "3") == (0, "5\n", "chore 5 does it. `tq queue chores` shows how far it is.\n")
    fake.verbs["chores"] = lambda _: {"chores": []}
    after = {"verb": "retry", "seen": 3, "changed": 2, "left": {"over": 1}}
    done = {"number": 1, "at": 0, "who": "tq", "what": "chore_done", "target": "5", "before": None, "after": after}
    fake.verbs["events"] = lambda _: {"events": [done]}
    code, out, err = run("batch", "retry", "3", "--wait")
    assert (code, out) == (0, "5\n")
    assert err == "2 tasks retried\n1 task left as it is: one that it runs after did not end as it should\n"
    fake.verbs["cancel_batch"] = fake.verbs["retry_batch"] = lambda _: {"chore": None}
    assert run("batch", "cancel", "3") == (0, "", "batch 3: none of its members were left to be cancelled\n")
    assert run("batch", "retry", "3") == (75, "", "batch 3: nothing to run again\n")
    fake.verbs["remove_batch"] = lambda _: {}
    assert run("batch", "remove", "3") == (0, "", "")
    assert fake.asked("remove_batch") == [{"id": 3}]


@pytest.mark.parametrize(
    ("ends", "code"),
    [({}, 1), ({"failed": 0}, 0), ({"failed": 0, "expired": 1, "cancelled": 1}, 124), ({"failed": 0, "cancelled": 1}, 143)],
)
def test_who_waits_exits_as_the_worst_of_the_members(fake: Any, run: Run, ends: dict[str, int], code: int) -> None:
    fake.verbs["wait_batch"] = lambda _: {"batch": batch(3, state="complete", **ends), "done": True}
    assert run("batch", "wait", "3") == (code, "", "")
    assert json.loads(run("batch", "wait", "3", "--json")[1])["state"] == "complete"


def test_a_wait_that_takes_too_long_ends_with_124(fake: Any, run: Run) -> None:
    fake.verbs["wait_batch"] = lambda _: {"batch": batch(3), "done": False}
    code, out, err = run("batch", "wait", "3", "--timeout", "10ms")
    assert (code, out) == (124, "")
    assert "expected batch 3 to be complete within" in err


def test_why_names_the_batch(fake: Any, run: Run, task_row: Any) -> None:
    fake.verbs["why"] = lambda _: {"task": task_row(7, batch=3), "reasons": []}
    assert run("why", "7")[1].endswith("  It is of batch 3: `tq batch show 3` says how that stands.\n")
