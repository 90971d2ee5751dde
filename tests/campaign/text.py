"""Hostile text in every field that a task, a client or a settings file can set, through every command's output and the log.

For: ``CORPUS`` (what steers terminals, markup, logs and JSON), a daemon in this process whose tasks are made of it, and each
command run on it: as words and as JSON, on a terminal and on a pipe, by Typer's path and by the thin one.
Not for: bytes that are no requests (frames), who may connect.
Runs in: a process of its own; the daemon is a thread of it.
Promises: a cycle is ten texts, a fresh instance of tasks in all states made of them, and every command; what is printed
steers nothing, forges no line, and each record of the log is one line.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from tests.campaign.frames import House
from tests.campaign.planted import plant as plant_bug
from tests.campaign.suite import Report, Suite, each, scratch
from tq import wire
from tq.broker.desk import Hold
from tq.cli import app, fast
from tq.cli.options import COMMANDS
from tq.errors import ConfigError
from tq.log import _Json, _Words
from tq.model import SHELL, State, pack
from tq.output import ERR, NOTE, OUT, OutputWriter
from tq.store import TypeInfo, Want
from tq.store.lmdb import LmdbStore
from tq.waiting import Request

TEXTS = 10
"""Texts of a cycle."""
FORGED = "7  succeeded  FORGED"
"""A line that must not stand for itself in what is printed of a task's other fields."""
PLACE = "d\x1b]0;x\x07\u202e"
"""The data directory's own name."""
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

CORPUS: list[str] = [
    *(f"a{chr(code)}b" for code in (*range(0x20), *range(0x7F, 0xA0))),
    *(f"{mark}abc{mark}" for mark in BIDI), "a\u2028b\u2029c", "\u202e" + "gnp.exe" + "\u2066",
    # what terminals obey
    "\x1b[2J\x1b[H", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]52;c;ZWNobyBoaQ==\x07", "\x1b]52;c;ZWNobyBoaQ==\x1b\\",
    "\x9d52;c;aGk=\x9c",
    "\x1b]8;;http://example.invalid\x1b\\link\x1b]8;;\x1b\\", "\x1bP+q544e\x1b\\", "\x90q\x9c", "\x1b_G\x1b\\", "\x1b^pm\x1b\\", "\x1bc",
    "\x1b[6n", "\x1b[c",
    "\x1b[?1049h", "\x1b[20t", "\x1b[21t", "\x1b[5i", "\x1bZ", "\x1b#8", "\x1b%G", "\x9b31m", "\x9b2J", "\x85next", "\x8d", "\x84",
    "\x0e\x0f", "\x05",
    "safe\r\x1b[2Kforged", "safe\rforged", "\b" * 20 + "over", "a\x7fb", "\x1b[3A\x1b[Kup", "\x1b[38;2;0;0;0m", "\x1b]1337;File=:AAAA\x07",
    "\x1b]777;notify;a;b\x07",
    "\x1b[>4;1m", "\x1b[?2004h", "\x1b\x1b\x1b", "\x1b", "\x1b[", "\x1b]", "\x9d", "\x9b", "\ufffe\x1b[m", "é\x1b[m", "\x1b[\u202e31m",
    # lines
    f"\n{FORGED}", f"\r\n{FORGED}\r\n", f"\x0b{FORGED}", f"\x0c{FORGED}", f"\x85{FORGED}", f"\u2028{FORGED}", f"x\n\n{FORGED}\n", "\n" * 40,
    '\n{"at": "2026-01-01T00:00:00.000Z", "level": "error", "event": "forged"}', "\n12:00:00.000 error   forged", "\ttab\tbed", "\n\t\n",
    # markup, formats, JSON, shells, paths
    "[/bold]", "[bold]x", "[link=http://example.invalid]x[/link]", "[@click=app.bell]x", "[red", "]", "[[]", "\\[x]", ":smile:",
    "[b][/b][/i]", "[on red blink]x",
    "{0}", "{}", "{id}", "{row[payload]}", "{0.__class__}", "{", "}", "{{}", "%s", "%d", "%(id)s", "%n%n%n", "%", "$HOME", "`id`", "$(id)",
    "; id", "| id", "&& id", "'", '"',
    "''", '""', "\\", "\\\\", "\\n", "\\x1b[2J", "\\u001b", '"}', '","a":"', "</script>", "<!--", "&lt;", "]]>", "../../etc/passwd",
    "/dev/tty", "-", "--", "-rf", "--help",
    "--version", "@last", "@/etc/passwd", "#", "*", "?", "~", "!!", "state:failed", "id:1 OR id:2", "NOT", "(", "null", "None", "nan",
    "-0", "0", "1e999", "true", " ", "  x  ",
    # characters that are more, less or wider than one
    "\u200b", "\u200d", "\ufeff", "\u00ad", "\u2060", "\u180e", "a" + "\u0301" * 50, "Z" + "\u0363" * 100, "\u0489" * 20, "漢字" * 20,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U000e0041\U000e007f", "\ue000", "\uffff", "\U0010ffff", "\ufff9a\ufffab\ufffb", "שלום", "مرحبا", "ﷺ" * 10, "ﬀ", "\u1160", "İı",
    "\u3000", "\u00a0", "\u2007",
    "\ud800", "\udfff", "a\udc9bb", "\udcff\udcfe", "\ud83d", "\udc1b[2J",
    # long ones
    "x" * 70_000, "\x1b[31m" * 3000, "\u202e" * 5000, "\n" * 3000 + FORGED, "[" * 3000, "漢" * 20_000, "a " * 20_000, "\x00" * 500,
]  # fmt: skip
_PIECES = [*CORPUS[:-8], "a", "b c", "Ω", "{", "[", "\\", '"', "%"]


