"""The Python face: functions become tasks, and a running task learns about itself.

For: naming handlers (``@tq.task``), enqueueing them as they are called, ``current()``, and what a handler may
     return or raise to steer its task.
Not for: the socket (client), running anything (worker), deciding what an outcome leads to (lifecycle).
Runs in: programs that enqueue, and worker processes.
Promises: a decorated function stays the function it was; a name belongs to one function; arguments are bound to
their names when they are sent, so a wrong call fails at the caller; nothing is imported because a client said so.

A payload is one value: a map is keyword arguments, an array positional ones, nil none, anything else one argument.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, overload

from tq.errors import ConfigError, UsageError
from tq.model import MAX_NAME, SHELL, Backoff, Spec, duration_ms, priority_of

if TYPE_CHECKING:
    import logging
    from datetime import timedelta
    from typing import Unpack

    from tq.client import AsyncHandle, Handle, Options

    Duration = float | str | timedelta

P = ParamSpec("P")
R = TypeVar("R")  # what the task results in
C = TypeVar("C")  # what a plain call gives: R, or a coroutine of it


class Defaults(TypedDict, total=False):
    """What a type declares for its tasks. ``retries`` counts runs after the first; ``priority`` is 0..9 or a name."""

    queue: str
    retries: int
    timeout: Duration
    backoff: Backoff
    priority: int | str
    once: bool


class TaskFunction(Generic[P, C, R]):
    """A function with a face for the queue: called it runs here and now, ``enqueue`` sends it to the daemon."""

    def __init__(self, function: Callable[P, C], name: str, defaults: Defaults, options: Options | None = None) -> None:
        self.function = function
        self.name = name
        self.defaults = defaults
        self._options: Options = options or {}
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", name)
        self.__module__ = getattr(function, "__module__", "")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name!r}: {where(self.function)}>"

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def options(self, **options: Unpack[Options]) -> TaskFunction[P, C, R]:
        """The same task with options for what is enqueued through it: ``send.options(delay="10m").enqueue(...)``."""
        merged: Options = {**self._options, **options}
        return TaskFunction(self.function, self.name, self.defaults, merged)

    def payload(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any] | list[Any] | None:
        """The arguments as one value; TypeError, as for a call, if they do not fit the function."""
        if not args and not kwargs:
            inspect.signature(self.function).bind()
            return None
        signature = inspect.signature(self.function)
        bound = signature.bind(*args, **kwargs)
        kinds = {name: signature.parameters[name].kind for name in bound.arguments}
        if not {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}.intersection(kinds.values()):
            named: dict[str, Any] = {}
            for name, value in bound.arguments.items():
                named |= value if kinds[name] is inspect.Parameter.VAR_KEYWORD else {name: value}
            return named
        if bound.kwargs:
            raise UsageError(
                f"task {self.name!r}: expected arguments that all have names, or none that needs one; got both kinds "
                f"({', '.join(bound.kwargs)} by name). Remove `/` or `*args` from its signature."
            )
        return list(bound.args)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send the call to the queue; returns when it is on disk."""
        from tq.client import default

        return default().enqueue(self.name, self.payload(*args, **kwargs), **self._options)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R]:
        """``enqueue`` for programs with an event loop."""
        from tq.client import adefault

        return await (await adefault()).enqueue(self.name, self.payload(*args, **kwargs), **self._options)

    def row(self) -> list[Any]:
        """The type as a worker's hello names it (``tq.store.TypeInfo``); None where nothing was declared."""
        said = self.defaults
        timeout_ms = duration_ms(said["timeout"]) if "timeout" in said else None
        backoff = said["backoff"].row() if "backoff" in said else None
        priority = priority_of(said["priority"]) if "priority" in said else None
        return [self.name, said.get("queue"), said.get("retries"), timeout_ms, backoff, priority, said.get("once")]


class App:
    """A set of named functions. One application is what a daemon's workers import."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskFunction[..., Any, Any]] = {}

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...
    @overload
    def task(self, name: str | None = None, /, **defaults: Unpack[Defaults]) -> Decorator: ...
    def task(self, function: object = None, /, **defaults: Unpack[Defaults]) -> object:
        """Make a function a task: ``@task``, or ``@task("email", queue="mail", retries=5, timeout="30s")``.

        The name defaults to the function's own. ConfigError for what cannot be called, a name that is taken by
        another function, and defaults that make no sense.
        """
        if function is None or isinstance(function, str):
            return Decorator(self, function, defaults)
        return self.register(function, None, defaults)

    def register(self, function: object, name: str | None, defaults: Defaults) -> TaskFunction[..., Any, Any]:
        if isinstance(function, TaskFunction):
            function = function.function
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"expected a function to make a task of, got {function!r}. Put the decorator on a `def` or `async def`.")
        name = name or getattr(function, "__name__", None)
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME or name == SHELL:
            raise ConfigError(
                f"{where(function)}: expected a printable name of at most {MAX_NAME} characters other than {SHELL!r}, "
                f'got {name!r}. Give one: @task("name").'
            )
        known = self.tasks.get(name)
        if known is not None and where(known.function) != where(function):
            raise ConfigError(
                f"the task name {name!r} is taken: expected one function of that name, got {where(known.function)} and "
                f'{where(function)}. Name one of them otherwise: @task("other-name").'
            )
        task: TaskFunction[..., Any, Any] = TaskFunction(function, name, defaults)
        _check(task)
        self.tasks[name] = task
        return task


class Decorator:
    """What ``@task("name", ...)`` gives: it takes the function. A class, so that types can say both its shapes."""

    def __init__(self, app: App, name: str | None, defaults: Defaults) -> None:
        self._app, self._name, self._defaults = app, name, defaults

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...
    def __call__(self, function: object, /) -> object:
        return self._app.register(function, self._name, self._defaults)


def _check(task: TaskFunction[..., Any, Any]) -> None:
    """ConfigError if the defaults of a type make no sense."""
    said = task.defaults
    unknown = set(said) - set(Defaults.__annotations__)
    try:
        if unknown:
            raise ValueError(f"expected options among {', '.join(Defaults.__annotations__)}, got {', '.join(sorted(unknown))}")
        for key, kind in (("queue", str), ("retries", int), ("once", bool), ("backoff", Backoff)):
            if key in said and not isinstance(said[key], kind):  # type: ignore[literal-required]
                raise ValueError(f"expected {key} to be {kind.__name__}, got {said[key]!r}")  # type: ignore[literal-required]
        if said.get("retries", 0) < 0:
            raise ValueError(f"expected retries of 0 or more, got {said['retries']}")
        task.row()
    except ValueError as error:
        raise ConfigError(f"task {task.name!r} ({where(task.function)}): {error}") from None


def where(function: object) -> str:
    """Where a function is written: ``file:line name``."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{code.co_filename}:{code.co_firstlineno} {name}" if code else name


