"""``tq monitor`` and ``tq top``: the door to the full-screen dashboard.

For: taking the options there, to a terminal or to browsers, and printing the statistics where there is no screen.
Not for: the dashboard itself (tui), which is imported here when it is asked for, and nowhere else.
Runs in: the ``tq`` command.
Promises: options that make no sense are refused before the screen is taken; a pipe gets what ``tq stats`` prints; ``--demo`` asks no
daemon but its own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tq.cli import hot
from tq.cli.options import duration, refuse, whole
from tq.client import Client
from tq.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tui.web import Offer

CHARTS = ("block", "braille", "ascii")


def monitor(client: Client, values: dict[str, Any]) -> int:
    theme, charts = values["theme"], values["charts"]
    if charts is not None and charts not in CHARTS:
        raise UsageError(f"--charts: expected {', '.join(CHARTS[:-1])} or {CHARTS[-1]}, got {charts!r}. See `tq monitor --help`.")
    if theme is not None:
        from tui.themes import names

        if theme not in names():
            raise UsageError(f"--theme: expected one of {', '.join(names())}, got {theme!r}. See `tq monitor --help`.")
    offer = _offer(values)
    if not values["web"]:
        for option in ("port", "allow_writes", "sessions", "idle"):
            if values[option] not in (None, False):
                refuse(f"--{option.replace('_', '-')}", "expected --web beside it")
    on_a_screen = sys.stdout.isatty() and sys.stdin.isatty()
    if values["demo"]:
        if not (on_a_screen or values["web"]):
            raise UsageError("--demo: expected a terminal to show it on, got none. `tq demo` prints what it does.")
        from tq.demo.busy import beside

        with beside() as data_dir:
            return _show(data_dir, values, offer)
    return _show(client.data_dir, values, offer) if on_a_screen or values["web"] else hot.stats(client.call, {})


def _show(data_dir: str, values: dict[str, Any], offer: Offer) -> int:
    if values["web"]:
        from tui.web import serve

        return serve(data_dir, os.environ, offer, _say)
    from tui import run

    return run(
        data_dir, os.environ, read_only=values["read_only"], ascii=values["ascii"], color=not values["no_color"],
        mouse=not values["no_mouse"], reduce_motion=values["reduce_motion"], theme=values["theme"], charts=values["charts"],
        demo=values["demo"],
    )  # fmt: skip


def _offer(values: dict[str, Any]) -> Offer:
    """What is served with ``--web``."""
    from tui.web import MOST_SESSIONS, Look, Offer

    if values["read_only"] and values["allow_writes"]:
        raise UsageError("expected either --read-only or --allow-writes, got both. With --web the first is the default.")
    usual = Offer()
    port = usual.port if values["port"] is None else whole("--port", values["port"])
    sessions = usual.sessions if values["sessions"] is None else whole("--sessions", values["sessions"])
    idle_ms = usual.idle_ms if values["idle"] is None else duration("--idle", values["idle"])
    if port > 65_535:
        refuse("--port", f"expected a number up to 65535, got {port}")
    if not 0 < sessions <= MOST_SESSIONS:
        refuse("--sessions", f"expected a number from 1 to {MOST_SESSIONS}, got {sessions}")
    if idle_ms <= 0:
        refuse("--idle", f"expected a time such as 30m, got {values['idle']!r}")
    look = Look(
        theme=values["theme"], charts=values["charts"], ascii=values["ascii"], color=not values["no_color"],
        mouse=not values["no_mouse"], reduce_motion=values["reduce_motion"], demo=values["demo"],
    )  # fmt: skip
    return Offer(port=port, allow_writes=values["allow_writes"], sessions=sessions, idle_ms=idle_ms, look=look)


def _say(line: str) -> None:
    """A line for the person, or the script, that waits for it."""
    hot.put(line)
    sys.stdout.flush()


top = monitor
