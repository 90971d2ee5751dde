"""The verbs about tenants, in both faces of the client.

For: ``Client.tenants``, ``set_tenant`` and their like, and the same to be awaited.
Not for: what a quota does (``tq.wire``), connections (blocking, aio).
Runs in: any process but the daemon.
Promises: a list of tenants is gathered page by page; a change says nothing that was not given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

from tq.client.core import Body


class TenantSettings(TypedDict, total=False):
    """What is set for a tenant: its ``weight`` beside other tenants of a queue, and its quotas, of which 0 is none: ``queued`` tasks that
    wait, ``running`` at a time, accepted ``per_day`` (UTC), and ``bytes`` of payload in tasks that are not over."""

    weight: int
    queued: int
    running: int
    per_day: int
    bytes: int


class TenantVerbs:
    """What ``Client`` is made of, too. A tenant that is not known is a UsageError."""

    def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        raise NotImplementedError

    def tenants(self) -> Sequence[Body]:
        """By name: weight, quotas, states (of final ones how many ended so), waiting, bytes, today (accepted), mean_ms; see ``tq.wire``."""
        found: list[Body] = []
        after = None
        while True:
            body = self.call("tenants", {"after": after})
            found += body["tenants"]
            after = body["next"]
            if after is None:
                return found

    def tenant(self, name: str) -> Body:
        """One of them."""
        row: Body = self.call("tenants", {"name": name})["tenants"][0]
        return row

    def tenant_totals(self) -> Body:
        """What there is of all together, also of those that are forgotten."""
        total: Body = self.call("tenants", {"limit": 1})["total"]
        return total

    def set_tenant(self, name: str, **settings: Unpack[TenantSettings]) -> bool:
        """Its weight and quotas from now on; what is absent stays, and so do its tasks. Whether nothing was set for it before."""
        return bool(self.call("set_tenant", {"name": name, **settings})["new"])

    def remove_tenant(self, name: str) -> None:
        """Forget what was set for it; its tasks stay."""
        self.call("remove_tenant", {"name": name})


class AsyncTenantVerbs:
    """The same of ``AsyncClient``."""

    async def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:  # noqa: ASYNC109 - an argument of the verb
        raise NotImplementedError

    async def tenants(self) -> Sequence[Body]:
        """By name, each with what there is of it."""
        found: list[Body] = []
        after = None
        while True:
            body = await self.call("tenants", {"after": after})
            found += body["tenants"]
            after = body["next"]
            if after is None:
                return found

    async def tenant(self, name: str) -> Body:
        """One of them."""
        row: Body = (await self.call("tenants", {"name": name}))["tenants"][0]
        return row

    async def tenant_totals(self) -> Body:
        """What there is of all together, also of those that are forgotten."""
        total: Body = (await self.call("tenants", {"limit": 1}))["total"]
        return total

    async def set_tenant(self, name: str, **settings: Unpack[TenantSettings]) -> bool:
        """Its weight and quotas from now on; what is absent stays. Whether nothing was set for it before."""
        return bool((await self.call("set_tenant", {"name": name, **settings}))["new"])

    async def remove_tenant(self, name: str) -> None:
        """Forget what was set for it; its tasks stay."""
        await self.call("remove_tenant", {"name": name})
