"""``tq why`` against a daemon of paper: each reason in words, in one sentence, and what would help."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tq import wire
from tq.cli.why import WHY

Run = Callable[..., tuple[int, str, str]]
AT = 1_700_000_000_000
EVIL = "\x1b]0;owned\x07\u202e"
BOOM = {"type": "ValueError", "message": f"no {EVIL}"}
ENDED = {
    "at": AT,
    "attempts": 4,
    "failures": 4,
    "crashes": 3,
    "interrupts": 10,
    "retries": 3,
    "error": None,
    "exit_code": None,
    "why": None,
}
RUNS = {"worker": EVIL, "since": AT, "attempt": 2, "ends_at": 0, "progress": None}

REASONS: list[tuple[str, str, dict[str, Any], str]] = [
    ("not_due", "scheduled", {"due_at": AT}, "not due before 2023-11-14T22:13:20.000Z."),
    ("retry_not_due", "retrying", {"due_at": AT, "failures": 2, "retries": 3, "attempt": 3, "error": BOOM},
     "attempt 3 is due at 2023-11-14T22:13:20.000Z, since it failed 2 of 4 times (ValueError: no \\x1b"),
    ("blocked", "blocked", {"parents": [[7, "running"], [8, "retrying"]], "waits": 2, "of": 5},
     "it waits for 2 of 5 tasks: 7 (running), 8 (retrying)."),
    ("blocked", "blocked", {"parents": [[7, "running"]], "waits": 9, "of": 900},
     "it waits for 9 of 900 tasks: 7 (running) and 8 more."),
    ("running", "running", RUNS, "attempt 2 runs on \\x1b]0;owned\\x07\\u202e since 2023-11-14T22:13:20.000Z."),
    ("running", "running", {**RUNS, "ends_at": AT + 1, "progress": [0.25, EVIL]},
     "may do so until 2023-11-14T22:13:20.001Z, 25% done (\\x1b"),
    ("handed_out", "running", {"worker": "w1", "since": AT}, "was handed to w1 at 2023-11-14T22:13:20.000Z, which has not come to it"),
    ("suspended", "running", {}, "it is suspended"),
    ("cancel_asked", "running", {"who": "user 1000 (pid 9)"}, "it was asked to end by user 1000 (pid 9)."),
    ("over", "succeeded", ENDED, "is succeeded: it succeeded at 2023-11-14T22:13:20.000Z with attempt 4."),
    ("over", "failed", {**ENDED, "why": "retries", "error": BOOM}, "T22:13:20.000Z, with attempt 4, the last of 4 (Val"),
    ("over", "failed", {**ENDED, "why": "permanent", "error": BOOM}, "after which its handler wanted no other"),
    ("over", "failed", {**ENDED, "why": "no_time", "error": BOOM}, "after which there was no time for another"),
    ("over", "failed", {**ENDED, "why": "once", "error": BOOM}, "as a task to be run once, is not begun again"),
    ("over", "failed", {**ENDED, "why": "poison", "error": BOOM}, "since its worker died under it 3 times"),
    ("over", "failed", {**ENDED, "why": "interrupts", "error": BOOM}, "since it was interrupted 10 times"),
    ("over", "cancelled", {**ENDED, "who": EVIL}, "it was cancelled at 2023-11-14T22:13:20.000Z by \\x1b"),
    ("over", "cancelled", {**ENDED, "error": BOOM}, "it was cancelled at 2023-11-14T22:13:20.000Z (ValueError: no"),
    ("over", "expired", {**ENDED, "why": "ttl"}, "it expired at 2023-11-14T22:13:20.000Z, since it was not done within its time to live"),
    ("over", "expired", {**ENDED, "why": "deadline"}, "since it was not over by its deadline"),
    ("draining", "pending", {}, "the daemon is stopping"),
    ("queue_paused", "pending", {"queue": "mail", "who": "user 7", "since": AT}, "is paused since 2023-11-14T22:13:20.000Z by user 7."),
    ("queue_paused", "pending", {"queue": "mail", "who": None, "since": 0}, "queue mail is paused."),
    ("queue_held", "pending", {"queue": "mail", "rules": ["load"], "why": f"the load is 7.20 {EVIL}", "age_ms": 3000},
     "queue mail is held: the load is 7.20 \\x1b]0;owned\\x07\\u202e; looked 3 s ago."),
    ("queue_held", "pending", {"queue": EVIL, "rules": [], "why": "its probe has not answered yet"},
     "queue \\x1b]0;owned\\x07\\u202e is held: its probe has not answered yet."),
    ("queue_external", "pending", {"queue": "mail", "running": 2}, "left to consumers outside the pool, which hold 2 of its tasks."),
    ("no_worker_knows_type", "pending", {"type": EVIL}, "no worker has ever named the type \\x1b"),
    ("no_worker_has_type", "pending", {"type": EVIL, "workers": 2}, "none of the 2 workers has the type \\x1b"),
    ("type_suspected", "pending", {"type": "t", "crashes": 3, "try_at": AT}, "3 runs in a row have killed their workers; one is tried"),
    ("gathers", "pending", {"type": EVIL, "waiting": 3, "batch": 100, "begins_at": AT}, "a call takes up to 100 of type \\x1b"),
    ("queue_slots_taken", "pending", {"queue": "q", "running": 2, "slots": 2, "needs": 1}, "queue q take 2 of its 2 slots"),
    ("queue_slots_taken", "pending", {"queue": "q", "running": 1, "slots": 2, "needs": 2}, "queue q take 1 of its 2 slots, and it needs 2"),
    ("workers_busy", "pending", {"active": 1, "slots": 2, "needs": 2}, "1 of 2 slots of the workers are taken, and it needs 2"),
    ("workers_busy", "pending", {"active": 0, "slots": 2, "needs": 3},
     "0 of 2 slots of the workers are taken, and it needs 3, more than there are"),
    ("limit_reached", "pending", {"limit": "mail", "scope": "type", "of": "email", "rate": 100, "per_ms": 60_000, "most": 9, "running": 1,
     "opens_at": AT}, "limit mail (100/m, 9 at a time) of type email is reached until 2023-11-14T22:13:20.000Z."),
    ("limit_reached", "pending", {"limit": "few", "scope": "flow", "of": EVIL, "rate": 0, "per_ms": 1000, "most": 1, "running": 1,
     "opens_at": 0}, "limit few (1 at a time) of flow key \\x1b]0;owned\\x07\\u202e is reached: 1 of its tasks run."),
    ("quota_reached", "pending", {"tenant": EVIL, "quota": 2, "running": 2},
     "tenant \\x1b]0;owned\\x07\\u202e runs 2 tasks, and its quota is 2."),
    ("resource_taken", "pending", {"resource": "gpu", "amount": 1, "in_use": 2, "total": 2, "tasks": [7, 9], "of": 2},
     "it waits for 1 of resource gpu: 2 of 2 are in use by tasks 7, 9"),
    ("resource_taken", "pending", {"resource": "g\x1b", "amount": 1, "in_use": 9, "total": 9, "tasks": [7], "of": 9},
     "it waits for 1 of resource g\\x1b: 9 of 9 are in use by tasks 7 and 8 more"),
    ("resource_taken", "pending", {"resource": "gpu", "amount": 1, "in_use": 1, "total": 1, "tasks": [7], "of": 1}, "in use by task 7"),
    ("resource_short", "pending", {"resource": "gpu", "amount": 2, "total": 1}, "it needs 2 of resource gpu, of which there is 1"),
    ("breaker", "pending", {"type": "t", "state": "open", "until": AT, "why": "5 failures\x1b", "probes": 0, "rule": "5 failures"},
     "the breaker of type t is open until 2023-11-14T22:13:20.000Z (5 failures\\x1b)"),
    ("breaker", "pending", {"type": "t", "state": "open", "until": 0, "why": "tripped", "probes": 0, "rule": ""},
     "until it is reset (tripped)"),
    ("breaker", "pending", {"type": "t", "state": "half_open", "until": 0, "why": "x", "probes": 1, "rule": ""},
     "lets only probes run, 1 of"),
    ("service_down", "scheduled", {"error": "the breaker of service 'smtp' is open"}, "turned away: the breaker of service 'smtp' is open"),
    ("kept", "pending", {"resource": "gpu", "queue": "q", "id": 5},
     "what is free of resource gpu is kept for task 5, which has waited longer"),
    ("kept", "pending", {"resource": "", "queue": "q", "id": 5}, "what is free of the workers' slots is kept for task 5"),
    ("kept", "pending", {"resource": None, "queue": "q", "id": 5}, "what is free of the slots of queue q is kept for task 5"),
    ("workers_busy", "pending", {"active": 4, "slots": 4}, "4 of 4 slots"),
    ("workers_start", "pending", {"starting": 2}, "the workers (2) are starting"),
    ("no_workers", "pending", {}, "there are no workers"),
    ("place", "pending", {"queue": "q", "ahead": 3}, "3 tasks of queue q go before it."),
    ("place", "pending", {"queue": "q", "ahead": 3, "estimate_ms": 90_000}, "3 tasks of queue q go before it, which may take 90 s."),
    ("place", "pending", {"queue": "q", "ahead": 500, "or_more": True}, "at least 500 tasks"),
    ("place", "pending", {"queue": "q", "ahead": 0}, "it is the next one of queue q"),
    ("expires", "pending", {"expires_at": AT}, "it expires at 2023-11-14T22:13:20.000Z if it has not begun"),
    ("a_word_{of}_a_newer_daemon", "pending", {}, "a_word_{of}_a_newer_daemon"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "state", "details", "words"), REASONS)
def test_why_has_words_for_every_reason(fake: Any, run: Run, task_row: Any, word: str, state: str, details: Any, words: str) -> None:
    fake.verbs["why"] = lambda _: {"task": task_row(1, state=state, type=EVIL, finished_at=0, retries=3), "reasons": [[word, details]]}
    code, out, _ = run("why", "1")
    assert code == 0
    first, *hint = out.splitlines()
    assert words in first
    assert first.startswith(f"task 1 (\\x1b]0;owned\\x07\\u202e, queue default) is {state}: ")
    assert first.endswith(".")
    assert len(hint) <= 1
    assert "\x1b" not in out
    told = json.loads(run("why", "1", "--json")[1])
    assert told["why"] == first
    assert [reason["reason"] for reason in told["reasons"]] == [word]


def test_every_reason_of_the_protocol_has_its_words() -> None:
    assert {word for word, *_ in REASONS} >= WHY.keys() - {"next"}
    text = (wire.__doc__ or "").partition("\nwhy ")[2].partition("\nwait ")[0]
    assert all(word in text for word in WHY.keys() - {"next"})


def test_several_reasons_are_one_sentence_with_the_hint_of_the_first(fake: Any, run: Run, task_row: Any) -> None:
    reasons = [["workers_busy", {"active": 1, "slots": 1}], ["place", {"queue": "q", "ahead": 3, "estimate_ms": 1500}]]
    fake.verbs["why"] = lambda _: {"task": task_row(1, state="pending", finished_at=0), "reasons": reasons}
    assert run("why", "1")[1] == (
        "task 1 (email, queue default) is pending: 1 of 1 slots of the workers are taken; "
        "3 tasks of queue q go before it, which may take 1.5 s.\n  `tq worker list` shows by what, `tq worker scale N` starts more.\n"
    )
    assert json.loads(run("why", "1", "--json")[1])["reasons"][1] == {"reason": "place", "queue": "q", "ahead": 3, "estimate": 1.5}


def test_why_without_a_reason_says_that_nothing_holds_it(fake: Any, run: Run, task_row: Any, refuse: Any) -> None:
    fake.verbs["why"] = lambda _: {"task": task_row(1, state="pending", finished_at=0), "reasons": []}
    assert "nothing holds it" in run("why", "1")[1]

    def unknown(_: Any) -> Any:
        raise refuse("no_such_task", "there is none", {})

    fake.verbs["why"] = unknown
    assert run("why", "1")[0] == 66
