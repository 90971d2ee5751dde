"""The nouns: records come back as they were written, damage is noticed, words mean what they say."""

from __future__ import annotations

import enum
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq.errors import StoreDamaged, StoreTooNew
from tq.model import (
    FINAL,
    FORMAT,
    OWN,
    PRIORITIES,
    STATES,
    WAITING,
    Attempt,
    Backoff,
    Header,
    Kind,
    Spec,
    State,
    Status,
    Task,
    duration_ms,
    header_of,
    needs_of,
    pack,
    priority_of,
    safe_text,
    seal,
    spec_of,
    state_named,
    status_of,
    unpack,
    unseal,
    with_own,
)
from tq.store.records import first_success

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
instants = st.integers(0, 2**63)
counts = st.integers(0, 2**31)
data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | texts | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
backoffs = st.builds(Backoff, st.sampled_from(["fixed", "linear", "exponential"]), counts, st.floats(1, 10), counts, st.booleans())
headers = st.builds(
    Header, texts, texts, st.integers(0, 9), counts, counts, backoffs, st.booleans(), st.none() | texts,
    st.none() | st.dictionaries(texts, texts, max_size=2), st.none() | texts, st.none() | texts, st.none() | texts,
    st.lists(st.integers(1, 2**60), max_size=3).map(tuple), st.none() | st.dictionaries(texts, data, max_size=2),
    counts, counts, st.none() | texts, st.none() | texts, st.lists(st.integers(1, 2**60), max_size=2).map(tuple),
    st.builds(needs_of, st.integers(1, 3), st.dictionaries(texts.filter(bool), st.integers(1, 10**6), max_size=3)),
    st.just(()), st.booleans(), st.none() | texts, st.booleans(),
)  # fmt: skip
specs = st.builds(Spec, st.integers(1, 2**60), headers, st.binary(max_size=64), instants, instants, instants, instants)
errors = st.none() | st.fixed_dictionaries(
    {"type": texts, "message": texts, "frames": st.lists(st.tuples(texts, counts).map(list), max_size=2)}
)
attempts = st.builds(
    Attempt, counts, instants, instants, st.sampled_from(["failed", "crashed"]), texts, errors, st.none() | st.integers(-64, 255)
)
statuses = st.builds(
    Status, st.sampled_from(State), counts, instants, instants, instants, instants, instants, counts, counts, counts, counts, st.booleans(),
    texts, st.booleans(), st.none() | st.binary(max_size=16), st.none() | st.integers(-64, 255), errors,
    st.lists(attempts, max_size=3).map(tuple),
)  # fmt: skip


# -- records -------------------------------------------------------------------------------------------------------


@given(spec=specs)
def test_a_specification_comes_back_as_it_was_written(spec):
    assert spec_of(spec.id, spec.record()) == spec


@given(status=statuses)
def test_a_status_comes_back_as_it_was_written(status):
    assert status_of(7, status.record(7)) == status


@given(header=headers)
def test_a_header_comes_back_as_it_was_packed(header):
    found = header_of(header.packed)
    assert found == header
    assert found.packed == header.packed


@given(a=headers, b=headers)
def test_headers_are_packed_alike_only_if_they_are_alike(a, b):
    assert (a.packed == b.packed) == (a == b)


def test_a_header_takes_no_room_for_what_it_does_not_have():
    assert len(Header("t").packed) <= len(pack(["t", "default", 1, 0, 0, False]))


def test_needs_are_slots_and_resources_in_an_order_of_their_own():
    header = Header("t", needs=needs_of(3, {"licence": 1, "gpu": 2}))
    assert header.needs == (("", 3), ("gpu", 2), ("licence", 1))
    assert (header.slots, header.uses) == (3, {"gpu": 2, "licence": 1})
    assert needs_of(1, {}) == ()
    assert (Header("t").slots, Header("t").uses) == (1, {})


OWNS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("tenant", "flow", "correlation_id", "key", "unique", "label"), st.text("kx", min_size=1, max_size=3)),
        "meta": st.dictionaries(texts, texts, max_size=2),
        **dict.fromkeys(("parents", "parents_any", "parents_failed"), st.lists(st.integers(1, 2**60), min_size=1, max_size=3).map(tuple)),
        "strict": st.just(True),
    },
).filter(bool)


