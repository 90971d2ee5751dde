"""Tenants: whose tasks there are, what was set for each of them, and how much of it is used.

For: ``Tenant``, its weight and its quotas; ``Account``, what there is of a tenant; the refusal of what a quota does not allow.
Not for: sharing by weight (lanes), keeping the accounts of a store (accounts), who may set a tenant (broker.tenants).
Runs in: the daemon, inside a store, and whatever shows tenants.
Promises: pure; settings that are new stand at the end of the row, so that a row written before them means their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tq.errors import Refused
from tq.model import WAITING, State
from tq.store.limits import QUOTA, Limit

DAY_MS = 86_400_000
_STATES = len(State)
_PENDING, _RUNNING, _SUCCEEDED = State.PENDING, State.RUNNING, State.SUCCEEDED


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


def quota_of(tenant: Tenant) -> Limit | None:
    """How many tasks of a tenant may run at a time, as the limit that it is; None: any number."""
    return Limit(QUOTA + tenant.name, "tenant", tenant.name, running=tenant.running) if tenant.running else None


def with_quota(limits: Mapping[str, Limit], name: str, tenant: Tenant | None) -> dict[str, Limit]:
    """The limits, when this is set for the tenant of that name (None: nothing any more)."""
    quota = None if tenant is None else quota_of(tenant)
    others = {key: limit for key, limit in limits.items() if key != QUOTA + name}
    return others if quota is None else {**others, quota.name: quota}


@dataclass(slots=True)
class Account:
    """What there is of a tenant (None: of several together).

    ``states`` has one number per State: of those that are not over how many stand there now, of the final ones how many ended so.
    ``bytes`` are those of the payloads of what is not over; ``run_ms`` is the sum of the times of ``runs`` finished runs;
    ``accepted`` counts what was accepted on ``day`` (since 1970, UTC).
    """

    tenant: str | None
    states: list[int] = field(default_factory=lambda: [0] * _STATES)
    bytes: int = 0
    runs: int = 0
    run_ms: int = 0
    day: int = 0
    accepted: int = 0

    @property
    def waiting(self) -> int:
        return sum([self.states[state] for state in WAITING])

    @property
    def live(self) -> int:
        """How many are not over."""
        return sum(self.states[:_SUCCEEDED])

    def accept(self, count: int, now: int) -> None:
        """So many came. A clock that was put back begins no day anew."""
        if now // DAY_MS > self.day:
            self.day, self.accepted = now // DAY_MS, 0
        self.accepted += count

    def today(self, now: int) -> int:
        """How many were accepted on the day of ``now``."""
        return self.accepted if now // DAY_MS <= self.day else 0

    def ran(self, ms: int) -> None:
        """Count a run of ``ms``; a clock that stepped back makes it 0."""
        self.runs += 1
        self.run_ms += max(ms, 0)

    def row(self) -> list[Any]:
        """As it is stored: what runs counts as pending, since a start finds out by itself what runs."""
        states = list(self.states)
        states[_PENDING] += states[_RUNNING]
        states[_RUNNING] = 0
        return [self.tenant, states, self.bytes, self.runs, self.run_ms, self.day, self.accepted]


def together(accounts: Sequence[Account]) -> Account:
    """What there is of all of these, of whom there is one at least; ``accepted`` on the last of their days."""
    day = max(one.day for one in accounts)
    states = [sum(counts) for counts in zip(*[one.states for one in accounts], strict=True)]
    size, runs, ms = (sum([getattr(one, name) for one in accounts]) for name in ("bytes", "runs", "run_ms"))
    return Account(None, states, size, runs, ms, day, sum([one.accepted for one in accounts if one.day == day]))


class QuotaReached(Refused):
    """A tenant would pass one of its quotas."""


def admit_of(tenant: Tenant, there: Account | None, tasks: int, size: int, now: int) -> None:
    """QuotaReached if a tenant may not have ``tasks`` more, whose payloads have ``size`` bytes."""
    there = there or Account(tenant.name)
    quotas = (
        ("queued", tenant.queued, there.waiting, tasks, "tasks that wait", "it has"),
        ("bytes", tenant.bytes, there.bytes, size, "bytes of payload", "it has"),
        ("per_day", tenant.per_day, there.today(now), tasks, "tasks accepted in a day (UTC)", "today it had"),
    )
    for quota, most, have, more, what, had in quotas:
        if not most or have + more <= most:
            continue
        details: dict[str, Any] = {"tenant": tenant.name, "quota": quota, "most": most, "have": have}
        text = f"tenant {tenant.name!r} has reached its quota: expected at most {most} {what}, {had} {have} and {more} came. "
        raised = f"raise it: `tq tenant set {tenant.name!r} --{quota.replace('_', '-')}`."
        if more > most:  # that would not fit if there were nothing
            raise QuotaReached(f"{text}Nothing was stored; send less at once, or {raised}", **details, too_much=True)
        wait = DAY_MS - now % DAY_MS if quota == "per_day" else 1000
        later = "the next day" if quota == "per_day" else "later"
        raise QuotaReached(f"{text}Nothing was stored; try again {later}, or {raised}", **details, retry_after=wait / 1000)
