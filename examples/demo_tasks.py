"""The handlers of `tq demo` and `tq monitor --demo`: plain functions that the worker processes run.

For: showing what a handler looks like; the demos run exactly these. Mail, payments and reports are played: nothing leaves the machine.
Not for: anything that needs more than the standard library and tq.
Runs in: the worker processes of a daemon started with `--app examples/demo_tasks.py`.
Promises: each can run twice with the same outcome, since a task runs at least once, not exactly once.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import tq


@tq.task("hash", timeout="30s")
def hash_file(path: str) -> dict[str, Any]:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "bytes": file.tell()}


@tq.task("gzip", timeout="30s")
def gzip_file(path: str, into: str) -> dict[str, Any]:
    """Pack a file; the packed one appears under its name only when it is whole."""
    data = Path(path).read_bytes()
    target = Path(into) / f"{Path(path).name}.gz"
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_bytes(gzip.compress(data, mtime=0))
    part.replace(target)
    return {"bytes": len(data), "packed": target.stat().st_size}


@tq.task("words", queue="text", timeout="30s")
def count_words(path: str) -> dict[str, Any]:
    """How many words a text has, and which it likes best."""
    words = Counter(re.findall(r"[A-Za-z_]{3,}", Path(path).read_text("utf-8", "replace")))
    return {"words": words.total(), "most": [list(pair) for pair in words.most_common(3)]}


@tq.task("fetch", queue="web", timeout="10s")
def fetch_page(url: str) -> dict[str, Any]:
    """Get a page over HTTP."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"expected an http address, got {url!r}")
    print(f"fetching {url}")  # what a task prints is kept: `tq log ID` shows it
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - checked above
        body = answer.read()
        return {"status": answer.status, "bytes": len(body)}


@tq.task("order", queue="shop")
def total_of_order(amounts: list[str]) -> int:
    """Add up an order; one that holds something else than numbers fails, and its error says which."""
    try:
        return sum(int(amount) for amount in amounts)
    except ValueError as error:
        raise ValueError(f"an order of {len(amounts)} amounts cannot be added up") from error


@tq.task("mail", queue="mail", timeout="30s", retries=2)
def send_mail(to: str, seconds: float) -> str:
    """Play the sending of a mail, which takes so many seconds; there is nobody called nobody."""
    print(f"to {to}")
    time.sleep(seconds)
    if to.startswith("nobody@"):
        raise tq.Permanent(f"{to}: no such mailbox")
    return f"{to}: accepted"


@tq.task("charge", queue="shop", timeout="30s")
def charge_order(order: int, answers_at: int) -> dict[str, int]:
    """Play a payment by a bank that answers at the attempt ``answers_at``; until then each one fails and is tried again."""
    attempt = tq.current().attempt
    time.sleep(0.1)
    if attempt < answers_at:
        raise ConnectionError(f"the bank did not answer in time (attempt {attempt})")
    return {"order": order, "attempts": attempt}


@tq.task("report", queue="reports", timeout="5m")
def build_report(pages: int, seconds: float) -> dict[str, int]:
    """Play the making of a report, page by page; how far it is can be watched, and what it prints followed."""
    for page in range(1, pages + 1):
        print(f"page {page} of {pages}")
        time.sleep(seconds / pages)
        tq.current().progress(page / pages, f"page {page} of {pages}")
    return {"pages": pages}
