"""``tq cancel|retry|edit|remove`` against a daemon of paper: what is asked, the words for each outcome, exit codes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tq import wire

Run = Callable[..., tuple[int, str, str]]


def outcomes(*words: str) -> Callable[[Any], Any]:
    return lambda args: {"outcomes": list(words[: len(args["ids"])])}


# single tasks


def test_each_outcome_of_a_retry_has_words_that_say_what_to_do_and_the_first_that_is_none_decides_the_code(fake: Any, run: Run) -> None:
    fake.verbs["retry"] = outcomes("retried", "running", "taken", "unknown", "waiting")
    code, out, err = run("retry", "1", "2", "3", "4", "5")
    assert (code, out) == (75, "")
    first, second, third, fourth, fifth = err.splitlines()
    assert first == "task 1: will run again"
    assert second == "task 2: runs. Wait for its end, or cancel it first"
    assert "unique name" in third
    assert fourth.startswith("tq: expected the id of a task, got 4")
    assert fifth == "task 5: waits already: it will run"
    assert run("retry", "1")[0] == 0
    fake.verbs["retry"] = outcomes("unknown")
    assert run("retry", "1")[0] == 66
    fake.verbs["retry"] = outcomes("waiting")
    assert run("retry", "1")[0] == 0  # it will run, as was wanted
    assert run("retry", "1", "--priority", "5")[0] == 75  # but not with that


def test_a_retry_sends_its_changes(fake: Any, run: Run) -> None:
    fake.verbs["retry"] = outcomes("retried")
    assert run("retry", "1", "--payload", '{"to": "bob"}', "-p", "high", "--queue", "mail")[0] == 0
    assert fake.asked("retry") == [{"ids": [1], "changes": {"payload": wire.pack({"to": "bob"}), "priority": 2, "queue": "mail"}}]


def test_an_edit_sends_every_change_in_milliseconds(fake: Any, run: Run) -> None:
    fake.verbs["edit"] = outcomes("edited")
    words = ["--priority", "7", "--queue", "q", "--in", "10m", "--payload", "[1]", "--retries", "2", "--timeout", "30s", "--ttl", "1h"]
    words += ["--backoff", "fixed", "--retry-delay", "2s", "--no-jitter", "--label", "l", "--meta", "a=b"]
    assert run("edit", "1", *words) == (0, "", "task 1: changed\n")
    assert fake.asked("edit")[0]["changes"] == {
        "priority": 7, "queue": "q", "delay_ms": 600_000, "payload": wire.pack([1]), "retries": 2, "timeout_ms": 30_000,
        "ttl_ms": 3_600_000, "backoff": ["fixed", 2000, 2.0, 300_000, False], "label": "l", "meta": {"a": "b"},
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["cancel", "remove", "suspend", "resume", "retry", "edit", "dead retry", "dead purge"])
def test_what_is_done_to_many_may_be_done_to_one_tenants(fake: Any, run: Run, verb: str) -> None:
    asked = {"dead retry": "retry", "dead purge": "remove"}.get(verb, verb)
    fake.verbs[asked] = lambda _: {"count": 2, "some": [1, 2]}
    assert run(*verb.split(), "--tenant", "acme", "--dry-run", *(["-p", "2"] if verb == "edit" else []))[0] == 0
    assert fake.asked(asked)[0]["tenant"] == "acme"


def test_an_edit_without_a_change_is_a_usage_error(fake: Any, run: Run) -> None:
    code, _, err = run("edit", "1")
    assert code == 2
    assert "something to change" in err
    assert not fake.requests


def test_what_cannot_be_edited_or_removed_is_named_and_ends_with_75(fake: Any, run: Run) -> None:
    fake.verbs["edit"] = outcomes("running", "over")
    code, _, err = run("edit", "1", "2", "-p", "5")
    assert code == 75
    assert ["runs already" in line or "is over" in line for line in err.splitlines()] == [True, True]
    fake.verbs["remove"] = outcomes("removed", "running")
    assert run("remove", "1", "2")[::2] == (75, "task 1: removed\ntask 2: runs. Cancel it first, or wait for its end\n")
    assert run("remove", "1")[0] == 0


def test_thousands_of_ids_go_in_requests_of_five_hundred(fake: Any, run: Run) -> None:
    fake.verbs["remove"] = lambda args: {"outcomes": ["removed"] * len(args["ids"])}
    assert run("remove", *map(str, range(1, 1202)))[0] == 0
    assert [len(args["ids"]) for args in fake.asked("remove")] == [500, 500, 201]


# many at once


@pytest.mark.parametrize(
    ("argv", "sent"),
    [
        (["cancel", "--where", "label:nightly", "-q", "mail", "-t", "email", "-s", "pending,done"],
         {"where": "label:nightly", "queue": "mail", "type": "email", "states": ["pending", "succeeded"]}),
        (["retry", "--state", "dead", "-t", "email", "--queue", "slow"],
         {"states": ["failed"], "type": "email", "changes": {"queue": "slow"}}),
        (["edit", "--where", "queue:mail", "-p", "9"], {"where": "queue:mail", "changes": {"priority": 9}}),
        (["remove", "-q", "mail"], {"queue": "mail"}),
    ],
)  # fmt: skip
def test_a_filter_makes_a_chore_whose_number_is_printed(fake: Any, run: Run, argv: list[str], sent: Any) -> None:
    fake.verbs[argv[0]] = lambda _: {"chore": 17}
    code, out, err = run(*argv)
    assert (code, out) == (0, "17\n")
    assert "`tq queue chores`" in err
    assert fake.asked(argv[0]) == [sent]


def test_words_of_time_in_a_filter_mean_the_wall_clock_of_who_wrote_them(fake: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tq.cli.control.time", lambda: 1_763_726_400.0)  # 2025-11-21T12:00:00Z
    fake.verbs["remove"] = lambda _: {"chore": 1}
    assert run("remove", "--where", "finished<2025-11-20T00:00+01:00")[0] == 0
    assert run("remove", "--where", "finished<-1h")[0] == 0
    first, second = (args["where"] for args in fake.asked("remove"))
    assert "2025-11-19" in first
    assert first.endswith("Z") or 'Z"' in first
    assert "-1h" in second  # so long before the daemon looks


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["cancel"], "expected the ids of tasks, or which ones"),
        (["cancel", "1", "--where", "age>1h"], "got both"),
        (["remove", "--where", ""], "got an empty text"),
        (["remove", "--where", "colour:red"], "column 1"),
        (["retry", "--state", "asleep"], "expected a state"),
        (["cancel", "queue:mail"], "For a filter: --where 'queue:mail'"),
        (["retry", "x"], "expected the id of a task"),
    ],
)
def test_what_could_mean_more_than_was_meant_is_refused_before_anything_is_asked(fake: Any, run: Run, argv: list[str], words: str) -> None:
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert words in err
    assert not fake.requests


def test_a_dry_run_prints_the_count_and_names_some(fake: Any, run: Run) -> None:
    fake.verbs["retry"] = lambda _: {"count": 1234, "some": [9, 8, 7]}
    code, out, err = run("retry", "--state", "failed", "--dry-run")
    assert (code, out, err) == (0, "1234\n", "1,234 tasks would be retried, among them 9, 8, 7\n")
    assert fake.asked("retry") == [{"states": ["failed"], "dry_run": True}]


def test_a_dry_run_of_ids_changes_nothing_either(fake: Any, run: Run) -> None:
    fake.verbs["cancel"] = lambda args: {"count": 1, "some": [int(args["where"][3:].split(",")[0])]}
    code, out, err = run("cancel", "--dry-run", *map(str, range(1, 101)))
    assert (code, out, err) == (0, "2\n", "2 tasks would be cancelled: 1, 91\n")
    assert all(args["dry_run"] and "ids" not in args for args in fake.asked("cancel"))
    fake.verbs["edit"] = lambda _: {"count": 0, "some": []}
    assert run("edit", "5", "-p", "3", "--dry-run") == (0, "0\n", "0 tasks would be changed\n")


def test_wait_goes_on_until_the_chore_is_done_and_says_what_it_did(fake: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tq.cli.control.TELL_EVERY", 0.0)
    looks = iter([{"id": 4, "verb": "cancel", "where": "", "seen": 70_000, "changed": 5000}] * 3)
    fake.verbs["cancel"] = lambda _: {"chore": 4}
    fake.verbs["chores"] = lambda _: {"chores": [one] if (one := next(looks, None)) else []}
    done = {"number": 9, "at": 1, "who": "tq", "what": "chore_done", "target": "4", "before": None}
    fake.verbs["events"] = lambda _: {"events": [{**done, "after": {"verb": "cancel", "seen": 90_000, "changed": 80_001}}]}
    code, out, err = run("cancel", "-q", "mail", "--wait")
    assert (code, out) == (0, "4\n")
    assert err.splitlines() == ["chore 4: 70,000 looked at, 5,000 cancelled"] * 3 + ["80,001 tasks cancelled"]
    assert len(fake.asked("chores")) == 4


def test_what_a_chore_has_left_is_said_with_the_reason_and_a_full_queue_ends_with_75(fake: Any, run: Run) -> None:
    after: dict[str, Any] = {"verb": "retry", "seen": 1500, "changed": 1000, "left": {"full": 499, "taken": 1}}
    fake.verbs |= dict.fromkeys(("retry", "suspend"), lambda _: {"chore": 4}) | {"chores": lambda _: {"chores": []}}
    done = {"number": 9, "at": 1, "who": "tq", "what": "chore_done", "target": "4", "before": None}
    fake.verbs["events"] = lambda _: {"events": [{**done, "after": after}]}
    code, _, err = run("retry", "--where", "state:failed", "--wait")
    assert (code, err.splitlines()) == (75, [
        "1,000 tasks retried", "499 tasks left as they are: no room in the queue. Ask again when there is",
        "1 task left as it is: another live task has its unique name",
    ])  # fmt: skip
    after |= {"verb": "suspend", "changed": 1, "left": {"function": 2}}
    code, _, err = run("suspend", "--where", "queue:builds", "--wait")
    assert (code, err.splitlines()) == (0, ["1 task suspended", "2 tasks left as they are: only commands stand still, not functions"])
    assert fake.asked("suspend") == [{"where": "queue:builds"}]


def test_a_chore_whose_end_is_too_long_ago_to_be_read_is_still_done(fake: Any, run: Run) -> None:
    fake.verbs["cancel"] = lambda _: {"chore": 4}
    fake.verbs["chores"] = lambda _: {"chores": []}
    fake.verbs["events"] = lambda _: {"events": []}
    assert run("cancel", "-q", "mail", "--wait") == (0, "4\n", "chore 4 is done\n")


def test_ctrl_c_leaves_the_chore_to_the_daemon_and_says_so(fake: Any, run: Run) -> None:
    asked = threading.Event()

    def chores(_: Any) -> Any:
        asked.set()
        return {"chores": [{"id": 4, "verb": "cancel", "where": "", "seen": 0, "changed": 0}]}

    def interrupt() -> None:
        assert asked.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    fake.verbs["cancel"] = lambda _: {"chore": 4}
    fake.verbs["chores"] = chores
    thread = threading.Thread(target=interrupt)
    thread.start()
    code, out, err = run("cancel", "-q", "mail", "--wait")
    thread.join()
    assert (code, out) == (130, "4\n")
    assert "chore 4 goes on" in err
