"""Headers that are alike but for some of their fields, each for the price of a copy.

For: requests of ten thousand tasks whose names differ (``Namesakes``), or what they wait for (``behind``).
Not for: what a header is (model), which tasks are alike (intake).
Runs in: the daemon, inside the broker's turn.
Promises: a header that is made here is the one that ``Header`` would have made of the same fields, its packed row too.
"""

from __future__ import annotations

from tq.model import Header, pack, unpack

_NAMES_AT = Header.__slots__.index("key")
_PACKED_AT = Header.__slots__.index("packed")
_LANE_AT = Header.__slots__.index("lane")
_SETTERS = [getattr(Header, name).__set__ for name in Header.__slots__]


class Namesakes:
    """Makes headers that are alike but for their names, each for the price of a copy: ten thousand come in one request."""

    def __init__(self, header: Header) -> None:
        self._values = [getattr(header, name) for name in Header.__slots__]
        row = unpack(Header(*self._values[:_NAMES_AT]).packed)
        self._packed = b"".join(map(pack, row + [None] * (16 - len(row))))
        self._rest: list[object] = [header.parents_any or None, header.needs or None, header.parents_failed or None]
        self._rest += [header.strict or None, header.batch or None]
        while self._rest and self._rest[-1] is None:
            self._rest.pop()

    def header(self, key: str | None, unique: str | None) -> Header:
        """The header with these names, at least one."""
        if self._rest:
            head = b"\xdc\x00" + bytes([18 + len(self._rest)])
            packed = head + self._packed + pack(key) + pack(unique) + b"".join(map(pack, self._rest))
        elif unique is None:
            packed = b"\xdc\x00\x11" + self._packed + pack(key)
        else:
            packed = b"\xdc\x00\x12" + self._packed + pack(key) + pack(unique)
        new = object.__new__(Header)
        values = self._values
        values[_NAMES_AT : _NAMES_AT + 2] = key, unique
        values[_PACKED_AT] = packed
        for put, value in zip(_SETTERS, values, strict=True):
            put(new, value)
        return new


def behind(
    header: Header, parents: tuple[int, ...], parents_any: tuple[int, ...], parents_failed: tuple[int, ...], strict: bool
) -> Header:  # fmt: skip
    """The header with these parents, for less than ``replace`` costs: ten thousand that all wait for others come in one request."""
    new = object.__new__(Header)
    values = {name: getattr(header, name) for name in Header.__slots__}
    values |= {"parents": parents, "parents_any": parents_any, "parents_failed": parents_failed, "strict": strict}
    for put, value in zip(_SETTERS, values.values(), strict=True):
        put(new, value)
    lane = header.lane
    new.__post_init__()
    _SETTERS[_LANE_AT](new, lane)  # the same, which is found by what it is
    return new
