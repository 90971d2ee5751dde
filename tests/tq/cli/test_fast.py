"""The thin path is Typer's path, only faster: the same requests from the same words, and none of the imports."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tq import spool, wire
from tq.cli import app, fast, hot, options, perform
from tq.cli.options import _PRIORITIES, COMMANDS, duration
from tq.config import data_dir_of
from tq.errors import UsageError
from tq.history import COUNTS, GAUGES, TIMES
from tq.model import PRIORITIES, duration_ms

NOW_MS, HOUR_MS = 1_763_726_400_000, 3_600_000  # 2025-11-21T12:00:00Z, a Friday
FORBIDDEN = {
    "typer", "click", "pydantic", "rich", "textual", "asyncio", "json", "re", "socket", "dataclasses", "enum", "typing", "inspect",
    "argparse", "subprocess", "logging", "pathlib", "uuid", "lmdb", "psutil", "tq.model", "tq.client", "tq.app",
}  # fmt: skip

WORDS = st.sampled_from(
    ["a", "", "-", "42", "0", "x y", "K=V", "=", "é", "10s", "1h30m", "high", "9", "10", "exponential", "-1", "--", "@last", "@nofile"]
)
VALUES = {
    "--type": st.sampled_from(["email", "é", "a b"]),
    "--payload": st.sampled_from(["{}", '{"a": [1, 2.5, null, "\\u00e9"]}', "3", ' "x" ', "null", "[1,]", "NaN", "1 2", ""]),
    "--priority": st.sampled_from(["0", "9", "10", "high", "NORMAL", "-1", "x"]),
    "--in": st.sampled_from(["10s", "5m", "1h30m", "2.5", "0", "soon", "3D"]),
    "--at": st.sampled_from(["2030-01-31T08:00+01:00", "2030-01-31T08:00", "2030-01-31T08:00:00Z", "25:00", "tomorrow 9am", "18:30", "5m"]),
    "--retry-until": st.sampled_from(["2h", "1.5", "18:30", "2030-01-31", "soon", "yesterday"]),
    "--deadline": st.sampled_from(["2h", "1.5", "noon", "2030-01-31T08:00Z", "never"]),
    "--on-conflict": st.sampled_from(["reject", "existing", "replace", "take"]),
    "--debounce": st.sampled_from(["5s", "0", "x"]),
    "--order-on-failure": st.sampled_from(["block", "continue", "wait"]),
    "--throttle": st.sampled_from(["1m", "soon"]),
    "--wait-for-room": st.sampled_from(["30s", "0", "x"]),
    "--after": st.sampled_from(["1", "1,2", "@last", "1,@last", "x", "0"]),
    "--retries": st.sampled_from(["0", "5", "x", "-3", "1_0"]),
    "--backoff": st.sampled_from(["fixed", "linear", "steep"]),
    "--meta": st.sampled_from(["a=1", "b=", "c", "d=e=f"]),
    "--timeout": st.sampled_from(["30s", "1", "never"]),
    "ID": st.sampled_from(["1", "42", "x", "@last", "-1"]),
}


@st.composite
def _argv(draw: st.DrawFn, names: Sequence[str] = fast.HOT) -> list[str]:
    verb = draw(st.sampled_from(names))
    words: list[str] = []
    if draw(st.booleans()):
        words += draw(st.sampled_from([["--data-dir", "/tmp/a"], ["--data-dir=/tmp/b"]]))
    words += verb.split()
    command = COMMANDS[verb]
    if verb == "enqueue" and draw(st.booleans()):
        words += ["--type", "email"]
    for _ in range(draw(st.integers(0, 4))):
        option = draw(
            st.sampled_from([one for one in command.options if names is not fast.HOT or one.flags[0] not in ("--batch", "--stdin")])
        )
        flag = draw(st.sampled_from(option.flags))
        if option.kind == "flag":
            words.append(flag)
        elif option.kind == "switch":
            words.append(draw(st.sampled_from([flag, "--no-" + flag[2:]])))
        else:
            value = draw(VALUES.get(option.flags[0], WORDS) | WORDS)
            words += [f"{flag}={value}"] if flag.startswith("--") and draw(st.booleans()) else [flag, value]
    if command.takes != "none":
        words += draw(st.lists(VALUES["ID"] | WORDS, max_size=3))
    return words


class _Recorder:
    """Stands where the socket would: keeps the frames and answers each verb."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def call(self, verb: str, args: Any, within: float = 0) -> Any:
        self.frames.append(wire.frame([verb, args]))
        ids = args.get("ids", [])
        answers: dict[str, Any] = {
            "enqueue": {"ids": [1]},
            "find": {"tasks": [{"id": 7}], "next": None},
            "cancel": {"outcomes": ["cancelled" for _ in ids]},
            "get": {"tasks": [None for _ in ids]},
            "wait": {"tasks": [None for _ in ids], "done": True},
            "history": {"until": 0, "series": {name: [None] * args.get("limit", 0) for name in (*COUNTS, *GAUGES, *TIMES)}},
        }
        return answers.get(verb, {"states": {}, "workers": {"active": 0, "total": 0}} | dict.fromkeys(_FIGURES))