def invented(rng: random.Random) -> str:
    """A text of pieces of the corpus and of any characters there are."""
    pieces = [rng.choice(_PIECES) if rng.random() < 0.6 else chr(rng.choice((rng.randrange(0x300), rng.randrange(0x2000, 0x2100),
    rng.randrange(0x110000))))
              for _ in range(rng.randrange(1, 8))]  # fmt: skip
    return "".join(pieces)


def told_name(text: str) -> str:
    """As much of it as a name may be."""
    return text.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") or "?"


def sound(text: str) -> str:
    """The text as it can travel."""
    return text.encode("utf-8", "replace").decode()


class Played(House):
    """A house with a door that is open, whose worker is played: what a command follows is run, and ends as the texts say."""

    def __init__(self, data_dir: Path, texts: Sequence[str]) -> None:
        super().__init__(data_dir, log_level="debug")
        self.now = time.time_ns() // 1_000_000
        self.texts = [sound(text) for text in texts]
        self.raw = texts
        self.later: list[int] = []  # tasks that wait for a time far off
        self._over = False
        self.trouble: list[str] = []

    # what only workers and surroundings could say

    def _answer_looks(self, ticks: int) -> None:
        rows = [
            {"id": told_name(text), "hostname": text, "pid": 1, "state": text, "started_at": self.now, "last_heartbeat": self.now,
            "tasks": [1],
             "ahead": 0, "done": 3, "cpu": 0.5, "cpu_s": 0.1, "rss": 1 << 20} for text in self.texts
        ]  # fmt: skip
        for conn, number, _ in self._looks:
            self._send(conn, wire.frame([number, wire.ANSWER, {"workers": rows}]))
        self._looks.clear()

    def _status(self, connection: Any, number: int, args: dict[str, Any]) -> dict[str, Any]:
        body = super()._status(connection, number, args)
        return {
            **body,
            "version": self.texts[0],
            "data_dir": self.texts[1],
            "options": {**body["options"], "app": self.texts[2], "log_level": self.texts[3]},
        }

    def _check(self, conn: int, checked: Callable[[list[TypeInfo], str | None], None]) -> None:
        checked([], "\n".join(self.texts))

    # tasks

    def fill(self) -> None:
        """Tasks in all states, made of the texts."""
        client = self.connect()
        for at, (raw, text) in enumerate(zip(self.raw, self.texts, strict=True)):
            name = told_name(text)
            meta = {name: name} if len(name) < 1000 else {}
            options: dict[str, Any] = {
                "queue": name, "label": name, "tenant": name, "flow": name, "correlation_id": name, "meta": meta, "allow_unknown": True,
                "extras": {name: text[:1000]},
            }  # fmt: skip
            payload = pack({text[:2000]: [text]})[:200_000]
            broken = b"\xa5" + raw.encode("utf-8", "surrogatepass")[:100_000]
            words = [raw.encode("utf-8", "surrogatepass")[:3000], text[:3000]]
            shell = {"extras": {"cwd": text[:1000], "env": {name: text[:1000]}, "umask": 18}, "queue": "shells", "label": None}
            rows = [
                [name, payload, options | {"key": name, "unique": name}], [name, payload, options | {"delay_ms": 3_600_000}],
                *[[name, broken if at % 2 else payload, options]] * 5, [SHELL, pack({"argv": words}), shell],
            ]  # fmt: skip
            kind, body = self.ask(client, "enqueue", tasks=rows)
            if kind != wire.ANSWER:
                self.trouble.append(f"expected tasks made of {text!r:.100}, got {body}")
                continue
            ids = body["ids"]
            self.ask(client, "set_queue", name=name, paused=False, routes=[name], weight=2)
            self.ask(client, "set_queue", name=name, paused=True, unset=["routes"])
            self.ask(client, "cancel", ids=[ids[2]])
            self.later.append(ids[1])
            self._end(at, text, name, ids)
            self.ask(client, "dead", where=f"label:'{at}'")
        self.door.close(client)

    def _end(self, at: int, text: str, name: str, ids: list[int]) -> None:
        """Run three of them, let a command fail, leave one running."""
        client = self.connect()
        self.ask(client, "set_queue", name=name, paused=False, slots=100)
        self._store.begin(self.now)
        claimed = {task.id: task for task in self._store.claim(Want(name, 100, math.inf))}
        self._store.commit()
        frames = [[text, 3, text, text], [name, 4, name]]
        error = {"type": name, "message": text, "frames": frames, "chain": [{"type": text, "message": text, "frames": frames}]}
        for number, (task_id, task) in enumerate(claimed.items()):
            self._print(task_id, text)
            outcome = {"error": pack(error), "exit_code": 1, "worker": name, "permanent": True}
            if task_id == ids[3]:
                self._broker.settled([[task_id, task.claim, 0, self.now, self.now + 5, True, pack({text: text})]])
            elif task_id == ids[4]:
                self._pool.progress[task_id] = (0.5, text)
            elif task_id == ids[7]:
                self._broker.settled(
                    [[task_id, task.claim, "failed", self.now, self.now + 5, True, {**outcome, "exit_code": 3 if at % 2 else None}]]
                )
            elif task_id == ids[5]:
                self._broker.settled([[task_id, task.claim, "failed", self.now, self.now + 5, True, outcome]])
            else:
                kind = "failed" if number % 2 else "released"
                self._broker.settled(
                    [[task_id, task.claim, kind, self.now, self.now + 1, True, outcome | {"permanent": False, "delay_ms": 60_000}]]
                )
        self.settle_down()
        self.ask(client, "set_queue", name=name, paused=True, hold_probe=text.replace("\0", "")[:1000] or "x")
        self._broker.desk.held = {**self._broker.desk.held, name: Hold(("probe",), text, self.now)}
        self.door.close(client)

    def _print(self, task_id: int, text: str) -> None:
        out = OutputWriter(self._logs, task_id)
        for stream in (OUT, ERR, NOTE):
            out.write(stream, text.encode()[:3000] + b"\n", self.now)
        out.close()

    # the thread

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="played")
        thread.start()
        try:
            yield
        finally:
            self._over = True
            thread.join()

    def _run(self) -> None:
        try:
            while not self._over:
                self._loop.poll(0.01)
                self.now = time.time_ns() // 1_000_000
                self._play()
                self.settle_down()
        except Exception as error:
            self.trouble.append(f"expected the daemon to go on, got {error!r:.300}")

    def _play(self) -> None:
        for ids in set(self._broker.desk.waiting._steps.values()):
            self._broker.submit(Request(0, 0, "cancel", {"ids": [*(ids or ())]}))
        for task_id in self._followers.tasks:
            task = self._store.get([task_id])[0]
            if task is None or task.state is not State.PENDING or task.spec.header.type != SHELL:
                continue
            self._store.begin(self.now)
            for one in self._store.claim(Want("w1", 1, math.inf, types=frozenset({SHELL}))):
                text = self.texts[one.id % TEXTS]
                self._print(one.id, text)
                row = [
                    one.id,
                    one.claim,
                    "failed",
                    self.now,
                    self.now,
                    True,
                    {"error": {"type": "NoStart", "message": text}, "worker": told_name(text)},
                ]
                self._broker.settled([row])
            self._store.commit()


