"""The client: every verb of the daemon as a method, for programs, in a blocking and an asyncio face.

For: talking to a daemon from Python, and from everything of tq that is not the daemon: command line, demo, workers.
Not for: what a verb does (broker), or how the command line words it (cli).
Runs in: any process but the daemon.
Promises: no call waits for ever on a daemon that has stopped answering; an enqueue whose answer was lost is repeated
under its old number, so it is never stored twice; a client may be used by many threads and after a fork.

``core`` and ``acting`` know the protocol and do no I/O; ``blocking`` (with ``link`` and ``handle``) and ``aio`` are two
thin faces on them; ``start`` starts and stops the daemon. asyncio and subprocess are loaded by those who use them.
"""

from __future__ import annotations

from tq.client.acting import Changes, Which
from tq.client.blocking import Client, connect, default
from tq.client.core import Options, decode, encode, format_error
from tq.client.handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tq.client.aio import AsyncClient, AsyncHandle, aconnect, adefault
    from tq.client.start import start_daemon, stop_daemon

_WHERE = {
    "AsyncClient": "aio",
    "AsyncHandle": "aio",
    "aconnect": "aio",
    "adefault": "aio",
    "start_daemon": "start",
    "stop_daemon": "start",
}

__all__ = [
    "AsyncClient",
    "AsyncHandle",
    "Changes",
    "Client",
    "Handle",
    "Options",
    "Which",
    "aconnect",
    "adefault",
    "connect",
    "decode",
    "default",
    "encode",
    "format_error",
    "start_daemon",
    "stop_daemon",
]


def __getattr__(name: str) -> object:
    room = _WHERE.get(name)
    if room is None:
        raise AttributeError(f"module 'tq.client' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"tq.client.{room}"), name)
