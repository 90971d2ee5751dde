"""Tenants: whose tasks there are, what was set for each of them, and how much of it is used.

For: ``Tenant``, its weight and its quotas.
Not for: sharing by weight (lanes), who may set a tenant (broker.tenants).
Runs in: the daemon, inside a store, and whatever shows tenants.
Promises: settings that are new stand at the end of the row, so that a row written before them means their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tenant:
    """What was set for a tenant; a quota of 0 is none.

    ``weight`` is its share of a queue beside other tenants with work there. ``queued`` bounds its tasks that wait, ``running`` those
    that run at a time, ``per_day`` those accepted in a day (UTC), and ``bytes`` the payloads of those that are not over.
    """

    name: str
    weight: int = 1
    queued: int = 0
    running: int = 0
    per_day: int = 0
    bytes: int = 0

    def row(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]
