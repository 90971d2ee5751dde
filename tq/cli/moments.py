"""What options mean that say a time: ``--at 18:30``, ``--deadline 'tomorrow 9am'``.

For: these words, the same in lines of a batch.
Not for: durations alone (options), the words themselves (``tq.instants``).
Runs in: the ``tq`` command, where one of them is given; imports only the option table.
Promises: a value that cannot be used is a UsageError that names its option; the clock is the caller's.
"""

from __future__ import annotations

from datetime import datetime

from tq.cli.options import refuse
from tq.instants import instant_ms


def instant_of(flag: str, value: object, now_ms: int) -> int:
    """Milliseconds since the epoch from words of time; ISO 8601 with a zone, as programs write it, may be over."""
    text = value if type(value) is str else ""
    try:
        then = datetime.fromisoformat(text.strip())
        if then.tzinfo is not None:
            return int(then.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    try:
        return instant_ms(text, now_ms)
    except ValueError as error:
        refuse(flag, str(error) if type(value) is str else f"expected a time such as 18:30, got {value!r}")


def until_of(flag: str, value: str, now_ms: int) -> int:
    """Milliseconds from now until words of time."""
    try:
        return instant_ms(value, now_ms) - now_ms
    except ValueError as error:
        refuse(flag, f"expected a duration such as 2h, or {str(error).removeprefix('expected ')}")
