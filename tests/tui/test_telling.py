"""A task told: its attempts, its course on one scale, its facts, and why it waits."""

from __future__ import annotations

import pytest

from tests.tui.fake import START_MS
from tests.tui.jobs import row_of, task
from tui.formats import ASCII, UNICODE
from tui.telling import KIN_MOST, attempts_of, course, errors_of, facts, gist, kin_lines, kin_of, tries, why_lines


def texts(lines: object) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in lines]  # type: ignore[attr-defined]


def test_the_last_attempt_is_told_with_those_before_it() -> None:
    found = attempts_of(task(1, "failed"))
    assert [(one.number, one.outcome) for one in found] == [(1, "failed"), (2, "failed")]
    assert [number for number, _ in errors_of(task(1, "failed"))] == [1, 2]
    assert attempts_of(task(1)) == []


def test_attempts_of_what_a_person_ran_again_have_no_limit_that_they_are_over() -> None:
    assert tries(task(1, "failed")) == "2/5"
    assert tries(task(1, "failed", retries=1)) == "2/2"
    assert tries(task(1, "failed", retries=0)) == "2"


def test_stretches_have_one_scale() -> None:
    lines = texts(course(task(1, "failed"), START_MS, 80, UNICODE))
    bars = [line.count("█") for line in lines if "█" in line]
    assert bars == [40, 30]  # 20 and 15 seconds


def test_what_runs_grows_until_now() -> None:
    one = task(1, "running")
    assert "20.0s" in "".join(texts(course(one, START_MS, 80, UNICODE)))
    assert "1m20s" in "".join(texts(course(one, START_MS + 60_000, 80, UNICODE)))


@pytest.mark.parametrize("state", ["scheduled", "retrying", "pending", "blocked", "cancelled", "expired", "succeeded"])
def test_every_state_ends_its_course_with_itself(state: str) -> None:
    last = texts(course(task(1, state), START_MS, 60, UNICODE))[-1]
    assert UNICODE.state(state) in last


def test_facts_name_only_what_there_is() -> None:
    lines = texts(facts(task(1, "failed", label="nightly"), START_MS, UNICODE))
    assert any(line.startswith("label") and "nightly" in line for line in lines)
    assert not any(line.startswith("unique") for line in lines)


def test_hostile_words_are_made_visible_everywhere() -> None:
    bad = "\x1b]0;x\x07\u202e"
    one = task(
        1, "failed", bad, bad, label=bad, worker=bad, meta={bad: bad}, error={"type": bad, "message": bad, "frames": [[bad, 1, bad]]}
    )
    text = "\n".join(
        [*texts(facts(one, START_MS, ASCII)), *texts(course(one, START_MS, 60, ASCII)), *texts(gist(one, START_MS, 38, ASCII))]
    )
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b" in text


def test_reasons_are_told_in_words_and_unknown_ones_as_they_are() -> None:
    lines = texts(
        why_lines(
            [
                ["queue_paused", {"queue": "mail", "since": START_MS - 120_000}],
                ["blocked", {"parents": [[3, "running"]]}],
                ["newer_word", {}],
            ],
            START_MS,
        )
    )
    assert "queue mail is paused, for 2m" in lines[0]
    assert "it waits for 3 (running)" in lines[1]
    assert "newer_word" in lines[2]


def test_what_was_cancelled_before_it_ran_waits_no_longer() -> None:
    one = task(7, "cancelled", created_at=START_MS - 60_000, finished_at=START_MS - 40_000)
    told = {"".join(text for text, _ in line) for at in (0, 9_000) for line in facts(one, START_MS + at, UNICODE)}
    assert [line for line in told if "waited" in line] == ["times      waited 20.0s   ran —"]


def test_kin_is_told_with_how_it_stands_and_what_else_ends_the_wait() -> None:
    child = task(9, "blocked", parents=[1, 2, 3, 4], parents_any=[2], parents_failed=[3])
    rows = {
        one: row_of(task(one, "failed" if one == 3 else "running", f"kind{one}", label="\x1b[31m" if one == 1 else None))
        for one in (1, 2, 3, 11)
    }
    kin = kin_of(child, [11, 12], rows)
    told = ["".join(text for text, _ in line) for line in kin_lines(kin, 4, UNICODE)]
    assert told == [
        "after      1  ● run  \\x1b[31m", "           2  ● run  kind2  (however it ends)", "           3  ✗ fail  kind3  (if it fails)",
        "           4  gone  ", "before     11  ● run  kind11", "           12  gone  ",
    ]  # fmt: skip


def test_of_much_kin_only_some_is_told_and_that_there_is_more() -> None:
    child = task(999, "blocked", parents=list(range(1, 101)))
    lines = kin_lines(kin_of(child, range(1000, 1100), {}), 100, ASCII)
    assert len(lines) == 2 * KIN_MOST + 2
    assert lines[KIN_MOST][1][0] == "and 88 more"
    assert lines[-1][1][0] == "and perhaps more"


def test_what_holds_a_task_back_is_told_with_how_long_yet() -> None:
    reasons = [
        ["limit_reached", {"limit": "slow", "scope": "type", "of": "email", "opens_at": START_MS + 3000}],
        ["breaker", {"type": "email", "state": "open", "why": "5 in a row", "until": START_MS + 9000}],
        ["quota_reached", {"tenant": "acme", "running": 5, "quota": 5}], ["over", {"why": None}],
    ]  # fmt: skip
    assert ["".join(text for text, _ in line)[11:] for line in why_lines(reasons, START_MS)] == [
        "limit slow of type email is reached, but in 3.0s", "the breaker of type email is open: 5 in a row, but in 9.0s",
        "tenant acme runs 5 tasks of at most 5", "it is over",
    ]  # fmt: skip
