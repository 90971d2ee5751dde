"""What browsers get: the page, what it is made of, and the headers that bind it.

For: ``monitor_page``, ``notice`` and ``FILES``, the whole of what can be fetched, and ``headers``.
Not for: who may fetch it (gate).
Runs in: the server; without it in tests.
Promises: a page names nothing outside of the server, and the policy that it is sent with lets the browser fetch nothing else; only the
files of this table exist, so no path leads anywhere; no text from outside is put into a page but a host that the gate has checked.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple


class File(NamedTuple):
    """A file below ``/static/``: the package that has it, its place there, and what it is."""

    package: str
    path: str
    kind: str

    def read(self) -> bytes:
        return files(self.package).joinpath(self.path).read_bytes()


FILES = {
    "textual.js": File("textual_serve", "static/js/textual.js", "text/javascript; charset=utf-8"),
    "xterm.css": File("textual_serve", "static/css/xterm.css", "text/css; charset=utf-8"),
    "mono.ttf": File("textual_serve", "static/fonts/RobotoMono-VariableFont_wght.ttf", "font/ttf"),
    "page.js": File("tui.web", "page.js", "text/javascript; charset=utf-8"),
    "page.css": File("tui.web", "page.css", "text/css; charset=utf-8"),
    "icon.svg": File("tui.web", "icon.svg", "image/svg+xml"),
}


def monitor_page(host: str) -> str:
    """The page with the terminal; ``host`` is where its WebSocket goes, as the browser names this server."""
    # The words in it are set in the terminal's font, so that the browser has it before the script measures a letter. The end of a
    # session leaves the last picture in sight, with a line below it.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>tq monitor</title>
<link rel="icon" href="/static/icon.svg">
<link rel="preload" href="/static/mono.ttf" as="font" type="font/ttf" crossorigin>
<link rel="stylesheet" href="/static/xterm.css">
<link rel="stylesheet" href="/static/page.css">
<script src="/static/textual.js"></script>
<script src="/static/page.js"></script>
</head>
<body>
<div class="textual-terminal" data-session-websocket-url="ws://{host}/ws" data-font-size="16"></div>
<p class="wait">The monitor is starting <b>...</b></p>
<p class="over">This page is no longer connected. <a href="/">Connect again</a></p>
</body>
</html>
"""


def notice(words: str, *, onward: bool = False) -> str:
    """A page of one sentence, which is ours; ``onward``: it leads to the monitor at once."""
    # Not a redirect: a browser that followed a link of another site would send no SameSite=Strict cookie after one.
    goes = '<meta http-equiv="refresh" content="0; url=/">\n' if onward else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>tq monitor</title>
<link rel="icon" href="/static/icon.svg">
{goes}</head>
<body style="margin: 20vh 10vw; background: #000; color: #ddd; font: 18px monospace; text-align: center">
<p>{words}</p>
</body>
</html>
"""


def headers(host: str) -> dict[str, str]:
    """What every answer carries. ``host`` must be checked: it stands in the policy, since not every browser counts ws: as 'self'."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",  # the terminal sets the sizes of its cells in a style element
        "font-src": "'self'",
        "img-src": "'self'",
        "connect-src": f"'self' ws://{host}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Server": "tq",
    }
