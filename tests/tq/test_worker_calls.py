"""What a handler's result becomes, without a process."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
import pytest

from tq.client import decode
from tq.worker.calls import Unpackable, result_bytes


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize("value", [{(1, 2): 3}, {"a": [0, {"b": ({(): 1},)}]}, {Point(1, 2): "here"}])
def test_a_result_with_a_list_as_a_key_is_refused_since_nobody_could_read_it(value: Any) -> None:
    with pytest.raises(Unpackable, match=r"cannot be stored: .*expected text or numbers as keys, got "):
        result_bytes(value, msgpack.packb)


@pytest.mark.parametrize("value", [{1: 2, None: 3, b"k": 4, "t": {True: 1.5}}, [{"a": []}], None, "x", Point(1, 2)])
def test_a_result_that_can_be_read_is_kept_as_it_is(value: Any) -> None:
    read = decode(result_bytes(value, msgpack.packb))
    assert read == (list(value) if isinstance(value, Point) else value)
