"""The server behind its gate, with a process that speaks as Textual's driver for the web does in the place of the monitor."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientWebSocketResponse, CookieJar, WSCloseCode, WSMsgType, WSServerHandshakeError, web

from tui.web import Offer, server, session
from tui.web.messages import MOST_BYTES
from tui.web.server import Server

pytestmark = pytest.mark.asyncio

ECHO = r"""
import os, sys
def put(kind, body): os.write(1, kind + len(body).to_bytes(4, "big") + body)
os.write(1, b"__GANGLION__\n")
put(b"D", ("%s %sx%s" % (os.getpid(), os.environ["COLUMNS"], os.environ["ROWS"])).encode())
while head := sys.stdin.buffer.read(5):
    body = sys.stdin.buffer.read(int.from_bytes(head[1:], "big"))
    if b"quit" in body:
        break
    put(b"D", head[:1] + b" " + body)
    if body == b"q":
        put(b"M", b'{"type": "exit"}')
        break
"""
DEAF = ECHO.replace("import os, sys", "import os, signal, sys\nsignal.signal(15, signal.SIG_IGN)").replace('b"quit" in body', "False")
FAILS = r"import sys; sys.stderr.write('x' * 9000 + 'it \x1b]0;failed\x07'); sys.exit(1)"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Served:
    """A server on a port of its own, and a browser without a screen: ``base`` is where it is."""

    def __init__(self, server: Server, base: str, said: list[str]) -> None:
        self.server, self.base, self.said = server, base, said
        self.browser = ClientSession(cookie_jar=CookieJar(unsafe=True))

    async def get(self, path: str = "/", **headers: str) -> tuple[int, str]:
        async with self.browser.get(self.base + path, headers=headers) as answer:
            self.headers = answer.headers
            return answer.status, await answer.text("utf-8", "replace")

    async def enter(self) -> None:
        assert (await self.get(f"/?token={self.server.gate.token}"))[0] == 200

    async def open(self, path: str = "/ws", **headers: str) -> ClientWebSocketResponse:
        return await self.browser.ws_connect(self.base + path, headers={"Origin": self.base, **headers})

    async def refused(self, path: str = "/ws", **headers: str) -> int:
        with pytest.raises(WSServerHandshakeError) as caught:
            await self.open(path, **headers)
        return caught.value.status

    async def gone(self, pid: int) -> bool:
        """Whether the session is over and its process with it."""
        await until(lambda: not self.server._sockets)
        return not psutil.pid_exists(pid)


Serve = Callable[..., Awaitable[Served]]


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Serve]:
    """``await served(code, **offer)``: the pages run this Python."""
    runners: list[web.AppRunner] = []
    opened: list[Served] = []

    async def start(code: str = ECHO, **offer: Any) -> Served:
        said: list[str] = []
        made = Server("/no/instance", {"PATH": "/bin"}, Offer(**offer), said.append)
        made._argv = [sys.executable, "-S", "-E", "-c", code]
        runner = web.AppRunner(made.application(), access_log=None, shutdown_timeout=5)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.port = runner.addresses[0][1]
        opened.append(Served(made, f"http://127.0.0.1:{made.port}", said))
        return opened[-1]

    yield start
    for one in opened:
        await one.browser.close()
    for runner in runners:
        await runner.cleanup()


async def first(socket: ClientWebSocketResponse) -> tuple[int, str]:
    """The process of a page, and the size that it was told."""
    pid, size = (await socket.receive_bytes(timeout=20)).decode().split()
    return int(pid), size


async def test_a_token_is_good_for_one_browser_and_nothing_is_had_without_it(served: Serve) -> None:
    one = await served()
    paths = ["/", "/static/textual.js", "/static/page.css", "/nowhere"]
    for path in paths:
        assert (await one.get(path))[0] == 403, path
    assert await one.refused() == 403
    token = one.server.gate.token
    assert (await one.get("/?token=wrong"))[0] == 403
    status, text = await one.get(f"/?token={token}")
    assert status == 200
    assert 'http-equiv="refresh"' in text
    (cookie,) = one.headers.getall("Set-Cookie")
    assert cookie.startswith(one.server.gate.cookie_name)
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    status, page = await one.get()
    assert status == 200
    assert f"ws://127.0.0.1:{one.server.port}/ws" in page
    async with ClientSession() as other:
        async with other.get(f"{one.base}/?token={token}") as used:
            assert used.status == 403
            assert "used already" in await used.text()
        async with other.get(f"{one.base}/?token={one.server.gate.token}") as fresh:
            assert fresh.status == 200
    assert [line.rpartition("token=")[0] for line in one.said] == [f"A browser was let in. For another one: {one.base}/?"] * 2
    assert one.said[-1].endswith(one.server.gate.token)


async def test_a_browser_is_let_in_though_nobody_reads_what_is_printed_any_more(served: Serve) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError

    one = await served()
    one.server._say = gone
    await one.enter()
    assert (await one.get())[0] == 200


async def test_other_hosts_other_origins_and_other_paths_get_nothing_even_with_the_cookie(served: Serve) -> None:
    one = await served()
    await one.enter()
    for host in ("evil.example", f"evil.example:{one.server.port}", ""):
        assert (await one.get(Host=host))[0] == 403, host
        assert (await one.get(f"/?token={one.server.gate.token}", Host=host))[0] == 403
        assert await one.refused(Host=host, Origin=f"http://{host}") == 403
    for origin in ("http://evil.example", "null", f"http://localhost:{one.server.port}", f"https://127.0.0.1:{one.server.port}"):
        assert await one.refused(Origin=origin) == 403, origin
        assert (await one.get(Origin=origin))[0] == 403, origin
    assert (await one.get("/ws"))[0] == 403
    for path in ("/static/", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static/../server.py", "/static//etc/passwd",
                 "/static/js/textual.js", "/static/page.css%00", "/download/x", "/etc/passwd"):  # fmt: skip
        status, text = await one.get(path)
        assert status == 404, path
        assert "root:" not in text
    async with one.browser.post(one.base) as posted:
        assert posted.status == 405
    assert not one.server._sockets


async def test_behind_a_forwarded_port_the_page_leads_to_where_the_browser_is(served: Serve) -> None:
    one = await served()
    await one.enter()
    status, page = await one.get(Host="localhost:9000")
    assert status == 200
    assert "ws://localhost:9000/ws" in page
    assert "connect-src 'self' ws://localhost:9000;" in one.headers["Content-Security-Policy"]
    assert one.headers["Server"] == "tq"
    socket = await one.open(Host="localhost:9000", Origin="http://localhost:9000")
    await first(socket)
    await socket.close()


async def test_keys_sizes_and_focus_go_to_the_process_and_what_it_draws_comes_back(served: Serve) -> None:
    one = await served()
    await one.enter()
    socket = await one.open("/ws?width=142&height=31")
    pid, size = await first(socket)
    assert size == "142x31"
    await socket.send_json(["stdin", "j\x1b[A\ud800"])
    assert await socket.receive_bytes() == b"D j\x1b[A?"
    await socket.send_json(["resize", {"width": 90, "height": 10**9}])
    assert await socket.receive_bytes() == b'M {"type": "resize", "width": 90, "height": 300}'
    await socket.send_json(["focus"])
    assert await socket.receive_bytes() == b'M {"type": "focus"}'
    await socket.send_json(["ping", "17"])
    assert await socket.receive_json() == ["pong", "17"]
    await socket.send_json(["stdin", "q"])
    assert await socket.receive_bytes() == b"D q"
    assert (await socket.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
    assert await one.gone(pid)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ('["quit"]', WSCloseCode.POLICY_VIOLATION),
        ("\x00", WSCloseCode.POLICY_VIOLATION),
        ("x" * (MOST_BYTES + 1), WSCloseCode.MESSAGE_TOO_BIG),
    ],
    ids=["not ours", "no JSON", "too long"],
)
async def test_what_no_page_of_ours_sends_ends_the_session(served: Serve, sent: str, code: int) -> None:
    one = await served()
    await one.enter()
    socket = await one.open()
    pid, _ = await first(socket)
    await socket.send_str(sent)
    assert (await socket.receive()).type is WSMsgType.CLOSE
    assert socket.close_code == code
    assert await one.gone(pid)


async def test_no_more_pages_than_offered_are_open_and_one_too_many_is_told_so(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ROOM_S", 0.1)
    one = await served(sessions=2)
    await one.enter()
    sockets = [await one.open(), await one.open()]
    pids = [(await first(socket))[0] for socket in sockets]
    third = await one.open()
    assert "No more than 2 pages are served at a time." in (await third.receive_bytes(timeout=20)).decode()
    assert (await third.receive()).type is WSMsgType.CLOSE
    await sockets[0].close()
    await until(lambda: len(one.server._sockets) == 1)
    assert not psutil.pid_exists(pids[0])
    assert psutil.pid_exists(pids[1])
    assert (await first(await one.open()))[0] not in pids


async def test_a_page_that_is_loaded_anew_takes_the_place_of_itself(served: Serve) -> None:
    one = await served(sessions=1)
    await one.enter()
    socket = await one.open()
    pid, _ = await first(socket)
    again = await one.open()
    await socket.close()
    other, _ = await first(again)
    assert other != pid
    assert not psutil.pid_exists(pid)


async def test_a_page_that_nobody_uses_is_told_so_and_disconnected_and_its_process_ends(served: Serve) -> None:
    one = await served(idle_ms=400)
    await one.enter()
    socket = await one.open()
    pid, _ = await first(socket)
    for _ in range(3):  # it counts from the last key
        await asyncio.sleep(0.2)
        await socket.send_json(["stdin", "j"])
        assert await socket.receive_bytes() == b"D j"

    async def signs_of_life() -> None:
        while True:
            await asyncio.sleep(0.1)
            for message in (["ping", "1"], ["blur"], ["focus"]):
                await socket.send_json(message)

    signs = asyncio.create_task(signs_of_life())  # which are no keys
    try:
        async with asyncio.timeout(20):
            while (came := await socket.receive()).type is WSMsgType.TEXT or b"type" in came.data:
                pass
    finally:
        signs.cancel()
    assert "Nobody has used this page for as long as --idle says, so it was disconnected." in came.data.decode()
    assert (await socket.receive()).type is WSMsgType.CLOSE
    assert await one.gone(pid)


async def test_a_process_is_asked_to_end_before_it_is_made_to(served: Serve, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    one = await served(ECHO.replace("        break\n", f"        open({str(asked)!r}, 'w').close()\n        break\n", 1))
    await one.enter()
    socket = await one.open()
    pid, _ = await first(socket)
    await socket.close()
    assert await one.gone(pid)
    assert asked.exists()


async def test_a_process_that_does_not_end_when_it_is_asked_to_is_killed(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "GRACE_S", 0.1)
    one = await served(DEAF)
    await one.enter()
    socket = await one.open()
    pid, _ = await first(socket)
    await socket.close()
    assert await one.gone(pid)


async def test_a_browser_that_goes_away_while_the_process_starts_leaves_none(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "GRACE_S", 0.1)
    before = set(psutil.Process().children())
    one = await served("import time; time.sleep(60)")
    await one.enter()
    socket = await one.open()
    await until(lambda: set(psutil.Process().children()) - before)
    started = set(psutil.Process().children()) - before
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.abort()
    for process in started:
        assert await one.gone(process.pid)


async def test_what_a_process_says_as_it_fails_is_shown_cut_and_cleaned(served: Serve) -> None:
    one = await served(FAILS)
    await one.enter()
    socket = await one.open()
    shown = (await socket.receive_bytes(timeout=20)).decode()
    _, _, said = shown.partition("The monitor of this page ended.")
    assert said.endswith(r"it \x1b]0;failed\x07")
    assert "\x1b" not in said
    assert len(said) < 4200
    assert (await socket.receive()).type is WSMsgType.CLOSE


async def test_the_end_of_the_server_is_the_end_of_all_pages(served: Serve) -> None:
    one = await served()
    await one.enter()
    sockets = [await one.open(), await one.open()]
    pids = [(await first(socket))[0] for socket in sockets]
    closing = asyncio.create_task(one.server._close_all(web.Application()))
    for socket in sockets:
        assert (await socket.receive()).type is WSMsgType.CLOSE
        assert socket.close_code == WSCloseCode.GOING_AWAY
    await closing
    assert await one.gone(pids[0])
    assert not psutil.pid_exists(pids[1])
