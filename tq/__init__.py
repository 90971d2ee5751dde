"""tq: a durable task queue for one machine, with one command and no server.

The map of the rooms, from the doors down (imports point downwards only):

    cli                      the command line: a thin path for shell loops, Typer for the rest
    daemon, demo, bench      the composition of the process; two programs that use it as anyone would
    api, pool                the Unix door; the parent of the workers
    broker, worker           the deciding object (daemon process); the child that runs handlers
    app, shell, store        names to functions; the command handler; what remembers
    client, lifecycle        the verbs over a socket; the one table of transitions
    wire, board, output      frames; the page a worker shares with its parent; bounded output files
    model                    the nouns: specification, status, and the records they are kept in
    config, errors           settings; the tree of errors

Nothing is imported here until it is asked for: ``import tq`` is part of every command's start.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # the name type checkers look for; importing typing for it costs a bare interpreter
if TYPE_CHECKING:
    from tq.app import App, Cancel, Context, Permanent, Retry, Snooze, current, task
    from tq.client import AsyncClient, AsyncHandle, Client, Handle, aconnect, connect
    from tq.errors import TqError

_WHERE = {
    "App": "app",
    "Cancel": "app",
    "Context": "app",
    "Permanent": "app",
    "Retry": "app",
    "Snooze": "app",
    "current": "app",
    "AsyncClient": "client",
    "AsyncHandle": "client",
    "Client": "client",
    "Handle": "client",
    "aconnect": "client",
    "connect": "client",
    "TqError": "errors",
    "task": "app",
}

__all__ = [
    "App",
    "AsyncClient",
    "AsyncHandle",
    "Cancel",
    "Client",
    "Context",
    "Handle",
    "Permanent",
    "Retry",
    "Snooze",
    "TqError",
    "__version__",
    "aconnect",
    "connect",
    "current",
    "task",
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
