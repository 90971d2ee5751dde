"""Tenants as programs have them: both faces of the client, by the real broker's rules."""

from __future__ import annotations

import pytest

import tq
import tq.testing
from tq.broker import tenants
from tq.errors import Refused, UsageError


def application() -> tq.App:
    app = tq.App()

    @app.task("report")
    def report(n: int = 0) -> int:
        return n

    return app


def test_a_tenant_is_set_told_of_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "PAGE", 2)
    with tq.testing.fake(application()) as q:
        client = q.client
        assert client.set_tenant("acme", queued=1, weight=2)
        assert not client.set_tenant("acme", per_day=3)
        for name in ("acme", "beta", "delta"):
            client.enqueue("report", tenant=name, delay="1h")
        with pytest.raises(Refused, match="tenant 'acme' has reached its quota") as refused:
            client.enqueue("report", tenant="acme")
        assert refused.value.details | {"tenant": "acme", "quota": "queued", "most": 1, "have": 1} == refused.value.details
        assert [row["name"] for row in client.tenants()] == ["acme", "beta", "delta"]
        row = client.tenant("acme")
        assert (row["waiting"], row["weight"], row["quotas"]) == (1, 2, {"queued": 1, "running": None, "per_day": 3, "bytes": None})
        assert client.tenant_totals()["waiting"] == 3
        client.remove_tenant("acme")
        client.enqueue("report", tenant="acme")
        with pytest.raises(UsageError, match="expected a tenant"):
            client.tenant("nobody")


@pytest.mark.asyncio
async def test_the_same_to_be_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "PAGE", 1)
    with tq.testing.fake(application()) as q:
        client = q.aconnect()
        assert await client.set_tenant("acme", bytes=1)
        with pytest.raises(Refused, match="bytes of payload"):
            await client.enqueue("report", {"n": 12345}, tenant="acme")
        await client.enqueue("report", tenant="beta", delay="1h")
        assert [row["name"] for row in await client.tenants()] == ["acme", "beta"]
        assert (await client.tenant("beta"))["waiting"] == (await client.tenant_totals())["waiting"] == 1
        assert [row["id"] for row in await client.peek(tenant="acme")] == []
        await client.remove_tenant("acme")
        await client.enqueue("report", {"n": 12345}, tenant="acme")
