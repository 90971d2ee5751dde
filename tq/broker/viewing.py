"""Viewing: the verbs of who scrolls through a million tasks.

For: ``view page place rows news``.
Not for: how a view is filled and kept (views), pages that come with a cursor and without a place (reading).
Runs in: the daemon, inside the broker's turn; views are asked behind its commit.
Promises: what is asked of a view in the turn that makes it finds it; a row is small, whatever the task holds.
"""

from __future__ import annotations

from typing import Any

from tq.arguments import arguments, between, filter_of, task_ids
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import UsageError
from tq.query.matching import LAST_ID
from tq.query.orders import order_of
from tq.views import Ask
from tq.waiting import Request

PAGE_MOST = 200


class Viewing:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.reads: dict[str, Verb] = {
            "view": self._view, "page": self._page, "place": self._place, "rows": self._rows, "news": self._news,
        }  # fmt: skip

    def _view(self, request: Request, turn: Turn) -> None:
        args = arguments(request.verb, request.args, where=str, states=list, queue=str, type=str, tenant=str, label=str, sort=str)
        order, where = order_of(args.pop("sort", "-id")), filter_of(args)
        desk = self._desk
        turn.later.append(lambda: desk.views.open(request, where, order, desk.now))

    def _page(self, request: Request, turn: Turn) -> None:
        args = arguments(request.verb, request.args, "view", "offset", "limit", view=int, offset=int, limit=int)
        offset, limit = between(args["offset"], -LAST_ID, LAST_ID, "offset"), between(args["limit"], 1, PAGE_MOST, "limit")
        self._ask(turn, args["view"], Ask(request, "page", offset, limit))

    def _place(self, request: Request, turn: Turn) -> None:
        args = arguments(request.verb, request.args, "view", "id", view=int, id=int)
        self._ask(turn, args["view"], Ask(request, "place", task_ids([args["id"]])[0]))

    def _news(self, request: Request, turn: Turn) -> None:
        args = arguments(request.verb, request.args, "view", view=int)
        self._ask(turn, args["view"], Ask(request, "news"))

    def _ask(self, turn: Turn, view: int, ask: Ask) -> None:
        desk = self._desk
        if not 0 < view <= LAST_ID:
            raise UsageError(f"{ask.request.verb}: view: expected the number of a view, got {view}.")
        turn.later.append(lambda: desk.views.ask(view, ask, desk.now))

    def _rows(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "ids", ids=list)
        return {"rows": self._desk.views.rows(task_ids(args["ids"]))}
