"""Typed tasks: a class with a type for what it is sent and one for what it gives, both checked on the way.

For: ``tq.Task[In, Out]``: wrong payloads are errors of the type checker, of the sender, and of the worker, in that order.
Not for: functions (app), the socket (client), running anything (worker).
Runs in: programs that enqueue, and worker processes; pydantic is imported when the first such class is declared.
Promises: what the sender accepted the worker accepts; a value is never converted silently (``"3"`` is no int), nor is a key
dropped that no field has (unless a type's own pydantic configuration says ``extra``: then each keeps its own rule); what does
not fit is named by its path, with what was expected and what came.

In and Out may be anything pydantic has a schema for: dataclasses, models, TypedDicts (on Python 3.11 those of
``typing_extensions``), ``list[int]``, ``str``, ``None``, ... They travel as JSON-like data: an instant as text, a set as a
list, bytes as they are (beside values that must become text or lists, only bytes that are UTF-8). So a task of a class can
be sent by its name, too, with the same data as JSON. What pydantic writes out masked (``SecretStr``) travels masked: give it
a serializer of your own.

    >>> import dataclasses, tq
    >>> @dataclasses.dataclass
    ... class Order:
    ...     number: int
    ...     amounts: list[float]
    >>> class Total(tq.Task[Order, float]):
    ...     type = "total"
    ...     queue = "shop"
    ...     retry_on = (ConnectionError,)
    ...     def execute(self, payload: Order) -> float:
    ...         return sum(payload.amounts)
    >>> Total().execute(Order(17, [1.5, 2.5]))
    4.0
    >>> Total.payload(Order(17, [1.5, 2.5]))
    {'number': 17, 'amounts': [1.5, 2.5]}
    >>> Total.payload(Order("17", []))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    tq.errors.PayloadError: task 'total': the payload is no Order: number: Input should be a valid integer, got '17'. ...

``Total.enqueue(Order(...))`` sends it, ``Total.on("night").enqueue(...)`` to another queue, ``Total.options(priority="high")``
with other options; ``.result()`` of what they give is a float.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast, get_args, get_origin, overload

from tq import app as apps
from tq.app import App, Declared, Defaults
from tq.client.core import is_plain
from tq.context import Cancel, Snooze
from tq.errors import ConfigError, PayloadError, UsageError
from tq.middleware import is_async
from tq.model import Backoff, brief, unpack
from tq.signature import FED, INTO, Group, Signature, fed, group

if TYPE_CHECKING:
    import builtins
    from typing import Unpack

    from tq.app import BackoffFunction, Duration, Exceptions
    from tq.client import AsyncHandle, Handle, Options
    from tq.context import Context
    from tq.middleware import Call
    from tq.schedule import Schedule

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")

ERRORS_TOLD = 3


class Shape(Generic[T]):
    """One type, and its values as JSON-like data. ``what`` names it in messages. ConfigError if pydantic knows no schema."""

    def __init__(self, kind: Any, what: str) -> None:
        from pydantic import TypeAdapter, ValidationError
        from pydantic.errors import PydanticUserError
        from pydantic_core import to_json

        self._json, self._invalid, self._unfinished = to_json, ValidationError, PydanticUserError
        self._what = what
        self._kind = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(kind)
            self._extra: Literal["forbid"] | None = None if _says_extra(self._adapter.core_schema) else "forbid"
        except (PydanticUserError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"{what}: expected a type that pydantic can check, got {self._kind}: {reason}") from None

    def plain(self, value: T) -> Any:
        """The value as JSON-like data that ``read`` accepts; PayloadError names what does not fit the type."""
        self._checked(lambda: self._adapter.validate_python(value, strict=True, extra=self._extra))
        try:
            data = self._adapter.dump_python(value, by_alias=True, round_trip=True, warnings="none")
            if not is_plain(data):
                data = self._adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings="none")
        except Exception as error:  # noqa: BLE001 - a type's own serializer is user code
            raise PayloadError(
                f"{self._what} cannot travel: expected {self._kind} as JSON-like data, got {brief(value)}: {error}"
            ) from None
        self.read(data)
        return data

    def read(self, data: Any) -> T:
        """The value of this data; PayloadError names what does not fit the type."""
        try:
            # As it is: that is all there is to say of texts, numbers, maps of them.
            return self._adapter.validate_python(data, strict=True, extra=self._extra)
        except (self._invalid, self._unfinished):
            pass
        try:
            text = self._json(data, inf_nan_mode="constants")
        except ValueError:  # bytes that are no text: such data cannot pass as JSON, whose rules fit what ``plain`` makes
            return self._checked(lambda: self._adapter.validate_python(data, extra=self._extra))
        return self._checked(lambda: self._adapter.validate_json(text, strict=True, extra=self._extra))

    def _checked(self, check: Callable[[], T]) -> T:
        try:
            return check()
        except self._invalid as error:
            raise PayloadError(f"{self._what} is no {self._kind}: {_problems(error)}. Mend it, or the type.") from None
        except self._unfinished as error:  # a name in its annotations that means nothing yet
            raise ConfigError(f"{self._what}: {self._kind} is not whole: {str(error).partition(chr(10))[0]}") from None


_EXTRA = ("extra_forbidden", "unexpected_keyword_argument")


def _says_extra(schema: object) -> bool:
    """Whether a type in this core schema says itself what becomes of keys that no field has."""
    if isinstance(schema, dict):
        config = schema.get("config")
        return (isinstance(config, dict) and "extra_fields_behavior" in config) or any(
            _says_extra(part) for name, part in schema.items() if name != "metadata"
        )
    return isinstance(schema, list | tuple) and any(map(_says_extra, schema))


def _problems(error: Any) -> str:
    """The first few of a ValidationError's, each with its path and what came."""
    found = error.errors(include_url=False, include_context=False)
    told = []
    for one in found[:ERRORS_TOLD]:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in one["loc"]).removeprefix(".")
        came = "" if one["type"] == "missing" else f", got {brief(one['input'])}"
        says = "expected no such field" if one["type"] in _EXTRA else one["msg"]
        told.append(f"{path}: {says}{came}" if path else f"{says}{came}")
    more = len(found) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


