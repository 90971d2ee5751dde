"""The Python face: naming, arguments, options, context, and finding the application."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tq.client
from tq import app as apps
from tq.app import App, Cancel, Context, Permanent, Retry, Snooze, TaskFunction, current, load, run_alone, run_here
from tq.errors import ConfigError, TqError, UsageError
from tq.model import Backoff, Header, Spec, duration_ms


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory to import applications from, and no trace of them afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(apps, "default_app", App())
    monkeypatch.setattr(apps, "task", apps.default_app.task)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


class FakeClient:
    """Remembers what was enqueued."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, dict[str, Any]]] = []

    def enqueue(self, kind: str, payload: Any = None, **options: Any) -> str:
        self.sent.append((kind, payload, options))
        return "handle"


def context(**header: Any) -> Context:
    return Context(Spec(42, Header("email", **header), b"", 1), 3, 1_700_000_000_000)


# naming


def test_a_task_is_still_the_function_it_was(app: App) -> None:
    @app.task
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    assert add(1) == 3
    assert (add.name, add.__name__, add.__doc__, add.__wrapped__(1, 1)) == ("add", "add", "Adds.", 2)
    assert app.tasks == {"add": add}


def test_name_and_defaults_reach_the_hello(app: App) -> None:
    @app.task("email", queue="mail", retries=5, timeout="30s", priority="high", backoff=Backoff("fixed", 10), once=True)
    def send() -> None: ...

    @app.task()
    def plain() -> None: ...

    assert send.row() == ["email", "mail", 5, 30_000, ["fixed", 10, 2.0, 300_000, True], 2, True]
    assert plain.row() == ["plain", None, None, None, None, None, None]


def test_an_async_function_is_known_as_one(app: App) -> None:
    @app.task
    async def fetch(n: int) -> int:
        return n

    assert fetch.is_async
    assert asyncio.run(fetch(3)) == 3


def test_two_functions_of_one_name_are_refused_naming_both_places(app: App) -> None:
    def first() -> None: ...
    def second() -> None: ...

    app.task("same")(first)
    app.task("same")(first)  # a module that is imported again under another name
    with pytest.raises(ConfigError) as error:
        app.task("same")(second)
    assert str(error.value).count("test_app.py:") == 2
    assert "first" in str(error.value)
    assert "second" in str(error.value)


@pytest.mark.parametrize("thing", [3, None, object(), int, [print]])
def test_what_is_no_function_is_refused(app: App, thing: Any) -> None:
    with pytest.raises(ConfigError, match="expected a function"):
        app.task("x")(thing)
    assert app.tasks == {}


@pytest.mark.parametrize("name", ["shell", "a\nb", "x" * 201, "\x1b[31m"])
def test_a_name_that_cannot_be_used_is_refused(app: App, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a printable name"):
        app.task(name)(lambda: None)


@pytest.mark.parametrize(
    "defaults",
    [
        {"retries": -1},
        {"retries": "3"},
        {"timeout": "soon"},
        {"priority": 10},
        {"priority": "urgent"},
        {"queue": 3},
        {"once": "yes"},
        {"retrys": 3},
    ],
)
def test_defaults_that_make_no_sense_are_refused(app: App, defaults: Any) -> None:
    with pytest.raises(ConfigError, match="expected"):
        app.task("x", **defaults)(lambda: None)
    assert app.tasks == {}


# arguments


def all_kinds(a: int, b: int = 2, *, c: int = 3, **more: int) -> None: ...
def by_position(a: int, /, *rest: int) -> None: ...
def mixed(a: int, /, *, b: int) -> None: ...
def nothing() -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "payload"),
    [
        (all_kinds, (1,), {}, {"a": 1}),
        (all_kinds, (1, 5), {"c": 6, "d": 7}, {"a": 1, "b": 5, "c": 6, "d": 7}),
        (all_kinds, (), {"a": {"x": 1}}, {"a": {"x": 1}}),
        (by_position, (1,), {}, [1]),
        (by_position, (1, 2, 3), {}, [1, 2, 3]),
        (nothing, (), {}, None),
    ],
)
def test_arguments_are_bound_to_their_names(app: App, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], payload: Any) -> None:
    assert app.task("x")(function).payload(*args, **kwargs) == payload


