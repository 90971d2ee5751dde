"""Errors of the daemon name the options that were typed; and so for every option whose value travels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.tq.conftest import Refuse
from tq.broker.limits import _NUMBERS
from tq.cli.options import _MEANING, COMMANDS
from tq.cli.queues import _SETTINGS
from tq.cli.saying import in_options

Run = Callable[..., tuple[int, str, str]]

SENT = {
    **{("enqueue", key): word for key, (word, _) in _MEANING.items() if key not in ("in", "allow_unknown")},
    **{("schedule add", key): word for key, (word, _) in _MEANING.items()},
    **{("queue set", key): word for key, (word, _) in _SETTINGS.items()},
    **{("limit set", key): key for key in ("burst", "running", "rate", "factor", "failures", "window", "adaptive")},
    ("limit set", "latency"): "latency_ms", ("queue set", "route"): "routes", ("breaker trip", "span"): "for_ms",
}  # fmt: skip
"""The word of the wire for which an option's value travels."""


FLAGS = {name: {option.key: option.flags for option in command.options} for name, command in COMMANDS.items()}


@pytest.mark.parametrize(("name", "key", "word"), [(*which, word) for which, word in SENT.items() if which[1] in FLAGS[which[0]]])
def test_an_error_of_each_word_names_its_option(name: str, key: str, word: str) -> None:
    for before in ("", "task 1 of 1: "):
        said = in_options(f"{before}{word}: expected a number, got 0.", name, {key: "0"})
        assert said in [f"{before}{flag}: expected a number, got 0." for flag in FLAGS[name][key]]


def test_every_number_of_a_limit_has_an_option() -> None:
    for word in _NUMBERS:
        said = in_options(f"{word}: expected a number from 1 to 9, got 0.", "limit set", {"rate": "0/s..1/s", word: "0"})
        assert said.startswith("--"), word


def test_what_is_quoted_and_what_is_no_option_stays_and_the_verb_goes() -> None:
    values = {"debounce_most": "5s"}
    text = "task 1 of 1: debounce_most_ms: expected debounce_ms beside it, got 'debounce_ms', not_an_option and --throttle_ms."
    said = "task 1 of 1: --debounce-most: expected --debounce beside it, got 'debounce_ms', not_an_option and --throttle_ms."
    assert in_options(text, "add", values) == said
    assert in_options("set_limit: of: expected str, got 7.", "limit set", {"queue": "7"}) == "--queue: expected str, got 7."
    assert in_options("low: expected 1.", "limit set", {"running": None, "rate": "3/s..2/s"}) == "--rate: expected 1."
    assert in_options("key: expected this.", "add", {}) == "key: expected this.", "a plain word that nobody typed is no option"
    assert in_options("debounce_ms: expected this.", "enqueue", {"batch": "f"}) == "debounce_ms: expected this."


@pytest.mark.parametrize(
    ("argv", "message", "says"),
    [
        (("add", "--debounce", "1s", "--", "true"), "task 1 of 1: debounce_ms: expected unique.", "task 1 of 1: --debounce: expected"),
        (("enqueue", "--type", "t", "--throttle", "1s"), "either debounce_ms or throttle_ms.", "either --debounce or --throttle."),
        (("queue", "set", "q", "--hold-every", "1s"), "hold_every_ms: expected more.", "--hold-every: expected more."),
    ],
)  # fmt: skip
def test_both_paths_of_the_command_line_say_it_so(fake: Any, run: Run, argv: tuple[str, ...], message: str, says: str) -> None:
    def refuse(_: Any) -> Any:
        raise Refuse("usage", message, {})

    fake.verbs |= {"enqueue": refuse, "set_queue": refuse}
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"tq: {says}")