# the commands


@cache
def _built(build: Callable[[], typer.Typer] = app.build) -> Any:
    """The application, made once: that takes longer than most commands."""
    return typer.main.get_command(build())


def commands() -> set[str]:
    """The names of all commands that Typer knows."""
    found = set()

    def walk(command: Any, name: str) -> None:
        if hasattr(command, "commands"):
            for leaf, inner in command.commands.items():
                walk(inner, f"{name} {leaf}".strip())
        else:
            found.add(name)

    walk(_built(), "")
    return found


ELSEWHERE = {
    "demo": "an instance of its own, with texts of its own",
    "bench": "an instance of its own, with texts of its own",
    **dict.fromkeys(("monitor", "top"), "screens, which meet hostile texts in tests of their own"),
}
"""Commands that meet nobody's text."""


def lines_of(ids: dict[str, list[int]], texts: Sequence[str], rng: random.Random, place: Path) -> list[list[str]]:
    """A command line or more for each command, about tasks of all kinds."""
    everyone = [str(each) for each in chain.from_iterable(ids.values())]
    over = [str(each) for each in ids["over"]]
    some = rng.sample(everyone, 4)
    word = rng.choice(texts).replace("\0", "")[:150] or "x"
    typed = word.translate(dict.fromkeys(map(ord, BIDI + "\u2028\u2029")))  # Typer repeats those in an option that there is none of
    name = told_name(rng.choice(texts)).replace("\0", "") or "x"
    other = str(place / ("b\x1b[m" + str(rng.random())))
    flow = place / "flow.toml"
    flow.write_text(f'name = {json.dumps(name)}\n[steps.{json.dumps(name)}]\ntype = "add"\nlabel = {json.dumps(told_name(word))}\n')
    batch = place / "batch.jsonl"
    batch.write_text(
        json.dumps({"type": "add", "payload": word, "label": told_name(word)}) + "\n" + json.dumps({"type": name, word: 1}) + "\n"
    )
    return [
        ["enqueue", "--type", name, "--payload", json.dumps(word), "--label", name], ["enqueue", "--type", word], ["enqueue", "--batch",
        str(batch)],
        ["enqueue", "--type", "add", "--payload", word], ["enqueue", "--type", "add", "--unique", "u", "--key", name, "--meta", word],
        ["enqueue", "--type", "add", "--at", word], ["enqueue", "--type", "add", "--priority", word], ["enqueue", "--batch",
        f"/none/{word}"],
        ["enqueue", "--type", "add", "--payload", f"@/none/{word}"], ["enqueue", "--type", "add", "--in", word], [word], [f"--{typed}"],
        ["enqueue", "--type", "add", "--retries", word], ["list", f"--{typed}"], ["list", word], ["list", "--", word], ["list", "--where",
        word],
        ["add", "--after", word, "--", "true"], ["add", "--after", some[0], "--after-any", some[1], "--label", name, "--", word],
        ["add", "--label", name, "--", word, word], ["run", "--queue", "shells", "--", word], ["run", "--label", word, "--key", word, "--",
        word],
        *[["status", each] for each in some], ["status", word], *[["show", each] for each in some], *[["show", each] for each in over],
        ["show", word], ["list", "--limit", "500"], ["list", "--state", "failed", "--queue", name], ["list", "--state", word], ["peek"],
        ["list", "--sort", word], ["list", "--sort", "-type", "--limit", "500"], ["list", f"label:{name} priority:0 state:expired"],
        ["peek", "--queue", name],
        *[["why", each] for each in some], ["why", word], *[["result", each] for each in over], ["result", word], ["wait", *over], ["wait",
        word],
        ["cancel", some[0], "999999"], ["cancel", word], ["cancel", "--where", f"label:{name}", "--dry-run"], ["cancel", "--queue", name,
        "--dry-run"],
        ["retry", over[0], over[-1]], ["retry", "--where", word, "--dry-run"], ["edit", some[1], "--label", name, "--meta",
        f"{name}={word}"], ["edit", word],
        ["edit", some[1], "--payload", word], ["edit", "--type", name, "--priority", "2", "--wait"], ["remove", some[2]], ["remove",
        "--type", name, "--dry-run"],
        ["remove", word], ["events"], ["events", some[3]], ["events", over[0]], ["events", word], ["events", str(ids["later"][0]),
        "--follow"], ["events", str(ids["later"][1]), "--follow", "--json"],
        ["events", "--limit", word],
        *[["log", each] for each in over], ["log", over[2], "--follow"], ["log", word], ["log", over[0], "--timestamps", "--tail", "5"],
        ["send", over[0], word], ["send", word, word],
        ["log", over[0], "--since", word], ["log", over[0], "--stderr", "--attempt", word], ["stats"],
        ["stats", "--history", "1m"], ["stats", "--history", "3d", "--queue", name, "--json"], ["stats", "--history", word],
        ["verify"], ["backup", other],
        ["backup", f"{place}/none/{word}/x"],
        ["--data-dir", f"{other}r", "restore", other], ["--data-dir", f"{other}r", "restore", other], ["restore", f"/none/{word}"],
        ["compact"], ["doctor"], ["config", "show"], ["config", "check"], ["man", f"{other}m"], ["man", f"/dev/null/{word}"],
        ["__complete", "bash", "queue", "pause", ""],
        ["__complete", "fish", "show", ""], ["__complete", "zsh", "list", "--type", ""], ["__complete", "bash", "queue", "show", name[:1]],
        ["config", "path"], ["queue", "show", name], ["config", "set", word], ["config", "set", f"{word}=1", "--dry-run"],
        ["config", "set", f"daemon.app={word}", "--dry-run"], ["config", "set", f"workers.count={word}"],
        ["queue", "show", word], ["completion", "bash"], ["completion", word], ["service", "install", "--dry-run"],
        ["service", "install", "--dry-run", "--app", word], ["service", "install", "--dry-run", "--name", word],
        ["service", "uninstall", "--name", f"none{word}"], ["service", "status", "--name", f"none{word}"], ["service", "status"],
        ["daemon", "start"], ["daemon", "start", "--app", word],
        ["daemon", "stop"], ["daemon", "restart"],
        ["daemon", "log-level", "debug"], ["daemon", "log-level", word], ["daemon", "status"], ["daemon", word], ["dead", "list"], ["dead",
        "list", "--tasks"],
        ["dead", "list", "--where", word], ["dead", "show", over[0]], ["dead", "show", word], ["dead", "retry", over[0]], ["dead", "retry",
        "--group", word, "--dry-run"],
        ["dead", "purge", over[0]], ["dead", "purge", "--older-than", word], ["queue", "list"], ["queue", "set", name, "--weight", "3",
        "--route", word],
        ["queue", "set", name, "--unset", word], ["queue", "pause", name], ["queue", "resume", name], ["queue", "pause",
        f"new{name[:50]}"], ["queue", "purge", name, "--wait"],
        ["queue", "purge", name, "--dry-run"], ["queue", "chores"], ["queue", "set", name, "--max-bytes", word],
        ["queue", "set", name, "--hold-probe", word], ["queue", "set", name, "--hold-load", word, "--hold-memory", word],
        ["suspend", *some],
        ["suspend", word], ["resume", *some],
        ["schedule", "add", name, "--every", "1h", "--label", name, "--", word], ["schedule", "add", name, "--cron", word, "--", word],
        ["schedule", "add", f"n{word}", "--at", word, "--type", word], ["schedule", "list"], ["schedule", "list", "--json"],
        ["plan", "--for", "2h"], ["plan", "--for", word], ["alerts"], ["alerts", "--json"],
        ["schedule", "show", name], ["schedule", "show", word], ["schedule", "next", name], ["schedule", "next", word],
        ["schedule", "edit", name, "--on-failure", word, "--on-missed", word, "--missed-after", word],
        ["schedule", "edit", name, "--on-failure", word], ["schedule", "run", name], ["schedule", "history", name],
        ["schedule", "edit", name, "--tz", word], ["schedule", "import", word], ["schedule", "import", "--prefix", word, "/dev/null"],
        ["schedule", "edit", name, "--jitter", "1s"], ["schedule", "pause", name], ["schedule", "resume", name],
        ["schedule", "skip", name],
        ["schedule", "remove", name], ["schedule", "remove", word],
        ["resource", "set", told_name(word).replace(" ", "") or "x", "3"], ["resource", "set", word, "2"], ["resource", "set", name, word],
        ["breaker", "set", told_name(word).replace(" ", "") or "x", "5 failures"], ["breaker", "set", "smtp", word],
        ["breaker", "trip", name], ["breaker", "list"], ["breaker", "list", "--json"], ["breaker", "show", word],
        ["breaker", "reset", word], ["breaker", "remove", name],
        ["resource", "list"], ["resource", "list", "--json"], ["add", "--use", word, "--slots", "2", "--", "true"],
        ["edit", some[1], "--use", word], ["resource", "remove", name], ["resource", "remove", word],
        ["workflow", "run", word], ["workflow", "run", str(flow)], ["workflow", "list"], ["workflow", "list", "--name", word],
        ["workflow", "show", some[0]], ["workflow", "show", word], ["workflow", "show", "@last"], ["workflow", "show", "@last", "--json"],
        ["workflow", "cancel", word], ["workflow", "cancel", "@last"], ["workflow", "retry", word], ["workflow", "retry", "@last"],
        ["add", "--after-failure", some[0], "--on-parent-failure", word, "--", word], ["add", "--after-failure", word, "--", word],
        ["limit", "set", told_name(word).replace(" ", "") or "x", "--type", word, "--running", "1"], ["limit", "set", name, "--rate", word],
        ["limit", "set", word, "--tenant", word, "--rate", "1/s"], ["limit", "list"], ["limit", "list", "--json"],
        ["add", "--flow", word, "--", "true"], ["limit", "remove", name], ["limit", "remove", word],
        ["tenant", "set", word, "--queued", "1000000"], ["tenant", "set", word, "--bytes", word], ["tenant", "list"],
        ["tenant", "list", "--json"], ["tenant", "show", word], ["tenant", "remove", word], ["peek", "--tenant", word],
        ["worker", "list"], ["worker", "scale", "0"], ["worker", "scale", word], ["worker", "drain", name], ["worker", "restart"],
        ["worker", "restart", name],
    ]  # fmt: skip