@given(header=headers, own=OWNS)
def test_a_header_with_something_of_its_own_is_the_one_that_would_be_made_of_its_fields(header, own):
    plain = replace(header, **{one.name: one.default for one in fields(Header) if one.name in OWN})
    made = Kind(plain).own(own)
    assert made == header_of(made.packed) == replace(plain, **own)
    assert (made.packed, made.lane) == (replace(plain, **own).packed, replace(plain, **own).lane)
    assert Kind(plain).header == plain, "the kind stays as it is"
    assert with_own(header, own) == replace(header, **own)


def test_a_header_keeps_its_environment_when_something_of_its_own_changes():
    assert with_own(Header("shell", label="x", environment=b"E"), {"parents": (7,)}).environment == b"E"


@given(header=headers)
def test_a_header_that_was_packed_as_one_row_is_read_as_it_lies_there(header):
    """As stores before format 6 have it, which knew neither ordering keys nor batches."""
    header = replace(header, order=None, order_goes_on=False, batch=0)
    row = [header.type, header.queue, header.priority, header.retries, header.timeout_ms, header.once, header.backoff.row()]
    row += [header.label, header.meta, header.tenant, header.flow, header.correlation_id, list(header.parents) or None, header.extras]
    row += [header.retry_for_ms or None, header.deadline_ms or None, header.key, header.unique, list(header.parents_any) or None]
    packed = pack([*row, header.needs or None, list(header.parents_failed) or None, header.strict or None])
    found = header_of(packed)
    assert (found, found.packed, found.lane) == (header, packed, header.lane)


def test_headers_are_decoded_once_for_all_tasks_of_a_kind():
    header = Header("cached", label="x")
    one, two = (spec_of(n, Spec(n, header, b"%d" % n, 5).record()) for n in (1, 2))
    assert one.header is two.header


def test_a_record_from_a_view_is_decoded_like_one_from_bytes():
    spec = Spec(1, Header("t", meta={"k": "v"}), b"payload", 5)
    assert spec_of(1, bytes(memoryview(spec.record()))) == spec


