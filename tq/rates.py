"""Rates as people write them: 500/s, 100/m, 5/10s; and what is between two of them.

For: the command line and the settings file.
Not for: what a rate lets go (store.limits).
Runs in: every process.
Promises: what is no rate is a ValueError that shows what one looks like.
"""

from __future__ import annotations

from tq.model import duration_ms

RATE_MOST = 1_000_000


def rate_of(text: object) -> tuple[int, int]:
    """So many, in so many ms; 0 is none."""
    count, slash, per = text.partition("/") if isinstance(text, str) else (str(text), "", "")
    if text in ("0", 0):
        return 0, 1000
    number = int(count) if count.isascii() and count.isdecimal() and len(count) < 19 else 0
    try:
        if slash and per and 0 < number <= RATE_MOST:
            return number, max(duration_ms(per if per[0].isdigit() else f"1{per}"), 1)
    except ValueError:
        pass
    raise ValueError(f"expected so many in a time, such as 500/s, 100/m or 5/10s, got {text!r}")


def between_rates(text: str) -> tuple[int, int, int]:
    """The lower and the upper bound, and the ms of both, from 10/s..500/s."""
    (low, per_ms), (high, other_ms) = (rate_of(one) for one in text.split("..", 1))
    if per_ms != other_ms or not low:
        raise ValueError(f"expected two rates in the same time, such as 10/s..500/s, got {text!r}")
    return low, high, per_ms


def between_numbers(text: str) -> tuple[int, int]:
    """The lower and the upper bound from 1..50."""
    low, _, high = text.partition("..")
    if not all(one.isascii() and one.isdecimal() and len(one) < 19 for one in (low, high)):
        raise ValueError(f"expected two whole numbers, such as 1..50, got {text!r}")
    return int(low), int(high)


def percent_of(text: object) -> int:
    """Hundredths from 10%, 10 or "10"."""
    number = text.removesuffix("%") if isinstance(text, str) else str(text)
    if isinstance(text, bool) or not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise ValueError(f"expected so many in a hundred, such as 10%, got {text!r}")
    return int(number)


def factor_of(text: object) -> int:
    """Hundredths from 0.9, which is less than one and has two places at the most."""
    before, point, places = str(text).partition(".")
    if before != "0" or not point or not 0 < len(places) <= 2 or not (places.isascii() and places.isdecimal()) or not int(places):
        raise ValueError(f"expected a number from 0.01 to 0.99, got {text!r}")
    return int(places.ljust(2, "0"))
