"""Charge a customer, however often the bank is away, and once only."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

import tq
from examples.shop.outside import BANK, Unavailable, post
from examples.shop.tasks.notification import Notification, NotificationTask


@dataclass(frozen=True)
class Payment:
    order: int
    email: str
    cents: PositiveInt


@dataclass(frozen=True)
class Receipt:
    order: int
    number: str
    attempts: int


class PaymentTask(tq.Task[Payment, Receipt]):
    """Ask the bank for the money, then send the receipt by a task of its own."""

    type = "payment"
    queue = "shop"
    priority = "high"
    retries = 5
    backoff = tq.Backoff("fixed", base_ms=200, jitter=False)  # for show: leave it out, and the pauses grow from a second
    timeout = "10s"
    retry_on = Unavailable  # a refusal is final: post() raises tq.Permanent for it

    def execute(self, payload: Payment) -> Receipt:
        # An attempt whose answer was lost may have charged: the bank knows the order by this key, in every attempt.
        number = str(post(BANK, "/charges", {"cents": payload.cents}, key=f"order-{payload.order}")["receipt"])
        # The same for what this task sends: with a key, a second run of it finds the task of the first.
        text = f"Order {payload.order}: {payload.cents / 100:.2f} paid, receipt {number}"
        once = NotificationTask.options(key=f"receipt-{payload.order}")
        once.enqueue(Notification("email", payload.email, text))
        return Receipt(payload.order, number, tq.current().attempt)
