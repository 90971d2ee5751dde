"""``tq schedule``: what is asked for, what is printed, and what is refused before anything is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tq.model import pack, unpack

Run = Callable[..., tuple[int, str, str]]
AT = 1_893_456_000_000  # 2030-01-01T00:00:00Z


def schedule(name: str, **more: Any) -> dict[str, Any]:
    """A schedule as the daemon tells it."""
    row: dict[str, Any] = {
        "name": name, "cron": "0 3 * * *", "every_ms": 0, "at": 0, "tz": "UTC", "jitter_ms": 0, "only": [], "from_at": 0, "until_at": 0,
        "misfire": "coalesce", "overlap": "allow", "paused": False, "type": "report", "declared": False, "next_at": AT, "held_at": 0,
        "last": None, "on_failure": None, "on_recovery": None, "on_missed": None, "missed_after_ms": 0, "alert_each": False, "failing": 0,
        "overdue_at": 0,
    }  # fmt: skip
    return {**row, **more}


@pytest.fixture
def asks(fake: Any) -> Any:
    """A daemon of paper that takes any schedule."""
    fake.verbs["set_schedule"] = lambda _: {}
    fake.verbs["remove_schedule"] = lambda _: {}
    fake.verbs["next_slots"] = lambda _: {"slots": [[AT, AT + 7000]], "paused": False, "tz": "Europe/Paris"}
    return fake


def test_a_command_is_sent_with_its_rule_its_options_and_its_surroundings(asks: Any, run: Run) -> None:
    words = (
        "--cron=30 2 * * *",
        "--tz=Europe/Paris",
        "--jitter=30s",
        "--only=22:00-06:00",
        "--misfire=all:5",
        "--overlap=queue-one",
        "--after-schedule=extract",
        "--after-schedule=load",
        "--retries=2",
    )
    code, out, err = run("schedule", "add", "night", *words, "--", "echo", "-x", "--jitter=7")
    assert (code, out, err) == (0, "", "schedule night comes due at 2030-01-01T00:00:00.000Z\n")
    (asked,) = asks.asked("set_schedule")
    kind, payload, options = asked.pop("task")
    assert asked == {
        "name": "night", "new": True, "cron": "30 2 * * *", "tz": "Europe/Paris", "jitter_ms": 30_000, "only": ["22:00-06:00"],
        "misfire": "all:5", "overlap": "queue-one", "after": ["extract", "load"],
    }  # fmt: skip
    assert (kind, unpack(payload)) == ("shell", {"argv": ["echo", "-x", "--jitter=7"]})
    assert (options["retries"], options["extras"]["cwd"]) == (2, os.getcwd())


def test_a_type_is_sent_with_its_payload_and_an_instant_is_the_rules(asks: Any, run: Run) -> None:
    assert run("schedule", "add", "once", "--at=2030-01-01T00:00Z", "--type=report", '--payload={"n": 1}', "--priority=high")[0] == 0
    assert asks.asked("set_schedule") == [
        {"name": "once", "new": True, "at": AT, "task": ["report", pack({"n": 1}), {"priority": 2}]},
    ]  # fmt: skip


def test_an_edit_sends_what_is_named_and_nothing_else(asks: Any, run: Run) -> None:
    for words in (["--every=5m"], ["--clear=only,from", "--label=x"], ["--payload=7"], ["--type=other"], ["--", "ls"]):
        assert run("schedule", "edit", "night", *words)[0] == 0
    every, cleared, payload, kind, command = asks.asked("set_schedule")
    assert every == {"name": "night", "every_ms": 300_000}
    assert cleared == {"name": "night", "only": [], "from_at": 0, "task": [None, None, {"label": "x"}]}
    assert payload == {"name": "night", "task": [None, pack(7), None]}
    assert kind == {"name": "night", "task": ["other", None, None]}
    assert unpack(command["task"][1]) == {"argv": ["ls"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "x", "--", "ls"], "expected a rule: --cron"),
        (["add", "x", "--every=5m"], "expected a command after --, or --type"),
        (["add", "x", "--every=5m", "--type=t", "--", "ls"], "got both. Drop one"),
        (["add", "x", "--every=5m", "--cron=@daily", "--", "ls"], "expected one of cron, every and at"),
        (["add", "x", "--every=5m", "--from=whenever", "--", "ls"], "--from: expected a time"),
        (["edit", "x"], "expected something to change"),
        (["edit", "x", "--clear=cron"], "--clear: expected jitter, only, from, until"),
        (["edit", "x", "--clear=only", "--only=22:00-06:00"], "either set or cleared"),
        (["add", "", "--every=5m", "--", "ls"], "NAME: expected a text"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_asked(asks: Any, run: Run, words: list[str], said: str) -> None:
    code, out, err = run("schedule", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not asks.requests


def test_a_rule_of_each_boot_says_so_in_the_place_of_a_time(asks: Any, run: Run) -> None:
    asks.verbs["next_slots"] = lambda _: {"slots": [], "paused": False, "tz": "UTC"}
    asks.verbs["schedules"] = lambda _: {
        "schedules": [schedule("up", cron="@reboot", next_at=0, payload=b"", options={}, runs=[], alerts={})],
        "next": None,
    }
    words = "when the machine has started again\n"
    assert run("schedule", "add", "up", "--cron", "@reboot", "--", "x") == (0, "", f"schedule up comes due {words}")
    assert run("schedule", "next", "up") == (0, "", f"it comes due {words}")
    assert run("schedule", "list")[1].splitlines()[1].split()[:4] == ["up", "@reboot", "at", "boot"]


def test_pause_resume_remove_and_run_are_the_verbs_they_say(asks: Any, run: Run) -> None:
    asks.verbs["run_schedule"] = lambda _: {"id": 42}
    for words in ("pause", "resume", "remove"):
        assert run("schedule", words, "night") == (0, "", "")
    assert run("schedule", "run", "night") == (0, "42\n", "")
    assert asks.asked("set_schedule") == [{"name": "night", "paused": True}, {"name": "night", "paused": False}]
    assert asks.asked("remove_schedule") == asks.asked("run_schedule") == [{"name": "night"}]


def test_skip_leaves_out_the_next_slot_and_prints_the_one_that_now_comes(asks: Any, run: Run) -> None:
    asks.verbs["next_slots"] = lambda _: {"slots": [[AT, AT], [AT + 60_000, AT + 60_000]], "paused": False, "tz": "UTC"}
    assert run("schedule", "skip", "night") == (0, "2030-01-01T00:01:00.000Z\n", "skipped 2030-01-01T00:00:00.000Z; next:\n")
    asks.verbs["next_slots"] = lambda _: {"slots": [[AT, AT]], "paused": False, "tz": "UTC"}
    assert run("schedule", "skip", "night") == (0, "", "skipped 2030-01-01T00:00:00.000Z; it comes due no more\n")
    assert asks.asked("set_schedule") == [{"name": "night", "next_at": AT + 60_000}, {"name": "night", "next_at": 0}]
    asks.verbs["next_slots"] = lambda _: {"slots": [], "paused": False, "tz": "UTC"}
    code, printed, said = run("schedule", "skip", "night")
    assert (code, printed) == (2, "")
    assert "comes due no more" in said


def test_the_list_says_when_and_how_it_last_went(asks: Any, run: Run) -> None:
    last = {"id": 7, "slot_at": AT, "state": "failed", "started_at": AT, "finished_at": AT + 1500, "exit_code": 3}
    gone = {"id": 8, "slot_at": AT, "state": None, "started_at": 0, "finished_at": 0, "exit_code": None}
    pages = {
        None: {"schedules": [schedule("night", tz="Europe/Paris", last=last), schedule("idle", paused=True)], "next": "night"},
        "night": {"schedules": [schedule("\x1b[2J", cron="", every_ms=90_000, next_at=0, last=gone)], "next": None},
    }
    asks.verbs["schedules"] = lambda args: pages[args.get("after")]
    code, out, _ = run("schedule", "list")
    head, night, idle, third = out.splitlines()
    assert code == 0
    assert head.split() == ["schedule", "when", "next", "last", "run", "outcome", "took", "type"]
    assert "0 3 * * *  Europe/Paris  2030-01-01T00:00:00.000Z  2030-01-01T00:00:00.000Z  failed (3)  1.5 s" in night
    assert "paused" in idle
    assert "every 1m30s" in third
    assert "no more" in third
    assert "forgotten" in third
    assert "\x1b" not in out
    rows = [json.loads(line) for line in run("schedule", "list", "--json")[1].splitlines()]
    assert (rows[0]["next_at"], rows[0]["last"]["run_time"], rows[2]["every"]) == ("2030-01-01T00:00:00.000Z", 1.5, 90.0)
    asks.verbs["schedules"] = lambda _: {"schedules": [], "next": None}
    assert "no schedules yet" in run("schedule", "list")[2]


def test_show_tells_a_command_without_its_environment(asks: Any, run: Run) -> None:
    payload, options = pack({"argv": ["echo", "a b"]}), {"extras": {"env": {"TOKEN": "secret"}}, "timeout_ms": 5000, "meta": {"a": "b"}}
    row = schedule("night", type="shell", payload=payload, options=options, runs=[], held_at=AT, only=["22:00-06:00"], alerts={})
    asks.verbs["schedules"] = lambda _: {"schedules": [row], "next": None}
    out = run("schedule", "show", "night")[1]
    for words in ("echo 'a b'", "timeout         5s", '{"a": "b"}', "slot 2030-01-01T00:00:00.000Z", "22:00-06:00"):
        assert words in out
    as_json = run("schedule", "show", "night", "--json")[1]
    assert json.loads(as_json)["payload"] == {"argv": ["echo", "a b"]}
    assert "secret" not in out + as_json


def test_alerts_are_sent_as_lines_for_the_shell_or_as_types_and_cleared(asks: Any, run: Run) -> None:
    alerts = ["--on-failure", "mail -s 'no $TQ_ERROR' me", "--on-recovery", "type:tell", "--missed-after", "30m", "--alert-each"]
    assert run("schedule", "add", "a", "--every", "5m", *alerts, "--on-missed", "date", "--", "false")[0] == 0
    assert run("schedule", "add", "b", "--every", "5m", "--on-failure", "date", "--type", "report")[0] == 0
    assert run("schedule", "edit", "a", "--clear", "on-failure,on-missed,missed-after", "--no-alert-each")[0] == 0
    command, function, cleared = asks.asked("set_schedule")
    assert [(kind, unpack(payload), options) for kind, payload, options in (command["on_failure"], command["on_missed"])] == [
        ("shell", {"argv": ["/bin/sh", "-c", "mail -s 'no $TQ_ERROR' me"]}, None), ("shell", {"argv": ["/bin/sh", "-c", "date"]}, None),
    ]  # fmt: skip
    assert (command["on_recovery"], command["missed_after_ms"], command["alert_each"]) == (["tell", b"", None], 1_800_000, True)
    extras = function["on_failure"][2]["extras"]  # the schedule has no surroundings of its own
    assert (extras["cwd"], "PATH" in extras["env"]) == (os.getcwd(), True)
    assert cleared == {"name": "a", "on_failure": [], "on_missed": [], "missed_after_ms": 0, "alert_each": False}
    for words, said in ((["--on-failure", "type:"], "--on-failure: expected type:NAME"), (["--missed-after", "soon"], "--missed-after: ")):
        code, _, err = run("schedule", "edit", "a", *words)
        assert (code, said in err) == (2, True)


def test_show_tells_the_alerts_and_what_they_have_told(asks: Any, run: Run) -> None:
    line, words = pack({"argv": ["/bin/sh", "-c", "date\x1b"]}), pack({"argv": ["mail", "a b"]})
    alerts = {"on_failure": ["shell", line, {"extras": {"env": {"TOKEN": "secret"}}}], "on_recovery": ["shell", words, None],
              "on_missed": ["tell", b"", None]}  # fmt: skip
    more = {"failing": 17, "overdue_at": AT, "missed_after_ms": 90_000, "alert_each": True, "alerts": alerts}
    row = schedule("night", payload=b"", options=None, runs=[], **more)
    asks.verbs["schedules"] = lambda _: {"schedules": [row], "next": None}
    out, as_json = run("schedule", "show", "night")[1], run("schedule", "show", "night", "--json")[1]
    for said in ("on failure      date\\x1b", "on recovery     mail 'a b'", "on missed       type:tell", "missed after    1m30s",
                 "each time",
                 "since task 17", "since slot 2030-01-01T00:00:00.000Z"):  # fmt: skip
        assert said in out
    told = json.loads(as_json)
    assert (told["on_recovery"], told["missed_after"], told["failing"], told["overdue_at"]) == (
        "mail 'a b'", 90.0, 17, "2030-01-01T00:00:00.000Z",
    )  # fmt: skip
    assert "secret" not in out + as_json


def test_next_has_the_clock_of_the_zone_beside_utc(asks: Any, run: Run) -> None:
    assert run("schedule", "next", "night", "-n", "3")[1].splitlines()[1].split() == [
        "2030-01-01T00:00:00.000Z", "2030-01-01T01:00:00+01:00", "2030-01-01T00:00:07.000Z",
    ]  # fmt: skip
    assert asks.asked("next_slots") == [{"name": "night", "count": 3}]
    (line,) = run("schedule", "next", "night", "--json")[1].splitlines()
    assert json.loads(line)["local"] == "2030-01-01T01:00:00+01:00"
    asks.verbs["next_slots"] = lambda _: {"slots": [], "paused": True, "tz": "UTC"}
    asks.verbs["schedules"] = lambda _: {"schedules": [schedule("night", payload=b"")], "next": None}
    assert run("schedule", "next", "night")[2].splitlines() == ["it is paused: these would be its slots", "it comes due no more"]


def test_history_has_the_tasks_with_their_ends(asks: Any, run: Run, task_row: Any) -> None:
    row = schedule("night", payload=b"", options=None, runs=[[AT, 5], [0, 6]])
    asks.verbs["schedules"] = lambda _: {"schedules": [row], "next": None}
    asks.verbs["get"] = lambda _: {"tasks": [task_row(6, state="succeeded", exit_code=0), None]}
    _, by_hand, slot = run("schedule", "history", "night")[1].splitlines()
    assert by_hand.split()[:5] == ["by", "hand", "6", "succeeded", "0"]
    assert slot.split()[:3] == ["2030-01-01T00:00:00.000Z", "5", "forgotten"]
    assert asks.asked("get") == [{"ids": [6, 5]}]
    asks.verbs["schedules"] = lambda _: {"schedules": [row | {"runs": []}], "next": None}
    assert "it has not run yet" in run("schedule", "history", "night")[2]