default_app = App()
task = default_app.task


# what a handler may return or raise


class Snooze:
    """Return it to run again after ``after`` (seconds, a timedelta, or ``5m``): not a failure, no retry is used."""

    def __init__(self, after: Duration) -> None:
        self.after_ms = duration_ms(after)


class Cancel:
    """Return it to end the task as cancelled, with the reason why."""

    def __init__(self, why: str = "") -> None:
        self.why = why


class Retry(Exception):
    """Raise it to fail this attempt and, if retries are left, run again after a delay of your own."""

    def __init__(self, why: str = "", *, after: Duration | None = None) -> None:
        super().__init__(why)
        self.after_ms = None if after is None else duration_ms(after)


class Permanent(Exception):
    """Raise it to fail the task for good, whatever retries are left."""


# what a running task knows of itself


class Context:
    """The task that runs here. ``cancelled`` turns true when somebody asks it to stop: long work looks at it."""

    __slots__ = ("attempt", "cancelled", "spec", "started_at")

    def __init__(self, spec: Spec, attempt: int, started_at: int) -> None:
        self.spec = spec
        self.attempt = attempt
        self.started_at = started_at
        self.cancelled = False

    @property
    def id(self) -> int:
        return self.spec.id

    @property
    def type(self) -> str:
        return self.spec.header.type

    @property
    def queue(self) -> str:
        return self.spec.header.queue

    @property
    def deadline(self) -> float | None:
        """When its time is up, in seconds since the epoch as ``time.time()`` counts; None without a timeout."""
        timeout_ms = self.spec.header.timeout_ms
        return (self.started_at + timeout_ms) / 1000 if timeout_ms else None

    @property
    def label(self) -> str | None:
        return self.spec.header.label

    @property
    def meta(self) -> Mapping[str, str]:
        return self.spec.header.meta or {}

    @property
    def correlation_id(self) -> str | None:
        return self.spec.header.correlation_id

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named ``tq.task.<type>`` whose records carry the task's id and attempt."""
        import logging

        return logging.LoggerAdapter(logging.getLogger(f"tq.task.{self.type}"), {"task_id": self.id, "attempt": self.attempt})


_local: ContextVar[Context | None] = ContextVar("tq_current", default=None)
_alone: Context | None = None


def run_alone(context: Context | None) -> None:
    """Say which task this process runs, where it runs one at a time: cheaper than a context variable, and seen
    by the threads a handler starts."""
    global _alone
    _alone = context


def run_here(context: Context | None) -> None:
    """Say which task this thread or coroutine runs, where there are several at a time."""
    _local.set(context)


def running() -> Context | None:
    """The task that runs here, or None."""
    return _alone or _local.get()


def current() -> Context:
    """The task that runs here; UsageError outside of one."""
    context = _alone or _local.get()
    if context is None:
        raise UsageError("expected current() to be called by a running task, got a call from outside of one. Call it inside a handler.")
    return context


# finding the application


def load(name: str | None) -> App:
    """Import an application: ``module``, ``package.module``, ``module:app`` or ``path/to/file.py`` (``:app`` too).

    Without ``:app`` it is what ``@tq.task`` registered. None: an application without functions. ConfigError, with
    the traceback, if it does not import. ``name`` is an operator's word, never a client's.
    """
    if not name:
        return App()
    module_name, _, attribute = name.partition(":")
    if sys.path[:1] != [""]:
        sys.path.insert(0, "")  # the current directory first, as `python -m` has it
    try:
        module = _import(module_name)
    except BaseException as error:  # whatever a module raises, SystemExit too, is a reason not to start
        if isinstance(error, ConfigError):
            reason = str(error)
        elif isinstance(error, ModuleNotFoundError) and error.name == module_name:
            reason = f"expected a module or a file of that name in the current directory or on sys.path, got none ({error})"
        else:
            import traceback

            reason = "".join(traceback.format_exception(error))
        raise ConfigError(f"the application {name!r} cannot be imported: {reason}") from error
    if not attribute:
        return default_app
    found = getattr(module, attribute, None)
    if not isinstance(found, App):
        raise ConfigError(f"the application {name!r}: expected {attribute!r} to be a tq.App, got {type(found).__name__}.")
    return found


def _import(name: str) -> object:
    import importlib
    from pathlib import Path

    if not name.endswith(".py") and "/" not in name:
        return importlib.import_module(name)
    from importlib.util import module_from_spec, spec_from_file_location

    path = Path(name).absolute()
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"expected a Python file, got {str(path)!r}, which is none.")
    sys.path.insert(0, str(path.parent))
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
