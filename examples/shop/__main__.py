"""Run the shop: python -m examples.shop

Starts the stand-ins and a daemon of its own, sends reports first and payments after them, and shows in which order
they started, how often, and what arrived outside. Takes a few seconds; leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import tq
from examples.shop import outside
from examples.shop.private import private_daemon
from examples.shop.stand_ins import World, http_server, smtp_server
from examples.shop.tasks.notification import Notification, NotificationTask
from examples.shop.tasks.payment import Payment, PaymentTask
from examples.shop.tasks.report import Report, ReportTask
from tq.errors import PayloadError

CUSTOMERS = ["ada@example.org", "grace@example.org", "edsger@example.org", "barbara@example.org"]


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by `kill` it cleans up as after Ctrl-C
    world = World()
    try:
        with http_server(world) as http, smtp_server(world) as mail:
            os.environ.update({outside.BANK: http, outside.SMS: http, outside.MAIL: mail})
            # One worker, so that there is one order to look at; a shop would have more.
            with private_daemon("examples.shop.app", workers=1):
                return show(world)
    except KeyboardInterrupt:
        print("interrupted: the daemon is ended and its directory removed")
        return 130


def show(world: World) -> int:
    """Send everything, wait for it, and say what happened; the exit code."""
    with tq.connect() as queue:
        print("The workers know these types:", ", ".join(sorted(row["name"] for row in queue.types())))
        refused = wrong_payment()
        queue.set_queue("shop", paused=True)  # nothing starts before everything is there
        ids = send(queue)
        print(f"{len(ids)} tasks are on disk; the reports were sent first.")
        queue.set_queue("shop", paused=False)
        queue.wait(ids, timeout=60)
        ids = [row["id"] for row in queue.list(limit=100)]  # with the receipts that the payments sent meanwhile
        rows = [row for row in queue.wait(ids, timeout=60) if row is not None]
    explain(rows, world)
    return 0 if refused and as_it_should_be(rows, world) else 1


def wrong_payment() -> bool:
    """Send a payment that makes no sense: it is refused here, at its sender, and never becomes a task."""
    try:
        PaymentTask.enqueue(Payment(order=0, email="nobody@example.org", cents=-1))
    except PayloadError as error:
        print(f"A payment of -1 is refused where it is sent:\n    {error}")
        return True
    return False


def send(queue: tq.Client) -> list[int]:
    """Reports, then a message and a refund, then payments; their ids."""
    reports = [ReportTask.enqueue(Report(f"2025-{month:02}", tuple(range(month, 5000, 37)))) for month in range(1, 5)]
    message = NotificationTask.enqueue(Notification("sms", "+49 30 123456", "Your order is on its way"))
    refund = queue.enqueue("refund", {"order": 0, "cents": 500})  # by name: this program does not know the fourth type
    payments = []
    for order, email in enumerate(CUSTOMERS, 1):
        once = PaymentTask.options(key=f"order-{order}")  # whoever sends it again, in a day's time, gets this very task
        payments.append(once.enqueue(Payment(order, email, 1999 * order)))
    return [*(task.id for task in reports), message.id, refund.id, *(task.id for task in payments)]


def starts(rows: list[dict[str, Any]]) -> list[tuple[int, int, dict[str, Any]]]:
    """(when, attempt, task) of every attempt, in the order in which they started."""
    found = []
    for row in rows:
        attempts = {number: started for number, started, *_ in row["attempts"]} | {row["attempt"]: row["started_at"]}
        found += [(started, number, row) for number, started in attempts.items()]
    return sorted(found, key=lambda start: (start[0], start[2]["id"]))


def explain(rows: list[dict[str, Any]], world: World) -> None:
    order = starts(rows)
    print("\nThe order in which they started:")
    for at, attempt, row in order:
        words = f"attempt {attempt}" + (f" of {row['attempt']}" if row["attempt"] > 1 else "")
        print(f"  {at - order[0][0]:5} ms  task {row['id']:2}  {row['type']:12} priority {row['priority']}  {words}")
    print("\nWhat became of them:")
    for row in sorted(rows, key=lambda row: int(row["id"])):
        print(f"  task {row['id']:2}  {row['type']:12} {row['state']}  {row['result']}")
        errors = {number: error for number, _, _, _, _, error, *_ in row["attempts"]} | {row["attempt"]: row["error"]}
        for number, error in errors.items():
            if error:
                print(f"           attempt {number}: {error['type']}: {error['message']}")
    print("\nWhat arrived outside:")
    for mail in world.mails:
        print(f"  mail to {mail['To']}: {mail['Subject']}")
    for message in world.messages:
        print(f"  SMS to {message['to']}: {message['text']}")
    print("  the bank was asked:", ", ".join(f"{key} {status}" for key, status in world.asked))


def as_it_should_be(rows: list[dict[str, Any]], world: World) -> bool:
    """Everything succeeded, the payments before the reports, the third of them at its third attempt, each told once."""
    order = [(row["type"], attempt) for _, attempt, row in starts(rows)]
    first_report = order.index(("report", 1))
    return (
        all(row["state"] == "succeeded" for row in rows)
        and order[:first_report].count(("payment", 1)) == len(CUSTOMERS)
        and sorted(row["attempt"] for row in rows if row["type"] == "payment") == [1, 1, 1, 3]
        and sorted(str(mail["To"]) for mail in world.mails) == sorted(CUSTOMERS)
        and len(world.messages) == 1
    )


if __name__ == "__main__":
    sys.exit(main())
