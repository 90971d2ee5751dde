"""Accounts: how much of each tenant the LMDB store holds, kept with what happens to its tasks.

For: the mirror of what is stored of tenants, what of it is to be stored, quotas of what comes, the first count of an older store.
Not for: what a quota is (tenants), how many may run at a time (gates).
Runs in: the daemon, inside the LMDB store; rebuilt at start and after an aborted turn.
Promises: tasks of nobody cost nothing; a batch of one kind costs as much as one task; a hand-out writes nothing; tenants that are
gone are forgotten one day, and what was counted of them stays in the total.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tq.errors import StoreDamaged
from tq.model import Spec, State, Status, spec_of, status_of
from tq.store import Account, Tenant
from tq.store.files import Dbs
from tq.store.keys import U64, opened, sealed, tenant_key
from tq.store.room import Run
from tq.store.tenants import DAY_MS, admit_of, together

IDLE_KEPT = 10_000
"""Tenants of whom there is no task, and for whom nothing was set, that are still known."""
COUNTED_SINCE = b"accounts"
"""In meta, when the tasks of a store that knew no accounts have been counted."""
RAN = frozenset({"succeeded", "failed", "timed_out"})
_PENDING, _RUNNING = State.PENDING, State.RUNNING


class Accounts:
    """Those of one store; ``tenants`` is what was set for some of them, ``total`` what there is of all."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.total = Account(None)
        self._all: dict[str, Account] = {}
        self._gone = Account(None)
        self._names: list[str] | None = None  # in order; None: not known
        self._dirty: dict[str, Account] = {}
        self._many = 2 * IDLE_KEPT

    def load(self, rows: Iterable[bytes]) -> None:
        """What is stored; which of the tasks run is still to be said, with ``runs``."""
        for row in rows:
            account = account_of(row)
            if account.tenant is None:
                self._gone = account
            else:
                self._all[account.tenant] = account
        self.total = together([*self._all.values(), self._gone])
        self._many = max(self._many, 2 * len(self._all))

    def one(self, name: str) -> Account | None:
        return self._all.get(name)

    def some(self, after: str, most: int) -> list[Account]:
        """By name, those behind ``after``; also of those of whom there never was a task, if something was set for them."""
        if self._names is None:
            self._names = sorted(self._all)
        start = bisect_right(self._names, after)
        others = [name for name in self.tenants if name > after and name not in self._all]
        names = sorted([*self._names[start : start + most], *others])[:most]
        return [self._all.get(name) or Account(name) for name in names]

    def admit(self, runs: Sequence[Run], now: int) -> None:
        """QuotaReached unless each tenant may have all that comes of it."""
        came: dict[str, tuple[int, int]] = {}
        for header, drafts, _ in runs:
            if header.tenant is not None and header.tenant in self.tenants:
                tasks, size = came.get(header.tenant, (0, 0))
                came[header.tenant] = tasks + len(drafts), size + sum([len(draft.payload) for draft in drafts])
        for name, (tasks, size) in came.items():
            admit_of(self.tenants[name], self._all.get(name), tasks, size, now)

    # -- what happens ----------------------------------------------------------------------------------------------

    def _touch(self, name: str) -> tuple[Account, Account]:
        """Its account, which will be written, and that of all."""
        account = self._all.get(name)
        if account is None:
            account = self._all[name] = Account(name)
            self._names = None
        self._dirty[name] = account
        return account, self.total

    def came(self, name: str, counts: Sequence[int], size: int, now: int) -> None:
        """Tasks were accepted: so many of them are scheduled, blocked, and ready."""
        day, came = now // DAY_MS, sum(counts)
        for account in self._touch(name):
            for state, count in enumerate(counts):
                account.states[state] += count
            account.bytes += size
            if account.day < day:  # a clock that was put back begins no day anew
                account.day, account.accepted = day, 0
            account.accepted += came

    def runs(self, name: str, count: int = 1) -> None:
        """So many were handed out; nothing of it is stored."""
        for account in (self._all.get(name) or self._touch(name)[0], self.total):
            account.states[_PENDING] -= count
            account.states[_RUNNING] += count

    def moved(self, name: str, old: State, new: State, count: int = 1) -> None:
        """So many that stood in ``old`` stand in ``new`` now, or ended so."""
        for account in self._touch(name):
            account.states[old] -= count
            account.states[new] += count

    def ran(self, name: str, state: State, runs: int, size: int, ms: int) -> None:
        """So many runs are over that took ``ms`` together, and their tasks stand in ``state``; payloads of ``size`` are over with them."""
        for account in self._touch(name):
            account.states[_RUNNING] -= runs
            account.states[state] += runs
            account.bytes -= size
            account.runs += runs
            account.run_ms += ms

    def removed(self, name: str, state: State, size: int) -> None:
        """One that waited was removed."""
        for account in self._touch(name):
            account.states[state] -= 1
            account.bytes -= size

    def changed(self, was: Spec, now: Spec, old: Status, new: Status, event: str) -> None:
        """One stands elsewhere, or is another one; what has ended so once counts as that for ever."""
        for spec, status, change in ((was, old, -1), (now, new, 1)):
            name = spec.header.tenant
            if name is None:
                continue
            ends = status.state.final
            for account in self._touch(name) if not ends or change > 0 else ():
                account.states[status.state] += change
                account.bytes += 0 if ends else change * len(spec.payload)
        if event in RAN and now.header.tenant is not None:
            run = new if new.finished_at else new.attempts[-1]  # one that will be retried keeps its times there
            for account in self._touch(now.header.tenant):
                account.ran(run.finished_at - run.started_at)

    # -- what is stored --------------------------------------------------------------------------------------------

    def store(self, txn: Any, db: Dbs) -> None:
        """Write what has changed, in one sorted run."""
        if len(self._all) > self._many:
            self._forget(txn, db)
        if self._dirty:
            rows = sorted([(tenant_key(name), sealed(account.row())) for name, account in self._dirty.items()])
            txn.cursor(db["accounts"]).putmulti(rows)
            self._dirty.clear()

    def _forget(self, txn: Any, db: Dbs) -> None:
        """Forget those of whom nothing is left, the ones that came first before the others."""
        idle = [name for name, account in self._all.items() if name not in self.tenants and not account.live]
        for name in idle[: max(len(idle) - IDLE_KEPT, 0)]:
            self._gone = together([self._gone, self._all.pop(name)])
            self._dirty.pop(name, None)
            txn.delete(tenant_key(name), db=db["accounts"])
        self._names = None
        txn.put(tenant_key(None), sealed(self._gone.row()), db=db["accounts"])
        self._many = max(2 * IDLE_KEPT, 2 * len(self._all))


