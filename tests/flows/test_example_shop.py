"""The shop of the examples: typed tasks against services that really receive, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from examples.shop.stand_ins import World, http_server, smtp_server
from tests.flows.conftest import left_behind
from tests.living import unmeasured
from tq.client import Client, start_daemon, stop_daemon

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop"
RUN = [sys.executable, "-m", "examples.shop"]

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the example prints."""
    place = tmp_path_factory.mktemp("shop")
    done = subprocess.run(RUN, cwd=ROOT, env=unmeasured(TMPDIR=str(place)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert left_behind(place) == []
    return done.stdout


def starts(said: str) -> list[tuple[int, str, int]]:
    """(task, type, attempt) of each start, in order."""
    found = re.findall(r"^ +\d+ ms +task +(\d+) +(\w+) +priority \d +attempt (\d+)", said, re.MULTILINE)
    return [(int(task), kind, int(attempt)) for task, kind, attempt in found]


def test_reports_that_were_sent_first_wait_behind_the_payments(said: str) -> None:
    order = starts(said)
    first_report = [kind for _, kind, _ in order].index("report")
    assert [(task, kind) for task, kind, attempt in order if attempt == 1 and kind == "payment"] == [(n, "payment") for n in range(7, 11)]
    assert sum(kind == "payment" for _, kind, _ in order[:first_report]) >= 4
    assert max(task for task, kind, _ in order if kind == "report") < min(task for task, kind, _ in order if kind == "payment")
    assert sum(kind == "report" for _, kind, _ in order) == 4


def test_the_payment_whose_bank_is_away_twice_succeeds_at_its_third_attempt_and_is_charged_once(said: str) -> None:
    payments = [(task, attempt) for task, kind, attempt in starts(said) if kind == "payment"]
    assert payments == [(7, 1), (8, 1), (9, 1), (10, 1), (9, 2), (9, 3)]
    assert said.count("Unavailable: SHOP_BANK /charges: 503") == 2
    asked = re.search(r"the bank was asked: (.*)$", said, re.MULTILINE)
    assert asked is not None
    assert [one for one in asked[1].split(", ") if "order-3" in one] == ["order-3 503", "order-3 503", "order-3 200"]


def test_every_customer_gets_one_receipt_by_mail_and_the_message_arrives(said: str) -> None:
    mails = re.findall(r"^  mail to (\S+): Order (\d): \d+", said, re.MULTILINE)
    assert sorted(mails) == [
        ("ada@example.org", "1"),
        ("barbara@example.org", "4"),
        ("edsger@example.org", "3"),
        ("grace@example.org", "2"),
    ]
    assert re.findall(r"^  SMS to (.*)$", said, re.MULTILINE) == ["+49 30 123456: Your order is on its way"]


def test_a_wrong_payment_is_refused_at_its_sender_with_the_name_of_the_field(said: str) -> None:
    assert re.search(r"refused where it is sent:\n.*'payment'.*cents.*-1", said)


def test_no_file_but_its_own_and_the_one_that_shows_it_names_the_fourth_type() -> None:
    naming = {path.relative_to(SHOP).as_posix() for path in SHOP.rglob("*.py") if "refund" in path.read_text().lower()}
    assert naming == {"tasks/refund.py", "__main__.py", "stand_ins.py"}


def test_a_type_that_is_added_as_a_file_runs_without_any_other_change(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    readme = (SHOP / "README.md").read_text()
    fifth = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert fifth is not None
    (tmp_path / "examples" / "shop" / "tasks" / "greeting.py").write_text(fifth[1])
    start_daemon(data_dir, "examples.shop.app", workers=1, cwd=str(tmp_path))
    with Client(data_dir) as client:
        try:
            assert client.enqueue("greeting", "Ada").result(timeout=30) == "Hello, Ada!"
            assert {row["name"] for row in client.types()} >= {"payment", "report", "notification", "refund", "greeting"}
        finally:
            stop_daemon(client, now=True)


class Deadly(World):
    """A world in which the first charge is booked, and the worker dies before it hears of it."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.killed: list[int] = []

    def answer(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        found = super().answer(path, key, body)
        if not self.killed:
            self.killed = [row["pid"] for row in self.client.workers()]
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)
        return found


def test_a_payment_whose_worker_dies_after_the_charge_is_charged_once_and_told_once(
    daemon: Callable[..., Any], client: Client, data_dir: Path
) -> None:
    world = Deadly(client)
    with http_server(world) as http, smtp_server(world) as mail:
        env = {"SHOP_BANK": http, "SHOP_SMS": http, "SHOP_MAIL": mail, "TQ_DATA_DIR": str(data_dir)}
        daemon(app="examples.shop.app", workers=1, env=env)
        receipt = client.enqueue("payment", {"order": 1, "email": "ada@example.org", "cents": 1999}).result(timeout=30)
        client.wait([row["id"] for row in client.list(limit=100)], timeout=30)
    assert len(world.killed) == 1
    assert receipt == {"order": 1, "number": "R001", "attempts": 2}
    assert world.asked == [("order-1", 200), ("order-1", 200)]
    assert world.receipts == {"order-1": "R001"}
    assert [mail["Subject"] for mail in world.mails] == ["Order 1: 19.99 paid, receipt R001"]


def test_a_payment_that_is_run_once_more_by_hand_does_not_send_a_second_receipt(
    daemon: Callable[..., Any], client: Client, data_dir: Path, tq: Callable[..., Any]
) -> None:
    world = World()
    with http_server(world) as http, smtp_server(world) as mail:
        env = {"SHOP_BANK": http, "SHOP_SMS": http, "SHOP_MAIL": mail, "TQ_DATA_DIR": str(data_dir)}
        daemon(app="examples.shop.app", workers=1, env=env)
        payment = client.enqueue("payment", {"order": 1, "email": "ada@example.org", "cents": 1999})
        assert payment.result(timeout=30) == {"order": 1, "number": "R001", "attempts": 1}
        done = tq("retry", str(payment.id))
        assert done.returncode == 0, done.stderr
        assert payment.result(timeout=30) == {"order": 1, "number": "R001", "attempts": 2}
        sent = client.wait([row["id"] for row in client.list(type="notification")], timeout=30)
    assert world.asked == [("order-1", 200), ("order-1", 200)]
    assert [row["state"] for row in sent if row is not None] == ["succeeded"]
    assert len(world.mails) == 1


@pytest.mark.parametrize("at", ["", "types", "on disk"], ids=["while the daemon starts", "when it is there", "while tasks run"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_shop_leaves_nothing_behind(data_dir: Path, until: Callable[..., Any], sent: signal.Signals, at: str) -> None:
    env = unmeasured(TMPDIR=str(data_dir), PYTHONUNBUFFERED="1")
    with subprocess.Popen(RUN, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as shop, ExitStack() as at_last:
        at_last.callback(shop.kill)
        assert shop.stdout is not None
        if at:
            while at not in (line := shop.stdout.readline()):
                assert line, "the example ended before it could be interrupted"
        else:
            until(lambda: list(data_dir.glob("tq-shop-*/tq")), what="the daemon's directory")
        shop.send_signal(sent)
        assert shop.stdout.read().endswith("interrupted: the daemon is ended and its directory removed\n")
        assert shop.wait(30) == 130
    until(lambda: not left_behind(data_dir), what="nothing left behind")
