"""What the process of a page is started with; the rest of a session is tested behind its server."""

from __future__ import annotations

from tui.web.session import environment


def test_the_process_has_the_servers_environment_but_not_its_terminal_or_desktop() -> None:
    given = {
        "HOME": "/h", "PATH": "/bin", "DATABASE_URL": "x", "TZ": "UTC", "NO_COLOR": "1", "TERM": "dumb", "TMUX": "/tmp/t", "DISPLAY": ":0",
        "WAYLAND_DISPLAY": "w", "COLUMNS": "7", "TEXTUAL": "devtools", "TEXTUAL_LOG": "f", "TERM_PROGRAM": "x", "COLORTERM": "x",
    }  # fmt: skip
    found = environment(given, 142, 31)
    kept = {"HOME": "/h", "PATH": "/bin", "DATABASE_URL": "x", "TZ": "UTC", "NO_COLOR": "1"}
    assert kept.items() <= found.items()
    assert {name: found[name] for name in found.keys() - kept.keys()} == {
        "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver", "TEXTUAL_COLOR_SYSTEM": "truecolor", "TEXTUAL_FPS": "20",
        "TERM": "xterm-256color", "COLUMNS": "142", "ROWS": "31",
    }  # fmt: skip