_FIGURES = (
    "queue_length",
    "running",
    "completed",
    "failed",
    "success_rate",
    "failure_rate",
    "avg_process_time",
    "p50",
    "p95",
    "p99",
    "utilisation",
)


def _outcome(run: Any) -> tuple[Any, list[bytes], str]:
    recorder, out = _Recorder(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = run(recorder)
    return code, recorder.frames, out.getvalue()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_argv())
def test_both_parsers_send_the_same_requests(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"from": "stdin"}')))
    monkeypatch.setattr(options, "_now_ms", lambda: NOW_MS)
    parsed = fast.parse(argv)
    if parsed is None or not fast.is_thin(*parsed):
        return
    verb, values = parsed
    places: list[str | None] = []

    class Slow:
        def __init__(self, recorder: _Recorder) -> None:
            self.call = recorder.call

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def typers_way(recorder: _Recorder) -> int:
        def connected(_name: str, data_dir: str | None, _quiet: bool) -> Slow:
            places.append(data_dir)
            return Slow(recorder)

        monkeypatch.setattr(perform, "_client", connected)
        return app.main(argv)

    thin = _outcome(lambda recorder: hot.run(verb, recorder.call, values))
    assert _outcome(typers_way) == thin
    assert places == [values.get("data_dir")]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_argv(list(COMMANDS)))
