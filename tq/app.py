"""The Python face: functions become tasks, and programs send them.

For: naming handlers (``@tq.task``), what a type declares for its tasks, enqueueing functions as they are called, finding
     the application.
Not for: typed payloads (typed), the socket (client), running anything (worker), what a running task knows (context).
Runs in: programs that enqueue, and worker processes.
Promises: a decorated function stays the function it was; a name belongs to one function; arguments are bound to
their names when they are sent, so a wrong call fails at the caller; nothing is imported because a client said so.

A payload is one value: a map is keyword arguments, an array positional ones, nil none, anything else one argument.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, Protocol, TypedDict, TypeVar, cast, overload

from tq.batch import BATCH_MOST, WAIT_MOST_MS, Item, items_of
from tq.errors import ConfigError, UsageError
from tq.middleware import AroundRun, AroundSend, Call, Outgoing, asend_through, is_async, run_through, send_through
from tq.model import MAX_NAME, MAX_SLOTS, SHELL, Backoff, duration_ms, is_resource, priority_of, unpack
from tq.signature import INTO, Group, Signature, fed, group

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Unpack

    from tq.client import AsyncHandle, Handle, Options
    from tq.context import Context
    from tq.schedule import Schedule

    Duration = float | str | timedelta
    Exceptions = type[BaseException] | tuple[type[BaseException], ...]
    BackoffFunction = Callable[[int, BaseException], Duration | None]

P = ParamSpec("P")
R = TypeVar("R")  # what the task results in
C = TypeVar("C")  # what a plain call gives: R, or a coroutine of it
I = TypeVar("I")  # noqa: E741 - what one task of many is sent
Sending = TypeVar("Sending", bound=AroundSend)
Running = TypeVar("Running", bound=AroundRun)


class Defaults(TypedDict, total=False):
    """What a type declares for its tasks. ``retries`` counts runs after the first; ``priority`` is 0..9 or a name.

    Of what a handler raises, ``retry_never`` is not tried again, and with ``retry_on`` only that is (``tq.Retry`` always,
    ``tq.Permanent`` never; crashes, timeouts and drains are not the handler's and are not asked). ``retry_for``: no retry
    begins later than so long after the task was accepted.

    ``backoff`` is a ``tq.Backoff``, the word for one with the usual delays (fixed, linear, exponential), or a function of the
    failures so far (1 after the first) and the error, evaluated in the worker: it gives seconds, a timedelta, ``"5m"``, or
    None for the default; where it fails, the default holds too and the task's log says so.

    ``slots``: it counts as so many of the slots of its queue and of the workers; ``uses`` is how much of which named resources it holds
    while it runs (``{"gpu": 1}``; ``tq resource set gpu 2`` says how much there is).

    ``batch`` hands the function up to so many tasks in one call, as a list of ``tq.Item`` (see ``tq.batch``): all that wait, once
    there are so many or the first of them has waited for ``batch_wait`` (0: at once). They run in one slot, under one timeout.
    ``breaker`` is a rule such as ``"5 failures in 1m, cool 30s"``: after that nothing of the type is handed out for so long, and then one
    task at a time until one succeeds; ``tq.breakers`` has all the words.

    ``schedule`` sends the task again and again, under its own name: an expression (``"0 3 * * *"``), ``"every 90s"``, or a
    ``tq.Schedule``. The daemon learns it from the workers.
    """

    queue: str
    retries: int
    timeout: Duration
    backoff: str | Backoff | BackoffFunction
    priority: int | str
    once: bool
    retry_on: Exceptions
    retry_never: Exceptions
    retry_for: Duration
    schedule: str | Schedule
    slots: int
    uses: Mapping[str, int]
    batch: int
    batch_wait: Duration
    breaker: str


class Gathered(Protocol):
    """The context of a call for many tasks."""

    items: list[Item[Any]]


class Handler(NamedTuple):
    """What a worker needs of a type: how it is called, and what its failures mean."""

    call: Call
    is_async: bool
    retry_on: Exceptions | None = None
    retry_never: Exceptions | None = None
    backoff: BackoffFunction | None = None
    batch: int = 0
    """Of how many tasks at the most it takes the calls' ``items``; 0: it takes one task."""

    def may_retry(self, error: BaseException) -> bool:
        """Whether the type lets an attempt that raised this be tried again."""
        if self.retry_never is not None and isinstance(error, self.retry_never):
            return False
        return self.retry_on is None or isinstance(error, self.retry_on)


class Declared:
    """A type of an application: its name, where its handler is written, and what it declared for its tasks. ``reads`` makes of a stored
    result what the handler returned; None: it is that."""

    reads: Callable[[Any], Any] | None = None

    def __init__(self, app: App, name: str, function: Any, defaults: Defaults) -> None:
        self.app = app
        self.name = name
        self.function = function
        self.defaults = defaults

    def __repr__(self) -> str:
        return f"<task {self.name!r}: {where(self.function)}>"

    @property
    def is_async(self) -> bool:
        return is_async(self.function)

    def bound(self) -> tuple[Call, BackoffFunction | None]:
        """A function of the running task's context that calls the handler, and how the type backs off, if by a function."""
        raise NotImplementedError

    def handler(self) -> Handler:
        """The handler with the application's middleware around it: one for each worker. ConfigError if they do not fit."""
        said = self.defaults
        call, backoff = self.bound()
        if self.app.running:
            call = run_through(self.app.running, call, self.name, self.is_async)
        return Handler(call, self.is_async, said.get("retry_on"), said.get("retry_never"), backoff, said.get("batch", 0))

    def row(self) -> list[Any]:
        """The type as a worker's hello names it (``tq.store.TypeInfo``); None where nothing was declared."""
        said = self.defaults
        timeout_ms = duration_ms(said["timeout"]) if "timeout" in said else None
        backoff = said.get("backoff")
        backoff_row = None if backoff is None or callable(backoff) else Backoff.of(backoff).row()
        priority = priority_of(said["priority"]) if "priority" in said else None
        retry_for_ms = duration_ms(said["retry_for"]) if "retry_for" in said else None
        once, schedule = said.get("once"), said.get("schedule")
        row = [self.name, said.get("queue"), said.get("retries"), timeout_ms, backoff_row, priority, once, retry_for_ms]
        more: list[Any] = [None if schedule is None else _scheduled(schedule), said.get("slots"), said.get("uses"), said.get("batch")]
        more += [duration_ms(said["batch_wait"]) if "batch_wait" in said else None, said.get("breaker")]
        while more and more[-1] is None:
            more.pop()
        return row + more

    def check(self) -> None:
        """ConfigError if the name is none, or the defaults make no sense."""
        name: Any = self.name  # a class may have said anything
        said = self.defaults
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME or name == SHELL:
            raise ConfigError(
                f"{where(self.function)}: expected a printable name of at most {MAX_NAME} characters other than {SHELL!r}, "
                f'got {name!r}. Give one: @task("name"), or type = "name" in a class.'
            )
        unknown = set(said) - set(Defaults.__annotations__)
        try:
            if unknown:
                raise ValueError(f"expected options among {', '.join(Defaults.__annotations__)}, got {', '.join(sorted(unknown))}")
            for key, kind in (("queue", str), ("retries", int), ("once", bool)):
                if key in said and not isinstance(said[key], kind):  # type: ignore[literal-required]
                    raise ValueError(f"expected {key} to be {kind.__name__}, got {said[key]!r}")  # type: ignore[literal-required]
            _check_needs(said.get("slots", 1), said.get("uses", {}))
            _check_batch(said)
            if "breaker" in said:
                from tq.breakers import Rule  # few declare one, and it takes as long to load as all else here

                Rule.of(str(said["breaker"]))
            if said.get("retries", 0) < 0:
                raise ValueError(f"expected retries of 0 or more, got {said['retries']}")
            backoff: object = said.get("backoff", Backoff())
            if not callable(backoff) or isinstance(backoff, type):
                try:
                    Backoff.of(backoff)
                except ValueError as error:
                    raise ValueError(f"backoff: {error}. Or give a function of failures and error.") from None
            for key in ("retry_on", "retry_never"):
                _check_exceptions(key, said.get(key))
            self.row()
        except (ValueError, UsageError) as error:
            raise ConfigError(f"task {name!r} ({where(self.function)}): {error}") from None


def _scheduled(schedule: object) -> dict[str, Any]:
    """A declared schedule as a hello has it."""
    from tq.client.core import encode
    from tq.schedule import Schedule

    said = Schedule.of(schedule)
    return {**said.when, "payload": encode(said.payload)}


def _check_needs(slots: object, uses: object) -> None:
    if type(slots) is not int or not 0 < slots <= MAX_SLOTS:
        raise ValueError(f"expected slots from 1 to {MAX_SLOTS}, got {slots!r}")
    good = isinstance(uses, dict) and all(is_resource(one) and type(much) is int and 0 < much <= MAX_SLOTS for one, much in uses.items())
    if not good:
        raise ValueError(f'expected uses such as {{"gpu": 1}}, got {uses!r}')


def _check_batch(said: Defaults) -> None:
    size: object = said.get("batch", 1)
    if type(size) is not int or not 0 < size <= BATCH_MOST:
        raise ValueError(f"expected a batch of 1 to {BATCH_MOST} tasks, got {size!r}")
    if "batch" not in said and "batch_wait" in said:
        raise ValueError("expected batch beside batch_wait: how many tasks it is to wait for")
    if duration_ms(said.get("batch_wait", 0)) > WAIT_MOST_MS:
        raise ValueError(f"expected a batch_wait of at most {WAIT_MOST_MS // 1000} s, got {said['batch_wait']!r}")
    if "batch" in said and ("slots" in said or "uses" in said):
        raise ValueError("expected neither slots nor uses beside batch: a call takes one slot, however many tasks it is for")


def _check_exceptions(key: str, given: object) -> None:
    kinds = given if isinstance(given, tuple) else () if given is None else (given,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ValueError(f"expected {key} to be an exception class or a tuple of them, got {given!r}")


class _OfFunction(Declared):
    """A type whose handler is a function, which it stands for: it has its name and its words."""

    def _stand_for(self, function: Callable[..., Any], options: Options | None) -> None:
        self._options: Options = options or {}
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", self.name)
        self.__module__ = getattr(function, "__module__", "")


class TaskFunction(_OfFunction, Generic[P, C, R]):
    """A function with a face for the queue: called it runs here and now, ``enqueue`` sends it to the daemon."""

    function: Callable[P, C]

    def __init__(self, app: App, name: str, function: Callable[P, C], defaults: Defaults, options: Options | None = None) -> None:
        super().__init__(app, name, function, defaults)
        self._stand_for(function, options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return self.function(*args, **kwargs)

    def options(self, **options: Unpack[Options]) -> TaskFunction[P, C, R]:
        """The same task with options for what is enqueued through it: ``send.options(delay="10m").enqueue(...)``."""
        merged: Options = {**self._options, **options}
        return TaskFunction(self.app, self.name, self.function, self.defaults, merged)

    def payload(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any] | list[Any] | None:
        """The arguments as one value; TypeError, as for a call, if they do not fit the function."""
        return self.bind(args, kwargs)

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """The call as a signature (``tq.signature``): behind another, that one's result comes as its first argument."""
        return Signature(self, args, kwargs, self._options)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """The same, immutable: it is called with these arguments alone."""
        return Signature(self, args, kwargs, self._options, immutable=True)

    def map(self, items: Iterable[Any]) -> Group[R]:
        """A group with a task for each item, its only argument."""
        return group(self.s(item) for item in items)

    def starmap(self, items: Iterable[Iterable[Any]]) -> Group[R]:
        """A group with a task for each item, which holds its arguments."""
        return group(self.s(*item) for item in items)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | list[Any] | None:
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
        return self.app.send(self.name, self.payload(*args, **kwargs), self._options)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R]:
        """``enqueue`` for programs with an event loop."""
        return await self.app.asend(self.name, self.payload(*args, **kwargs), self._options)

    def bound(self) -> tuple[Call, BackoffFunction | None]:
        function: Callable[..., Any] = self.function
        backoff = self.defaults.get("backoff")

        def call(context: Context) -> Any:
            payload, extras = context.spec.payload, context.spec.header.extras
            value = unpack(payload) if payload else None
            if extras is not None and INTO in extras:
                value = fed(context, value)
            if isinstance(value, dict):
                return function(**value)
            if isinstance(value, list):
                return function(*value)
            return function() if value is None else function(value)

        return call, backoff if callable(backoff) else None


class BatchFunction(_OfFunction, Generic[I, C]):
    """A function of many tasks at a time, with a face for the queue: ``enqueue`` sends one of them."""

    function: Callable[[list[Item[I]]], C]

    def __init__(
        self, app: App, name: str, function: Callable[[list[Item[I]]], C], defaults: Defaults, options: Options | None = None
    ) -> None:
        super().__init__(app, name, function, defaults)
        self._stand_for(function, options)

    def __call__(self, payloads: Sequence[I | Item[I]]) -> C:
        """Run it here and now, for a test: with these payloads, or with items that tell afterwards what became of each."""
        return self.function(items_of(payloads))

    def options(self, **options: Unpack[Options]) -> BatchFunction[I, C]:
        """The same task with options for what is enqueued through it."""
        merged: Options = {**self._options, **options}
        return BatchFunction(self.app, self.name, self.function, self.defaults, merged)

    def enqueue(self, payload: I) -> Handle[Any]:
        """Send one task; returns when it is on disk."""
        return self.app.send(self.name, payload, self._options)

    async def aenqueue(self, payload: I) -> AsyncHandle[Any]:
        """``enqueue`` for programs with an event loop."""
        return await self.app.asend(self.name, payload, self._options)

    def bound(self) -> tuple[Call, BackoffFunction | None]:
        backoff = self.defaults.get("backoff")

        def call(context: Context) -> Any:
            return self.function(cast("Gathered", context).items)

        return call, backoff if callable(backoff) else None


class App:
    """A set of named handlers, and the middleware around them. One application is what a daemon's workers import."""

    def __init__(self) -> None:
        self.tasks: dict[str, Declared] = {}
        self.sending: list[AroundSend] = []
        self.running: list[AroundRun] = []

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

    def register(self, function: object, name: str | None, defaults: Defaults) -> TaskFunction[..., Any, Any] | BatchFunction[Any, Any]:
        if isinstance(function, TaskFunction | BatchFunction):
            function = function.function
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"expected a function to make a task of, got {function!r}. Put the decorator on a `def` or `async def`.")
        named: Any = name or getattr(function, "__name__", None)
        kind: Any = BatchFunction if "batch" in defaults else TaskFunction
        task: TaskFunction[..., Any, Any] | BatchFunction[Any, Any] = kind(self, named, function, defaults)
        self.add(task)
        return task

    def add(self, task: Declared) -> None:
        """Take a type in. ConfigError if its name is another's, or it makes no sense."""
        task.check()
        known = self.tasks.get(task.name)
        if known is not None and where(known.function) != where(task.function):
            raise ConfigError(
                f"the task name {task.name!r} is taken: expected one handler of that name, got {where(known.function)} and "
                f"{where(task.function)}. Give one of them another name."
            )
        self.tasks[task.name] = task

    def around_send(self, function: Sending) -> Sending:
        """Put a function around every send of this application's tasks; see ``tq.middleware``. The first is outermost."""
        self.sending.append(function)
        return function

    def around_run(self, function: Running) -> Running:
        """Put a function around every run of this application's handlers; see ``tq.middleware``. The first is outermost."""
        self.running.append(function)
        return function

    def send(self, name: str, payload: object, options: Options) -> Handle[Any]:
        """Send a task by this process's client, through the middleware."""
        from tq.client import default

        if not self.sending:
            return default().enqueue(name, payload, **options)

        def send(task: Outgoing) -> Handle[Any]:
            return default().enqueue(task.type, task.payload, **task.options)

        handle: Handle[Any] = send_through(self.sending, Outgoing(name, payload, {**options}), send)
        return handle

    async def asend(self, name: str, payload: object, options: Options) -> AsyncHandle[Any]:
        """As ``send``, by the running loop's client."""
        from tq.client import adefault

        if not self.sending:
            return await (await adefault()).enqueue(name, payload, **options)

        async def send(task: Outgoing) -> AsyncHandle[Any]:
            return await (await adefault()).enqueue(task.type, task.payload, **task.options)

        handle: AsyncHandle[Any] = await asend_through(self.sending, Outgoing(name, payload, {**options}), send)
        return handle

    def handlers(self) -> dict[str, Handler]:
        """All handlers by name, as a worker needs them. ConfigError if one does not fit the middleware."""
        return {name: task.handler() for name, task in self.tasks.items()}


class Decorator:
    """What ``@task("name", ...)`` gives: it takes the function. A class, so that types can say both its shapes."""

    def __init__(self, app: App, name: str | None, defaults: Defaults) -> None:
        self._app, self._name, self._defaults = app, name, defaults

    @overload
    def __call__(self, function: Callable[[list[Item[I]]], C], /) -> BatchFunction[I, C]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...
    def __call__(self, function: object, /) -> object:
        return self._app.register(function, self._name, self._defaults)


def where(function: object) -> str:
    """Where a handler is written: ``file:line name``; for a class, the line of its ``execute``."""
    code_of = getattr(function, "execute", function) if isinstance(function, type) else function
    code = getattr(inspect.unwrap(code_of) if callable(code_of) else code_of, "__code__", None)
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{code.co_filename}:{code.co_firstlineno} {name}" if code else name


default_app = App()
task = default_app.task
around_send = default_app.around_send
around_run = default_app.around_run


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
