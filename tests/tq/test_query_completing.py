"""What may stand at a place of a filter: whatever is written so far, there is a place, and what is put there can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.errors import UsageError
from tq.query import parse
from tq.query.completing import NOTES, Place, fields_at, fixed_values, place_of, values_at
from tq.query.terms import FIELDS, TEXTS

NOW = 1_700_000_000_000
PIECES = [
    "state:", "label:", "age>", "id:1..", "a", ",", " ", "(", ")", "-", '"', "'", "\\", "AND ", "NOT", "meta.", "tag:", "..", ":", "é",
    "\n", "\x1b",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@given(text=texts, share=st.floats(0, 1))
def test_any_text_has_a_place_at_each_column(text: str, share: float) -> None:
    at = round(share * len(text))
    place = place_of(text, at)
    assert 0 <= place.start <= at <= place.end <= len(text)
    assert len(place.typed) <= at - place.start
    if place.field not in ("", "?"):
        values_at(place, [*fixed_values(place), ("x", "")])
    elif not place.field:
        fields_at(place, ["branch"])


@given(value=st.text(min_size=1, max_size=20).filter(lambda text: max(text) < "\ud800" or min(text) > "\udfff"), kind=st.sampled_from(
    [name for name in FIELDS if FIELDS[name].kind in TEXTS]))  # fmt: skip
def test_any_value_of_letters_is_written_so_that_it_is_read_as_itself(value: str, kind: str) -> None:
    text = f"{kind}:"
    ((written, _),) = values_at(place_of(text, len(text)), [(value, "")])
    assert parse(text + written) == parse(f'{kind}:"{value.translate({34: chr(92) + chr(34), 92: chr(92) * 2})}"')


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", Place(0, 0, "", first=True)),
        ("st", Place(0, 2, "st", first=True)),
        ("a st", Place(2, 4, "st")),
        ("a AND st", Place(6, 8, "st", first=True)),
        ("(-st", Place(2, 4, "st", first=True)),
        ("state:fa", Place(6, 8, "fa", "state", ":", first=True)),
        ("STATE!=fa", Place(7, 9, "fa", "state", "!=", first=True)),
        ("name:a,b", Place(7, 8, "b", "type", ":", first=True)),
        ("age:1h..2", Place(8, 9, "2", "age", "..", first=True)),
        ("label:1..2", Place(6, 10, "1..2", "label", ":", first=True)),
        ('label:"a b', Place(6, 10, "a b", "label", ":", first=True)),
        ("meta.Key:x", Place(9, 10, "x", "meta.Key", ":", first=True)),
        ("colour:x", Place(7, 8, "x", "?", ":", first=True)),
    ],
)
def test_a_place_is_what_stands_before_the_cursor(text: str, place: Place) -> None:
    assert place_of(text, len(text)) == place


def test_every_field_has_a_note_and_its_values_that_never_change_are_values() -> None:
    assert NOTES.keys() == FIELDS.keys()
    for name in FIELDS:
        for sign in (":", ">", "<="):
            text = f"{name}{sign}"
            for value, _ in fixed_values(place_of(text, len(text))):
                parse(text + value, NOW)


def test_a_field_is_offered_with_a_sign_that_a_value_may_follow() -> None:
    for opening, _ in fields_at(Place(0, 0, "")):
        if opening[-1] in ":>":
            about = {"duration": "1h", "instant": "-1h", "number": "1", "size": "1k", "priority": "3", "state": "failed"}
            parse(opening + about.get(FIELDS[opening[:-1]].kind, "x"), NOW)
    with pytest.raises(UsageError):
        parse("age:1h", NOW)