def test_both_parsers_understand_a_line_of_any_command_alike(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    parsed = fast.parse(argv)
    if parsed is None:
        return
    found: list[tuple[str, dict[str, Any]]] = []

    def performed(name: str, values: dict[str, Any]) -> int:
        found.append((name, values))
        return 0

    monkeypatch.setattr(app, "perform", performed)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert app.main(argv) == 0, errors.getvalue()
    assert found == [(parsed[0], fast.whole(*parsed))]


def test_the_thin_path_takes_the_plain_forms_of_every_hot_verb() -> None:
    for argv in (
        ["enqueue", "--type", "email", "--payload", "{}", "-q", "mail", "-p", "5", "--in", "1h", "--once", "--meta", "a=b", "--no-jitter"],
        ["--data-dir", "/x", "add", "-q", "z", "--", "ls", "-la"],
        ["add", "echo", "-n"],
        ["status", "42", "--json"],
        ["status", "--task-id=42"],
        ["wait", "1", "2", "--timeout", "3s"],
        ["result", "1"],
        ["cancel", "1", "2"],
        ["stats", "--json", "--data-dir=/y"],
    ):
        parsed = fast.parse(argv)
        assert parsed is not None, argv
        assert fast.is_thin(*parsed), argv
    assert fast.parse(["add", "-q", "z", "--", "ls", "--", "-la"]) == ("add", {"queue": "z", "command": ["ls", "--", "-la"]})


@pytest.mark.parametrize(
    "argv",
    [[], ["--help"], ["enqueue", "--help"], ["enqueue", "--typ", "x"], ["enqueue", "-qmail"], ["enqueue", "--type"], ["lst"], ["dead"],
     ["status", "1", "2"], ["wait"], ["enqueue", "--once=1"], ["enqueue", "--priority", "-1"], ["dead", "--data-dir", "x", "list"],
     ["dead", "lst"], ["dead", "list", "--help"], ["--version"], ["--data-dir"], ["queue", "pause"]],
)  # fmt: skip
def test_what_it_does_not_know_exactly_it_leaves_to_typer(argv: list[str]) -> None:
    assert fast.parse(argv) is None


@pytest.mark.parametrize(
    "argv",
    [["enqueue", "--batch", "-"], ["add", "--each", "--", "true"], ["cancel", "state:failed"], ["cancel", "1", "--dry-run"], ["list"]],
)
def test_what_may_be_long_or_is_of_many_has_a_client(argv: list[str]) -> None:
    parsed = fast.parse(argv)
    assert parsed is not None
    assert not fast.is_thin(*parsed)


def test_the_thin_paths_short_cuts_agree_with_the_nouns() -> None:
    assert _PRIORITIES == PRIORITIES
    for text in ("1s", "07m", "2h", "3d", "999999d", "0s"):
        try:
            wanted: int | str = duration_ms(text)
        except ValueError:
            wanted = "refused"
        try:
            got: int | str = duration("--in", text)
        except Exception:
            got = "refused"
        assert got == wanted, text


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"at": "18:30"}, {"due_at": NOW_MS + 6 * HOUR_MS + HOUR_MS // 2}),
        ({"at": "tomorrow 9am"}, {"due_at": NOW_MS + 21 * HOUR_MS}),
        ({"at": "in 90 minutes"}, {"due_at": NOW_MS + 3 * HOUR_MS // 2}),
        ({"at": "2025-11-22"}, {"due_at": NOW_MS + 12 * HOUR_MS}),
        ({"at": "2025-11-21T12:00:00-02:00"}, {"due_at": NOW_MS + 2 * HOUR_MS}),
        ({"at": "2025-11-21T11:00:00Z"}, {"due_at": NOW_MS - HOUR_MS}),  # a program's, and over: it runs at once
        ({"retry_until": "2h"}, {"retry_for_ms": 2 * HOUR_MS}),
        ({"retry_until": 90}, {"retry_for_ms": 90_000}),
        ({"deadline": "1.5"}, {"deadline_ms": 1500}),
        ({"deadline": "noon"}, {"deadline_ms": 24 * HOUR_MS}),
        ({"deadline": "2025-11-21 13:00Z"}, {"deadline_ms": HOUR_MS}),
        ({"after": ["1,2", "3"], "after_any": [4]}, {"after": [1, 2, 3], "after_any": [4]}),
        ({"after": 7}, {"after": [7]}),
        ({"key": "order-17", "unique": "user:5", "on_conflict": "existing"},
         {"key": "order-17", "unique": "user:5", "unique_policy": "existing"}),
        ({"unique": "user:5", "debounce": "5s", "debounce_most": "1m"},
         {"unique": "user:5", "debounce_ms": 5000, "debounce_most_ms": 60_000}),
        ({"unique": "user:5", "throttle": 60}, {"unique": "user:5", "throttle_ms": 60_000}),
        ({"order_key": "acct-1", "order_on_failure": "continue"}, {"order": "acct-1", "order_on_failure": "continue"}),
    ],
)  # fmt: skip
def test_words_of_time_and_names_become_what_travels(
    monkeypatch: pytest.MonkeyPatch, machine_in_utc: None, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    monkeypatch.setattr(options, "_now_ms", lambda: NOW_MS)
    assert options.task_options(given) == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"at": "soon"}, "--at: expected a time such as 18:30,"),
        ({"at": "yesterday 9am"}, "--at: expected a time to come, such as"),
        ({"at": "2025-11-21 11:00"}, "which is over"),
        ({"at": 5}, "--at: expected a time such as 18:30, got 5"),
        ({"deadline": "never"}, "--deadline: expected a duration such as 2h, or a time such as 18:30,"),
        ({"deadline": "2025-11-20"}, "--deadline: expected a duration such as 2h, or a time to come"),
        ({"retry_until": [1]}, "--retry-until: expected a duration"),
        ({"unique": "x", "on_conflict": "take"}, "--on-conflict: expected reject, existing or replace, got 'take'"),
        ({"order_key": "x", "order_on_failure": "wait"}, "--order-on-failure: expected block or continue, got 'wait'"),
        ({"on_conflict": "replace"}, "expected --unique NAME with --on-conflict"),
        ({"at": "18:30", "delay": "1h"}, "expected either --in or --at"),
    ],
)
def test_words_of_time_that_mean_nothing_are_refused_with_their_option(
    monkeypatch: pytest.MonkeyPatch, machine_in_utc: None, given: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(options, "_now_ms", lambda: NOW_MS)
    with pytest.raises(UsageError) as caught:
        options.task_options(given)
    assert words in caught.value.message


@pytest.fixture
def machine_in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class _Full:
    """A queue that refuses so many enqueues before it has room."""

    def __init__(self, refuse: Any, times: int, **details: Any) -> None:
        self._refuse, self._times, self._details = refuse, times, details

    def __call__(self, args: Any) -> Any:
        self._times -= 1
        if self._times >= 0:
            raise self._refuse("refused", "queue mail is full.", self._details)
        return {"ids": [9]}


@pytest.mark.parametrize("words", [["enqueue", "--type", "email"], ["add", "--", "true"], ["enqueue", "--type", "email", "--batch", "-"]])
def test_a_full_queue_is_tried_again_while_there_is_time_to_wait_for_room(fake: Any, data_dir: Path, refuse: Any, words: list[str]) -> None:
    fake.verbs["enqueue"] = _Full(refuse, 2, queue="mail", retry_after=0.05)
    done = _tq(data_dir, words[0], "--wait-for-room", "60s", *words[1:], stdin="{}\n")
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr
    assert len(fake.asked("enqueue")) == 3
    if "--batch" not in words:
        assert done.stderr == "tq: queue mail is full. Trying again for 60s.\n"


def test_a_command_that_is_run_waits_for_room_too(fake: Any, data_dir: Path, refuse: Any) -> None:
    fake.verbs["enqueue"] = _Full(refuse, 1, queue="mail", retry_after=0.05)
    fake.events = [{"topic": "output", "id": 9, "chunks": [], "next": 0, "end": True}]
    done = _tq(data_dir, "run", "--wait-for-room", "60", "--", "true")
    assert done.returncode == 0, done.stderr
    assert len(fake.asked("enqueue")) == 2


def test_what_a_command_is_to_read_is_not_swept_away_while_its_sender_waits_for_room(fake: Any, data_dir: Path, refuse: Any) -> None:
    swept, full = [], _Full(refuse, 3, retry_after=0.01)

    def enqueue(args: Any) -> Any:
        swept.append(spool.sweep(str(data_dir), (), time.time()))  # as a daemon does that starts now
        os.utime(data_dir / "stdin" / args["tasks"][0][2]["extras"]["stdin"], (1000, 1000))  # the sender has waited for long
        return full(args)

    fake.verbs["enqueue"] = enqueue
    done = _tq(data_dir, "add", "--stdin", "--wait-for-room", "60s", "--", "cat", stdin="words")
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr
    assert swept == [0, 0, 0, 0]
    assert [(data_dir / "stdin" / name).read_text() for name in spool.names(str(data_dir))] == ["words"]


@pytest.mark.parametrize(("option", "asked"), [([], 1), (["--wait-for-room", "0"], 1), (["--wait-for-room", "200ms"], None)])
def test_a_queue_that_stays_full_ends_with_75_and_its_words(
    fake: Any, data_dir: Path, refuse: Any, option: list[str], asked: int | None
) -> None:
    fake.verbs["enqueue"] = _Full(refuse, 1000, queue="mail", retry_after=0.05)
    done = _tq(data_dir, "add", *option, "--", "true")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.endswith("tq: queue mail is full.\n")
    tries = len(fake.asked("enqueue"))
    assert tries == asked if asked else 2 <= tries <= 12


def test_what_no_waiting_mends_is_not_tried_again(fake: Any, data_dir: Path, refuse: Any) -> None:
    def unknown(_: Any) -> Any:
        raise refuse("unknown_type", "type: expected one, got 'typo'.", {})

    fake.verbs["enqueue"] = unknown
    done = _tq(data_dir, "enqueue", "--type", "typo", "--wait-for-room", "60s")
    assert (done.returncode, done.stderr) == (2, "tq: --type: expected one, got 'typo'.\n")
    fake.verbs["enqueue"] = _Full(refuse, 1000)  # refused, with no word on when to try again
    assert _tq(data_dir, "enqueue", "--type", "email", "--wait-for-room", "60s").returncode == 75
    assert _tq(data_dir, "enqueue", "--type", "email", "--wait-for-room", "soon").returncode == 2
    assert len(fake.asked("enqueue")) == 2


def _loaded_by(data_dir: Path, *argv: str) -> tuple[set[str], str]:
    """The modules that a command line had loaded when it left, and what it printed."""
    script = (
        "import os, sys\n"
        "def leave(code):\n"
        "    sys.stderr.write('\\nMODULES ' + ' '.join(sorted(sys.modules)))\n"
        "    sys.stderr.flush()\n"
        "    kill(os.getpid(), 9)\n"
        "kill, os._exit = os.kill, leave\n"
        f"sys.argv = ['tq', *{list(argv)!r}]\n"
        "from tq.cli.fast import main\n"
        "main()\n"
    )
    env = {**os.environ, "TQ_DATA_DIR": str(data_dir), "TQ_AUTOSTART": "0"}
    for name in [name for name in env if name.startswith("COV")]:
        del env[name]  # a measuring interpreter loads half of the library
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=30, check=False)
    return set(done.stderr.rpartition("MODULES ")[2].split()), done.stdout


