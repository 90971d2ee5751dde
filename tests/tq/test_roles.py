"""Connections that only read: what they are refused, however it is asked, and that nothing lifts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaign import frames
from tests.campaign.frames import House
from tq import roles, testing, wire
from tq.errors import NotAllowed
from tq.roles import READ_ONLY, READ_WRITE, READING, WRITING, allow

HELLO = {"protocol": wire.PROTOCOL, "client": "reader", "nonce": b"87654321"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path)
    yield one
    one.close()


def reader(home: House, **hello: Any) -> Any:
    client = home.connect(greet=False)
    assert home.ask(client, "hello", **HELLO, **{"read_only": True, **hello})[0] == wire.ANSWER
    return client


def state(home: House) -> Any:
    return home._store.last_id(), [tally.row() for tally in home._store.tallies()], home._store.queues(), home._store.events(None, 500)


@pytest.mark.parametrize("said", [None, False])
def test_a_hello_without_it_may_do_everything(home: House, said: bool | None) -> None:
    client = home.connect(greet=False)
    kind, body = home.ask(client, "hello", **HELLO, read_only=said)
    assert (kind, body["role"]) == (wire.ANSWER, READ_WRITE)
    assert home.ask(client, "set_queue", name="q")[0] == wire.ANSWER


def test_what_a_person_looks_through_is_told_of_what_is_done(home: House) -> None:
    client = home.connect(greet=False)
    for wrong in ("we b", "w" * 21, 7, "x\x1b"):
        kind, body = home.ask(home.connect(greet=False), "hello", **HELLO, via=wrong)
        assert (kind, body[0]) == (wire.ERROR, "protocol")
    assert home.ask(client, "hello", **HELLO, via="web")[0] == wire.ANSWER
    assert home.ask(client, "hello", **HELLO, via="else")[0] == wire.ANSWER  # said once for good
    assert home.ask(client, "set_queue", name="q", slots=2)[0] == wire.ANSWER
    assert home.ask(home.connect(), "set_queue", name="p", slots=2)[0] == wire.ANSWER
    plain, through = (event["who"] for event in home.ask(client, "events", limit=2)[1]["events"])
    assert through.startswith(f"user {os.geteuid()} (pid ")
    assert through == f"{plain} via web"


def test_every_verb_that_may_change_something_is_refused_and_nothing_is_changed(home: House) -> None:
    requests = frames.session(home)
    client, before = reader(home), state(home)
    told = {verb: home.ask(client, verb, **args) for _, verb, args in requests if verb in WRITING}
    assert told.keys() == WRITING
    assert {verb: (kind, body[0]) for verb, (kind, body) in told.items()} == dict.fromkeys(WRITING, (wire.ERROR, "not_allowed"))
    assert state(home) == before
    assert home.stops == 0


def test_every_verb_that_reads_is_carried_out(home: House) -> None:
    requests = frames.session(home)
    client = reader(home)
    answered = set()
    for number, verb, args in requests:
        if verb in READING:
            home.take(client, wire.frame([number, verb, args]))
            home.now += 1000
            home.settle_down()
            told = [message for message in home.told(client) if message[0] == number]
            assert "not_allowed" not in [body[0] for _, kind, body in told if kind == wire.ERROR]
            answered |= {verb for _, kind, _ in told if kind == wire.ANSWER}
    assert READING - answered <= {"schedules", "next_slots"}  # which ask for one that nobody made


def test_dry_runs_of_what_changes_things_are_refused_too(home: House) -> None:
    assert home.ask(reader(home), "cancel", where="id>0", dry_run=True)[1][0] == "not_allowed"


def test_a_second_hello_lifts_nothing_and_may_be_pipelined(home: House) -> None:
    client = home.connect(greet=False)
    again = [[1, "hello", {**HELLO, "read_only": True}], [2, "hello", {**HELLO, "read_only": False}], [3, "set_queue", {"name": "q"}]]
    home.take(client, b"".join(map(wire.frame, again)))
    home.settle_down()
    first, second, third = home.told(client)
    assert (first[2]["role"], second[2]["role"], third[2][0]) == (READ_ONLY, READ_ONLY, "not_allowed")
    assert home.ask(home.connect(), "set_queue", name="q")[0] == wire.ANSWER  # others may


def test_a_verb_that_there_is_none_of_is_told_so(home: House) -> None:
    assert home.ask(reader(home), "cancle", ids=[1])[1][0] == "protocol"


@pytest.mark.parametrize("said", [1, "yes", []])
def test_a_role_that_is_neither_is_a_mistake(home: House, said: Any) -> None:
    client = home.connect(greet=False)
    kind, body = home.ask(client, "hello", **HELLO, read_only=said)
    assert (kind, body[0]) == (wire.ERROR, "protocol")
    assert home.ask(client, "stats")[1][0] == "protocol"  # it has not been greeted


def test_what_is_in_neither_table_is_not_allowed() -> None:
    with pytest.raises(NotAllowed) as caught:
        allow("some_new_verb", True)
    assert caught.value.exit_code == 77
    allow("some_new_verb", False)
    assert roles.READING.isdisjoint(roles.WRITING)


@pytest.mark.asyncio
async def test_clients_that_only_read_are_refused_in_tests_as_by_a_daemon() -> None:
    with testing.fake() as one:
        task = one.client.enqueue("x", allow_unknown=True)
        reading, areading = one.connect(read_only=True), one.aconnect(read_only=True)
        assert reading.get(task.id)["id"] == task.id
        assert (await areading.get(task.id))["id"] == task.id
        with pytest.raises(NotAllowed):
            reading.cancel(task.id)
        with pytest.raises(NotAllowed):
            await areading.cancel(task.id)
        assert reading.get(task.id)["state"] == "pending"
