"""Text in the person's own pager, on the terminal that the monitor has left for so long.

For: ``show``.
Not for: leaving the terminal and coming back (app), which text (the screens; it is cleaned there already).
Runs in: the monitor, whose loop stands still meanwhile.
Promises: no shell is between; ctrl+c in the pager ends what the pager says and not the monitor; a pager that reads only the beginning is
no error.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping

USUAL = ("less", "more")


def command_of(environ: Mapping[str, str]) -> list[str]:
    """The pager: that of ``PAGER``, or one that is usual. ValueError: there is none, or it cannot be read."""
    if wanted := environ.get("PAGER", "").strip():
        try:
            return shlex.split(wanted)
        except ValueError as error:
            raise ValueError(f"PAGER: expected a command, got {wanted!r:.60}: {error}") from None
    found = next((name for name in USUAL if shutil.which(name, path=environ.get("PATH"))), "")
    if not found:
        raise ValueError("expected a pager: set PAGER to its command")
    return [found]


def show(text: str, command: list[str], environ: Mapping[str, str]) -> None:
    """Let the pager show ``text`` until the person leaves it. ValueError: it could not be begun."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # a handler and not "ignore", which the pager would inherit
    try:
        subprocess.run(command, input=text.encode(), env=dict(environ), check=False)
    except OSError as error:
        raise ValueError(f"{command[0]}: {error.strerror}. PAGER says which pager is taken.") from None
    finally:
        signal.signal(signal.SIGINT, before)
