"""The monitor in browsers: ``tq monitor --web``.

For: ``serve``, which shows the monitor of one instance to browsers on this machine.
Not for: the monitor itself (the rest of ``tui``), terminals, other machines (they come through ``ssh -L``).
Runs in: the process of ``tq monitor --web``; each page that is open has a process of its own (child). Importing this package
loads neither the server nor textual-serve.
Promises: it listens on 127.0.0.1 only; who does not hold the token that was printed, or comes from another site, gets nothing;
no page makes a request to another host; when the server ends, in whatever way, no process of it is left.

Without a server: ``gate`` (who is let in), ``messages`` (what a page may send), ``page`` (what it is made of). With one: ``session``
and ``server``. Of textual-serve these take the page's script, style and font, and the packets that it and Textual speak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tq.errors import UsageError

MOST_SESSIONS = 64


@dataclass(frozen=True, slots=True)
class Look:
    """How the monitor shows in a page: the options of ``tq monitor`` that are about that. ``demo``: it says that it is one."""

    theme: str | None = None
    charts: str | None = None
    ascii: bool = False
    color: bool = True
    mouse: bool = True
    reduce_motion: bool = False
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What is served to whom: ``port`` 0 takes a free one, ``idle_ms`` without a key or the mouse end a page."""

    port: int = 0
    allow_writes: bool = False
    sessions: int = 4
    idle_ms: int = 1_800_000
    look: Look = Look()


def serve(data_dir: str, environ: Mapping[str, str], offer: Offer, say: Callable[[str], None]) -> int:
    """Serve the monitor of the instance at ``data_dir`` until SIGTERM or ctrl+c; the exit code. ``say`` gets the lines for a person.

    UsageError: the port is taken, or what the extra ``web`` brings is not installed. ConfigError: as ``tui.run``.
    """
    from tui.preferences import preferences_of

    look = offer.look
    preferences_of(data_dir, environ).given(theme=look.theme, charts=look.charts)  # what is wrong is said here, not in each page
    try:
        from tui.web.server import Server
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("aiohttp", "textual_serve"):
            raise
        raise UsageError(f"--web: expected the extra tq[web], but {missing} is not installed. Add it: pip install 'tq[web]'") from None
    return Server(data_dir, environ, offer, say).run()
