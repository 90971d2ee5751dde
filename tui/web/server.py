"""The server: three addresses on 127.0.0.1, each behind the gate.

For: ``Server``: listening, letting in, handing out pages and sessions, and ending all of them with itself.
Not for: the rules of letting in (gate), what pages are made of (page), what goes on in one (session).
Runs in: the process of ``tq monitor --web``, on the main thread's loop.
Promises: nothing is answered before the gate was asked; no more processes of pages than offered; what a browser asks for is kept in no log;
after ``run`` neither the port nor a process of a page is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache

from aiohttp import WSCloseCode, web

from tq.errors import UsageError
from tui.web import Offer
from tui.web.child import command
from tui.web.gate import Gate, known_host, same_origin
from tui.web.messages import MOST_BYTES, window
from tui.web.page import FILES, headers, monitor_page, notice
from tui.web.session import GRACE_S, Session, part_with

ADDRESS = "127.0.0.1"
HEARTBEAT_S = 15.0
"""A page that has not answered for one and a half of these is gone."""
CLOSING_S = 1.0
ROOM_S = GRACE_S + CLOSING_S
"""How long a page waits for room: one that is loaded anew comes while the process of the one before it ends."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _refused(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=notice(words), content_type="text/html")


@lru_cache
def _content(name: str) -> bytes:
    return FILES[name].read()


class Server:
    """Serves the monitor of the instance at ``data_dir``; ``say`` gets the lines for the person who started it."""

    def __init__(self, data_dir: str, environ: Mapping[str, str], offer: Offer, say: Callable[[str], None]) -> None:
        self.offer, self.gate = offer, Gate()
        self.port = offer.port
        self._environ, self._say, self._data_dir = environ, say, data_dir
        self._argv = command(data_dir, offer.look, read_only=not offer.allow_writes)
        self._sockets: set[web.WebSocketResponse] = set()
        self._room = asyncio.Semaphore(offer.sessions)

    def run(self) -> int:
        """Serve until SIGTERM or ctrl+c; the exit code. UsageError: the port cannot be had."""
        asyncio.run(self._serve())
        return 0

    async def _serve(self) -> None:
        over = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, over.set)
        runner = web.AppRunner(self.application(), access_log=None, handle_signals=False, shutdown_timeout=GRACE_S + 2 * CLOSING_S)
        await runner.setup()
        try:
            site = web.TCPSite(runner, ADDRESS, self.offer.port)
            try:
                await site.start()
            except OSError as error:
                taken = os.strerror(error.errno).lower() if error.errno else str(error)
                raise UsageError(
                    f"--port: expected a port that can be had on {ADDRESS}, got {self.offer.port} ({taken}). Name another, or leave it out."
                ) from None
            self.port = runner.addresses[0][1]
            self._greet()
            await over.wait()
        finally:
            await runner.cleanup()

    def _greet(self) -> None:
        role = "which may change everything" if self.offer.allow_writes else "read-only"
        self._say(f"The monitor of {self._data_dir}, {role}; ctrl+c ends it. Open it in a browser on this machine:")
        self._say(self.gate.url(self.port))

    def application(self) -> web.Application:
        """The routes behind the gate, without a socket."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page, allow_head=False)
        app.router.add_get("/static/{name}", self._file, allow_head=False)
        app.router.add_get("/ws", self._websocket, allow_head=False)
        app.on_response_prepare.append(self._bind)
        app.on_shutdown.append(self._close_all)
        return app

    # the gate

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not known_host(hosts[0]):
            return _refused(403, "This server answers to the names of its own machine only.")
        origin = request.headers.get("Origin")
        if (origin is not None or request.path == "/ws") and not same_origin(hosts[0], origin):
            return _refused(403, "This was asked for by a page of another site.")
        if request.path == "/" and request.method == "GET" and "token" in request.query:
            return self._exchange(request.query["token"])
        if not self.gate.holds(request.cookies.get(self.gate.cookie_name)):
            return _refused(403, "Open the address that tq monitor --web has printed last.")
        return await handler(request)

    def _exchange(self, token: str) -> web.Response:
        cookie = self.gate.let_in(token)
        if cookie is None:
            return _refused(403, "This address was used already, or never valid. tq monitor --web has printed the one that is.")
        with suppress(OSError):  # whoever reads what is printed may have gone; who holds the token is let in all the same
            self._say(f"A browser was let in. For another one: {self.gate.url(self.port)}")
        answer = web.Response(text=notice("You are let in.", onward=True), content_type="text/html")
        answer.set_cookie(self.gate.cookie_name, cookie, httponly=True, samesite="Strict", path="/")
        return answer

    async def _bind(self, request: web.Request, response: web.StreamResponse) -> None:
        host = request.headers.get("Host", "")
        response.headers.update(headers(host if known_host(host) else ADDRESS))

    # what is there

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=monitor_page(request.host), content_type="text/html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in FILES:
            return _refused(404, "There is no such file.")
        return web.Response(body=_content(name), headers={"Content-Type": FILES[name].kind})

    # sessions

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, timeout=CLOSING_S, max_msg_size=MOST_BYTES, compress=False)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            async with asyncio.timeout(ROOM_S):
                await self._room.acquire()
        except TimeoutError:
            await part_with(socket, f"No more than {self.offer.sessions} pages are served at a time. Close another, and connect again.")
            return socket
        else:
            try:
                await self._session(socket, *window(request.query))
            finally:
                self._room.release()
            return socket
        finally:
            self._sockets.discard(socket)

    async def _session(self, socket: web.WebSocketResponse, width: int, height: int) -> None:
        session = Session(self._argv, self._environ, socket)
        try:
            await session.open(width, height)
            await session.attend(self.offer.idle_ms / 1000)
        finally:
            await session.end()

    async def _close_all(self, _: web.Application) -> None:
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._sockets), return_exceptions=True)
