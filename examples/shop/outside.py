"""The services outside the shop: where they are, and how they are asked.

The addresses come from the environment of the daemon, which its workers inherit.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

import tq

BANK, SMS, MAIL = "SHOP_BANK", "SHOP_SMS", "SHOP_MAIL"


class Unavailable(Exception):
    """The service is there, or will be, but not now: worth another attempt."""


def address(service: str) -> str:
    """Where a service is; a shop that was not told cannot work, now or later."""
    found = os.environ.get(service)
    if not found:
        raise tq.Permanent(f"expected the address of a service in the variable {service}, got none. Start the daemon with it.")
    return found


def post(service: str, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """POST to a service and give its answer. ``key`` is the same in every attempt: the service does it once."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(address(service) + path, json.dumps(body).encode(), headers)  # noqa: S310 - our own services
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            words = f"{service} {path}: {error.code} {error.reason}"
        if error.code >= 500:
            raise Unavailable(words) from None
        raise tq.Permanent(words) from None
    except OSError as error:
        raise Unavailable(f"{service} {path}: {error}") from None
