"""Environments: of commands, each distinct one kept but once, under a key that is made of what is in it.

For: that key, and where a task's header says which environment and which input it has.
Not for: the records (tq.store.environments), running commands (shell).
Runs in: the daemon.
Promises: the same variables have the same key, in whatever order they come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgpack

from tq.model import SHELL, Header, pack

ENVIRONMENT_KEY = 16
"""Bytes of the key of an environment: a BLAKE2b hash of it packed."""


def environment_of(given: Mapping[Any, Any]) -> tuple[bytes, bytes]:
    """The key of an environment, and it packed: the same for the same variables, in whatever order they come."""
    packed = msgpack.packb(dict(sorted(given.items(), key=lambda one: pack(one[0]))), use_bin_type=True)
    return hashlib.blake2b(packed, digest_size=ENVIRONMENT_KEY).digest(), packed


def is_environment(key: bytes, packed: bytes) -> bool:
    """Whether this is the environment of that key, whole."""
    return hashlib.blake2b(packed, digest_size=ENVIRONMENT_KEY).digest() == key


def environment_key(header: Header) -> bytes | None:
    """The key of the environment that a command's task is run in; None: it has none, or (of an older tq) has it itself."""
    key = header.extras.get("env") if header.extras is not None and header.type == SHELL else None
    return key if isinstance(key, bytes) and len(key) == ENVIRONMENT_KEY else None


def input_of(header: Header) -> bytes:
    """The name of what a command reads from its standard input; empty: nothing is kept for it."""
    name = header.extras.get("stdin") if header.extras is not None else None
    return name.encode() if isinstance(name, str) else b""
