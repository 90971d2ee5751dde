"""Simulated lives of a daemon (simulation.py): nothing is lost in them, they repeat themselves, and they would show what is broken."""

from __future__ import annotations

import subprocess

import pytest

from tests.campaign.simulation import SUITE
from tests.campaign.suite import ROOT, apart, plain_env, python
from tq.model import State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("half", [1, 2])
def test_a_daemon_keeps_its_promises_through_its_simulated_lives(half: int) -> None:
    first = 1 + (half - 1) * SUITE.in_tests // 2  # a change lives the same lives; the campaign goes on to others
    report = apart(SUITE, first, SUITE.in_tests // 2)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests // 2)
    assert report.counts["minutes"] >= 10 * report.cycles
    assert report.counts["cuts"] > 3 * report.cycles  # kills and power cuts
    assert report.counts["tasks"] > 50 * report.cycles
    assert report.counts["held_turns"] > 10 * report.cycles  # in a fourth of the lives
    assert report.counts["shut_turns"] > 5 * report.cycles  # the same of breakers
    assert report.counts["limited"] > 5 * report.cycles  # hand-outs that a limit counts, in another fourth
    assert report.counts["children"] > 5 * report.cycles
    every = {state.word: report.counts.get(f"with_{state.word}", 0) for state in State}
    assert min(every.values()) > report.cycles / 2, every


@pytest.mark.parametrize("seed", [38, 2467, 2613])
def test_lives_in_which_something_was_wrong_once_are_sound(seed: int) -> None:
    assert apart(SUITE, seed, 1).violations == []


@pytest.mark.parametrize("seed", [4, 17])  # one on each store, the second with limits
def test_a_seed_repeats_itself_to_the_last_event(seed: int) -> None:
    told = []
    for hash_seed in ("1", "2"):
        argv = python("-c", f"from tests.campaign.simulation import digest; print(digest({seed}))")
        told.append(
            subprocess.run(
                argv, cwd=ROOT, env=plain_env(PYTHONHASHSEED=hash_seed), capture_output=True, text=True, timeout=120, check=True
            ).stdout
        )
    assert told[0] == told[1]
    assert len(told[0].split()) == 3


@pytest.mark.parametrize(
    ("bug", "seed"),
    [("token_ignored", 7), ("index_skipped", 1), ("claim_before_commit", 8), ("answer_before_commit", 3), ("sync_off", 1)],
)
def test_a_planted_bug_is_caught_in_one_of_five_lives(bug: str, seed: int) -> None:
    assert apart(SUITE, seed, 5, bug).violations


@pytest.mark.parametrize(
    ("bug", "seed"), [("suits_any", 1), ("release_put_off", 9), ("gates_open", 1), ("gates_unwoken", 9), ("breakers_unasked", 6)]
)
def test_a_planted_bug_of_flow_control_is_caught_in_a_life(bug: str, seed: int) -> None:
    assert apart(SUITE, seed, 1, bug).violations
