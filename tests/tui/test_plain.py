"""Nothing but ASCII leaves, and nothing moves."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color

from tui.formats import ASCII, UNICODE, cells
from tui.plain import PlainCharacters, plain


def test_every_sign_of_both_sets_becomes_ascii_of_the_same_width() -> None:
    for glyphs in (UNICODE, ASCII):
        for sign in "".join(str(getattr(glyphs, name)) for name in glyphs.__slots__):
            assert plain(sign).isascii()
            assert cells(plain(sign)) == cells(sign)


def test_wide_characters_keep_their_cells() -> None:
    assert plain("a漢b") == "a??b"
    assert plain("╭─╮│█…") == "+-+|#~"


def test_the_filter_leaves_ascii_and_styles_alone() -> None:
    segments = [Segment("plain"), Segment("│"), Segment("", None, [(1,)])]  # type: ignore[list-item]
    found = PlainCharacters().apply(segments, Color(0, 0, 0))
    assert found[0] is segments[0]
    assert found[1].text == "|"
    assert found[2] is segments[2]
