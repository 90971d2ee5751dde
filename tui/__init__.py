"""The monitor: a full-screen dashboard for people on call, ``tq monitor``.

For: watching and steering one instance from a terminal, or from a browser (``web``).
Not for: programs and scripts (``tq stats --json``, the client); nothing outside of this package imports its rooms.
Runs in: the process of ``tq monitor``; importing this package alone loads nothing of the screen.
Promises: what tasks say is cleaned once, where it enters (``state``); a daemon that goes away ends or blanks nothing.

Without a screen: ``clock feed state refresh actions command formats charts paging eventlog memory`` and ``keymap``. On it:
``terminal``, ``app``, the ``screens`` and the ``widgets`` that they are made of.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping


def run(
    data_dir: str,
    environ: MutableMapping[str, str],
    *,
    read_only: bool = False,
    ascii: bool = False,  # noqa: A002 - as its option is called
    color: bool = True,
    mouse: bool = True,
    reduce_motion: bool = False,
    theme: str | None = None,
    charts: str | None = None,
    demo: bool = False,
) -> int:
    """Show the monitor of the instance at ``data_dir`` until a person leaves it; the exit code. ``environ`` is this process's own.

    ``demo``: it is said on every screen that the instance is one.

    ConfigError: ``tq.toml`` or an option says what cannot be meant.
    """
    from tui.preferences import preferences_of

    given = {"read_only": read_only, "ascii": ascii, "reduce_motion": reduce_motion}
    wanted = preferences_of(data_dir, environ).given(
        theme=theme, charts=charts, mouse=None if mouse else False, **{name: True for name, value in given.items() if value}
    )
    if not color:
        environ["NO_COLOR"] = "1"
    if "TEXTUAL_DRIVER" not in environ:  # the size is the terminal's own, also after it changed; for a browser they say the first one
        for name in ("COLUMNS", "LINES"):
            environ.pop(name, None)
    environ.setdefault("TEXTUAL_FPS", "30")  # read when textual is imported; it halves the worst case of scrolling
    from tui.app import MonitorApp
    from tui.memory import Memory, path_of

    app = MonitorApp(
        data_dir, wanted, memory=Memory(path_of(data_dir, environ) if wanted.remember and not demo else None), environ=environ, demo=demo
    )
    try:
        code = app.run(mouse=wanted.mouse)
    finally:
        app.memory.save()
    return app.return_code or 0 if code is None else code
