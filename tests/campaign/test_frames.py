"""Malformed frames and size bombs: hundreds of thousands of mutated frames, requests made from the verbs' own tables, and bombs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.campaign import bombs, frames
from tests.campaign.frames import House, house
from tests.campaign.suite import apart
from tq import intake, wire

EXAMPLES, REQUESTS = 250, 8
VALUES = st.sampled_from(frames.VALUES)
SETTLE = st.tuples(
    st.integers(1, 12), st.integers(0, 12), st.sampled_from(["succeeded", "failed", "lost", None]),
    st.none() | st.dictionaries(st.sampled_from(["result", "error", "delay_ms", "permanent", "exit_code", "x"]), VALUES),
).map(list)  # fmt: skip


@pytest.fixture(scope="module")
def home() -> Iterator[House]:
    with house(keep_requests_ms=60_000) as one:
        yield one


def test_the_session_that_is_mutated_has_every_verb_and_is_answered_as_it_stands(home: House) -> None:
    requests = frames.session(home)
    assert {verb for _, verb, _ in requests} == home.known
    client = home.connect()
    for number, verb, args in requests:
        home.take(client, wire.frame([number, verb, args]))
        home.now += 200
        home.settle_down()
        kinds = {message[1] for message in home.told(client) if message[0] == number}
        expected = wire.ERROR if verb in frames.NO_PROCESSES else wire.ANSWER
        assert expected in kinds, (verb, args, kinds)
    assert home.wrong() == []


@pytest.mark.timeout(300)
def test_mutated_frames_by_the_hundred_thousand_are_refused_or_answered_and_what_is_stored_stays_sound() -> None:
    report = apart(frames.SUITE, 1, frames.SUITE.in_tests)
    assert report.violations == []
    assert report.counts["frames"] >= 300_000
    assert report.counts["served"] >= 30_000


@pytest.mark.parametrize("size", [1 << 20, bombs.MAX_FRAME], ids=["a frame as it is", "a frame of 16 MiB"])
def test_no_bomb_costs_much_memory_or_time_and_each_is_refused_with_a_reason(size: int) -> None:
    assert bombs.apart(size) == []


def _values(verb: str, kind: str) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["post", "ext", "add", "still", "state:pending", "id:1,2", "x", "\x1b]52;c;\x07"])
    options = st.dictionaries(st.sampled_from([*intake._OPTIONS, "none"]), st.sampled_from(frames.VALUES), max_size=4)
    rows = st.tuples(st.sampled_from(["add", "mail", "x", "", 5]), st.sampled_from([b"", b"\xc0", None, "text"]), st.none() | options).map(
        list
    )
    of = {
        "int": st.integers(0, 12) | st.integers(-(1 << 63), (1 << 64) - 1),
        "str": names,
        "float": st.floats() | st.integers(0, 12),
        "bool": st.booleans(),
        "bytes": st.binary(max_size=40),
        "dict": options,
        "list": {"enqueue": st.lists(rows, max_size=4), "settle": st.lists(SETTLE, max_size=4)}.get(
            verb, st.lists(st.integers(0, 12) | names | st.tuples(st.integers(1, 12), st.integers(0, 12)).map(list), max_size=6)
        ),
    }
    return st.one_of(of[kind], of[kind], of[kind], st.sampled_from(frames.VALUES))


def _requests(one: House) -> st.SearchStrategy[list[Any]]:
    """[verb, arguments], from what each verb says of its arguments."""
    names = ("id", "offset", "limit", "level", "now", "protocol", "nonce")
    told = {verb: dict.fromkeys(names, frames.VALUES) for verb in sorted(one.known)}
    mixed = [
        st.tuples(st.just(verb), st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in of.items()}))
        for verb, of in told.items()
    ]
    tables = frames.tables(one)
    ruled = [
        st.tuples(st.just(verb), st.fixed_dictionaries({}, optional={name: _values(verb, kind) for name, kind in kinds.items()}))
        for verb, kinds in tables.items()
    ]
    assert len(tables) >= 20
    return st.one_of(*(ruled * 3), *mixed).map(list)


def test_two_thousand_requests_made_from_the_verbs_own_tables_are_answered_or_refused_with_a_reason(home: House) -> None:
    sent = 0
    frames.session(home)

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(st.lists(_requests(home), min_size=REQUESTS, max_size=REQUESTS), st.integers(0, 100_000))
    def ask(requests: list[list[Any]], passes: int) -> None:
        nonlocal sent
        client = home.connect()
        bodies = [wire.pack([number, *request]) for number, request in enumerate(requests, 1)]
        for body in bodies:
            home.take(client, frames.framed(body))
            sent += 1
        home.now += passes
        home.settle_down()
        sock: Any = client.sock
        found = list(frames.judged(home.told(client), sock.closed, bodies))
        home.door.close(client)
        assert found == []

    ask()
    print(f"{sent} requests")
    assert sent >= EXAMPLES * REQUESTS
    assert home.wrong() == []


def test_a_planted_bug_is_caught_among_mutated_frames() -> None:
    assert apart(frames.SUITE, 1, 20, "shape_unchecked").violations
    assert apart(frames.SUITE, 1, 20).violations == []


def test_a_planted_bug_is_caught_by_bombs() -> None:
    found = "\n".join(bombs.apart(1 << 20, "decoder_without_limits"))
    for name in ("chains of maps", "the same key twice", "an extension in extras"):
        assert f"{name}: expected" in found