class Screen(io.TextIOWrapper):
    """A stream that says it is a terminal, or that it is none, and keeps what is written."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        self.flush()
        raw: Any = self.buffer
        found: bytes = raw.getvalue()
        return found.decode("utf-8", "surrogateescape")


def run_line(argv: list[str], *, terminal: bool, thin: bool) -> tuple[int | None, str, str]:
    """A command line in this process: (exit code, stdout, stderr); None: it is not for the thin path."""
    out, err = Screen(terminal), Screen(terminal)
    with mock.patch.multiple(sys, stdout=out, stderr=err, stdin=io.TextIOWrapper(io.BytesIO(b"1"))):
        code = fast.try_fast(argv) if thin else app.main(argv)
        return code, out.text(), err.text()


_STEERING = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{BIDI}]")


def steering(text: str) -> list[str]:
    """The characters of a text that steer a terminal, tabs and newlines aside."""
    return sorted({f"U+{ord(one):04X}" for one in _STEERING.findall(text)})


def judged(argv: list[str], terminal: bool, out: str, err: str) -> Iterator[str]:
    """What is wrong with what a command has printed."""
    tasks_own = argv[0] in ("log", "run")  # the bytes of its output: on a pipe as they are, on a terminal cleaned, in its own lines
    path = not terminal and not {"backup", "restore", "config", "service", "man"}.isdisjoint(argv)  # which scripts want as it is
    for name, text in (("stdout", out), ("stderr", err)):
        found = steering(text)
        if found and not (path and name == "stdout") and not (tasks_own and not terminal and "--json" not in argv):
            yield f"expected nothing on {name} that steers a terminal, got {', '.join(found)} in {text!r:.300}"
    if not tasks_own and any(line.startswith(FORGED) for line in out.splitlines()):
        yield f"expected no line of a task's own making, got {out!r:.500}"
    if "--json" in argv:
        for line in out.splitlines():
            try:
                json.loads(line)
            except ValueError as error:
                yield f"expected JSON lines, got {error} in {line!r:.300}"
            if not line.isascii():
                yield f"expected ASCII, got {line!r:.300}"


class _Records(logging.Handler):
    """Each record as both formats print it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        records = len(getattr(record, "lines", [None]))
        for formatter in (_Json(), _Words()):
            text = formatter.format(record)
            if found := steering(text) or ["a tab"] * ("\t" in text):
                self.wrong.append(f"expected nothing in the log that steers, got {found} in {text!r:.300}")
            if len(text.splitlines()) != records:
                self.wrong.append(f"expected {records} lines for as many records, got {text!r:.500}")


