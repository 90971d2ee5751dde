"""A session: one page that is open, and the process that draws it.

For: ``Session``: starting that process, passing on what comes and goes, and ending it.
Not for: who may have one, and how many (server, gate); what messages mean (messages).
Runs in: the server; its loop must be that of the main thread, since a process ends with the thread that started it.
Promises: no shell, and nothing that the browser sent, is on the process's command line; after ``end`` it is gone, be it that it had to
be killed; what it says as it fails is shown, cleaned and no longer than a few lines.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType
from aiohttp.web import WebSocketResponse
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from tq.model import safe_text
from tui.web.messages import read

GRACE_S = 2.0
"""How long the process may take to end after it was asked to."""
LAST_WORDS = 4096
"""Bytes of its standard error that are kept."""
LAST_WORDS_S = 0.5
"""How long what it says is waited for once it has ended: something that it started may hold the pipe open."""
READY = b"__GANGLION__\n"
"""The first line of Textual's driver for the web; packets follow: a letter, four bytes of length, a body."""
NO_MORE_DRAWING = "\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?1049l\x1b[0m\x1b[2J\x1b[H"
"""The mouse and pastes are not asked for any more, and the page is empty."""
OF_A_TERMINAL = frozenset({
    "COLORTERM", "COLUMNS", "DISPLAY", "LINES", "ROWS", "STY", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TMUX", "TMUX_PANE",
    "WAYLAND_DISPLAY",
})  # fmt: skip
"""Variables of the terminal and the desktop that the server was started from: a page is on neither."""


def environment(given: Mapping[str, str], width: int, height: int) -> dict[str, str]:
    """What the process of a page is started with: the server's own, but drawn for a page of so many columns and rows."""
    kept = {name: value for name, value in given.items() if name not in OF_A_TERMINAL and not name.startswith("TEXTUAL")}
    return kept | {
        "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver", "TEXTUAL_COLOR_SYSTEM": "truecolor", "TEXTUAL_FPS": "20",
        "TERM": "xterm-256color", "COLUMNS": str(width), "ROWS": str(height),
    }  # fmt: skip


async def part_with(socket: WebSocketResponse, *lines: str) -> None:
    """Leave these lines on the page behind ``socket``, and close it."""
    text = NO_MORE_DRAWING + "\n\n".join(lines).replace("\n", "\r\n")
    with suppress(ConnectionError):
        await socket.send_bytes(text.encode())
        await socket.close()


class Session(AppService):
    """The process ``argv`` and the page behind ``socket``."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], socket: WebSocketResponse) -> None:
        super().__init__(
            "", write_bytes=socket.send_bytes, write_str=socket.send_str, close=self._close, download_manager=DownloadManager()
        )  # the command is in argv, since it is run without a shell; files are not handed out, so nobody asks for downloads
        self.argv, self.environ, self.socket = argv, environ, socket
        self._ticks = asyncio.get_running_loop().time
        self._used_at = self._ticks()
        self._said = b""

    async def open(self, width: int, height: int) -> None:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            *self.argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(self.environ, width, height), start_new_session=True
        )
        self._stdin = self._process.stdin

    async def attend(self, idle_s: float) -> None:
        """Until the page is closed, the process ends, or nobody has used it for so long; the page is told which of the last two."""
        hears, shows, notes, alone = parts = [
            asyncio.create_task(part) for part in (self._hear(), self._show(), self._note(), self._left_alone(idle_s))
        ]
        try:
            await asyncio.wait([hears, shows, alone], return_when=asyncio.FIRST_COMPLETED)
            shows.cancel()  # nothing is drawn over what is told
            if alone.done():
                await part_with(self.socket, "Nobody has used this page for as long as --idle says, so it was disconnected.")
            elif shows.done() and not shows.cancelled() and not shows.result():
                await asyncio.wait([notes], timeout=LAST_WORDS_S)
                await part_with(
                    self.socket, "The monitor of this page ended.", safe_text(self._said.decode("utf-8", "replace"), newlines=True)
                )
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _hear(self) -> None:
        """Pass on what the page sends, until it is closed."""
        async for came in self.socket:
            message = read(came.data) if came.type is WSMsgType.TEXT else None
            if message is None:
                await self.socket.close(code=WSCloseCode.POLICY_VIOLATION)
                return
            if message.kind in ("keys", "resize"):
                self._used_at = self._ticks()
            if message.kind == "keys":
                await self.send_bytes(message.text.encode("utf-8", "replace"))
            elif message.kind == "resize":
                await self.set_terminal_size(message.width, message.height)
            elif message.kind == "ping":
                await self.socket.send_json(["pong", message.text])
            else:
                await self.send_meta({"type": message.kind})

    async def _show(self) -> bool:
        """Pass on what the process draws, until it ends; whether that was its will."""
        assert self._process is not None
        assert self._process.stdout is not None
        out = self._process.stdout
        handlers = {b"D": self.on_data, b"M": self.on_meta}
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            if await out.readline() != READY:
                return False
            while True:
                head = await out.readexactly(5)
                await handlers[head[:1]](await out.readexactly(int.from_bytes(head[1:], "big")))
        return await self._process.wait() == 0

    async def _note(self) -> None:
        """Keep the end of what the process says on its standard error."""
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(LAST_WORDS):
            self._said = (self._said + data)[-LAST_WORDS:]

    async def _left_alone(self, idle_s: float) -> None:
        while True:
            left = self._used_at + idle_s - self._ticks()
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _close(self) -> None:
        await self.socket.close()

    async def end(self) -> None:
        """Close the page, and end the process: asked for it first, then killed."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(GRACE_S):
                with suppress(ConnectionError):
                    await self.socket.close()
                await self.send_meta({"type": "quit"})
                await process.communicate()  # it may have more to draw before it can end
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.wait())
