"""The commands against a daemon of paper: words, JSON lines, exit codes, hostile text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.cli import app, options
from tq.cli.options import COMMANDS
from tq.cli.render import instant, seconds, table

Run = Callable[..., tuple[int, str, str]]


def test_every_command_has_help_that_names_its_options(run: Run) -> None:
    for name, command in COMMANDS.items():
        code, out, _ = run(*name.split(), "--help")
        assert code == 0
        assert command.help.split(":")[0] in " ".join(out.split())
        assert all(option.flags[0] in out for option in command.options)


def test_version_and_usage_errors(run: Run) -> None:
    assert run("--version")[:2] == (0, "tq 0.1.0\n")
    code, _, err = run("enqueue", "--typ", "x")
    assert code == 2
    assert "--type" in err
    assert run("frobnicate")[0] == 2


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--help",
        "lst",
        "--data-dir",
        "--data-dir=x",
        "--data-dir x dead",
        "dead",
        "dead --help",
        "dead lst",
        "dead --tasks list",
        "list x y",
    ],
)
def test_only_what_a_line_may_mean_is_made_and_nobody_can_tell(run: Run, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    found = run(*line.split())
    monkeypatch.setattr(app, "meant", lambda _: list(COMMANDS))
    assert run(*line.split()) == found


@pytest.mark.parametrize("before", [[], ["--data-dir", "x"], ["--data-dir=x"]])
def test_of_a_command_that_there_is_only_this_one_is_made(before: list[str]) -> None:
    assert [app.meant([*before, *name.split(), "--help"]) for name in COMMANDS] == [[name] for name in COMMANDS]
    assert app.meant([*before, "dead"]) == [name for name in COMMANDS if name.startswith("dead ")]


def test_the_data_directory_may_stand_before_or_after_the_command(
    fake: Any, data_dir: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TQ_DATA_DIR")
    for argv in (["--data-dir", str(data_dir), "show", "1"], ["show", "1", f"--data-dir={data_dir}"]):
        assert run(*argv)[0] == 0
    assert run("--data-dir", "/nowhere", "show", "1")[0] == 69


def test_a_batch_prints_an_id_for_every_line(fake: Any, run: Run, tmp_path: Path) -> None:
    lines = [
        {"type": "email", "payload": {"n": 1}, "priority": 5, "in": "10s", "meta": {"a": "b"}, "retry-delay": "2s", "jitter": False},
        {"payload": [2], "queue": "mail"},
        {"priority": "high"},
    ]
    file = tmp_path / "batch.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    assert run("enqueue", "--batch", str(file), "--type", "default_type", "--tenant", "t") == (0, "1\n2\n3\n", "")
    first, second, third = fake.tasks
    assert first[0] == "email"
    assert first[2] == {
        "priority": 5, "delay_ms": 10_000, "meta": {"a": "b"}, "tenant": "t", "backoff": ["exponential", 2000, 2.0, 300_000, False],
    }  # fmt: skip
    assert second == ["default_type", b"\x91\x02", {"queue": "mail", "tenant": "t"}]
    assert third[2] == {"priority": 2, "tenant": "t"}


def test_lines_of_a_batch_take_names_and_words_of_time_each_read_when_it_comes(
    fake: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_763_726_400_000
    clock = iter(range(now, now + 100))
    monkeypatch.setattr(options, "_now_ms", lambda: next(clock))
    line = {"type": "email", "key": "k", "unique": "u", "on-conflict": "existing", "retry-until": "2h", "deadline": "2025-11-21T13:00:00Z"}
    file = tmp_path / "batch.jsonl"
    file.write_text((json.dumps(line) + "\n") * 2 + '{"type": "email", "at": "in 5 minutes"}\n')
    assert run("enqueue", "--batch", str(file))[:2] == (0, "1\n2\n3\n")
    first, second, third = (task[2] for task in fake.tasks)
    assert first == {"key": "k", "unique": "u", "unique_policy": "existing", "retry_for_ms": 7_200_000, "deadline_ms": 3_599_999}
    assert second == {**first, "deadline_ms": 3_599_997}  # the same end, two readings of the clock later
    assert third == {"due_at": now + 4 + 300_000}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"type": "email", "wait_for_room": "5s"}', "line 2: expected the name of an option, got 'wait_for_room'"),
        ('{"type": "email", "on_conflict": "replace"}', "line 2: expected --unique NAME with --on-conflict"),
        ('{"type": "email", "at": "soon"}', "line 2: --at: expected a time such as 18:30"),
        ('{"type": "email", "payload": }', "line 2: expected JSON"),
        ('["email"]', "line 2: expected an object"),
        ('{"type": "email", "prio": 1}', "line 2: expected the name of an option, got 'prio'. Did you mean 'priority'?"),
        ('{"payload": 1}', "line 2: expected a type"),
        ('{"type": "email", "priority": 11}', "line 2: --priority: expected a priority"),
        ('{"type": "email", "payload": 18446744073709551616}', "line 2: payload: expected an integer of at most 64 bits"),
        ('{"type": "email", "payload": 1e999}', "line 2: expected JSON: expected a number of at most 1.8e308, got 1e999"),
        ('{"type": "email", "meta": {"a": 1}}', "line 2: --meta: expected an object of texts such as"),
        ('{"type": "email", "label": "\\ud800"}', "line 2: --label: expected text in UTF-8"),
        ('{"type": "\\ud800"}', "line 2: type: expected text in UTF-8"),
        ('{"type": "email", "payload": "\\ud800"}', "line 2: payload: expected text that is Unicode"),
        ('{"type": "email", "meta": {"a": "\\ud800"}}', "line 2: --meta: expected text in UTF-8"),
        ('{"command": ["ls", "ab\\ud800"]}', "line 2: expected text, got U+D800 at 2: half of a character"),
        ('{"command": "\\udbff", "shell": true}', "line 2: expected text, got U+DBFF at 0: half of a character"),
        ('{"command": ["ls"], "cwd": "/\\ud800"}', "line 2: expected text, got U+D800 at 1: half of a character"),
        ('{"command": ["ls"], "cwd": "\\ud800"}', "half of a character"),
        ('{"command": ["ls"], "env": {"A": "\\ud800"}}', "line 2: expected text, got U+D800 at 0: half of a character"),
        ('{"command": ["ls"], "env": {"\\ud800": "b"}}', "line 2: expected text, got U+D800 at 0: half of a character"),
        ('{"command": ["ls"], "env": ["A=\\ud800"]}', "line 2: expected text, got U+D800 at 0: half of a character"),
        *(
            (f'{{"type": "email", "{name}": "\\ud800"}}', f"line 2: --{name.replace('_', '-')}: expected text in UTF-8")
            for name in ("queue", "key", "unique", "tenant", "correlation_id")
        ),
    ],
)
def test_a_batch_stops_at_its_first_bad_line_and_has_printed_what_it_stored(
    fake: Any, run: Run, tmp_path: Path, line: str, words: str
) -> None:
    file = tmp_path / "batch.jsonl"
    file.write_text('{"type": "email"}\n' + line + '\n{"type": "email"}\n')
    code, out, err = run("enqueue", "--batch", str(file))
    assert code == 2
    assert words in err
    assert err.endswith(" The tasks of lines 1-1 are stored.\n")
    assert out == "1\n"
    assert len(fake.tasks) == 1


def test_what_the_daemon_refuses_of_a_batch_is_named_by_its_line_with_what_is_stored(
    fake: Any, run: Run, tmp_path: Path, refuse: Any
) -> None:
    def enqueue(args: Any) -> Any:
        for at, (name, _, _) in enumerate(args["tasks"], 1):
            if name == "typo":
                raise refuse("unknown_type", f"task {at} of {len(args['tasks'])}: type: expected one, got 'typo'.", {})
        fake.tasks += args["tasks"]
        return {"ids": [*range(len(fake.tasks) - len(args["tasks"]) + 1, len(fake.tasks) + 1)]}

    fake.verbs["enqueue"] = enqueue
    file = tmp_path / "batch.jsonl"
    lines = ['{"type": "email"}'] * 1300
    lines[700] = '{"type": "typo"}'
    file.write_text("\n" + "\n".join(lines))  # an empty line first: lines are not places
    code, out, err = run("enqueue", "--batch", str(file))
    assert (code, len(out.split())) == (2, 800)
    assert err == "tq: line 702: type: expected one, got 'typo'. The tasks of lines 2-501 and 1002-1301 are stored.\n"
    file.write_text("\n".join(lines[700:701]))
    assert run("enqueue", "--batch", str(file)) == (2, "", "tq: line 1: type: expected one, got 'typo'. No task is stored.\n")


def test_a_batch_whose_daemon_goes_does_not_claim_to_know_what_is_stored(fake: Any, run: Run, tmp_path: Path, refuse: Any) -> None:
    def gone(_: Any) -> Any:
        raise refuse("not_running", "it is gone.", {})

    file = tmp_path / "batch.jsonl"
    file.write_text('{"type": "email"}\n' * 600)
    fake.verbs["enqueue"] = lambda args: {"ids": [*range(1, 501)]} if len(args["tasks"]) == 500 else gone(args)
    code, out, err = run("enqueue", "--batch", str(file))
    assert (code, len(out.split())) == (69, 500)
    assert err == "tq: it is gone. The tasks of lines 1-500 are stored. Of the other lines it is not known: look with `tq list`.\n"
    fake.verbs["enqueue"] = gone
    assert run("enqueue", "--batch", str(file)) == (69, "", "tq: it is gone. Of the lines it is not known: look with `tq list`.\n")


def test_a_batch_without_a_sound_line_stores_nothing_and_says_so(fake: Any, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "batch.jsonl"
    file.write_text("oops\n")
    code, out, err = run("enqueue", "--batch", str(file))
    assert (code, out, fake.tasks) == (2, "", [])
    assert err.endswith(" No task is stored.\n")


def test_stats_tell_of_limits_that_are_reached_and_breakers_that_are_open(fake: Any, run: Run) -> None:
    limits = [
        {"name": "mail", "scope": "type", "of": ["email"], "opens_at": 1_700_000_000_000},
        {"name": "each\x1b", "scope": "flow", "of": list("abcdef"), "opens_at": 0},
    ]
    one = {"rule": "2 failures", "fixed": True, "declared": None, "since": 1_700_000_000_000, "level": 0, "why": "OSError", "row": 2}
    breakers = [
        {**one, "name": "", "type": "email", "state": "open", "until": 1_700_000_000_000},
        {**one, "name": "smtp", "type": "", "state": "half_open", "until": 0},
    ]
    figures = ("queue_length", "running", "completed", "failed", "success_rate", "failure_rate", "avg_process_time", "p50", "p95", "p99")
    body = {"states": {}, "workers": {"active": 0, "total": 0}, **dict.fromkeys(figures), "utilisation": 0.0}
    fake.verbs["stats"] = lambda _: {**body, "limits": limits, "breakers": breakers}
    assert run("stats")[1].splitlines()[-4:] == [
        "limit        mail is reached by type email until 2023-11-14T22:13:20.000Z",
        "limit        each\\x1b is reached by flow key a, b, c, d, e, ...",
        "breaker      that of type email is open until 2023-11-14T22:13:20.000Z (OSError)",
        "breaker      that of service smtp is half open (OSError)",
    ]
    told = json.loads(run("stats", "--json")[1])
    assert [row["opens_at"] for row in told["limits"]] == ["2023-11-14T22:13:20.000Z", None]
    assert [row["until"] for row in told["breakers"]] == ["2023-11-14T22:13:20.000Z", None]


def test_peek_says_that_a_queue_is_paused_rather_than_that_there_are_no_tasks(fake: Any, run: Run) -> None:
    fake.verbs["peek"] = lambda _: {"tasks": []}
    names = [("builds", True, {"pending": 2}), ("mail", True, {"pending": 1}), ("idle", True, {}), ("open", False, {"pending": 3})]
    fake.verbs["queues"] = lambda _: {"queues": [{"name": name, "paused": paused, "states": states} for name, paused, states in names]}
    assert run("peek", "-q", "builds") == (0, "", "queue builds is paused: 2 wait\n")
    assert run("peek", "--json") == (0, "", "queue builds is paused: 2 wait\nqueue mail is paused: 1 wait\n")
    assert run("peek", "-q", "idle") == (0, "", "no tasks\n")


def test_peek_works_beside_queues_that_have_settings_only_and_says_which_are_left_to_others(fake: Any, run: Run) -> None:
    fake.verbs["peek"] = lambda _: {"tasks": []}
    rows = [{"name": "new", "paused": True, "states": None}, {"name": "out", "paused": False, "external": True, "states": {"pending": 1}}]
    fake.verbs["queues"] = lambda _: {"queues": rows}
    assert run("peek") == (0, "", "queue out is left to consumers outside the pool: 1 wait\n")
    assert run("peek", "-q", "new") == (0, "", "no tasks\n")


def test_a_run_says_why_it_ended_unless_its_command_failed_by_itself(fake: Any, run: Run, task_row: Any) -> None:
    fake.events = [{"topic": "output", "id": task_id, "chunks": [], "next": 0, "end": True} for task_id in (1, 2)]
    late = task_row(1, state="failed", exit_code=143, error={"type": "TimedOut", "message": "it ran longer than its timeout of 1 s"})
    fake.verbs["wait"] = lambda _: {"tasks": [late], "done": True}
    assert run("run", "--", "sleep", "9") == (124, "", "tq: task 1 failed: TimedOut: it ran longer than its timeout of 1 s\n")
    own = task_row(1, state="failed", exit_code=3, error={"type": "ExitCode", "message": "exit code 3"})
    fake.verbs["wait"] = lambda _: {"tasks": [own], "done": True}
    assert run("run", "--", "false") == (3, "", "")


def test_a_filter_of_a_list_may_come_as_where_too(fake: Any, run: Run) -> None:
    assert run("list", "--where", "type:a OR type:b", "age>1h OR age<1s")[0] == 0
    assert fake.asked("find")[0]["where"] == "(type:a OR type:b) (age>1h OR age<1s)"
    assert run("list", "--where", "")[0] == 2  # an empty variable of a script


def test_what_cannot_be_suspended_now_ends_with_75_and_what_is_not_there_with_66(fake: Any, run: Run) -> None:
    words = {1: "suspended", 2: "over", 3: "not_running", 4: "function", 9: "unknown"}
    fake.verbs["suspend"] = lambda args: {"outcomes": [words[task_id] for task_id in args["ids"]]}
    assert [run("suspend", task_id)[0] for task_id in "12349"] == [0, 75, 75, 2, 66]
    assert "tq: expected the id of a task, got 9" in run("suspend", "1", "9")[2]


LIST_AS_KEY = b"\x81\x92\x01\x02\x03"  # {(1, 2): 3}


def test_a_result_that_cannot_be_read_is_shown_as_its_bytes_and_said_to_be(fake: Any, run: Run, task_row: Any) -> None:
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1, result=LIST_AS_KEY, payload=LIST_AS_KEY)]}
    code, out, err = run("result", "1")
    assert (code, out) == (0, '"gZIBAgM="\n')
    assert err == "tq: the result of task 1 cannot be read as a value; these are its bytes in base64.\n"
    assert json.loads(run("show", "1", "--json")[1])["payload"] == "gZIBAgM="
    assert run("show", "1")[0] == 0


def output(chunks: list[Any]) -> dict[str, Any]:
    return {"topic": "output", "id": 1, "chunks": chunks, "next": 9, "end": True}


def test_run_tells_the_bytes_it_has_missed_once_at_the_end(fake: Any, run: Run) -> None:
    note = [1000, 0, b"1000 bytes dropped\n"]
    fake.events = [output([[1000, 1, b"head\n"], note, [1000, 1, b"middle\n"], note, [1000, 0, b"attempt 2\n"], [1000, 1, b"tail\n"]])]
    code, out, err = run("run", "--", "true")
    assert (code, out) == (0, "head\nmiddle\ntail\n")
    assert err.splitlines() == [
        "tq: attempt 2",
        "tq: 2000 bytes of output are missing: of much output only the head and the tail are kept (log_bytes).",
    ]


@pytest.mark.parametrize("raw", [True, False])
def test_run_cleans_what_a_task_sends_to_a_terminal_unless_told_not_to(fake: Any, data_dir: Path, raw: bool) -> None:
    fake.events = [output([[1000, 1, b"\x1b]0;title\x07 \xc3"], [1000, 1, b"\xa9\n"]])]  # a letter of two bytes in two chunks
    ours, theirs = os.openpty()
    try:
        env = unmeasured(TQ_DATA_DIR=str(data_dir))
        argv = [sys.executable, "-m", "tq", "run", *(["--raw"] if raw else []), "--", "true"]
        done = subprocess.run(argv, env=env, stdout=theirs, stderr=subprocess.PIPE, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        seen = b""
        while not seen.endswith(b"\n"):  # a terminal hands on what was written in pieces
            seen += os.read(ours, 100)
        assert seen == (b"\x1b]0;title\x07 \xc3\xa9\r\n" if raw else b"\\x1b]0;title\\x07 \xc3\xa9\r\n")
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_batch_of_thousands_goes_in_groups(fake: Any, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "batch.jsonl"
    file.write_text('{"type": "email", "payload": {"n": 1}}\n' * 3000)
    code, out, _ = run("enqueue", "--batch", str(file))
    assert code == 0
    assert out.split() == [str(n) for n in range(1, 3001)]
    assert [len(args["tasks"]) for args in fake.asked("enqueue")] == [500] * 6


def test_wait_ends_with_the_first_code_that_is_not_0_in_the_order_of_its_arguments(fake: Any, run: Run, task_row: Any) -> None:
    rows = {
        1: task_row(1),
        2: task_row(2, state="failed", exit_code=3, error={"type": "ExitCode", "message": "exit code 3"}),
        3: task_row(3, state="cancelled"),
        4: task_row(4, state="expired"),
        5: None,
        6: task_row(6, state="failed", error={"type": "ValueError", "message": "no"}),
    }
    fake.verbs["wait"] = lambda args: {"tasks": [rows[i] for i in args["ids"]], "done": True}
    for ids, code in (("1", 0), ("1 2 3", 3), ("1 3 2", 143), ("4", 124), ("5 2", 66), ("6", 1), ("1 1", 0)):
        assert run("wait", *ids.split())[0] == code, ids
    assert run("wait", "2")[2] == "tq: task 2 failed: ExitCode: exit code 3\n"


def test_any_is_over_with_the_first_and_prints_which_are_over(fake: Any, run: Run, task_row: Any) -> None:
    rows = [task_row(1, state="running", finished_at=0), task_row(2), task_row(3, state="cancelled")]
    fake.verbs["wait"] = lambda args: {"tasks": [rows[i - 1] for i in args["ids"]], "done": True}
    assert run("wait", "--any", "1", "2", "3")[:2] == (143, "2\n3\n")
    assert run("wait", "--any", "1", "2") == (0, "2\n", "")
    assert [args["any"] for args in fake.asked("wait")] == [True, True]
    code, _, err = run("wait", "--any", *map(str, range(1, 502)))
    assert (code, err) == (2, "tq: --any: expected at most 500 ids, got 501. Wait for fewer at a time.\n")


def test_a_wait_that_takes_too_long_ends_with_124(fake: Any, run: Run, task_row: Any) -> None:
    fake.verbs["wait"] = lambda args: {"tasks": [task_row(1, state="running", finished_at=0)], "done": False}
    code, _, err = run("wait", "1", "--timeout", "0.05")
    assert code == 124
    assert "task 1" in err


def test_result_prints_json_or_says_why_there_is_none(fake: Any, run: Run, task_row: Any) -> None:
    rows = [
        (task_row(1, result=b"\x81\xa1a\x01"), 0, '{"a": 1}\n'),
        (task_row(1), 0, "null\n"),
        (task_row(1, state="running"), 75, ""),
        (task_row(1, state="failed", error={"type": "E", "message": "m", "frames": [["f.py", 1, "g", "h()"]]}), 1, ""),
    ]
    for row, code, out in rows:
        fake.verbs["get"] = lambda _, row=row: {"tasks": [row]}
        got = run("result", "1")
        assert got[:2] == (code, out)
    assert 'File "f.py", line 1, in g' in run("result", "1")[2]
    fake.verbs["get"] = lambda _: {"tasks": [None]}
    assert run("result", "1")[0] == 66


def test_cancel_says_what_became_of_each(fake: Any, run: Run) -> None:
    fake.verbs["cancel"] = lambda args: {"outcomes": ["cancelled", "asked", "over", "unknown"][: len(args["ids"])]}
    code, out, err = run("cancel", "1", "2", "3", "4")
    assert (code, out) == (66, "")
    assert err.splitlines()[:3] == ["task 1: cancelled", "task 2: runs, and was asked to end", "task 3: is over already"]
    assert run("cancel", "1")[0] == 0


def test_list_sends_its_filters_and_reads_page_after_page(fake: Any, run: Run, task_row: Any) -> None:
    pages = {None: ([task_row(9), task_row(8)], b"c1"), b"c1": ([task_row(7)], None)}
    fake.verbs["find"] = lambda args: dict(zip(("tasks", "next"), pages[args.get("before")], strict=True))
    code, out, _ = run("list", "--state", "done,running", "-s", "dead", "-q", "mail", "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [9, 8, 7]
    assert fake.asked("find")[0] == {"states": ["succeeded", "running", "failed"], "queue": "mail", "limit": 50}
    assert fake.asked("find")[1]["limit"] == 48
    code, _, err = run("list", "--state", "sleeping")
    assert code == 2
    assert "expected a state" in err


def test_list_in_another_order_shows_whole_tasks_in_that_of_a_view(fake: Any, run: Run, task_row: Any) -> None:
    ids = [*range(150, 0, -1)]
    fake.verbs["view"] = lambda _: {"view": 4, "sort": "-run", "total": 150, "exact": True}
    fake.verbs["page"] = lambda args: {"rows": [[one, "failed"] for one in ids[args["offset"] :][: args["limit"]]] if args["offset"] else [
        None, *[[one, "failed"] for one in ids[1:100]]]}  # fmt: skip
    fake.verbs["get"] = lambda args: {"tasks": [task_row(one) if one != 77 else None for one in args["ids"]]}
    code, out, _ = run("list", "queue:mail", "--sort", "-run", "-s", "dead", "-n", "120", "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [one for one in ids[1:120] if one != 77]
    assert fake.asked("view") == [{"where": "queue:mail", "states": ["failed"], "sort": "-run"}]
    assert fake.asked("page") == [{"view": 4, "offset": 0, "limit": 100}, {"view": 4, "offset": 100, "limit": 20}]
    assert not fake.asked("find")
    ids.clear()
    fake.verbs["page"] = lambda _: {"rows": []}
    assert run("list", "--sort", "wait") == (0, "", "no tasks\n")


def test_an_empty_list_tells_what_each_term_of_its_filter_matches_alone(fake: Any, run: Run) -> None:
    fake.verbs["find"] = lambda _: {"tasks": [], "next": None}
    fake.verbs["explain"] = lambda _: {"terms": [["state:failed", 37], ["label:'\x1b[31m'", None]]}
    told = "no tasks\nstate:failed alone: 37; label:'\\x1b[31m' alone: not counted\n"
    assert run("list", "state:failed label:x") == (0, "", told)
    assert run("list", "state:failed label:x", "--json") == (0, "", "")
    fake.verbs["explain"] = lambda _: {"terms": [["state:failed", 0]]}
    assert run("list", "state:failed") == (0, "", "no tasks\n")


def test_list_takes_a_filter_in_words_beside_its_options(fake: Any, run: Run) -> None:
    assert run("list", "state:failed", "age>1h", "-q", "mail", "-n", "3", "--json")[0] == 0
    assert fake.asked("find") == [{"where": "state:failed age>1h", "queue": "mail", "limit": 3}]
    code, _, err = run("list", "state:failed colour:red")
    assert code == 2
    assert "column 14" in err
    assert len(fake.asked("find")) == 1


@pytest.mark.parametrize("words", ["-type:report.*", "-queue:mail", "-label:x", "-state:failed", "-tenant!=a"])
def test_a_filter_that_begins_with_a_minus_is_not_taken_for_an_option(fake: Any, run: Run, words: str) -> None:
    code, _, err = run("list", words)
    assert code == 2
    assert f"Write 'NOT {words[1:]}'" in err
    assert not fake.requests
    assert run("list", "--", words)[0] == 0
    assert run("list", f"NOT {words[1:]}")[0] == 0


def test_peek_says_by_what_each_goes_first(fake: Any, run: Run, task_row: Any) -> None:
    fake.verbs["peek"] = lambda _: {"tasks": [task_row(3, state="pending", why="aged"), task_row(4, state="pending", why="priority")]}
    head, first, _ = run("peek")[1].splitlines()
    assert "goes by" in head
    assert "aged" in first
    assert json.loads(run("peek", "--json")[1].splitlines()[0])["why"] == "aged"


def test_what_was_there_already_is_printed_as_an_id_and_said(fake: Any, run: Run, tmp_path: Path) -> None:
    fake.verbs["enqueue"] = lambda args: {"ids": [5] * len(args["tasks"]), "existing": [*range(len(args["tasks"]))]}
    assert run("enqueue", "--type", "email", "--key", "k") == (0, "5\n", "tq: task 5 was there already: nothing was stored.\n")
    fake.events = [{**output([]), "id": 5}]
    assert "tq: task 5 was there already" in run("run", "--key", "k", "--", "true")[2]
    file = tmp_path / "batch.jsonl"
    file.write_text('{"type": "email", "key": "k"}\n' * 2)
    assert run("enqueue", "--batch", str(file)) == (0, "5\n5\n", "tq: 2 tasks were there already, and were not stored again: 5, 5\n")


def test_hostile_text_of_tasks_never_reaches_the_output_raw(fake: Any, run: Run, task_row: Any) -> None:
    evil = "\x1b]0;owned\x07\u202e\r\n\x9b2J"
    row = task_row(
        1, type=evil, queue=evil, label=evil, worker=evil, tenant=evil, state="failed", meta={evil: evil}, payload=b"\xa3\x1b[2",
        error={"type": evil, "message": evil, "frames": [[evil, 1, evil, evil]]}, progress=[0.5, evil],
        attempts=[[1, 1, 2, evil, evil, {"type": evil, "message": evil}, None]],
    )  # fmt: skip
    group = {
        "group": evil,
        "type": evil,
        "error": evil,
        "message": evil,
        "count": 1,
        "first_at": 1,
        "last_at": 1,
        "last_id": 1,
        "queues": [evil],
    }
    step = {"topic": "steps", "number": 1, "at": 1, "event": evil, "id": 1, "type": evil, "queue": evil, "error": evil, evil: evil}
    fake.events, fake.ends_watch = [step], True
    fake.verbs["dead"] = lambda _: {"groups": [group]}
    fake.verbs["why"] = lambda _: {"task": row, "reasons": [[evil, {}], ["queue_paused", {"queue": evil}]]}
    fake.verbs["chores"] = lambda _: {"chores": [{"id": 1, "verb": "retry", "where": evil, "seen": 0, "changed": 0}]}
    for verb, body in (("get", {"tasks": [row]}), ("find", {"tasks": [row], "next": None}), ("wait", {"tasks": [row], "done": True})):
        fake.verbs[verb] = lambda _, body=body: body
    fake.verbs["queues"] = lambda _: {"queues": [{"name": evil, "paused": True, "weight": 1, "external": False, "states": {"pending": 2}}]}
    for argv in (
        ["status", "1"], ["show", "1"], ["list"], ["result", "1"], ["wait", "1"], ["queue", "list"], ["queue", "chores"],
        ["show", "1", "--json"], ["dead", "list"], ["dead", "show", "1"], ["dead", "show", evil], ["why", "1"], ["events", "1"],
        ["events", "-f"],
    ):  # fmt: skip
        _, out, err = run(*argv)
        assert out + err
        for bad in ("\x1b", "\x07", "\u202e", "\r", "\x9b"):
            assert bad not in out + err, argv


def test_show_has_everything_for_people(fake: Any, run: Run, task_row: Any) -> None:
    attempts = [[1, 1_700_000_000_000, 1_700_000_000_500, "failed", "w1", {"type": "OSError", "message": "disk"}, None]]
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1, attempt=2, payload=b"\x81\xa1n\x07", attempts=attempts, meta={"order": "17"})]}
    out = run("show", "1")[1]
    for words in ("1  succeeded  email", "attempt 2", "took 250 ms", '{"n": 7}', "order=17", "OSError: disk", "2023-11-14T22:13:20.000Z"):
        assert words in out


def test_show_has_every_attempt_with_its_times_its_worker_and_its_traceback(fake: Any, run: Run, task_row: Any) -> None:
    at = 1_700_000_000_000
    error = {"type": "OSError", "message": "disk", "frames": [["f.py", 1, "g", "h()"]]}
    attempts = [[3, at, at + 500, "failed", "w1", error, None], [4, at + 600, at + 700, "crashed", "w2", error, 137]]
    row = task_row(
        1, state="failed", attempt=5, attempts=attempts, started_at=at + 800, finished_at=at + 900, worker="w3", error={"type": "TimedOut",
        "message": "slow"}, exit_code=3, retry_for_ms=3_600_000, deadline_ms=7_200_000, key="order-17", unique="user:5", suspended=True,
        parents=[8, 9],
    )  # fmt: skip
    fake.verbs["get"] = lambda _: {"tasks": [row]}
    out = run("show", "1")[1]
    for words in (
        "retry until     2023-11-14T23:13:20.000Z", "deadline        2023-11-15T00:13:20.000Z", "key             order-17",
        "unique          user:5", "after           8, 9", "suspended", "attempts 1 to 2 are not kept",
        "attempt 3  2023-11-14T22:13:20.000Z  failed  after 500 ms  on w1", 'File "f.py", line 1, in g',
        "attempt 4  2023-11-14T22:13:20.600Z  crashed  after 100 ms  on w2  exit code 137 (SIGKILL)", "the same error",
        "attempt 5  2023-11-14T22:13:20.800Z  timeout  after 100 ms  on w3  exit code 3", "TimedOut: slow",
    ):  # fmt: skip
        assert words in out, words
    assert out.count("File ") == 1
    one = json.loads(run("show", "1", "--json")[1])
    assert (one["retry_for"], one["deadline_at"], one["suspended"]) == (3600.0, "2023-11-15T00:13:20.000Z", True)
    assert [(attempt["attempt"], attempt["outcome"]) for attempt in one["attempts"]] == [(3, "failed"), (4, "crashed"), (5, "timeout")]
    assert not [key for key in one if key.endswith("_ms")]


def test_show_of_a_running_task_has_the_attempt_that_runs(fake: Any, run: Run, task_row: Any) -> None:
    row = task_row(1, state="running", attempt=0, finished_at=0, progress=[0.4, "half"])
    fake.verbs["get"] = lambda _: {"tasks": [row]}
    out = run("show", "1")[1]
    assert "40% half" in out
    assert "attempt 1  2023-11-14T22:13:20.100Z  running  on w1" in out


def test_log_writes_each_stream_to_its_own(fake: Any, run: Run) -> None:
    chunks = [[1000, 1, b"out\x1b[0m\n"], [2000, 2, b"err\n"], [3000, 0, b"5 bytes dropped"]]
    fake.verbs["log"] = lambda _: {"chunks": chunks, "next": 9, "end": True}
    assert run("log", "1") == (0, "out\x1b[0m\n", "err\ntq: 5 bytes dropped\n")  # no terminal: bytes as they are
    lines = [json.loads(line) for line in run("log", "1", "--json")[1].splitlines()]
    assert [(line["stream"], line["text"]) for line in lines] == [
        ("stdout", "out\x1b[0m\n"),
        ("stderr", "err\n"),
        ("tq", "5 bytes dropped"),
    ]
    assert run("log", "101")[0] == 66


def test_run_streams_and_ends_with_the_commands_code(fake: Any, run: Run, task_row: Any) -> None:
    fake.events = [
        {"topic": "output", "id": 1, "chunks": [[1, 1, b"hello\n"]], "next": 6, "end": False},
        {"topic": "output", "id": 1, "chunks": [[1, 2, b"oops\n"]], "next": 11, "end": True},
    ]
    fake.verbs["wait"] = lambda _: {"tasks": [task_row(1, type="shell", state="failed", exit_code=7)], "done": True}
    assert run("run", "-q", "x", "--", "make", "-j4") == (7, "hello\n", "oops\n")
    kind, payload, options = fake.tasks[0]
    assert (kind, payload, options["queue"]) == ("shell", b"\x81\xa4argv\x92\xa4make\xa3-j4", "x")


def test_ctrl_c_of_run_cancels_the_task_and_ends_with_130(fake: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tq.cli.tasks.follow", interrupted)
    assert run("run", "--", "sleep", "100")[0] == 130
    assert fake.asked("cancel") == [{"ids": [1]}]


def test_ctrl_c_of_run_says_so_if_the_task_could_not_be_asked_to_end(
    fake: Any, run: Run, monkeypatch: pytest.MonkeyPatch, refuse: Any
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def goes(_: object) -> None:
        raise refuse("refused", "the daemon is on its way out.", {})

    monkeypatch.setattr("tq.cli.tasks.follow", interrupted)
    fake.verbs["cancel"] = goes
    code, _, err = run("run", "--", "sleep", "100")
    assert code == 130
    assert err == ("tq: task 1 may go on: it could not be asked to end (the daemon is on its way out.). End it with `tq cancel 1`.\n")


def test_queue_and_worker_commands(fake: Any, run: Run) -> None:
    fake.verbs["queues"] = lambda _: {
        "queues": [{"name": "mail", "paused": False, "weight": 3, "external": True, "states": {"pending": 2}}]
    }
    worker = {
        "id": "w1", "hostname": "here", "pid": 5, "state": "idle", "started_at": 1_700_000_000_000, "last_heartbeat": 1_700_000_001_000,
        "tasks": [], "ahead": 0, "done": 4, "cpu": 1.0, "cpu_s": 2.0, "rss": 1 << 24,
    }  # fmt: skip
    fake.verbs["workers"] = lambda _: {"workers": [worker]}
    assert "mail        3  pending 2      0  external" in run("queue", "list")[1]
    assert json.loads(run("queue", "list", "--json")[1])["weight"] == 3
    assert json.loads(run("worker", "list", "--json")[1])["started_at"] == "2023-11-14T22:13:20.000Z"
    assert "w1" in run("worker", "list")[1]
    for argv, sent in (
        (["queue", "set", "mail", "--no-external", "--weight", "7"], {"name": "mail", "external": False, "weight": 7}),
        (["queue", "pause", "mail"], {"name": "mail", "paused": True}),
        (["queue", "resume", "mail"], {"name": "mail", "paused": False}),
    ):
        assert run(*argv)[0] == 0
        assert fake.asked("set_queue")[-1] == sent
    assert run("queue", "set", "mail")[0] == 2


def test_a_restart_whose_application_is_broken_stops_nothing(fake: Any, run: Run, refuse: Any) -> None:
    def broken(_: Any) -> Any:
        raise refuse("config", "the application 'app' cannot be imported: SyntaxError", {})

    fake.verbs["check_app"] = broken
    fake.verbs["status"] = lambda _: {"pid": 1, "options": {"grace_s": 25.0}}
    code, _, err = run("daemon", "restart")
    assert code == 2
    assert "SyntaxError" in err
    assert not fake.asked("stop")


def test_daemon_status_says_who_and_since_when(fake: Any, run: Run) -> None:
    body = {
        "pid": 7,
        "version": "0.1.0",
        "started_at": 1_700_000_000_000,
        "data_dir": "/x",
        "options": {"slots": 4, "app": None},
    }
    fake.verbs["status"] = lambda _: body
    code, out, _ = run("daemon", "status")
    assert code == 0
    assert "running  pid 7" in out
    assert "since 2023-11-14T22:13:20.000Z" in out
    assert "app" not in out
    assert "slots        4" in out
    assert json.loads(run("daemon", "status", "--json")[1])["started_at"] == "2023-11-14T22:13:20.000Z"


def test_the_daemons_own_reason_is_what_start_says(data_dir: Path, run: Run) -> None:
    code, out, err = run("daemon", "start", "--app", "no_such_module_anywhere")
    assert (code, out) == (2, "")
    assert "no_such_module_anywhere" in err
    assert run("daemon", "start", "--workers", "two")[0] == 2


def test_tables_and_times_for_people() -> None:
    assert table(("name", "n"), [("a", 10), ("bcd", 5)]) == "name   n\na     10\nbcd    5"
    assert table(("name",), [("x" * 50,)], 10).splitlines()[1] == "x" * 9 + "…"
    assert [seconds(value) for value in (None, 0.0123, 5, 300, 8000)] == ["-", "12.3 ms", "5 s", "5 min 00 s", "2 h 13 min"]
    assert instant(0) is None
    assert instant(1 << 62) is not None


def test_python_m_tq_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tq", "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "tq 0.1.0\n"