SAMPLES = {
    "specification": (spec_of, Spec(9, Header("type", label="l", meta={"a": "b"}), b"payload", 1, 2, 3, 4).record()),
    "status": (status_of, Status(State.FAILED, 3, error={"type": "E", "message": "m"}, attempts=(Attempt(1, 2, 3, "failed"),)).record(9)),
    "first success": (status_of, first_success(9, 1, 2, "w", 3, 4, False, b"\x01")),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_of_a_record_is_noticed(name):
    decode, record = SAMPLES[name]
    decode(9, record)
    for at in range(len(record)):
        for bit in range(8):
            flipped = bytearray(record)
            flipped[at] ^= 1 << bit
            with pytest.raises(StoreDamaged, match="task 9"):
                decode(9, bytes(flipped))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_cut_of_a_record_is_noticed(name):
    decode, record = SAMPLES[name]
    for size in range(len(record)):
        with pytest.raises(StoreDamaged):
            decode(9, record[:size])
    with pytest.raises(StoreDamaged):
        decode(9, record + b"\x00")


@pytest.mark.parametrize("other", [0, 8, 9 + 2**31, 9 + 2**16])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_found_under_the_id_of_another_task_is_noticed(name, other):
    decode, record = SAMPLES[name]
    with pytest.raises(StoreDamaged, match=f"task {other}" if other else "task"):
        decode(other, record)


def test_a_record_of_a_newer_format_is_not_guessed_at():
    body = bytes([FORMAT + 1]) + Spec(1, Header("t"), b"", 5).record()[1:-4]
    with pytest.raises(StoreTooNew, match=f"format {FORMAT}, got {FORMAT + 1}"):
        spec_of(1, seal(body, 1))


@given(body=st.binary(max_size=64))
def test_a_seal_gives_back_what_it_closed(body):
    assert unseal(seal(body), "it") == body


@given(
    claim=counts,
    seq=instants,
    worker=texts,
    start=instants,
    finish=instants,
    output=st.booleans(),
    result=st.none() | st.binary(max_size=9),
)
def test_a_first_success_is_the_record_of_that_status(claim, seq, worker, start, finish, output, result):
    status = Status(
        State.SUCCEEDED, claim, seq, started_at=start, finished_at=finish, attempt=1, worker=worker, output=output, result=result
    )  # fmt: skip
    assert first_success(7, claim, seq, worker, start, finish, output, result) == status.record(7)


@given(value=data)
def test_values_come_back_as_they_were_packed(value):
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("record", [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xa2\xff\xff"])
def test_what_is_not_exactly_one_value_is_an_error(record):
    with pytest.raises(ValueError):
        unpack(record)


@settings(max_examples=200)
@given(record=st.binary(max_size=64))
def test_any_bytes_are_a_value_or_a_value_error(record):
    try:
        unpack(record)
    except ValueError:
        return
    assert record


@given(spec=specs, status=statuses)
def test_a_row_for_the_wire_can_be_packed_and_has_every_field(spec, status):
    row = Task(spec, status).row()
    assert unpack(pack(row))["id"] == spec.id
    kept = {*Header.__dataclass_fields__, *Spec.__dataclass_fields__, *Status.__dataclass_fields__}
    kept |= {"progress", "slots", "uses", "on_parent_failure", "order_on_failure"}
    assert row.keys() == kept - {"header", "packed", "lane", "environment", "seq", "extras", "needs", "strict", "order_goes_on"}
    assert row["state"] in STATES


# -- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_a_state_is_found_by_its_word(state):
    assert state_named(state.word) is state
    assert state_named(f"  {state.word.upper()}\n") is state
    assert state.final == (state in FINAL)
    assert (state in WAITING) + state.final + (state is State.RUNNING) == 1


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("completed", "succeeded"),
        ("success", "succeeded"),
        ("processing", "running"),
        ("dead", "failed"),
        ("ready", "pending"),
        ("canceled", "cancelled"),
    ],
)
def test_words_of_other_queues_are_understood(word, state):
    assert state_named(word).word == state


@pytest.mark.parametrize("word", ["", "finished", "5", "pend", "pending,running", "\x1b[31m"])
def test_a_word_that_is_no_state_is_told_the_words_there_are(word):
    with pytest.raises(ValueError, match="scheduled, blocked, pending, running") as refusal:
        state_named(word)
    assert "\x1b" not in str(refusal.value)


def test_states_on_disk_keep_their_numbers():
    assert [(state.word, int(state)) for state in State] == list(zip(STATES, range(9), strict=True))
    assert isinstance(State.PENDING, enum.IntEnum)
    assert STATES == ("scheduled", "blocked", "pending", "running", "retrying", "succeeded", "failed", "cancelled", "expired")


@pytest.mark.parametrize("level", range(10))
def test_a_priority_is_a_number_or_its_text(level):
    assert priority_of(level) == priority_of(str(level)) == priority_of(f" {level} ") == level


def test_a_priority_has_names():
    assert {name: priority_of(name.upper()) for name in PRIORITIES} == {"low": 0, "medium": 1, "normal": 1, "high": 2, "critical": 3}


@pytest.mark.parametrize("value", [-1, 10, 1.0, True, None, "", "ten", "10", "-1", "1.5", "٣", "²", [], b"1"])
def test_what_is_no_priority_is_an_error(value):
    with pytest.raises(ValueError, match="from 0 to 9"):
        priority_of(value)


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0), (1, 1000), (0.25, 250), ("10", 10_000), ("1.5", 1500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000),
        ("3d", 259_200_000),
        ("1h30m", 5_400_000), ("2d 4h", 187_200_000), (" 250MS ", 250), ("1w", 604_800_000), ("0.5s", 500),
        (timedelta(minutes=1, milliseconds=5), 60_005),
    ],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(value, ms):
    assert duration_ms(value) == ms


@pytest.mark.parametrize(
    "value", ["", "s", "-1", "-5s", "1x", "5 m x", "1e9", "٣s", "nan", "inf", float("nan"), float("inf"), -1, True, None, [],
     "9" * 40, "1.2.3s", timedelta(-1)]
)  # fmt: skip
def test_what_is_no_duration_is_an_error(value):
    with pytest.raises(ValueError, match="expected a duration"):
        duration_ms(value)


@given(text=st.text(st.characters(), max_size=40), newlines=st.booleans())
def test_safe_text_has_nothing_that_could_steer_a_terminal(text, newlines):
    safe = safe_text(text, newlines)
    safe.encode()
    allowed = "\t\n" if newlines else ""
    steering = {
        c
        for c in safe
        if ord(c) < 0x20
        or 0x7F <= ord(c) < 0xA0
        or c in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
    }
    assert steering <= set(allowed)


@given(text=st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=40))
def test_safe_text_leaves_words_alone(text):
    assert safe_text(text) == text
