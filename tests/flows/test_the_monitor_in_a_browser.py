"""The monitor as a browser has it: headless Chromium on the real page of a real daemon, and what is left when either goes away."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import ClientSession, CookieJar, WSMsgType
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

from tests.living import ROOT, unmeasured, wait_until
from tq.client import Client

pytestmark = pytest.mark.flow
WITHIN_S = 60.0
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", "chromium", "chromium-driver")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1280,800",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing leaves this machine, whoever asks
)  # fmt: skip


class Page:
    """``tq monitor --web``, and what it prints."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        argv = [sys.executable, "-m", "tq", "--data-dir", str(data_dir), "monitor", "--web", *options]
        env = unmeasured(PYTHONPATH=str(ROOT), LC_ALL="C.UTF-8", TMUX="/nowhere")
        env.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        self.greeting = self.lines.readline()
        self.url = self.lines.readline().strip()

    def sessions(self) -> list[psutil.Process]:
        found = []
        for one in psutil.process_iter():
            try:
                if "tui.web.child" in one.cmdline() and str(self.data_dir) in one.cmdline()[-1] and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(20)
        self.lines.close()
        return code


@pytest.fixture
def page(data_dir: Path) -> Iterator[Callable[..., Page]]:
    """``page(*options)`` serves the monitor of the instance; it is ended with the test, and may leave nothing."""
    opened: list[Page] = []

    def start(*options: str) -> Page:
        opened.append(Page(data_dir, *options))
        return opened[-1]

    yield start
    for one in opened:
        one.end()
        wait_until(lambda one=one: not one.sessions(), 10, "the end of all processes of pages")  # type: ignore[misc]


@pytest.fixture(scope="module")
def programs() -> tuple[str, str]:
    """The browser and what drives it, both Debian's; where the CI is root it installs them."""

    def found() -> tuple[str, str] | None:
        browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
        return (browser, driver) if browser and driver else None

    if found() is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for argv in (("apt-get", "update"), INSTALL):
            subprocess.run(argv, check=True, timeout=400, capture_output=True, env=env)
    programs = found()
    if programs is None:
        missing = f"needs chromium and chromedriver: {' '.join(INSTALL)}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return programs


class Browser:
    """Chromium with the page in it. ``text`` is what the page's terminal was sent, without escapes; ``picture`` what it shows."""

    def __init__(self, programs: tuple[str, str], profile: Path) -> None:
        options = ChromeOptions()
        options.binary_location, driver = programs
        for word in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(driver))
        self.requests: list[str] = []
        self.text = ""

    def listen(self) -> None:
        """Take in what the browser has noted since the last time."""
        for entry in self.driver.get_log("performance"):
            message: dict[str, Any] = json.loads(entry["message"])["message"]
            told = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            elif message["method"] == "Network.webSocketCreated":
                self.requests.append(told["url"])
            elif message["method"] == "Network.webSocketFrameReceived" and told["response"]["opcode"] == 2:
                drawn = base64.b64decode(told["response"]["payloadData"]).decode("utf-8", "replace")
                self.text += re.sub(r"\x1b\[[0-9;?<>=]*[ -/]*[A-Za-z]", " ", drawn)

    def shows(self, *words: str) -> None:
        """Wait until all of these were drawn since the last time that something was shown."""

        def there() -> bool:
            self.listen()
            return all(word in self.text for word in words)

        wait_until(there, WITHIN_S, f"{words} on the page")
        self.text = ""

    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")

    def clipboard(self) -> str:
        self.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
        text: str = self.driver.execute_async_script("const done = arguments[0]; navigator.clipboard.readText().then(done, done)")
        return text

    def cell(self, column: int, row: int) -> ActionChains:
        """The mouse over a cell of the terminal, which has 16-pixel letters."""
        screen = self.driver.find_element("css selector", ".xterm-screen")
        columns, rows = map(int, re.search(r"width=(\d+)&height=(\d+)", next(url for url in self.requests if "/ws?" in url)).groups())  # type: ignore[union-attr]
        width, height = screen.size["width"] / columns, screen.size["height"] / rows
        x, y = (column + 0.5) * width - screen.size["width"] / 2, (row + 0.5) * height - screen.size["height"] / 2
        return ActionChains(self.driver).move_to_element_with_offset(screen, round(x), round(y))


