"""Completion: what is offered where, names that could do harm, the time it takes, and Tab in real shells."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.cli.complete import SHELLS, complete
from tq.cli.options import COMMANDS
from tq.model import pack

Offer = Callable[..., list[str]]
HOSTILE = (
    "a;reboot",
    "$(reboot)",
    "`reboot`",
    "a b",
    "x\x1b[31m",
    "-rf",
    "~root",
    "a&b",
    "a|b",
    "a'b",
    "*",
    "",
    "a\nb",
    "a\tb",
    "\u202egnp",
)


@pytest.fixture
def offer(data_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Offer:
    """``offer("queue", "set", "ma")``: the kind, then the candidates, as zsh gets them."""
    monkeypatch.setenv("TQ_DATA_DIR", str(data_dir))

    def ask(*words: str, shell: str = "zsh") -> list[str]:
        complete([shell, *words])
        out, err = capfd.readouterr()
        assert err == ""
        return [line.partition("\t")[0] for line in out.splitlines()]

    return ask


def test_commands_and_options_are_those_of_the_table(offer: Offer) -> None:
    assert offer("")[0] == "words"
    assert set(offer("")[1:]) == {name.split()[0] for name in COMMANDS}
    assert offer("que") == ["words", "queue"]
    assert offer("--data-dir", "/x", "sta") == ["words", "status", "stats"]
    assert offer("queue", "pa") == ["words", "pause"]
    assert offer("queue") == ["words", "queue"]  # still being written
    assert offer("-") == ["words", "--data-dir", "--version", "--help"]
    for name, command in COMMANDS.items():
        found = offer(*name.split(), "--")
        assert found == ["words", *(option.flags[0] for option in command.options), "--help"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--data-dir", ""], ["dirs"]),
        (["list", "--state", "su"], ["words", "succeeded"]),
        (["list", "--state=su"], ["words", "--state=succeeded"]),
        (["enqueue", "--backoff", ""], ["words", "fixed", "linear", "exponential"]),
        (["enqueue", "--payload", ""], ["files"]),
        (["backup", ""], ["dirs"]),
        (["backup", "here", ""], ["words"]),
        (["daemon", "log-level", "d"], ["words", "debug"]),
        (["completion", ""], ["words", *SHELLS]),
        (["run", "--label", "x", "--", "make", "al"], ["command 4"]),
        (["run", "make", ""], ["command 1"]),
        (["run", ""], ["command 1"]),
        (["stats", ""], ["words"]),
        (["nothing", "of", "it", ""], ["words"]),
        (["enqueue", "--nothing", ""], ["words"]),
        (["enqueue", "--nothing=x"], ["words"]),
        (["queue", "set", "x", "--unset", "max"], ["words", "max-tasks", "max-bytes"]),
        (["queue", "set", "x", "--unset", "hold-m"], ["words", "hold-memory"]),
        (["schedule", "add", "x", "--overlap", "q"], ["words", "queue_one"]),
        (["add", "--cwd", ""], ["dirs"]),
    ],
)
def test_values_fit_where_they_stand(offer: Offer, words: list[str], found: list[str]) -> None:
    assert offer(*words) == found


def test_without_a_daemon_there_is_silence_and_none_is_started(offer: Offer, data_dir: Path) -> None:
    for words in (["queue", "set", ""], ["show", ""], ["enqueue", "--type", ""], ["worker", "drain", ""]):
        assert offer(*words) == []
    assert list(data_dir.iterdir()) == []
    assert complete([]) == 1


def test_ids_queues_types_and_workers_are_those_of_the_daemon(offer: Offer, fake: Any, task_row: Callable[..., Any]) -> None:
    command = pack({"argv": ["make", "all\x1b[31m\n\u202e"]})
    rows = [task_row(12, type="shell", state="failed", payload=command), task_row(7, type="mail", state="failed", label="night")]
    fake.verbs["find"] = lambda _: {"tasks": rows}
    fake.verbs["queues"] = lambda _: {"queues": [{"name": name, "paused": False} for name in ("mail", "main", "web")]}
    fake.verbs["types"] = lambda _: {"types": [{"name": "mail.send"}]}
    fake.verbs["workers"] = lambda _: {"workers": [{"id": "w1", "state": "idle", "pid": 3}]}
    fake.verbs["schedules"] = lambda _: {"schedules": [{"name": "night", "paused": True}, {"name": "day", "paused": False}]}
    fake.verbs["resources"] = lambda _: {"resources": [{"name": "gpu", "amount": 2}, {"name": "licence", "amount": 1}]}
    assert offer("resource", "remove", "") == offer("resource", "set", "") == ["words", "gpu", "licence"]
    assert offer("add", "--use", "g") == ["words", "gpu"]
    fake.verbs["tenants"] = lambda _: {"tenants": [{"name": "acme"}, {"name": "evil; reboot"}, {"name": "beta"}]}
    assert offer("tenant", "show", "") == offer("list", "--tenant", "") == ["words", "acme", "beta"]
    assert offer("schedule", "history", "") == ["words", "night", "day"]
    assert offer("schedule", "add", "") == ["words"]  # a new name
    assert offer("retry", "") == ["words", "12", "7"]
    assert fake.asked("find")[-1] == {"limit": 50, "states": ["succeeded", "failed", "cancelled", "expired"]}
    assert offer("retry", "12", "") == ["words", "7"]  # not twice
    assert offer("show", "12", "") == ["words"]
    assert offer("queue", "set", "ma") == ["words", "mail", "main"]
    assert offer("add", "--queue", "w") == ["words", "web"]
    assert offer("add", "--after", "") == ["words", "12", "7"]
    assert fake.asked("find")[-1] == {"limit": 50, "states": ["scheduled", "blocked", "pending", "retrying", "running"]}
    assert offer("enqueue", "-t", "") == ["words", "mail.send"]
    assert offer("worker", "drain", "") == ["words", "w1"]


def test_a_filter_goes_on_as_the_daemon_says(offer: Offer, fake: Any) -> None:
    choices = [["state:", "where it stands"], ["started>", "when"], ["state;reboot", ""]]
    fake.verbs["complete"] = lambda args: {"start": 0, "end": 2, "choices": choices}
    assert offer("list", "st") == ["words", "state:"]  # the others a shell would not take for one word
    assert offer("cancel", "--where", "st") == ["words", "state:"]
    assert offer("cancel", "--where=st") == ["words", "--where=state:"]
    assert fake.asked("complete") == [{"text": "st", "at": 2}] * 3
    fake.verbs["complete"] = lambda args: {"start": 13, "end": 15, "choices": [["succeeded", "7"]]}
    assert offer("list", "queue:x", "state:failed,su") == ["words", "state:failed,succeeded"]
    assert offer("list", "state", ":", "failed,su", shell="bash") == ["words", "failed,succeeded"]  # as bash cuts it
    assert offer("list", "--sort", "p") == ["words", "priority"]
    assert "-run" in offer("list", "--sort", "")


def test_what_tasks_say_of_themselves_is_one_clean_line(fake: Any, task_row: Any, data_dir: Path, capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TQ_DATA_DIR", str(data_dir))
    command = pack({"argv": ["make", "all\x1b[31m\n\t\u202e" + "x" * 100]})
    fake.verbs["find"] = lambda _: {"tasks": [task_row(12, type="shell", state="failed", payload=command)]}
    complete(["zsh", "show", ""])
    assert capfd.readouterr().out == f"words\n12\tfailed  make all?[31m???{'x' * 36}\n"


@pytest.mark.parametrize(
    ("payload", "about"),
    [
        ({"argv": ["cat", b"caf\xe9.txt"]}, "failed  cat caf?.txt"),
        ({"argv": 5}, "failed  shell"),
        ({}, "failed  shell"),
        ([1, 2], "failed  shell"),
    ],
)
def test_a_command_of_any_bytes_does_not_end_completion(
    fake: Any, task_row: Any, data_dir: Path, capfd: Any, monkeypatch: Any, payload: Any, about: str
) -> None:
    monkeypatch.setenv("TQ_DATA_DIR", str(data_dir))
    fake.verbs["find"] = lambda _: {"tasks": [task_row(12, type="shell", state="failed", payload=pack(payload))]}
    complete(["zsh", "show", ""])
    assert capfd.readouterr().out == f"words\n12\t{about}\n"


def test_names_that_a_shell_would_take_for_more_than_a_word_are_not_offered(offer: Offer, fake: Any) -> None:
    names = [*HOSTILE, "plain", "größe", "a:b", "r.daily-1"]
    fake.verbs["queues"] = lambda _: {"queues": [{"name": name, "paused": False} for name in names]}
    assert offer("queue", "set", "") == ["words", "plain", "größe", "a:b", "r.daily-1"]
    assert offer("queue", "set", "a", ":", "", shell="bash") == ["words", "b"]  # as bash cuts it
    assert offer("add", "--queue", "=", "pl", shell="bash") == ["words", "plain"]


def test_a_daemon_that_does_not_answer_is_not_waited_for(data_dir: Path, offer: Offer) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(data_dir / "tq.sock"))
        deaf.listen()
        began = time.monotonic()
        assert offer("queue", "set", "") == []
        assert time.monotonic() - began < 2


# in shells


@pytest.fixture
def tools(data_dir: Path) -> Path:
    """A PATH whose ``tq`` completes, and else prints its words instead of doing anything."""
    folder = data_dir / "bin"
    (folder / "place").mkdir(parents=True)
    script = f'#!/bin/sh\nif [ "$1" = __complete ]; then exec "{sys.executable}" -m tq "$@"; fi\nprintf "RAN"; printf "<%s>" "$@"; echo\n'
    (folder / "tq").write_text(script)
    (folder / "tq").chmod(0o755)
    for shell in SHELLS:
        text = subprocess.run([sys.executable, "-m", "tq", "completion", shell], capture_output=True, text=True, check=True, timeout=30)
        (folder / f"script.{shell}").write_text(text.stdout)
    return folder


STARTS = {
    "bash": (["--norc", "--noprofile", "-i"], "PS1='ready> '; source {script}\n"),
    "zsh": (["-f", "-i"], "PS1='ready> '; autoload -U compinit; compinit -D -u; source {script}\n"),
    "fish": (["--no-config", "-i"], "function fish_prompt; echo 'ready> '; end; source {script}\n"),
}


class Terminal:
    """A shell with a person in front of it."""

    def __init__(self, shell: str, argv: list[str], env: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(["setsid", "--ctty", "--wait", shell, *argv], stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str, within_s: float = 20.0) -> str:
        """What was shown up to ``text``, and it."""
        deadline = time.monotonic() + within_s
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"expected {text!r}, got {self.seen[-3000:]!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
        found, _, self.seen = self.seen.partition(text)
        return found + text

    def close(self) -> None:
        os.close(self.master)  # which is a hangup
        self.process.wait(10)


@pytest.mark.flow
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_in_a_real_shell(shell: str, tools: Path, data_dir: Path, daemon: Callable[..., Any], tq: Any) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    daemon(workers=1)
    for name in ("mail", "größe", "pay:in", *(one for one in HOSTILE[:5])):
        tq("queue", "set", "--weight", "2", "--", name)
    task = tq("add", "--label", "night", "--wait", "--", "true").stdout.strip()
    env = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "TQ_DATA_DIR": str(data_dir),
        "TERM": "dumb",
        "HOME": str(tools),
        "LC_ALL": "C.UTF-8",
    }
    words, start = STARTS[shell]
    terminal = Terminal(program, words, env)
    try:
        terminal.type(start.format(script=tools / f"script.{shell}"))
        terminal.until("ready> ")
        for typed, ran in (
            ("tq queu\tpau\tmai\t", "RAN<queue><pause><mail>"),
            ("tq queue pause grö\t", "RAN<queue><pause><größe>"),
            ("tq queue pause pay:\t", "RAN<queue><pause><pay:in>"),
            ("tq queue pause a\t", "RAN<queue><pause><a>"),  # not what would be run if it stood there
            ("tq add --que\tmai\t", "RAN<add><--queue><mail>"),
            ("tq show \t", f"RAN<show><{task}>"),
            ("tq list --state=succ\t", "RAN<list><--state=succeeded>"),
            (f"tq backup {tools}/pla\t", f"RAN<backup><{tools}/place"),
            (f"tq enqueue --payload {tools}/script.b\t", f"RAN<enqueue><--payload><{tools}/script.bash>"),
            ("tq run -- expr\t", "RAN<run><--><expr>"),
        ):
            terminal.type(typed + "\n")
            terminal.until(ran)
    finally:
        terminal.close()
