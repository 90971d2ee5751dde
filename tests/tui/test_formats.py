"""How the monitor writes things."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tq.model import STATES
from tui import formats
from tui.formats import ASCII, UNICODE

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "—"), (0, "0ms"), (803, "803ms"), (999.9, "999ms"), (4800, "4.8s"), (30_000, "30.0s"), (59_999, "59.9s"),
        (252_000, "4m12s"), (64_000, "1m04s"), (HOUR + 300_000, "1h05m"), (76 * HOUR, "3d04h"), (24 * HOUR * 200, "200d"), (-1500, "-1.5s"),
    ],
)  # fmt: skip
def test_a_duration_has_about_three_figures(ms: float | None, text: str) -> None:
    assert formats.duration(ms) == text


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=10**13))
def test_no_duration_is_wider_than_eight_cells_and_no_age_than_seven(ms: int) -> None:
    assert len(formats.duration(ms)) <= 8
    assert len(formats.age(ms)) <= 7


@pytest.mark.parametrize(
    ("ms", "text"), [(None, "—"), (-5, "0s"), (999, "0s"), (25_000, "25s"), (480_000, "8m"), (3 * HOUR, "3h"), (48 * HOUR, "2d")]
)
def test_an_age_has_one_unit(ms: float | None, text: str) -> None:
    assert formats.age(ms) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "—"), (0, "0"), (0.44, "0.4"), (37, "37"), (999, "999"), (1200, "1.2k"), (12_481, "12.4k"), (989_800, "989k"),
     (999_999, "999k"), (1_004_211, "1.0M"), (-1500, "-1.5k")],
)  # fmt: skip
def test_a_short_number_is_cut_and_never_rounded_up(number: float | None, text: str) -> None:
    assert formats.short(number) == text


def test_counts_rates_sizes_and_shares_read_as_people_write_them() -> None:
    assert [formats.count(n) for n in (12_481, None)] == ["12,481", "—"]
    assert [formats.counted(n, "task") for n in (1, 2, 1200)] == ["1 task", "2 tasks", "1,200 tasks"]
    assert [formats.rate(214), formats.rate(148.4, minute=True), formats.rate(None)] == ["214/s", "8.9k/m", "—"]
    assert [formats.size(n) for n in (218, 2.1 * 2**30, 212 * 2**20, None)] == ["218 B", "2.1 GiB", "212 MiB", "—"]
    assert formats.size(1.4 * 2**30, narrow=True) == "1.4G"
    assert [formats.percent(n) for n in (0, 0.0013, 0.064, 0.62, 1, 0.00001, None)] == ["0%", "0.13%", "6.4%", "62%", "100%", "<0.01%", "—"]


def test_instants_are_written_in_the_zone_asked_for_and_impossible_ones_as_nothing() -> None:
    assert formats.clock(1_763_822_000_031, UTC, millis=True) == "14:33:20.031"
    assert formats.clock(1_763_822_000_031) == "14:33:20"
    assert formats.day(1_763_822_000_031) == "22 Nov 14:33"
    assert formats.clock(0) == formats.day(0) == formats.clock(1 << 62) == "—"


@pytest.mark.parametrize(
    ("value", "above"),
    [(0, 1), (-3, 1), (float("nan"), 1), (0.3, 0.3), (1, 1), (1.1, 1.5), (2.2, 2.5), (7, 8), (9, 10), (99, 100),
     (100, 100), (101, 150), (214, 250)],
)  # fmt: skip
def test_an_axis_ends_at_a_round_number(value: float, above: float) -> None:
    assert formats.nice_above(value) == above


@settings(deadline=None)
@given(st.floats(min_value=1e-12, max_value=1e15))
def test_the_end_of_an_axis_is_never_below_the_value_nor_twice_as_high(value: float) -> None:
    assert value <= formats.nice_above(value) < value * 2


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(0, 40), st.booleans())
def test_what_is_fitted_is_exactly_as_wide_as_asked_for(text: str, width: int, right: bool) -> None:
    assert cell_len(formats.fit(formats.safe_text(text), width, right=right)) == width


def test_wide_characters_are_never_cut_in_half() -> None:
    assert formats.fit("日本語テキスト", 6) == "日本 …"
    assert formats.clip("日本語", 6) == "日本語"
    assert formats.fit("e\u0301abc", 4) == "e\u0301abc"
    assert formats.clip("abc", 0) == ""


def test_a_megabyte_is_not_measured_to_show_forty_cells() -> None:
    assert formats.clip("a" * (1 << 20), 40) == "a" * 39 + "…"
    assert formats.clip("\u0301" * (1 << 20), 40).count("\u0301") <= 4 * 40 + 64


def signs_of(glyphs: formats.Glyphs) -> list[tuple[str, list[str]]]:
    """All signs of a set, by name."""
    found = [(field.name, getattr(glyphs, field.name)) for field in dataclasses.fields(glyphs)]
    return [(name, list(value.values()) if isinstance(value, Mapping) else list(value)) for name, value in found]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_every_state_has_a_sign_of_one_cell_and_a_word_of_its_own(glyphs: formats.Glyphs) -> None:
    assert set(glyphs.states) == set(STATES) == set(formats.WORDS)
    assert len(set(glyphs.states.values())) == len(STATES)
    assert len(set(formats.WORDS.values())) == len(STATES)
    single = [sign for _, signs in signs_of(glyphs) for sign in signs]
    assert {cell_len(one) for one in single} == {1}
    assert len(glyphs.sparks) == len(glyphs.eighths) == 9
    assert glyphs.word("failed").endswith(" fail")
    assert glyphs.word("newer") == "? newer"


def test_the_ascii_signs_are_ascii() -> None:
    assert [name for name, signs in signs_of(ASCII) if not "".join(signs).isascii()] == []


def test_what_comes_over_the_wire_is_cleaned_through_and_through() -> None:
    hostile = "\x1b]52;c;aGk=\x07\u202e"
    found = formats.cleaned([hostile, {hostile: [hostile, 3, None, b"\x1b"]}])
    assert isinstance(found, tuple)
    assert "\x1b" not in repr(found).replace(repr(b"\x1b"), "")
    assert found[1][formats.safe_text(hostile)][1:] == (3, None, b"\x1b")