def untouched(spec: Spec) -> Status:
    """The status of a task that nothing has happened to yet."""
    if spec.seq:
        return Status(State.PENDING, seq=spec.seq, ready_at=spec.created_at)
    return Status(State.SCHEDULED, due_at=spec.due_at)


class Recount:
    """The accounts as the tasks themselves have them: tasks that stand somewhere, and bytes of payload."""

    def __init__(self) -> None:
        self.found: dict[str, Account] = {}

    def count(self, spec: Spec, state: State) -> None:
        name = spec.header.tenant
        if name is None:
            return
        account = self.found.get(name)
        if account is None:
            account = self.found[name] = Account(name)
        account.states[_PENDING if state is _RUNNING else state] += 1  # as it is stored: a start finds out by itself what runs
        account.bytes += 0 if state.final else len(spec.payload)

    def differences(self, stored: Mapping[str, Account]) -> Iterator[str]:
        """Where what is stored says something else of what is not over, in words."""
        none = Account(None)
        for name in sorted(self.found.keys() | stored.keys()):
            counted, said = self.found.get(name, none), stored.get(name, none)
            (found, size), (live, had) = ((one.states[: State.SUCCEEDED], one.bytes) for one in (counted, said))
            if (found, size) != (live, had):
                says, counts = f"{_counted(live)} and {had} bytes", f"{_counted(found)} and {size} bytes"
                yield f"tenant {name!r:.100}: its account says {says}, a recount {counts}."


def _counted(states: Sequence[int]) -> str:
    return ", ".join(f"{count} {State(at).word}" for at, count in enumerate(states) if count) or "no tasks"


def is_counted(txn: Any, db: Dbs) -> bool:
    """Whether a store knows accounts."""
    return "accounts" in db and txn.get(COUNTED_SINCE, db=db["meta"]) is not None


def account_of(record: bytes) -> Account:
    """The account whose record this is."""
    return Account(*opened(record, "an account"))


def count_once(txn: Any, db: Dbs) -> None:
    """Count the tasks of a store that knew no accounts before. O(tasks), once; what cannot be read is left out."""
    if is_counted(txn, db):
        return
    recount = Recount()
    for key, record in txn.cursor(db["tasks"]):
        (task_id,) = U64.unpack(key)
        try:
            spec = spec_of(task_id, record)
            if spec.header.tenant is not None:
                status = txn.get(key, db=db["states"])
                recount.count(spec, (untouched(spec) if status is None else status_of(task_id, status)).state)
        except StoreDamaged:
            continue
    for name, account in recount.found.items():
        txn.put(tenant_key(name), sealed(account.row()), db=db["accounts"])
    txn.put(COUNTED_SINCE, b"", db=db["meta"])
