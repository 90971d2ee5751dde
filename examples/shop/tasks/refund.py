"""The fourth type: this file is all there is of it."""

from __future__ import annotations

from pydantic import BaseModel, PositiveInt

import tq
from examples.shop.outside import BANK, Unavailable, post


class Refund(BaseModel):  # a pydantic model does as well as a dataclass
    order: int
    cents: PositiveInt


class RefundTask(tq.Task[Refund, str]):
    """Give money back; the result is the bank's number for it."""

    type = "refund"
    queue = "shop"
    retry_on = Unavailable

    def execute(self, payload: Refund) -> str:
        return str(post(BANK, "/refunds", {"cents": payload.cents}, key=f"refund-{payload.order}")["receipt"])
