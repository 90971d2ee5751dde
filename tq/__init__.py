"""tq: a durable task queue for one machine, with one command and no server.

The map of the rooms, from the doors down (imports point downwards only):

    cli                      the command line: a thin path for shell loops, Typer for the rest
    daemon, demo, bench      the composition of the process; two programs that use it as anyone would
    testing                  the same in one process, at a clock turned by hand: for tests of applications
    api, pool                the Unix door; the parent of the workers
    broker, worker           the deciding object (daemon process); the child that runs handlers
    typed                    handlers as classes, with types for what they are sent and what they give
    workflows                graphs of tasks with a name, looked at and run again as a whole
    app, shell, store        names to functions; the command handler; what remembers
    signature                calls that are not made yet, joined to chains and groups
    client, lifecycle        the verbs over a socket; the one table of transitions
    batch                    many tasks in one call
    context, middleware      what a running task knows and may say; what an application puts around sends and runs
    wire, board, output      frames; the page a worker shares with its parent; bounded output files
    inlet                    what is sent to a running command
    query, schedule, instants   the filter language; rules that repeat; words of time
    breakers                 rules of circuit breakers, and what an outcome makes of one
    model                    the nouns: specification, status, and the records they are kept in
    config, errors           settings; the tree of errors

Nothing is imported here until it is asked for: ``import tq`` is part of every command's start.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # the name type checkers look for; importing typing for it costs a bare interpreter
if TYPE_CHECKING:
    from tq.app import App, around_run, around_send, task
    from tq.batch import Item
    from tq.client import AsyncClient, AsyncHandle, Client, Handle, aconnect, connect
    from tq.client.guard import breaker
    from tq.context import Cancel, Context, Permanent, Retry, ServiceDown, Snooze, Stopped, current
    from tq.errors import TqError
    from tq.middleware import Outgoing
    from tq.model import Backoff
    from tq.schedule import Schedule
    from tq.signature import Signature, chain, chord, group
    from tq.typed import Task
    from tq.workflows import Workflow, workflow

_WHERE = {
    "App": "app",
    "AsyncClient": "client",
    "AsyncHandle": "client",
    "Backoff": "model",
    "Cancel": "context",
    "Client": "client",
    "Context": "context",
    "Handle": "client",
    "Item": "batch",
    "Outgoing": "middleware",
    "Permanent": "context",
    "Retry": "context",
    "Schedule": "schedule",
    "ServiceDown": "context",
    "Signature": "signature",
    "Snooze": "context",
    "Stopped": "context",
    "Task": "typed",
    "TqError": "errors",
    "Workflow": "workflows",
    "aconnect": "client",
    "around_run": "app",
    "around_send": "app",
    "breaker": "client.guard",
    "chain": "signature",
    "chord": "signature",
    "connect": "client",
    "current": "context",
    "group": "signature",
    "task": "app",
    "workflow": "workflows",
}

__all__ = [
    "App",
    "AsyncClient",
    "AsyncHandle",
    "Backoff",
    "Cancel",
    "Client",
    "Context",
    "Handle",
    "Item",
    "Outgoing",
    "Permanent",
    "Retry",
    "Schedule",
    "ServiceDown",
    "Signature",
    "Snooze",
    "Stopped",
    "Task",
    "TqError",
    "Workflow",
    "__version__",
    "aconnect",
    "around_run",
    "around_send",
    "breaker",
    "chain",
    "chord",
    "connect",
    "current",
    "group",
    "task",
    "workflow",
]


def __getattr__(name: str) -> object:
    """Load a public name from its room at first use (PEP 562)."""
    room = _WHERE.get(name)
    if room is None:
        raise AttributeError(f"module 'tq' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"tq.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
