"""``tq monitor`` and ``tq top``: the door to the full-screen dashboard.

For: taking the options there, and printing the statistics where there is no screen.
Not for: the dashboard itself (tui), which is imported here when it is asked for, and nowhere else.
Runs in: the ``tq`` command.
Promises: options that make no sense are refused before the screen is taken; a pipe gets what ``tq stats`` prints.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tq.cli import hot
from tq.client import Client
from tq.errors import UsageError

CHARTS = ("block", "braille", "ascii")


def monitor(client: Client, values: dict[str, Any]) -> int:
    theme, charts = values["theme"], values["charts"]
    if charts is not None and charts not in CHARTS:
        raise UsageError(f"--charts: expected {', '.join(CHARTS[:-1])} or {CHARTS[-1]}, got {charts!r}. See `tq monitor --help`.")
    if theme is not None:
        from tui.themes import names

        if theme not in names():
            raise UsageError(f"--theme: expected one of {', '.join(names())}, got {theme!r}. See `tq monitor --help`.")
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        return hot.stats(client.call, {})
    from tui import run

    return run(
        client.data_dir, os.environ, read_only=values["read_only"], ascii=values["ascii"], color=not values["no_color"],
        mouse=not values["no_mouse"], reduce_motion=values["reduce_motion"], theme=theme, charts=charts,
    )  # fmt: skip


top = monitor