def _texts(seed: int) -> list[str]:
    """The texts of a cycle: the corpus first, then what is made of it."""
    if 0 <= (start := (seed - 1) * TEXTS) < len(CORPUS):
        return (CORPUS[start : start + TEXTS] * TEXTS)[:TEXTS]
    rng = random.Random(seed)
    return [invented(rng) for _ in range(TEXTS)]


def cycle(seed: int, report: Report) -> Iterator[str]:
    """All commands on an instance made of this cycle's texts."""
    texts, rng, records = _texts(seed), random.Random(seed), _Records()
    logger = logging.getLogger("tq")
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tqx-", dir=scratch())))
        one = Played(place / PLACE, texts)
        LmdbStore(place / PLACE / "store", map_size=16 << 20).close()  # the files that commands look at themselves
        logger.addHandler(records)
        stack.callback(logger.removeHandler, records)
        stack.callback(one.close)
        one.fill()
        setting = json.dumps(texts[seed % TEXTS][:1000])  # a value that no daemon takes, or a name that none has
        (one._dir / "tq.toml").write_text(f"app = {setting}\n" if seed % 2 else f"{setting} = 1\n", errors="replace")
        os.chmod(one._dir / "tq.toml", 0o600)
        stack.enter_context(
            mock.patch.dict(
                os.environ,
                {
                    "TQ_DATA_DIR": str(one._dir),
                    "TQ_AUTOSTART": "0",
                    "XDG_CONFIG_HOME": str(place / "c\x1bc"),
                    "COLUMNS": "120",
                    "TERM": "xterm",
                },
            )
        )
        # what would start or end processes says what one that cannot start says
        refusing = mock.Mock(side_effect=ConfigError("\n".join(one.texts)))
        stack.enter_context(mock.patch("tq.cli.daemon.start_daemon", refusing))
        stack.enter_context(mock.patch("tq.cli.daemon.stop_daemon", return_value=1))
        stack.enter_context(mock.patch("tq.cli.app.build", return_value=_built()))
        tasks = [task for task in one._store.get(range(1, one._store.last_id() + 1)) if task is not None]
        over = [task.id for task in tasks if task.state in (State.FAILED, State.SUCCEEDED)]
        ids = {"over": rng.sample(over, min(6, len(over))), "later": one.later, "all": [task.id for task in tasks]}
        with one.open():
            for argv in lines_of(ids, texts, rng, place):
                yield from _tried(argv, report)
        yield from one.trouble
    yield from records.wrong[:5]
    if not records.count:
        yield "expected records in the log, got none"
    report.add(texts=TEXTS, records=records.count)


