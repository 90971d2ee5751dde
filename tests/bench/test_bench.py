"""The benches themselves work: each one, so small that its figures mean nothing. The bars are for ``python -m tests.bench``."""

from __future__ import annotations

import math

import pytest

from tests.bench.__main__ import BENCHES, main, row
from tests.bench.bars import TINY, Bar, at_most


@pytest.mark.flow
@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_measures_something_and_says_what(name: str) -> None:
    bars = list(BENCHES[name](TINY))
    assert bars
    for bar in bars:
        assert math.isfinite(bar.measured)
        assert bar.measured >= 0
        assert bar.what in row(bar)


def test_a_bar_that_is_not_reached_is_told_as_missed() -> None:
    assert Bar("rate", 100, "/s", must=200).verdict == "MISSED"
    assert Bar("rate", 250, "/s", must=200, aim=300).verdict == "holds"
    assert Bar("rate", 300, "/s", must=200, aim=300).verdict == "aim"
    assert at_most("time", 11, "ms", must=10).verdict == "MISSED"
    assert at_most("time", 4, "ms", must=10, aim=5).verdict == "aim"


def test_a_name_of_no_bench_is_refused_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["pickup", "pick_up"])
    assert refusal.value.code == 2
    assert "pick_up" in capsys.readouterr().err
