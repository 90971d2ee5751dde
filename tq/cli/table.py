"""What a command and an option are, for the one table of them.

For: ``Option``, ``Command`` and the option that every command has.
Not for: which there are, and what their values mean (options).
Runs in: the ``tq`` command; imports nothing.
Promises: holds what it was given; a command has ``--data-dir`` first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Option:
    """``kind``: text (one value), many (repeatable), flag (present or not), switch (--x, --no-x or neither)."""

    __slots__ = ("flags", "help", "key", "kind")

    def __init__(self, flags: str, help: str, kind: str = "text", key: str = "") -> None:  # noqa: A002
        self.flags = flags.split()
        self.help, self.kind = help, kind
        self.key = key or self.flags[0][2:].replace("-", "_")


class Command:
    """``argument``: the name of what stands after the options; ``takes``: none, one, optional, any (none or more), some, rest,
    or named (one, and behind -- a command)."""

    __slots__ = ("argument", "help", "options", "takes")

    def __init__(self, help: str, argument: str = "", takes: str = "none", options: Iterable[Option] = ()) -> None:  # noqa: A002
        self.help, self.argument, self.takes = help, argument, takes
        self.options = (DATA_DIR, *options)


DATA_DIR = Option("--data-dir", "The directory of the instance (default: TQ_DATA_DIR, else the user's own).")