class Sender(Generic[In, Out]):
    """A typed task with options for what is enqueued through it: the handle of one task, or of one task in one queue."""

    def __init__(self, task: TypedTask, options: Options) -> None:
        self._task, self._options = task, options

    def __repr__(self) -> str:
        return f"<{self._task.name!r} with {self._options!r}>"

    def options(self, **options: Unpack[Options]) -> Sender[In, Out]:
        """The same with these options too."""
        merged: Options = {**self._options, **options}
        return Sender(self._task, merged)

    def on(self, queue: str) -> Sender[In, Out]:
        """The same for another queue."""
        return self.options(queue=queue)

    def payload(self, payload: In) -> Any:
        """The payload as it travels, for sending it by name: ``q.enqueue_many((Order.type, Order.payload(o)) for o in orders)``."""
        return self._task.input.plain(payload)

    @overload
    def s(self) -> Signature[Out]: ...
    @overload
    def s(self, payload: In, /) -> Signature[Out]: ...
    def s(self, *payload: In) -> Signature[Out]:
        """The call as a signature (``tq.signature``): without a payload that is the result of what stands before it."""
        return Signature(self._task, payload, {}, self._options)

    def si(self, payload: In) -> Signature[Out]:
        """The same with this payload, whatever stands before it."""
        return Signature(self._task, (payload,), {}, self._options, immutable=True)

    def map(self, items: Iterable[In]) -> Group[Out]:
        """A group with a task for each item, its payload."""
        return group(self.s(item) for item in items)

    def enqueue(self, payload: In) -> Handle[Out]:
        """Send it; returns when it is on disk. PayloadError if it does not fit the type."""
        handle = self._task.app.send(self._task.name, self._task.input.plain(payload), self._options)
        return handle.reading(self._task.output.read)

    async def aenqueue(self, payload: In) -> AsyncHandle[Out]:
        """``enqueue`` for programs with an event loop."""
        handle = await self._task.app.asend(self._task.name, self._task.input.plain(payload), self._options)
        return handle.reading(self._task.output.read)


