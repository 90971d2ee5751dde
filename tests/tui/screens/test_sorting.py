"""The order of a list: by one column after the other, either way round, what has no value last."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import pytest

from tui.screens.sorting import Order

ROWS: list[dict[str, Any]] = [{"name": "c", "n": 1}, {"name": "a", "n": None}, {"name": "b", "n": 3}, {"name": "d", "n": 1}]

COLUMNS = {"name": itemgetter("name"), "n": itemgetter("n")}


def names(order: Order) -> str:
    return "".join(row["name"] for row in order.sorted(ROWS))


def test_numbers_begin_with_the_greatest_and_names_with_the_first() -> None:
    order = Order(COLUMNS, "n", ("name",))
    assert names(order) == "bcda"
    order.by("name")
    assert names(order) == "abcd"


def test_what_has_no_value_stands_last_either_way() -> None:
    order = Order(COLUMNS, "n", ("name",))
    order.turn()
    assert names(order) == "cdba"


def test_the_same_column_again_turns_it_round_and_none_is_the_next() -> None:
    order = Order(COLUMNS, "n", ("name",))
    order.by("n")
    assert (order.column, order.down) == ("n", False)
    order.by("")
    assert (order.column, order.down) == ("name", False)
    order.by("")
    assert (order.column, order.down) == ("n", True)


def test_a_column_that_there_is_none_of_is_named() -> None:
    with pytest.raises(ValueError, match="expected one of name, n, got 'size'"):
        Order(COLUMNS, "n", ("name",)).by("size")


def test_an_order_is_written_as_those_of_tasks_and_one_of_another_list_is_not_taken() -> None:
    order = Order(COLUMNS, "n", ("name",))
    assert order.written == "-n"
    order.read("name")
    assert (order.written, names(order)) == ("name", "abcd")
    for foreign in ("", "-", "size", "-size"):
        order.read(foreign)
        assert order.written == "name"
