"""Resources: named amounts that tasks which run share.

For: ``resources``, ``set_resource``, ``remove_resource``, and those that a settings file declares.
Not for: who gets what there is (store), whether a task may ask for so much (intake).
Runs in: the daemon, inside the broker's turn.
Promises: a change ends nothing that runs; what was changed, by whom, and from what is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tq.arguments import arguments, between, unknown
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import ConfigError, UsageError
from tq.model import MAX_SLOTS, brief, is_resource
from tq.store import Resource
from tq.waiting import Request

USERS_TOLD = 10
"""Tasks that are named for what they have of a resource."""
RESOURCES_MOST = 1000


class Resources:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._declared: dict[str, int] = {}
        self._declared_in = ""
        self.writes: dict[str, Verb] = {"set_resource": self._set, "remove_resource": self._remove}
        self.reads: dict[str, Verb] = {"resources": self._resources}

    def _set(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "name", "amount", name=str, amount=int)
        name, there = args["name"], self._desk.store.resources()
        checked_amount(name, args["amount"], f"{request.verb}: ")
        if name not in there and len(there) >= RESOURCES_MOST:
            raise UsageError(f"set_resource: expected at most {RESOURCES_MOST} resources, got another. Remove one: `tq resource remove`.")
        self._put(name, args["amount"], request)
        turn.stirred = True
        return {"new": name not in there, **self._again(name)}

    def _remove(self, request: Request, turn: Turn) -> dict[str, Any]:
        name, there = arguments(request.verb, request.args, "name", name=str)["name"], self._desk.store.resources()
        if name not in there:
            raise unknown("resource", there, name)
        self._put(name, None, request)
        return self._again(name)

    def _again(self, name: str) -> dict[str, Any]:
        """Whether the settings file will set it anew."""
        return {"declared": self._declared[name]} if name in self._declared else {}

    def _put(self, name: str, amount: int | None, request: Request) -> None:
        """None: it is gone."""
        desk, was = self._desk, self._desk.store.resources().get(name)
        if amount == was:
            return
        if amount is None:
            desk.store.drop_resource(name)
        else:
            desk.store.put_resource(Resource(name, amount))
        what = "remove_resource" if amount is None else "set_resource"
        desk.note(request, what, f"resource {name}", {"amount": was}, {"amount": amount})
        desk.intake.forget()

    def declare(self, declared: Mapping[str, int], former: Mapping[str, int], source: str) -> None:
        """Set what a file says; what ``former`` said and it says no more is gone, if nobody changed it since."""
        there = self._desk.store.resources()
        request = Request(0, 0, "set_resource", {}, None, source)
        for name, amount in former.items():
            if name not in declared and there.get(name) == amount:
                self._put(name, None, request)
        for name, amount in declared.items():
            self._put(name, amount, request)
        self._declared, self._declared_in = dict(declared), source

    def _resources(self, request: Request, turn: Turn) -> dict[str, Any]:
        """What there is, how much of it is in use, and by which tasks."""
        arguments(request.verb, request.args)
        store = self._desk.store
        used, users = store.in_use(), users_of(self._desk)
        rows = [
            {"name": name, "amount": amount, "in_use": used.resources.get(name, 0), "tasks": users.get(name, [])[:USERS_TOLD],
             "kept_for": used.kept.get(name), **self._again(name)}
            for name, amount in sorted(store.resources().items())
        ]  # fmt: skip
        return {"resources": rows, **({"file": self._declared_in} if self._declared else {})}


def users_of(desk: Desk) -> dict[str, list[int]]:
    """By resource, the tasks that run and use it."""
    ids = sorted(one.id for one in desk.store.held())
    found: dict[str, list[int]] = {}
    for task_id, run in zip(ids, desk.store.running(ids), strict=True):
        for name in run.header.uses if run is not None and run.header.needs else ():
            found.setdefault(name, []).append(task_id)
    return found


def checked_amount(name: object, amount: object, where: str = "") -> None:
    """UsageError unless these are the name of a resource and how much there may be of it."""
    if not is_resource(name):
        raise UsageError(f"{where}name: expected a name of 1 to 200 printable bytes without spaces and colons, got {brief(name)}.")
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise UsageError(f"{where}amount: expected a whole number from 0 to {MAX_SLOTS}, got {brief(amount)}.")
    between(amount, 0, MAX_SLOTS, f"{where}amount")


def declared_resources(source: object, table: Mapping[str, Any]) -> dict[str, int]:
    """What the table ``[resources]`` of a file means; ``source`` is its path. ConfigError names what cannot be."""
    for name, amount in table.items():
        try:
            checked_amount(name, amount)
        except UsageError as error:
            raise ConfigError(f"{source}: [resources]: {name}: {error}") from None
    return dict(table)