@pytest.mark.parametrize(
    "argv",
    [("enqueue", "--type", "email", "--payload", '{"a": 1}', "-p", "high", "--in", "1h"), ("add", "--", "true"), ("status", "1"),
     ("status", "1", "--json"), ("wait", "1"), ("stats",), ("stats", "--json"), ("result", "1"), ("cancel", "1")],
)  # fmt: skip
def test_a_hot_verb_loads_nothing_dear(fake: Any, data_dir: Path, argv: tuple[str, ...]) -> None:
    fake.verbs["stats"] = lambda _: {"states": {"pending": 1}, "workers": {"active": 0, "total": 2}} | dict.fromkeys(_FIGURES)
    loaded, out = _loaded_by(data_dir, *argv)
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, timeout=30, check=True)
    assert "tq.cli.hot" in loaded
    assert (out != "") == (argv[0] not in ("wait", "cancel"))
    assert not (loaded - set(bare.stdout.split())) & FORBIDDEN
    assert fake.requests


@pytest.mark.parametrize("argv", [("list",), ("add", "--each", "--", "true"), ("cancel", "state:failed", "--dry-run"), ("show", "1")])
def test_what_no_parser_need_explain_loads_no_typer(fake: Any, data_dir: Path, argv: tuple[str, ...]) -> None:
    loaded, _ = _loaded_by(data_dir, *argv)
    assert "tq.cli.perform" in loaded
    assert not loaded & {"typer", "click", "pydantic", "rich", "textual", "tq.cli.app"}


