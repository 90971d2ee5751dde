"""``tq queue list|set|purge|chores`` against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tq.store import QueueInfo

Run = Callable[..., tuple[int, str, str]]


def queue(name: str, **changes: Any) -> dict[str, Any]:
    info = QueueInfo(name, **changes)
    return dict(zip(QueueInfo.__slots__, info.row(), strict=True)) | {"states": {"pending": 2}, "bytes": 300}


def test_every_setting_travels_under_its_name_and_in_its_unit(fake: Any, run: Run) -> None:
    words = ["--weight", "3", "--aging", "2m", "--aging-share", "5", "--slots", "4", "--retries", "2", "--backoff", "linear"]
    words += ["--retry-delay", "3s", "--max-delay", "1m", "--no-jitter", "--timeout", "30s", "--priority", "high", "--max-tasks", "1000"]
    words += ["--max-bytes", "1G", "--keep", "2d", "--route", "report.*", "--route", "pdf", "--no-external"]
    words += ["--hold-load", "2.5", "--hold-memory", "2GiB", "--hold-probe", "test -e 'a b'", "--hold-every", "1m"]
    assert run("queue", "set", "mail", *words) == (0, "", "")
    assert fake.asked("set_queue") == [
        {"name": "mail", "weight": 3, "aging_ms": 120_000, "aging_share": 5, "slots": 4, "retries": 2, "timeout_ms": 30_000,
         "backoff": ["linear", 3000, 2.0, 60_000, False], "priority": 2, "max_tasks": 1000, "max_bytes": 1 << 30,
         "keep_ms": 172_800_000, "routes": ["report.*", "pdf"], "external": False, "hold_load": 2.5, "hold_memory": 2 << 30,
         "hold_probe": "test -e 'a b'", "hold_every_ms": 60_000},
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "size"), [("4096", 4096), ("500M", 500 << 20), ("1g", 1 << 30), ("64kb", 64 << 10), ("2GiB", 2 << 30)])
def test_sizes_are_read_in_units_of_1024(fake: Any, run: Run, text: str, size: int) -> None:
    assert run("queue", "set", "q", "--max-bytes", text)[0] == 0
    assert fake.asked("set_queue")[0]["max_bytes"] == size


def test_settings_are_unset_by_the_names_of_their_options(fake: Any, run: Run) -> None:
    words = ["--unset", "slots,keep", "--unset", "--route", "--unset", "max-bytes", "--unset", "hold-probe,hold-every", "--weight", "2"]
    assert run("queue", "set", "q", *words)[0] == 0
    unset = ["slots", "keep_ms", "routes", "max_bytes", "hold_probe", "hold_every_ms"]
    assert fake.asked("set_queue") == [{"name": "q", "weight": 2, "unset": unset}]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "something to change"),
        (["--unset", "colour"], "expected settings of a queue"),
        (["--unset", "slots", "--slots", "3"], "either set or unset"),
        (["--max-bytes", "1X"], "expected a size such as 500M"),
        (["--weight", "-1"], "expected a whole number"),
        (["--keep", "soon"], "expected a duration"),
        (["--unset", "keep", "--keep", "1d"], "expected keep to be either set or unset"),
        (["--route", ""], "--route: expected patterns of types such as report.*, got ''"),
        (["--route", "a.* b.*"], "--route: expected patterns of types such as report.*, got 'a.* b.*'"),
        (["--route", "ok", "--route", " a"], "got ' a'"),
        (["--route", "a\x07"], "--route: expected patterns"),
        (["--route", "x" * 201], "at most 200 bytes"),
        (["--hold-load", "high"], "--hold-load: expected a load average above 0 such as 4 or 2.5, got 'high'"),
        (["--hold-load", "0"], "--hold-load: expected a load average above 0"),
        (["--hold-memory", "much"], "--hold-memory: expected a size such as 500M or 1G, got 'much'"),
        (["--hold-probe", " "], "For no probe: --unset hold-probe."),
        (["--backoff", "steep"], "--backoff: expected fixed, linear or exponential, got 'steep'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_before_it_is_sent(fake: Any, run: Run, argv: list[str], words: str) -> None:
    code, _, err = run("queue", "set", "q", *argv)
    assert code == 2
    assert words in err
    assert not fake.requests


def test_list_shows_what_stands_in_a_queue_and_what_differs_from_the_default(fake: Any, run: Run) -> None:
    busy = queue(
        "mail", weight=3, slots=2, paused=True, keep_ms=0, max_bytes=500 << 20, timeout_ms=30_000, routes=["report.*", "pdf"],
        backoff=["fixed", 1000, 2.0, 60_000, True], retries=0,
    )  # fmt: skip
    fake.verbs["queues"] = lambda _: {"queues": [queue("plain"), busy]}
    head, plain, mail = run("queue", "list")[1].splitlines()
    assert head.split() == ["queue", "weight", "tasks", "bytes", "settings"]
    assert plain.split() == ["plain", "1", "pending", "2", "300", "-"]
    for words in (
        "paused",
        "slots 2",
        "keep not at all",
        "max-bytes 500M",
        "timeout 30s",
        "route report.* pdf",
        "retries 0",
        "fixed 1s to 1m",
    ):
        assert words in mail


HELD = {"rules": ["load"], "why": "the load is 7.20, it starts below 4 \x1b[2J", "age_ms": 3000}


def test_a_queue_that_is_held_says_so_in_words_and_in_json(fake: Any, run: Run) -> None:
    rules = {"hold_load": 4.0, "hold_memory": 2 << 30, "hold_probe": "test \x1b[2J", "hold_every_ms": 60_000}
    fake.verbs["queues"] = lambda _: {"queues": [queue("mail", **rules) | {"held": HELD}, queue("plain")]}
    mail, plain = run("queue", "list")[1].splitlines()[1:]
    words = "held: the load is 7.20, it starts below 4 \\x1b[2J; looked 3 s ago"
    assert f"{words}  hold-load 4  hold-memory 2G  hold-probe test \\x1b[2J  hold-every 1m" in mail
    assert "held" not in plain
    mail, plain = map(json.loads, run("queue", "list", "--json")[1].splitlines())
    assert mail["held"] == {"rules": ["load"], "why": HELD["why"], "age": 3.0}
    assert (mail["hold_every"], plain["held"], plain["hold_load"]) == (60.0, None, None)
    out = run("queue", "show", "mail")[1]
    assert out.splitlines()[-1] == f"queue mail is {words}"
    assert "\x1b" not in out
    assert ["hold-load", "none", "default"] in [line.split() for line in run("queue", "show", "plain")[1].splitlines()]
    assert json.loads(run("queue", "show", "mail", "--json")[1])["held"]["age"] == 3.0
    fake.verbs["peek"] = lambda _: {"tasks": []}
    assert run("peek", "-q", "mail") == (0, "", f"queue mail is {words}: 2 wait\n")


def test_a_queue_tells_of_limits_and_breakers_that_hold_its_tasks_back(fake: Any, run: Run) -> None:
    back = {"limits": ["mail", "e\x1b"], "breakers": ["email"]}
    fake.verbs["queues"] = lambda _: {"queues": [queue("mail") | back, queue("plain") | {"limits": [], "breakers": []}]}
    mail, plain = run("queue", "list")[1].splitlines()[1:]
    assert mail.endswith("limit mail reached  limit e\\x1b reached  breaker of email not closed")
    assert plain.endswith("-")
    assert [json.loads(line)["limits"] for line in run("queue", "list", "--json")[1].splitlines()] == [back["limits"], []]
    out = run("queue", "show", "mail")[1]
    assert "limit mail is reached: `tq limit list` shows how far\n" in out
    assert "the breaker of type email is not closed: `tq breaker list` shows why\n" in out
    shown = json.loads(run("queue", "show", "mail", "--json")[1])
    assert {key: shown[key] for key in back} == back
    fake.verbs["peek"] = lambda _: {"tasks": []}
    words = "queue mail waits: limit mail is reached, limit e\\x1b is reached, the breaker of type email is not closed: 2 wait\n"
    assert run("peek", "-q", "mail") == (0, "", words)


def test_the_daemon_names_the_queues_that_are_held(fake: Any, run: Run) -> None:
    status = {"pid": 1, "version": "0", "started_at": 1, "options": {}, "held": {"mail": HELD}}
    fake.verbs["status"] = lambda _: status
    assert "  held         queue mail: the load is 7.20, it starts below 4 \\x1b[2J; looked 3 s ago" in run("daemon", "status")[1]
    assert json.loads(run("daemon", "status", "--json")[1])["held"] == {"mail": {"rules": ["load"], "why": HELD["why"], "age": 3.0}}


def test_list_in_json_has_durations_in_seconds(fake: Any, run: Run) -> None:
    fake.verbs["queues"] = lambda _: {"queues": [queue("mail", timeout_ms=1500, keep_ms=0, backoff=["fixed", 1000, 2.0, 60_000, True])]}
    one = json.loads(run("queue", "list", "--json")[1])
    assert (one["aging"], one["timeout"], one["keep"]) == (60.0, 1.5, 0.0)
    assert one["backoff"]["max_delay"] == 60.0
    assert not [key for key in one if key.endswith("_ms")]


def test_purge_forgets_what_waits_in_the_queue_and_nothing_else(fake: Any, run: Run) -> None:
    fake.verbs["remove"] = lambda args: {"chore": 3} if "dry_run" not in args else {"count": 7, "some": [1]}
    assert run("queue", "purge", "mail")[:2] == (0, "3\n")
    assert run("queue", "purge", "mail", "--dry-run")[:2] == (0, "7\n")
    assert fake.asked("remove")[0] == {"queue": "mail", "states": ["blocked", "pending", "retrying", "scheduled"]}


def test_chores_say_what_is_under_way(fake: Any, run: Run) -> None:
    chore = {"id": 3, "verb": "retry", "where": "state:failed", "seen": 5000, "changed": 12, "left": {"full": 3, "taken": 4}}
    fake.verbs["chores"] = lambda _: {"chores": [chore]}
    out = run("queue", "chores")[1]
    assert "    3  retry       5000       12     7  state:failed" in out
    assert json.loads(run("queue", "chores", "--json")[1]) == chore
    fake.verbs["chores"] = lambda _: {"chores": []}
    assert run("queue", "chores") == (0, "", "nothing is under way\n")


def test_a_queue_is_shown_with_who_said_each_setting(fake: Any, run: Run) -> None:
    row = queue("mail", slots=2, weight=3, retries=5) | {"declared": {"slots": 2, "retries": 1}}
    fake.verbs["queues"] = lambda _: {"queues": [row], "file": "/etc/tq.toml"}
    code, out, err = run("queue", "show", "mail", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["slots"] == {"value": 2, "source": "/etc/tq.toml"}
    assert found["weight"] == {"value": 3, "source": "tq queue set"}
    assert found["retries"] == {"value": 5, "source": "tq queue set; /etc/tq.toml says 1, from the next start on"}
    assert found["aging"] == {"value": 60.0, "source": "default"}
    lines = [line.split() for line in run("queue", "show", "mail")[1].splitlines()]
    assert ["slots", "2", "/etc/tq.toml"] in lines
    assert ["route", "none", "default"] in lines
    code, out, err = run("queue", "show", "mial")
    assert (code, out, "expected a queue (mail), got 'mial'" in err) == (2, "", True)


def test_a_setting_that_the_file_says_too_is_pointed_out(fake: Any, run: Run) -> None:
    fake.verbs["set_queue"] = lambda _: {"new": False, "declared": ["aging_ms", "max_tasks"]}
    code, _, err = run("queue", "set", "mail", "--aging", "2m")
    assert (code, "the settings file says aging, max-tasks of queue mail, too" in err) == (0, True)
