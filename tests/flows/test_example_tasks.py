"""The examples of one file each do real work: mail, images, exports, webhooks, against real servers on the loopback interface."""

from __future__ import annotations

import csv
import http.server
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from examples.shop.stand_ins import smtp_server
from tests.living import unmeasured
from tq.client import Client
from tq.model import Backoff

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SOON = {"backoff": Backoff("fixed", base_ms=20, jitter=False)}
"""For a task that fails on purpose: tried again at once, where the example waits as one should."""

pytestmark = pytest.mark.flow
Rows = Callable[..., list[dict[str, Any]]]


def program(data_dir: Path, *argv: str | Path) -> str:
    """Run an example as its docstring says; what it printed."""
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    done = subprocess.run([sys.executable, *argv], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class MailServer:
    """A real SMTP server's words: ``later`` is how often it says so before it takes a mail; ``nobody`` is refused for good."""

    def __init__(self, later: int = 0) -> None:
        self.later = later
        self.offered: list[str] = []
        self.taken: list[EmailMessage] = []

    async def handle_RCPT(self, _server: object, _session: object, envelope: Any, address: str, _options: object) -> str:  # noqa: N802
        if address.startswith("nobody@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.offered.append(mail["Message-ID"])
        if len(self.offered) <= self.later:
            return "451 try again later"
        self.taken.append(mail)
        return "250 OK"


@pytest.fixture
def mail_server(daemon: Callable[..., Any]) -> Iterator[MailServer]:
    """A mail server, and a daemon whose workers send there."""
    handler = MailServer()
    with smtp_server(handler) as address:
        host, _, port = address.rpartition(":")
        daemon(app=str(EXAMPLES / "send_email.py"), env={"SMTP_HOST": host, "SMTP_PORT": port}, workers=1)
        yield handler


def test_the_mail_program_sends_a_mail_that_arrives_as_it_was_written(mail_server: MailServer, data_dir: Path) -> None:
    out = program(data_dir, EXAMPLES / "send_email.py", "ada@example.org", "--subject", "Grüße", "--text", "Ça va?")
    (mail,) = mail_server.taken
    assert mail["To"] == "ada@example.org"
    assert mail["Subject"] == "Grüße"
    assert mail.get_content().strip() == "Ça va?"
    assert f"sent as {mail['Message-ID']}" in out


def test_a_mail_server_that_says_later_is_tried_again_with_the_same_message_id(mail_server: MailServer, client: Client, rows: Rows) -> None:
    mail_server.later = 2
    sent = client.enqueue("send_email", {"to": "ada@example.org", "subject": "Hello", "text": "Hi"}, **SOON)
    (row,) = rows([sent.id])
    assert (row["state"], row["attempt"], row["failures"]) == ("succeeded", 3, 2)
    assert mail_server.offered == [row["result"]] * 3
    assert len(mail_server.taken) == 1
    assert "SMTPDataError" in str(row["attempts"])


@pytest.mark.parametrize(
    ("to", "subject", "reason"),
    [("nobody@example.org", "Hello", "no such mailbox"), ("ada@example.org", "Hello\nBcc: all@example.org", "linefeed")],
    ids=["unknown address", "forged header"],
)
def test_a_mail_that_can_never_be_sent_fails_at_its_first_attempt(
    mail_server: MailServer, client: Client, rows: Rows, to: str, subject: str, reason: str
) -> None:
    sent = client.enqueue("send_email", {"to": to, "subject": subject, "text": "Hi"}, **SOON)
    (row,) = rows([sent.id])
    assert (row["state"], row["attempt"]) == ("failed", 1)
    assert reason in row["error"]["message"]
    assert mail_server.taken == []


class Hook:
    """A web server that answers as it is told: a status, or status and headers, for each request; the last one stays."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = [(200, {})]
        self.heard: list[tuple[str, str, bytes]] = []
        self.silent_for = 0
        self.address = ""
        self.over = threading.Event()

    def hear(self, door: http.server.BaseHTTPRequestHandler) -> None:
        body = door.rfile.read(int(door.headers["Content-Length"]))
        self.heard.append((door.path, door.headers["Idempotency-Key"], body))
        if len(self.heard) <= self.silent_for:
            self.over.wait(60)
            return
        status, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        door.send_response(status)
        for name, value in headers.items():
            door.send_header(name, value)
        door.end_headers()


@pytest.fixture
def hook() -> Iterator[Hook]:
    one = Hook()

    class Door(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            one.hear(self)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    one.address = f"http://127.0.0.1:{server.server_address[1]}/hook"
    yield one
    one.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def caller(daemon: Callable[..., Any]) -> None:
    daemon(app=str(EXAMPLES / "call_webhook.py"), env={"TQ_KILL_GRACE_S": "0.2"}, workers=1)


@pytest.mark.usefixtures("caller")
def test_the_webhook_program_posts_its_event(hook: Hook, data_dir: Path) -> None:
    out = program(data_dir, EXAMPLES / "call_webhook.py", hook.address, '{"event": "order paid", "order": 17}')
    assert "200 in attempt 1" in out
    ((path, _key, body),) = hook.heard
    assert (path, body) == ("/hook", b'{"event": "order paid", "order": 17}')


@pytest.mark.usefixtures("caller")
def test_a_webhook_that_is_in_trouble_is_called_again_with_the_same_key(hook: Hook, client: Client, rows: Rows) -> None:
    hook.answers = [(503, {}), (429, {"Retry-After": "0"}), (204, {})]
    sent = client.enqueue("call_webhook", {"url": hook.address, "event": {"order": 17}}, **SOON)
    (row,) = rows([sent.id])
    assert (row["state"], row["result"]) == ("succeeded", {"status": 204, "attempt": 3})
    assert {key for _, key, _ in hook.heard} == {f"tq-{sent.id}"}
    assert len(hook.heard) == 3


@pytest.mark.usefixtures("caller")
def test_a_webhook_that_refuses_or_redirects_is_not_called_again(hook: Hook, client: Client, rows: Rows) -> None:
    hook.answers = [(404, {}), (302, {"Location": "/elsewhere"})]
    sent = [client.enqueue("call_webhook", {"url": hook.address, "event": {}}, **SOON).id for _ in range(2)]
    found = rows(sent)
    assert [(row["state"], row["attempt"], row["error"]["type"]) for row in found] == [("failed", 1, "Permanent")] * 2
    assert [path for path, *_ in hook.heard] == ["/hook", "/hook"]


@pytest.mark.usefixtures("caller")
def test_a_webhook_that_never_answers_is_given_up_at_the_time_limit_and_called_again(hook: Hook, client: Client, rows: Rows) -> None:
    hook.silent_for = 1
    sent = client.enqueue("call_webhook", {"url": hook.address, "event": {}}, timeout=0.3, **SOON)
    (row,) = rows([sent.id])
    assert (row["state"], row["attempt"]) == ("succeeded", 2)
    assert row["attempts"][0][3] == "timeout"
    assert len(hook.heard) == 2


def test_the_image_program_makes_thumbnails_of_the_pictures_it_drew(daemon: Callable[..., Any], data_dir: Path, tmp_path: Path) -> None:
    daemon(app=str(EXAMPLES / "process_image.py"))
    out = program(data_dir, EXAMPLES / "process_image.py", tmp_path)
    sizes = {}
    for path in (tmp_path / "thumbnails").iterdir():
        with Image.open(path) as image:
            sizes[path.name] = (image.format, *image.size)
    assert sizes == {
        "landscape-64.jpg": ("JPEG", 64, 36),
        "landscape-256.jpg": ("JPEG", 256, 144),
        "portrait-64.jpg": ("JPEG", 36, 64),
        "portrait-256.jpg": ("JPEG", 144, 256),
        "square-64.jpg": ("JPEG", 64, 64),
        "square-256.jpg": ("JPEG", 256, 256),
    }
    assert "256 x 144" in out


def test_a_photograph_that_lies_on_its_side_is_set_upright_and_a_file_that_is_none_is_not_tried_again(
    daemon: Callable[..., Any], client: Client, rows: Rows, tmp_path: Path
) -> None:
    daemon(app=str(EXAMPLES / "process_image.py"), workers=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.new("RGB", (400, 200)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "words.png").write_text("no picture")
    sent = [
        client.enqueue("process_image", {"path": str(tmp_path / name), "into": str(tmp_path), "sides": [100]}, **SOON).id
        for name in ("turned.jpg", "words.png")
    ]
    turned, words = rows(sent)
    assert turned["result"] == [{"path": str(tmp_path / "turned-100.jpg"), "width": 50, "height": 100}]
    assert (words["state"], words["attempt"], words["error"]["type"]) == ("failed", 1, "UnidentifiedImageError")


@pytest.fixture
def exporter(daemon: Callable[..., Any]) -> None:
    daemon(app=str(EXAMPLES / "export_data.py"), workers=1)


@pytest.mark.usefixtures("exporter")
def test_the_export_program_writes_every_row_of_its_database(data_dir: Path, tmp_path: Path) -> None:
    out = program(data_dir, EXAMPLES / "export_data.py", tmp_path / "shop.db", tmp_path / "orders.csv")
    assert out.splitlines()[-1].startswith("100000 rows, ")
    with (tmp_path / "orders.csv").open(newline="") as file:
        written = list(csv.reader(file))
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        stored = [[str(value) for value in row] for row in database.execute("SELECT * FROM orders ORDER BY id")]
    assert written == [["id", "customer", "cents", "ordered_on"], *stored]


@pytest.mark.usefixtures("exporter")
def test_an_export_tells_how_far_it_is_and_leaves_nothing_when_it_is_cancelled(
    client: Client, rows: Rows, until: Callable[..., Any], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "large.db")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER, ordered_on TEXT)")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1500000)"
        database.execute(f"INSERT INTO orders {numbers} SELECT i, 'somebody', i, '2025-01-01' FROM n")
    into = tmp_path / "out" / "orders.csv"
    into.parent.mkdir()
    sent = client.enqueue("export_data", {"database": str(tmp_path / "large.db"), "query": "orders", "into": str(into)})
    fraction, words = until(lambda: client.get(sent.id)["progress"], 30, "progress")
    assert 0 < fraction < 1
    assert words.endswith(" of 1,500,000 rows")
    assert sent.cancel() == "asked"
    (row,) = rows([sent.id])
    assert row["state"] == "cancelled"
    assert list(into.parent.iterdir()) == []


@pytest.mark.usefixtures("exporter")
def test_an_export_reads_what_the_example_allows_and_nothing_else(client: Client, rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "secret.db").touch()
    wanted = {"database": str(tmp_path / "secret.db"), "query": "SELECT * FROM passwords", "into": str(tmp_path / "out.csv")}
    (row,) = rows([client.enqueue("export_data", wanted, **SOON).id])
    assert (row["state"], row["attempt"], row["error"]["type"]) == ("failed", 1, "Permanent")
    assert not (tmp_path / "out.csv").exists()
