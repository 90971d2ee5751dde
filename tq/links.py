"""Links: what a task that is sent is to wait for, other tasks or those of its ordering key.

For: the options of one task that say so, as fields of its header; whether the tasks of one request can wait as they say.
Not for: which of these are over (the broker's families), whose turn it is in an ordering key (stores).
Runs in: the daemon, inside the broker's turn.
Promises: what would never begin, since it waits for itself, is refused, and the circle named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tq.errors import UsageError
from tq.model import Header
from tq.wire import WAITS_MOST

PARENTS_MOST = 1000
CIRCLE_TOLD = 20


def parents_of(got: Mapping[str, Any], where: str) -> tuple[tuple[int, ...], dict[str, Any]]:
    """After which tasks one runs, and as fields of its header how these must end."""
    after, loose, failed = (dict.fromkeys(got.get(name, ())) for name in ("after", "after_any", "after_failure"))
    policy = got.get("on_parent_failure")
    if policy == "run":
        after, loose = {}, after | loose
    found = tuple(after | loose | failed)
    if len(found) > PARENTS_MOST:
        raise UsageError(f"{where}after: expected at most {PARENTS_MOST} tasks to wait for, got {len(found)}.")
    if both := after.keys() & failed.keys():
        raise UsageError(f"{where}expected task {min(both)} in after or in after_failure, got it in both. It cannot end in both ways.")
    loose_ones = tuple(one for one in loose if one not in after and one not in failed)
    return found, {"parents_any": loose_ones, "parents_failed": tuple(failed), "strict": policy == "fail"}


def order_of(got: Mapping[str, Any], where: str) -> tuple[str | None, bool]:
    """Its ordering key, and whether those behind it go on when it fails for good."""
    if got.get("order_on_failure") and not got.get("order"):
        raise UsageError(f"{where}order_on_failure: expected an ordering key beside it (order, --order-key), got none.")
    return got.get("order"), got.get("order_on_failure") == "continue"


def check_links(headers: Sequence[Header]) -> None:
    """UsageError if the tasks of a request are to wait for too many, for a place that it does not have, or for each other in a circle."""
    parents = [header.parents for header in headers]
    if (waits := sum(map(len, parents))) > WAITS_MOST:
        raise UsageError(
            f"enqueue: after: expected {WAITS_MOST} tasks to wait for at most, counted for each of the {len(parents)} tasks, got {waits}. "
            "Send fewer tasks in a request, or one task that waits for those, and have the others wait for that one."
        )
    ahead = False
    for at, some in enumerate(parents, 1):
        if not some or (lowest := min(some)) > 0:
            continue
        if -lowest > len(parents):
            raise UsageError(f"task {at} of {len(parents)}: after: expected a place in this request, got {lowest}: it has {len(parents)}.")
        ahead = ahead or -lowest >= at
    if not ahead:  # each waits only for such as stand before it
        return
    graph = {at: [-one for one in some if one < 0] for at, some in enumerate(parents, 1)}
    last: dict[tuple[str, str], int] = {}  # those of one ordering key wait for each other, too
    for at, header in enumerate(headers, 1):
        if header.order is not None:
            line = header.queue, header.order
            graph[at] += [last[line]] if line in last else []
            last[line] = at
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[int] = error.args[1][1:]
        first = circle.index(min(circle))
        circle = [*circle[first:], *circle[: first + 1]]
        way = " > ".join(map(str, circle[:CIRCLE_TOLD])) + (" > ..." if len(circle) > CIRCLE_TOLD else "")
        raise UsageError(
            f"enqueue: after: expected tasks that do not wait for each other in a circle, got {way} (places in the request, each before "
            "the one that waits for it; those of one ordering key wait in their order). Nothing was stored."
        ) from None