def _tq(data_dir: Path, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TQ_DATA_DIR": str(data_dir), "TQ_AUTOSTART": "0"}
    return subprocess.run(
        [sys.executable, "-m", "tq", *argv], env=env, capture_output=True, text=True, timeout=60, check=False, input=stdin
    )  # fmt: skip


def test_an_enqueue_of_the_thin_path_whose_answer_was_lost_is_stored_once(fake: Any, data_dir: Path) -> None:
    fake.lose = ["enqueue"]
    done = _tq(data_dir, "enqueue", "--type", "email", "--payload", "-", stdin='{"n": 1}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert len(fake.tasks) == 1
    first, second = fake.hellos
    assert first["nonce"] == second["nonce"]
    assert [args["again"] for args in fake.asked("enqueue")] == [False, True]


@pytest.mark.parametrize(
    "text", ['{"n": 1', "[1,]", "NaN", "", "1 2", '"\x00"', "[" * 100_000, '{"a": "\\ud800"}', "123456789012345678901234567890"]
)
def test_a_payload_that_is_no_json_is_refused_with_where_and_nothing_is_sent(fake: Any, data_dir: Path, text: str) -> None:
    done = _tq(data_dir, "enqueue", "--type", "email", "--payload", "-", stdin=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(("tq: --payload: expected ", "tq: payload.a: expected "))
    assert "Traceback" not in done.stderr
    assert not fake.requests


def test_a_payload_from_a_file_or_standard_input_is_the_value_in_it(fake: Any, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(' {"a": [1, -2.5, "\\u00e9"]}\n')
    for word in (f"@{tmp_path}/p.json", "-"):
        done = _tq(data_dir, "enqueue", "--type", "email", "--payload", word, stdin='{"a": [1, -2.5, "é"]}')
        assert done.returncode == 0, done.stderr
    assert [wire.message(payload) for _, payload, _ in fake.tasks] == [{"a": [1, -2.5, "é"]}] * 2
    assert _tq(data_dir, "enqueue", "--type", "email", "--payload", "@/no/such").returncode == 2


def test_without_a_daemon_every_hot_verb_says_so_and_ends_with_69(data_dir: Path) -> None:
    for argv in (["stats"], ["status", "1"], ["add", "--", "true"]):
        done = _tq(data_dir, *argv)
        assert (done.returncode, done.stdout) == (69, ""), argv
        assert done.stderr == f"tq: expected a daemon at {data_dir}/tq.sock, but nobody answers. Start one with `tq daemon start`.\n"


def test_a_task_object_has_the_promised_keys_and_shapes(fake: Any, data_dir: Path, task_row: Any) -> None:
    payload = wire.pack({"n": float("nan"), "b": b"\x00\xff", "é": [1]})
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1, payload=payload, result=wire.pack(3), meta={"k": "\x1b"})]}
    one = json.loads(_tq(data_dir, "status", "1", "--json").stdout, parse_constant=pytest.fail)
    wanted = (
        "id type queue state priority payload attempt failures retries timeout created_at due_at started_at finished_at expires_at worker"
    )
    assert set((wanted + " progress result error exit_code label meta tenant correlation_id").split()) <= one.keys()
    assert one["payload"] == {"n": "NaN", "b": "AP8=", "é": [1]}
    assert (one["result"], one["timeout"], one["due_at"]) == (3, 300.0, None)
    assert one["created_at"] == "2023-11-14T22:13:20.000Z"


def test_an_argument_that_is_not_text_travels_as_its_bytes(fake: Any, data_dir: Path) -> None:
    env = {**os.environ, "TQ_DATA_DIR": str(data_dir)}
    words: list[Any] = [sys.executable, "-m", "tq", "add", "--", "cat", b"\xff\xfe"]
    assert subprocess.run(words, env=env, capture_output=True, timeout=30, check=True).stdout == b"1\n"
    kind, payload, options = fake.tasks[0]
    assert kind == "shell"
    assert wire.message(payload) == {"argv": ["cat", b"\xff\xfe"]}
    assert options["extras"]["cwd"] == os.getcwd()
    assert options["extras"]["env"]["TQ_DATA_DIR"] == data_dir_of(None, {"TQ_DATA_DIR": str(data_dir)})
    assert isinstance(options["extras"]["umask"], int)


def test_output_into_a_closed_pipe_is_no_traceback(fake: Any, data_dir: Path) -> None:
    env = {**os.environ, "TQ_DATA_DIR": str(data_dir)}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tq", "status", "1"], env=env, stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["add", "--", "true"], ["enqueue", "--batch", "-"]])
def test_ids_are_printed_in_one_write_so_that_commands_side_by_side_do_not_mix_them(
    fake: Any, data_dir: Path, words: list[str], unbuffered: str
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps what each write wrote
    with ours, theirs:
        env = {**os.environ, "TQ_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": unbuffered}
        lines = b'{"type": "email"}\n' * 3
        argv = [sys.executable, "-m", "tq", *words]
        done = subprocess.run(argv, env=env, input=lines, stdout=theirs, stderr=subprocess.PIPE, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert ours.recv(100) == (b"1\n" if words[0] == "add" else b"1\n2\n3\n")


@pytest.mark.parametrize("words", [["list", "--json"], ["enqueue", "--batch", "-", "--type", "email"], ["--help"], ["add", "--", "true"]])
def test_a_closed_pipe_ends_every_path_with_141_and_no_words(fake: Any, data_dir: Path, words: list[str]) -> None:
    env = {**os.environ, "TQ_DATA_DIR": str(data_dir)}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        argv = [sys.executable, "-m", "tq", *words]
        done = subprocess.run(argv, env=env, input=b"{}\n", stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list"], "tq: the output cannot be written"),
        (["stats", "--json"], "tq: the output cannot be written"),
        (["--help"], "tq: the output cannot be written"),
        (["add", "--", "true"], "But task 1 is stored: do not send it again."),
        (["enqueue", "--type", "email"], "But task 1 is stored: do not send it again."),
        (["enqueue", "--type", "email", "--batch", "-"], "But tasks 1 to 2 are stored: do not send it again."),
    ],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_1(
    fake: Any, data_dir: Path, words: list[str], said: str, unbuffered: str
) -> None:
    env = {**os.environ, "TQ_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        argv = [sys.executable, "-m", "tq", *words]
        done = subprocess.run(argv, env=env, input=b"{}\n{}\n", stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
    assert said in done.stderr.decode()


@pytest.mark.parametrize(
    "words",
    [
        ["add", "--label", b"\xff", "--", "true"],
        ["add", "--meta", b"a=\xff", "--", "true"],
        ["run", "--queue", b"\xff", "--", "true"],
        ["enqueue", "--type", b"\xff"],
        ["enqueue", "--type", "email", "--payload", b'"\xff"'],
        ["list", "--label", b"\xff"],
        ["queue", "pause", b"\xff"],
    ],
)
def test_an_option_that_is_not_utf_8_is_refused_in_a_line(fake: Any, data_dir: Path, words: list[Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tq", *words], env={**os.environ, "TQ_DATA_DIR": str(data_dir)}, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1), done.stderr
    assert not fake.requests


@pytest.mark.parametrize("verb", ["add", "run"])
def test_an_empty_word_is_no_command(fake: Any, data_dir: Path, verb: str) -> None:
    done = _tq(data_dir, verb, "--", "")
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected a command after --, got an empty word" in done.stderr
    assert not fake.requests
