"""Tenants: whose tasks there are, their weights and quotas, and what there is of each and of all.

For: ``tenants``, ``set_tenant``, ``remove_tenant``.
Not for: refusing what passes a quota (store), sharing by weight (store).
Runs in: the daemon, inside the broker's turn.
Promises: a change ends nothing that there is, be it more than a quota allows; what was changed, by whom, and from what is an event;
an answer has a bounded number of tenants, and the totals of all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tq.arguments import arguments, between, unknown
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import UsageError
from tq.model import State
from tq.store import Account, Tenant
from tq.waiting import Request

TENANTS_MOST = 10_000
"""For so many something may be set; others are counted as well."""
PAGE = 500
QUOTAS = ("queued", "running", "per_day", "bytes")
_NUMBERS = {
    "weight": (1, 1_000_000), "queued": (0, 1 << 40), "running": (0, 1_000_000), "per_day": (0, 1 << 40), "bytes": (0, 1 << 60),
}  # fmt: skip


class Tenants:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.writes: dict[str, Verb] = {"set_tenant": self._set, "remove_tenant": self._remove}
        self.reads: dict[str, Verb] = {"tenants": self._tenants}

    def _set(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "name", name=str, **dict.fromkeys(_NUMBERS, int))
        name = args.pop("name")
        if not args:
            raise UsageError(f"set_tenant: expected a weight or a quota ({', '.join(QUOTAS)}), got none.")
        for key, value in args.items():
            between(value, *_NUMBERS[key], key)
        there = self._desk.store.tenants()
        old = there.get(name)
        if old is None and len(there) >= TENANTS_MOST:
            raise UsageError(
                f"set_tenant: expected at most {TENANTS_MOST} tenants with settings, got another. Remove one: `tq tenant remove`."
            )
        tenant = replace(old or Tenant(name), **args)
        if tenant != old:
            self._desk.store.put_tenant(tenant)
            before, after = {} if old is None else _settings(old), _settings(tenant)
            changed = {key: value for key, value in after.items() if before.get(key) != value}
            self._desk.note(request, "set_tenant", f"tenant {name}", {key: before[key] for key in changed if key in before}, changed)
            turn.stirred = True
        return {"new": old is None}

    def _remove(self, request: Request, turn: Turn) -> dict[str, Any]:
        """What was set for it; its tasks stay, and so does what was counted."""
        name, there = arguments(request.verb, request.args, "name", name=str)["name"], self._desk.store.tenants()
        if name not in there:
            raise unknown("tenant", there, name)
        self._desk.store.drop_tenant(name)
        self._desk.note(request, "remove_tenant", f"tenant {name}", _settings(there[name]), None)
        turn.stirred = True
        return {}

    def _tenants(self, request: Request, turn: Turn) -> dict[str, Any]:
        """By name, a page; or one of them."""
        args = arguments(request.verb, request.args, name=str, after=str, limit=int)
        store, name, most = self._desk.store, args.get("name"), between(args.get("limit", PAGE), 1, PAGE, "limit")
        there = store.tenants()
        if name is not None:
            found = [account] if (account := store.account(name)) is not None else [Account(name)] if name in there else []
            if not found:
                raise unknown("tenant", (one.tenant or "" for one in store.accounts("", PAGE)), name)
        else:
            found = store.accounts(args.get("after", ""), most + 1)
        rows = [self._row(one, there.get(one.tenant or "")) for one in found[:most]]
        return {
            "tenants": rows,
            "total": self._row(store.account(None) or Account(None), None),
            "next": found[most - 1].tenant if len(found) > most else None,
        }

    def _row(self, account: Account, tenant: Tenant | None) -> dict[str, Any]:
        """A tenant as it travels to clients."""
        states = {state.word: count for state, count in zip(State, account.states, strict=True)}
        return {
            "name": account.tenant, "weight": 1 if tenant is None else tenant.weight, "set": tenant is not None,
            "quotas": {key: (tenant and getattr(tenant, key)) or None for key in QUOTAS}, "states": states,
            "waiting": account.waiting, "bytes": account.bytes, "today": account.today(self._desk.now),
            "mean_ms": account.run_ms / account.runs if account.runs else None,
        }  # fmt: skip


def _settings(tenant: Tenant) -> dict[str, Any]:
    """What was set for it, as an event has it."""
    return {key: getattr(tenant, key) for key in ("weight", *QUOTAS) if key == "weight" or getattr(tenant, key)}
