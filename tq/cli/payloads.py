"""Payloads from words: JSON text, files, standard input.

For: what ``--payload`` and a line of a batch stand for.
Not for: what the other options mean (options).
Runs in: the ``tq`` command; imports no more than its hot verbs may.
Promises: JSON text becomes the bytes that the Python client would send for the same value; what is wrong is a UsageError that
names the option and the place.
"""

from __future__ import annotations

import sys

from tq import wire
from tq.cli.options import refuse
from tq.errors import PayloadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def source(flag: str, word: str) -> str:
    """The text that a word stands for: ``@FILE``, ``-`` (standard input), or the word itself."""
    try:
        if word == "-":
            return sys.stdin.buffer.read().decode()
        if not word.startswith("@"):
            return word
        with open(word[1:], "rb") as file:
            return file.read().decode()
    except OSError as error:
        refuse(flag, f"expected a file that can be read, got {word[1:]!r}: {error.strerror}")
    except UnicodeDecodeError as error:
        refuse(flag, f"expected UTF-8, got byte {error.object[error.start]:#04x} at {error.start}")


class _Scanning:
    """What the C scanner behind ``json.loads`` asks of its decoder. ``json`` itself costs most of an interpreter start."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012

    @staticmethod
    def parse_constant(word: str) -> object:
        raise ValueError(f"expected a number, got {word}")

    @staticmethod
    def parse_float(word: str) -> float:
        value = float(word)
        if value - value != 0.0:
            raise ValueError(f"expected a number of at most 1.8e308, got {word}")
        return value


def json_value(flag: str, text: str) -> Any:
    """The value of a JSON text; UsageError says where it is wrong."""
    try:
        from _json import make_scanner

        stripped = text.strip(" \t\r\n")
        value, end = make_scanner(_Scanning)(stripped, 0)  # type: ignore[arg-type]
        if end == len(stripped):
            return value
    except (ImportError, StopIteration, ValueError, AttributeError, TypeError, RecursionError, SystemError):
        pass  # SystemError: it looks for json's own exception, which is not loaded
    import json  # the scanner is private to the standard library: whatever it says, this one decides

    try:
        return json.loads(text, parse_constant=_Scanning.parse_constant, parse_float=_Scanning.parse_float)
    except json.JSONDecodeError as error:
        refuse(flag, f"expected JSON, got {text[:80]!r}: {error.msg} at line {error.lineno} column {error.colno}")
    except ValueError as error:
        refuse(flag, f"expected JSON: {error}")
    except RecursionError:
        raise PayloadError(f"{flag}: expected JSON of at most 500 levels, got deeper one. Send a path to the data instead.") from None


def packed(value: object) -> bytes:
    """A JSON value as a payload."""
    try:
        return b"" if value is None else wire.pack(value)
    except (ValueError, OverflowError, RecursionError):
        from tq.client.core import encode

        return encode(value)  # raises with the path of what does not fit