class Task(Generic[In, Out]):
    """A handler as a class: subclass ``Task[In, Out]``, give it a ``type`` and an ``execute``; it registers itself.

    ``execute`` may be ``async def``, may use ``tq.current()``, and may return ``tq.Snooze`` or ``tq.Cancel``. One instance is
    made in each worker, without arguments, before its first such task, and serves all of them: in a worker with several
    slots at the same time. ``backoff`` may be a method or staticmethod of ``(failures, error)``; the other attributes are
    those of ``@tq.task`` (see ``tq.app.Defaults``). A class without a ``type`` of its own is a base for others.
    ``class Order(tq.Task[In, Out], app=mine)`` registers in an application other than the default one.
    """

    type: ClassVar[str]
    queue: ClassVar[str]
    retries: ClassVar[int]
    timeout: ClassVar[Duration]
    backoff: ClassVar[str | Backoff | Callable[..., Duration | None]]
    priority: ClassVar[int | str]
    once: ClassVar[bool]
    retry_on: ClassVar[Exceptions]
    retry_never: ClassVar[Exceptions]
    retry_for: ClassVar[Duration]
    schedule: ClassVar[str | Schedule]
    slots: ClassVar[int]
    uses: ClassVar[Mapping[str, int]]
    _task: ClassVar[TypedTask | None] = None

    def __init_subclass__(cls, *, app: App | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls._task = None
        if "type" in cls.__dict__:
            cls._task = TypedTask(app or apps.default_app, cls)

    def execute(self, payload: In) -> Out | Snooze | Cancel | Coroutine[Any, Any, Out | Snooze | Cancel]:
        """Do it."""
        raise NotImplementedError

    @classmethod
    def options(cls, **options: Unpack[Options]) -> Sender[In, Out]:
        """The task with options for what is enqueued through it: ``Payment.options(delay="10m").enqueue(...)``."""
        if cls._task is None:
            raise UsageError(f'expected a task that can be sent, got {cls.__qualname__}, a base for others. Give it a type: type = "name".')
        return Sender(cls._task, options)

    @classmethod
    def on(cls, queue: str) -> Sender[In, Out]:
        """The task in another queue than its own."""
        return cls.options(queue=queue)

    @classmethod
    def payload(cls, payload: In) -> Any:
        """The payload as it travels; see ``Sender.payload``."""
        return cls.options().payload(payload)

    @overload
    @classmethod
    def s(cls) -> Signature[Out]: ...
    @overload
    @classmethod
    def s(cls, payload: In, /) -> Signature[Out]: ...
    @classmethod
    def s(cls, *payload: In) -> Signature[Out]:
        """The call as a signature; see ``Sender.s``."""
        return cls.options().s(*payload)

    @classmethod
    def si(cls, payload: In) -> Signature[Out]:
        """The same with this payload, whatever stands before it."""
        return cls.options().si(payload)

    @classmethod
    def map(cls, items: Iterable[In]) -> Group[Out]:
        """A group with a task for each item, its payload."""
        return cls.options().map(items)

    @classmethod
    def enqueue(cls, payload: In) -> Handle[Out]:
        """Send it; returns when it is on disk. PayloadError if it does not fit the type."""
        return cls.options().enqueue(payload)

    @classmethod
    async def aenqueue(cls, payload: In) -> AsyncHandle[Out]:
        """``enqueue`` for programs with an event loop."""
        return await cls.options().aenqueue(payload)


class TypedTask(Declared):
    """A subclass of Task as its application knows it."""

    def __init__(self, app: App, cls: builtins.type[Task[Any, Any]]) -> None:
        said = {key: value for key in Defaults.__annotations__ if (value := getattr(cls, key, None)) is not None}
        super().__init__(app, cls.type, cls, cast("Defaults", said))
        self.check()
        if not callable(getattr(cls, "execute", None)) or cls.execute is Task.execute:
            raise ConfigError(f"task {self.name!r} ({cls.__qualname__}): expected a method execute(self, payload), got none.")
        if "batch" in said:
            raise ConfigError(
                f"task {self.name!r} ({cls.__qualname__}): expected a function for a batch, got a class. Use @tq.task(batch=...)."
            )
        kinds = _arguments(cls)
        self.input: Shape[Any] = Shape(kinds[0], f"task {self.name!r}: the payload")
        self.output: Shape[Any] = Shape(kinds[1], f"task {self.name!r}: the result")
        self.reads = self.output.read
        app.add(self)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The payload as it travels. TypeError: there is not just one."""
        if len(args) != 1 or kwargs:
            words = "none: give it one, or put it behind what gives it" if not args else "the result of what stands before it and another"
            raise TypeError(f"task {self.name!r}: expected one payload, got {words}. `si(payload)` takes no result.")
        return FED if args[0] is FED else self.input.plain(args[0])

    @property
    def is_async(self) -> bool:
        return is_async(self.function.execute)

    def bound(self) -> tuple[Call, BackoffFunction | None]:
        instance = _Once(self.function)

        def payload_of(context: Context) -> Any:
            packed, extras = context.spec.payload, context.spec.header.extras
            try:
                data = unpack(packed) if packed else None
            except ValueError as error:
                raise PayloadError(
                    f"task {self.name!r}: the payload: expected one packed msgpack value, got {brief(packed)}: {error}."
                ) from None
            return self.input.read(fed(context, data) if extras is not None and INTO in extras else data)

        def kept(value: Any) -> Any:
            return value if isinstance(value, Snooze | Cancel) else self.output.plain(value)

        def call(context: Context) -> Any:
            return kept(instance().execute(payload_of(context)))

        async def acall(context: Context) -> Any:
            return kept(await instance().execute(payload_of(context)))

        def backoff(failures: int, error: BaseException) -> Duration | None:
            delay: Duration | None = instance().backoff(failures, error)
            return delay

        return acall if self.is_async else call, backoff if callable(self.defaults.get("backoff")) else None


class _Once:
    """The one instance of a handler in a worker, made when it is first needed; what its ``__init__`` raises fails that task."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return self._made


def _arguments(cls: builtins.type[Task[Any, Any]]) -> tuple[Any, Any]:
    """In and Out of a class, also where a base between them has type variables of its own. ConfigError if they are not given."""
    found = _given(cls)
    for kind in found or (None,):
        if found is None or isinstance(kind, TypeVar) or (get_origin(kind) and kind.__parameters__):
            raise ConfigError(f"{cls.__qualname__}: expected the types of its payload and result, as in Task[Payment, Receipt], got none.")
        if isinstance(kind, str) or type(kind).__name__ == "ForwardRef":
            raise ConfigError(
                f"{cls.__qualname__}: expected types in Task[In, Out], got the name {kind}. Declare the type before the task."
            )
    return cast("tuple[Any, Any]", found)


def _given(cls: builtins.type) -> tuple[Any, ...] | None:
    """What stands in the brackets of Task, as seen from ``cls``."""
    for base in getattr(cls, "__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, Task)):
            continue
        if origin is Task:
            return get_args(base) or None
        below = _given(origin)
        if below is not None:
            known = dict(zip(cast("Any", origin).__parameters__, get_args(base), strict=False))
            return tuple(_filled(kind, known) for kind in below)
    return None


def _filled(kind: Any, known: dict[Any, Any]) -> Any:
    """A type with its variables replaced."""
    if isinstance(kind, TypeVar):
        return known.get(kind, kind)
    parameters: tuple[Any, ...] = getattr(kind, "__parameters__", ()) if get_origin(kind) else ()
    return kind[tuple(known.get(one, one) for one in parameters)] if parameters else kind
