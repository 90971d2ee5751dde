"""The outside world on the loopback interface: a mail server, an SMS gateway, and a bank that is away now and then.

They are real servers, which really receive what the tasks send, and keep it to be looked at.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

AWAY = {"order-3": 2}
"""The bank is away for the first so many requests with this key."""


@dataclass
class World:
    """What has arrived. ``asked`` has the key and the answer of each request to the bank."""

    mails: list[EmailMessage] = field(default_factory=list)
    messages: list[dict[str, str]] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    receipts: dict[str, str] = field(default_factory=dict)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """A mail has come."""
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        self.mails.append(message_from_bytes(content, policy=policy.default))
        return "250 OK"

    def answer(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """What the SMS gateway (/messages) and the bank (/charges, /refunds) answer: status and body."""
        if path == "/messages":
            self.messages.append(body)
            return 200, {"id": f"sms-{len(self.messages)}"}
        status = 503 if sum(known == key for known, _ in self.asked) < AWAY.get(key, 0) else 200
        self.asked.append((key, status))
        if status == 503:
            return status, {}
        return status, {"receipt": self.receipts.setdefault(key, f"R{len(self.receipts) + 1:03}")}  # a key is charged once


@contextmanager
def http_server(world: World) -> Iterator[str]:
    """An HTTP server for the bank and the SMS gateway; its address."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = world.answer(self.path, self.headers["Idempotency-Key"], body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def smtp_server(handler: object) -> Iterator[str]:
    """An SMTP server; its address as host:port. ``handler`` is what aiosmtpd calls one: ``handle_DATA`` and its like."""
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(lambda: SMTP(handler, hostname="localhost", loop=loop), "127.0.0.1", 0)
        started.set_result((server.sockets[0].getsockname()[1], loop, stop))
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    port, loop, stop = started.result(10)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