@pytest.fixture
def browser(programs: tuple[str, str], tmp_path: Path) -> Iterator[Browser]:
    one = Browser(programs, tmp_path / "profile")
    yield one
    one.driver.quit()


def lit(picture: Image.Image) -> int:
    """How many lines of pixels have letters on them: more than three colours."""
    return sum(picture.crop((0, y, picture.width, y + 1)).getcolors(3) is None for y in range(picture.height))


@pytest.mark.timeout(900)  # with the installation of the browser
def test_a_person_looks_at_it_clicks_and_types_and_nothing_is_asked_of_another_host(
    daemon: Callable[..., Any], client: Client, app: str, page: Callable[..., Page], browser: Browser
) -> None:
    daemon(app=app)
    failed = client.enqueue("shell", {"argv": ["cat", "/nowhere/invoice-7"]}, label="invoice-7", retries=0).id
    client.wait([failed], 30)
    one = page()
    assert "read-only" in one.greeting
    driver = browser.driver
    driver.get(one.url)
    browser.shows("1 Overview", "READ ONLY", "Needs attention", "Throughput")
    assert driver.current_url == f"http://127.0.0.1:{urlsplit(one.url).port}/"
    assert driver.get_cookies()[0] | {"value": ""} == {
        "domain": "127.0.0.1", "httpOnly": True, "name": driver.get_cookies()[0]["name"], "path": "/", "sameSite": "Strict",
        "secure": False, "value": "",
    }  # fmt: skip
    assert driver.execute_script("return document.cookie + [...document.fonts].map(font => font.status)") == "loaded"
    overview = browser.picture()
    assert lit(overview) > 100
    ActionChains(driver).send_keys("3").perform()  # it takes keys before anybody has clicked
    browser.shows("LAST ERROR", "invoice-7")
    browser.cell(14, 1).click().perform()
    browser.shows("SLOTS", "default")
    ActionChains(driver).send_keys("3").perform()
    browser.shows("LAST ERROR", "invoice-7")
    ActionChains(driver).send_keys("/invo").perform()
    browser.shows("match")
    tasks = browser.picture()
    assert lit(tasks) > 100
    assert tasks.tobytes() != overview.tobytes()
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    browser.shows("Filter")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    browser.shows("Timeline", "exit code 1")
    ActionChains(driver).send_keys("y").perform()
    browser.shows("Copied by the terminal")
    wait_until(lambda: browser.clipboard() == str(failed), WITHIN_S, "the id in the clipboard")
    ActionChains(driver).send_keys("r7").perform()  # as if it could be retried; then the events
    browser.shows("TARGET")
    row = client.get(failed)
    assert (row["state"], row["attempt"]) == ("failed", 1)

    assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
    asked = [urlsplit(url) for url in browser.requests if urlsplit(url).scheme in ("http", "https", "ws", "wss")]
    assert {url.netloc for url in asked} == {f"127.0.0.1:{urlsplit(one.url).port}"}
    assert {url.path for url in asked} > {"/", "/ws", "/static/textual.js", "/static/mono.ttf"}

    (session,) = one.sessions()
    driver.get("about:blank")
    wait_until(lambda: not session.is_running(), 6, "the end of the page's process")
    assert one.end() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
async def test_however_the_server_ends_no_process_of_a_page_is_left(
    daemon: Callable[..., Any], page: Callable[..., Page], number: signal.Signals
) -> None:
    daemon()
    one = page("--allow-writes", "--idle", "5m")
    assert "may change everything" in one.greeting
    base = one.url.partition("/?")[0]
    async with ClientSession(cookie_jar=CookieJar(unsafe=True), headers={"Origin": base}) as visitor:
        assert (await visitor.get(one.url)).status == 200
        drawn = b""
        async with visitor.ws_connect(f"{base}/ws?width=120&height=36") as socket:
            while b"read/write" not in drawn:
                drawn += await socket.receive_bytes(timeout=WITHIN_S)
            (session,) = one.sessions()
            one.process.send_signal(number)
            while (await socket.receive(timeout=20)).type is WSMsgType.BINARY:
                pass
    assert one.process.wait(20) == (-number if number is signal.SIGKILL else 0)
    wait_until(lambda: not session.is_running() or session.status() == psutil.STATUS_ZOMBIE, 6, "the end of the page's process")
    assert "A browser was let in" in one.lines.readline()
    assert one.lines.read() == ""
