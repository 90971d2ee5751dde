"""Who is let in: the token that is printed once, the cookie that it is exchanged for, and where a request may come from.

For: ``Gate``, asked before anything else about each request.
Not for: HTTP (server), what a page that was let in may send (messages).
Runs in: the server; without it in tests.
Promises: a token lets in one browser, once; secrets are compared in constant time and come from the system's source of chance;
a request that names another host than this machine, or was made by a page of another one, is refused whatever it brings.

Why all three: any page that is open in a person's browser can reach a port of 127.0.0.1, and a WebSocket is bound by no same-origin
policy (so the origin must be this page's own); a name that somebody else owns can be made to point here (so the host must be a name
of this machine); and every user of this machine can connect (so a secret must be brought).
"""

from __future__ import annotations

import hmac
import os
import re
from collections import deque
from urllib.parse import quote

HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
"""Any port: behind ``ssh -L`` the browser sees another one than the server."""
SECRET_BYTES = 32
MOST_BROWSERS = 64
"""Who was let in first is forgotten when more come."""


def known_host(host: str | None) -> bool:
    """Whether a request's ``Host`` names this machine."""
    return host is not None and HOST.fullmatch(host) is not None


def same_origin(host: str, origin: str | None) -> bool:
    """Whether a page of this server made the request: its ``Origin`` is the host that it was sent to."""
    return origin is not None and origin.lower() == f"http://{host.lower()}"


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


class Gate:
    """The secrets of one server. ``token`` is the one that the next browser has to bring."""

    def __init__(self) -> None:
        self.token = _secret()
        self.cookie_name = f"tq-{os.urandom(4).hex()}"
        """Another for each server: a browser tells ports of a host apart no more than machines behind them."""
        self._let_in: deque[str] = deque(maxlen=MOST_BROWSERS)

    def let_in(self, token: str) -> str | None:
        """The cookie for a browser that brings the token, which is another one from then on; None for any other."""
        if not _equal(token, self.token):
            return None
        self.token = _secret()
        self._let_in.append(_secret())
        return self._let_in[-1]

    def holds(self, cookie: str | None) -> bool:
        """Whether this is the cookie of a browser that was let in."""
        return cookie is not None and sum(_equal(cookie, one) for one in self._let_in) > 0  # all are looked at

    def url(self, port: int) -> str:
        """What a person opens."""
        return f"http://127.0.0.1:{port}/?token={quote(self.token)}"


def _secret() -> str:
    return os.urandom(SECRET_BYTES).hex()