@pytest.mark.parametrize(
    ("function", "args", "kwargs"), [(all_kinds, (), {}), (nothing, (1,), {}), (by_position, (), {"a": 1}), (all_kinds, (1, 2, 3), {})]
)
def test_a_wrong_call_fails_where_it_is_made(app: App, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        app.task("x")(function).payload(*args, **kwargs)


def test_arguments_that_cannot_travel_are_refused(app: App) -> None:
    with pytest.raises(UsageError, match="Remove"):
        app.task("x")(mixed).payload(1, b=2)


def test_enqueue_sends_the_call_with_its_options(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr(tq.client, "default", lambda: client)

    @app.task("email", queue="mail")
    def send(to: str, subject: str = "") -> None: ...

    later: TaskFunction[..., Any, Any] = send.options(delay="10m", priority=5)
    handle: Any = later.enqueue("a@b.c", subject="Hi")
    assert handle == "handle"
    later.options(priority=1, label="x").enqueue("d@e.f")
    send.enqueue("g")
    assert client.sent == [
        ("email", {"to": "a@b.c", "subject": "Hi"}, {"delay": "10m", "priority": 5}),
        ("email", {"to": "d@e.f"}, {"delay": "10m", "priority": 1, "label": "x"}),
        ("email", {"to": "g"}, {}),
    ]


def test_aenqueue_sends_the_same(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class FakeAsync:
        async def enqueue(self, *args: Any, **options: Any) -> str:
            sent.append((args, options))
            return "handle"

    async def adefault() -> FakeAsync:
        return FakeAsync()

    monkeypatch.setattr(tq.client, "adefault", adefault, raising=False)

    @app.task
    async def fetch(n: int) -> int:
        return n

    assert asyncio.run(fetch.options(queue="io").aenqueue(3)) == "handle"  # type: ignore[comparison-overlap]
    assert sent == [(("fetch", {"n": 3}), {"queue": "io"})]


# context and wishes


def test_a_running_task_knows_itself() -> None:
    here = context(queue="mail", timeout_ms=30_000, label="l", meta={"k": "v"}, correlation_id="c")
    run_alone(here)
    try:
        assert current() is here
        assert (here.id, here.attempt, here.type, here.queue, here.label, here.meta) == (42, 3, "email", "mail", "l", {"k": "v"})
        assert (here.correlation_id, here.deadline, here.cancelled) == ("c", 1_700_000_030.0, False)
        seen: list[Context] = []
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
        assert seen == [here]
    finally:
        run_alone(None)
    assert context().deadline is None


def test_tasks_side_by_side_each_know_themselves() -> None:
    seen: dict[int, Context] = {}

    def work(number: int) -> None:
        mine = Context(Spec(number, Header("x"), b"", 1), 1, 1)
        run_here(mine)
        barrier.wait(10)
        seen[number] = current()

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: found.id for number, found in seen.items()} == {0: 0, 1: 1, 2: 2, 3: 3}


def test_outside_of_a_task_there_is_no_current_one() -> None:
    with pytest.raises(UsageError, match="inside a handler"):
        current()


def test_the_logger_carries_the_task(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        context().logger.info("hello")
    (record,) = caplog.records
    assert (record.name, record.task_id, record.attempt) == ("tq.task.email", 42, 3)  # type: ignore[attr-defined]


def test_wishes_keep_what_they_were_given() -> None:
    assert Snooze("5m").after_ms == 300_000
    assert Cancel("enough").why == "enough"
    assert Retry(after=30).after_ms == 30_000
    assert Retry("busy").after_ms is None
    assert str(Permanent("gone")) == "gone"
    with pytest.raises(ValueError, match="expected a duration"):
        Snooze("soon")


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0),
        (1.5, 1500),
        ("10s", 10_000),
        ("1h30m", 5_400_000),
        ("2d 4h", 187_200_000),
        ("250ms", 250),
        ("3", 3000),
        (timedelta(minutes=2), 120_000),
    ],
)
def test_durations_are_read_from_numbers_text_and_timedeltas(value: object, ms: int) -> None:
    assert duration_ms(value) == ms


@pytest.mark.parametrize(
    "value", ["", "x", "5y", "-1s", -1, None, True, float("nan"), float("inf"), "1e3", "99999999d", b"5s", timedelta(seconds=-1)]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        duration_ms(value)


# finding the application


@pytest.mark.parametrize("name", ["jobs", "jobs.py", "./jobs.py", "inner.jobs", "jobs:mine", "jobs.py:mine"])
def test_an_application_is_found(importing: Path, name: str) -> None:
    source = "import tq\n@tq.app.task\ndef work(): ...\nmine = tq.App()\n@mine.task\ndef other(): ...\n"
    (importing / "jobs.py").write_text("import tq.app\n" + source)
    (importing / "inner").mkdir()
    (importing / "inner" / "jobs.py").write_text("import tq.app\n" + source)
    expected = ["other"] if name.endswith(":mine") else ["work"]
    assert list(load(name).tasks) == expected


def test_a_file_elsewhere_may_import_its_neighbours(importing: Path) -> None:
    (importing / "sub").mkdir()
    (importing / "sub" / "near.py").write_text("value = 3\n")
    (importing / "sub" / "far.py").write_text("import near\nimport tq.app\n@tq.app.task\ndef work(): return near.value\n")
    assert load("sub/far.py").tasks["work"]() == 3


def test_without_a_name_there_are_no_functions() -> None:
    assert load(None).tasks == {}
    assert load("").tasks == {}


@pytest.mark.parametrize("source", ["1/0", "def f(:", "import no_such_module_at_all", "raise SystemExit(3)"])
def test_an_application_that_does_not_import_is_refused_with_its_traceback(importing: Path, source: str) -> None:
    (importing / "broken.py").write_text(source)
    with pytest.raises(ConfigError) as error:
        load("broken")
    assert "'broken' cannot be imported" in str(error.value)
    assert "broken.py" in str(error.value)


@pytest.mark.parametrize("name", ["no_such_module", "no_such_file.py", "jobs:absent", "jobs:number"])
def test_an_application_that_is_not_there_is_refused_in_one_line(importing: Path, name: str) -> None:
    (importing / "jobs.py").write_text("number = 3\n")
    with pytest.raises(ConfigError, match="expected") as error:
        load(name)
    assert "Traceback" not in str(error.value)
    assert isinstance(error.value, TqError)
    assert os.getcwd() == str(importing)