def _tried(argv: list[str], report: Report) -> Iterator[str]:
    """One command line in all ways: as words and JSON, on a terminal and a pipe, thin and whole."""
    known = COMMANDS.get(argv[0]) or COMMANDS.get(" ".join(argv[:2]))
    as_json = known is not None and any(option.key == "json" for option in known.options) and not {"--", "--json"} & {*argv}
    for line in [argv, *([[*argv, "--json"]] if as_json else [])]:
        for terminal, thin in ((True, False), (False, False), (True, True)):
            if thin != (argv[0] == "__complete") and not (thin and argv[0] in fast.HOT):
                continue
            try:
                code, out, err = run_line(line, terminal=terminal, thin=thin)
            except Exception as error:
                yield f"tq {line!r:.200}: expected an exit code, got {error!r:.300}"
                continue
            report.add(commands=1)
            where = f"tq {line!r:.200} {'on a terminal' if terminal else 'on a pipe'}{', thin' if thin else ''} ({code})"
            yield from (f"{where}: {wrong}" for wrong in judged(line, terminal, out, err))


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    """Cycles from ``seed`` on; the first ones (from 1) are the corpus. For a process of its own: a plant stays in it."""
    plant_bug(plant)
    return each("text", seed, cycles, lambda number, report: list(cycle(number, report)))


SUITE = Suite("text", f"{TEXTS} texts through every command and the log", -(-len(CORPUS) // TEXTS) + 2, 1000, run, ("text_uncleaned",))
