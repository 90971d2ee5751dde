"""The Python face: naming, arguments, options, context, and finding the application."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tq.client
from tq import app as apps
from tq.app import App, TaskFunction, load
from tq.client.core import wire_options
from tq.context import Context
from tq.errors import ConfigError, TqError, UsageError
from tq.model import Backoff, Header, Spec, pack


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
    @app.task("email", queue="mail", retries=5, timeout="30s", priority="high", backoff=Backoff("fixed", 10), once=True, retry_for="2h")
    def send() -> None: ...

    @app.task()
    def plain() -> None: ...

    assert send.row() == ["email", "mail", 5, 30_000, ["fixed", 10, 2.0, 300_000, True], 2, True, 7_200_000]
    assert plain.row() == ["plain", None, None, None, None, None, None, None]


@pytest.mark.parametrize("word", ["fixed", "linear", "exponential"])
def test_every_kind_of_backoff_may_be_said_by_its_word(app: App, word: str) -> None:
    @app.task("x", backoff=word)
    def work() -> None: ...

    assert work.row()[4] == [word, 1000, 2.0, 300_000, True] == wire_options({"backoff": word})["backoff"]  # type: ignore[index]
    assert work.handler().backoff is None


@pytest.mark.parametrize("wrong", [Backoff("fixed", "100ms"), Backoff("often"), Backoff("fixed", 10, None)])
def test_a_backoff_whose_delays_are_no_numbers_is_refused_where_it_is_declared(app: App, wrong: Backoff) -> None:
    with pytest.raises(ConfigError, match="expected delays in ms"):
        app.task("email", backoff=wrong)(print)


def test_a_backoff_is_written_as_it_is_spoken() -> None:
    assert Backoff.fixed("30s", jitter=False) == Backoff("fixed", 30_000, 1.0, 30_000, False)
    assert Backoff.linear(10) == Backoff("linear", 10_000, 1.0, 300_000, True)
    assert Backoff.exponential("5s", factor=3, most="1h") == Backoff("exponential", 5000, 3, 3_600_000, True)
    assert Backoff.exponential() == Backoff()
    assert Backoff.linear("10m", most="1m").cap_ms == 600_000  # the first is never cut
    with pytest.raises(ValueError, match="expected a duration"):
        Backoff.fixed("soon")


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
        {"backoff": "steep"},
        {"backoff": ValueError},
        {"retry_on": ["x"]},
        {"retry_on": (ValueError, int)},
        {"retry_never": "ValueError"},
        {"retry_for": "soon"},
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


# handlers


def call(app: App, name: str, payload: Any = None) -> Any:
    """What the worker makes of a payload."""
    spec = Spec(1, Header(name), b"" if payload is None else pack(payload), 1)
    return app.handlers()[name].call(Context(spec, 1, 1))


@pytest.mark.parametrize(
    ("payload", "given"),
    [({"a": 1, "b": 2}, ((), {"a": 1, "b": 2})), ([1, 2], ((1, 2), {})), (None, ((), {})), ("x", (("x",), {})), (0, ((0,), {}))],
)
def test_a_payload_becomes_the_arguments_of_the_handler(app: App, payload: Any, given: Any) -> None:
    @app.task
    def seen(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert call(app, "seen", payload) == given


def test_what_a_type_says_of_its_failures_reaches_the_worker(app: App) -> None:
    def patience(failures: int, error: BaseException) -> float:
        return failures

    @app.task("x", retry_on=OSError, retry_never=(FileNotFoundError, PermissionError), backoff=patience)
    def work() -> None: ...

    handler = app.handlers()["x"]
    raised = [OSError(), FileNotFoundError(), PermissionError(), ValueError(), TimeoutError()]
    assert [handler.may_retry(error) for error in raised] == [True, False, False, False, True]
    assert handler.backoff is patience
    assert work.row()[4] is None  # the daemon keeps its own default for where the function has no answer


def test_without_a_word_on_failures_every_one_may_be_retried(app: App) -> None:
    app.task("x")(lambda: None)
    handler = app.handlers()["x"]
    assert handler.may_retry(SystemExit())
    assert handler.backoff is None


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
