"""The load of `tq monitor --demo`: what it sends can be run, and it stays bounded whatever a person does."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tq.app import App
from tq.demo.busy import UNFINISHED_MOST, WAVE_S, Load
from tq.demo.private import handlers, material
from tq.model import SHELL
from tq.testing import Fake, fake

UNFINISHED = ("scheduled", "blocked", "pending", "running", "retrying")


@pytest.fixture
def load(tmp_path: Path) -> Iterator[tuple[Fake, Load]]:
    app = App()  # the handlers themselves stay out of this process: their names may be others' here
    for name in re.findall(r'^@tq\.task\("(\w+)"', handlers().read_text("utf-8"), re.MULTILINE):
        app.task(name)(print)
    with fake(app) as q:
        yield q, Load(q.connect(), material(tmp_path / "files", 5), tmp_path, "http://127.0.0.1:9/", random.Random(7))


def test_each_kind_of_work_is_one_that_the_demos_handlers_do(load: tuple[Fake, Load]) -> None:
    q, one = load
    one.begin()
    for number in range(60):
        one.step(number * WAVE_S / 60)
    rows = q.tasks
    assert {row["type"] for row in rows} == {"mail", "hash", "gzip", "words", "fetch", "charge", "order", "report", SHELL}
    assert {row["state"] for row in rows} == {"scheduled", "blocked", "pending", "cancelled"}
    assert len(q.connect().schedules()) == 4


def test_what_is_unfinished_is_bounded_while_nothing_runs(load: tuple[Fake, Load]) -> None:
    q, one = load
    one.begin()
    for number in range(400):
        one.step(float(number))
    states = q.connect().stats()["states"]
    assert UNFINISHED_MOST < sum(states[word] for word in UNFINISHED) < UNFINISHED_MOST + 40
