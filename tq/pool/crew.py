"""Which workers there are: spawned, replaced, let go, buried.

For: the size of the pool, what a death means, recycling and restarts, scaling, and what a dead daemon left behind.
Not for: their tasks (jobs), who is fed (pool), how many there should be (scaling).
Runs in: the daemon, inside the pool; workers are spawned (never forked) from it.
Promises: a death is noticed at once (pidfd); a worker that is to be replaced works on until another is ready for its place,
and stays if none can start; one that is let go finishes what it has begun; no process outlives its end unnoticed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tq.board import Board, end_command, end_group, machine, start_ticks
from tq.child import Child, kill_and_wait
from tq.errors import ConfigError
from tq.loop import Loop
from tq.model import SHELL
from tq.pool.gathering import Gathering
from tq.pool.jobs import RECORDS_A_TURN, Jobs
from tq.pool.scaling import Scaling
from tq.shell import signal_name
from tq.store import TypeInfo

HELLO_MS = 60_000
RESPAWN_MS = 1000
_STANDING = frozenset({"starting", "ready"})
KEEP_MS = 60_000
"""How long a worker works on whose successor could not start, before another is tried."""


class Crew(Jobs):
    """The workers of one daemon; ``pool`` builds on it."""

    def __init__(
        self, loop: Loop, options: Mapping[str, Any], sizes: tuple[int, int], cooldown_ms: int, wear: tuple[int, int, int],
        log: Callable[..., None],
    ) -> None:  # fmt: skip
        super().__init__(loop, options, wear, log)
        self._options = options
        self._run = Path(options["data_dir"]) / "run"
        self._run.mkdir(mode=0o700, exist_ok=True)
        self._scaling = Scaling(*sizes, cooldown_ms, self._slots)
        self._size = max(sizes[0], min(sizes[1], 1))
        self._respawn_at = 0.0
        self._stopping = False
        self._gathering = Gathering()
        self._to_restart: deque[str] = deque()
        self._known: frozenset[str] = frozenset()  # the types that the last hello named
        self.backlog: Callable[[Collection[str]], int] = lambda _types: 0
        """Slots of workers that tasks of these types wait for: the daemon's to say."""
        self.heaviest: Callable[[Collection[str]], int] = lambda _types: 0
        """The most slots that one of them takes: the daemon's to say."""
        self.beside: Callable[[], int] = lambda: 0
        """Slots that heavy tasks take beside those in which they run: the daemon's to say."""
        self.closed: list[Path] = []
        """Boards of dead workers, to be removed when what they say is stored."""
        self.hellos: list[list[TypeInfo]] = []
        self.lost = 0
        """Workers that have died unasked."""
        """Types that workers named since they were last taken."""
        self.checked: list[tuple[str, list[TypeInfo], str | None]] = []
        """Application checks that are over: worker, its types, and why it refused (None: it did not)."""

    # -- boot ------------------------------------------------------------------------------------------------------

    def bury(self) -> Callable[[int, int], bool]:
        """End what a dead daemon left running; a function that says whether (id, claim) had been begun.

        The boards stay, in ``closed``, until what they say is stored.
        """
        tokens: set[int] = set()
        certain = True
        for path in sorted(self._run.glob("*.board")):
            kept = path if "." in path.stem else path.rename(path.with_name(f"{path.stem}.{path.stat().st_ino}.kept.board"))
            self.closed.append(kept)  # under a name that no worker of ours will have
            try:
                board = Board.open(kept)
            except (ConfigError, OSError) as error:  # a power cut leaves such: nothing on it, so nobody knows
                self._log("board_lost", "warning", board=path.name, why=str(error))
                certain = False
                continue
            if board.machine != machine():
                certain = False  # another boot: every process is gone, and so may be the page's last words
            else:
                pid, ticks = board.worker()
                if pid and start_ticks(pid) == ticks:
                    self._log("orphan_ended", "warning", worker=path.stem, pid=pid)
                    kill_and_wait(pid, ticks)
                if pid:
                    end_group(pid, ticks)  # what its handlers started
                for command in board.commands():
                    end_command(*command)
            tokens |= board.begun()
            board.close()
        return lambda task_id, claim: not certain or Board.token(task_id, claim) in tokens

    # -- coming ----------------------------------------------------------------------------------------------------

    def spawn(self, now: int, *, only_checks: bool = False) -> Child:
        """Start one more worker; it is fed once its hello has come. ``only_checks``: it imports and ends."""
        number = next(n for n in range(1, 1 << 20) if f"w{n}" not in self._children)
        child = Child(f"w{number}", self._run, self._options, now, only_checks=only_checks)
        self._children[child.name] = child
        self._loop.add(child.tasks.fileno(), lambda events: self._on_tasks(child, events))
        self._loop.add(child.control.fileno(), lambda _: self._on_control(child))
        self._loop.add(child.pidfd, lambda _: self._on_death(child))
        return child

    def start(self, now: int) -> None:
        """Bring the pool to its size, unless it is about to end."""
        self._now = now
        if self._stopping:
            return
        try:
            while len(self._staying()) < self._size:
                self.spawn(now)
        except (OSError, ConfigError) as error:  # no descriptors, no memory, no room: later
            self._log("worker_not_started", "error", why=str(error))
            self._respawn_at = now + RESPAWN_MS

    def _staying(self) -> list[Child]:
        """Those that make up the pool's size."""
        return [c for c in self._children.values() if not c.only_checks and not c.retiring and c.state in {"starting", "ready"}]

    def _on_control(self, child: Child) -> None:
        message = child.hear()
        if message is None:
            self._loop.remove(child.control.fileno())
            return
        child.heard_at = self._now
        if message and message[0] == "hello":
            child.types = [TypeInfo(*row) for row in message[1]["types"]]
            child.files = list(message[1].get("files", ()))
            child.known = frozenset({SHELL, *(info.name for info in child.types)})
            if child.only_checks:
                self._drain(child)
                return
            child.batched = frozenset(info.name for info in child.types if info.batch)
            self._gathering.learn(child.types)
            child.state = "ready" if child.state == "starting" else child.state
            self._suspects.started(self._now - child.started_at)
            self._known = child.known
            self.hellos.append(child.types)
            self._log("worker_started", worker=child.name, pid=child.process.pid, types=len(child.types))
            self._relieve()
        elif message and message[0] == "refused":
            child.refused = str(message[1])

    # -- replacing -------------------------------------------------------------------------------------------------

    def restart(self, names: Iterable[str], now: int) -> None:
        """Replace these workers, each when the successor of the one before is ready; unknown names are passed over."""
        self._to_restart += [name for name in names if name not in self._to_restart]
        self._restart_next(now)

    def _restart_next(self, now: int) -> None:
        while self._to_restart and not self._stopping and not any(c.retiring for c in self._children.values() if c.state in _STANDING):
            child = self._children.get(self._to_restart.popleft())
            if child is not None and not child.only_checks and child.state in {"starting", "ready"}:
                self._retire(child, now)

    def _retire(self, child: Child, now: int) -> None:
        """Start another worker in its place; it is let go when that one is ready."""
        child.retiring = True
        self.start(now)

    def _relieve(self) -> None:
        """Let go of workers whose successors are ready."""
        ready = [child for child in self._children.values() if child.state == "ready" and not child.only_checks]
        surplus = len(ready) - self._size
        for child in [child for child in ready if child.retiring][: max(surplus, 0)]:
            self._drain(child)
        if self._to_restart and not self._respawn_at:
            self._respawn_at = self._now  # the next one: by the next tick, as after a death

    def _keep(self, now: int, why: str) -> None:
        """No successor can start: those that were to be replaced work on."""
        kept = [child for child in self._children.values() if child.retiring and child.state in {"starting", "ready"}]
        for child in kept:
            child.retiring, child.keep_until = False, now + KEEP_MS
        self._to_restart.clear()
        if kept:
            self._log("workers_kept", "error", workers=[child.name for child in kept], why=why)

    # -- going -----------------------------------------------------------------------------------------------------

    def _drain(self, child: Child) -> None:
        child.state = "draining"
        self._take_back(child)
        child.tell("drain")
        self._see_off(child)

    def _dismiss(self, child: Child) -> None:
        """Let a worker go that is one too many."""
        if child.state == "starting":
            child.unwanted = True
            child.kill()
        else:
            self._drain(child)

    def drain(self) -> None:
        """No new work: what is not begun goes back, what runs may finish, and each worker ends when it has."""
        self._stopping = True
        for child in list(self._children.values()):
            if child.state in {"starting", "ready"}:
                self._dismiss(child)

    def kill(self) -> None:
        """End all workers now; what they had begun is interrupted."""
        self._stopping = True
        for child in self._children.values():
            child.kill()

    @property
    def empty(self) -> bool:
        return not self._children

    def _on_death(self, child: Child) -> None:
        """It is gone: settle what it answered, say of each other task what became of it, replace it."""
        while self._receive(child, RECORDS_A_TURN):
            pass  # to the last of them: what it answered is not to blame
        if child.state != "draining" or child.jobs:
            for session in ((child.board.worker()), *child.sessions):
                end_group(*session)  # what its handlers started, before its number may be another's
        code = child.process.wait()
        how = f"signal {-code} ({signal_name(-code)})" if code < 0 else f"exit code {code}"
        for command in child.board.commands():
            end_command(*command)
        lost = len(child.jobs)
        self._explain(child, how, 128 - code if code < 0 else None)
        del self._children[child.name]
        if child.only_checks:
            known = child.refused is not None or child.known
            self.checked.append((child.name, child.types, child.refused if known else f"the worker ended with {how} before its hello"))
        elif child.leaves and child.state == "ready" and not code:  # it said so, and has gone before it was let go
            self._log("worker_leaves", worker=child.name, pid=child.process.pid)
        elif not child.unwanted and (child.state != "draining" or code):
            pid = child.process.pid
            self.lost += child.state != "ending"  # that would be by us
            self._log("worker_died", "warning", worker=child.name, pid=pid, how=how, tasks=lost, refused=child.refused)
            if not child.known:
                self._respawn_at = self._now + RESPAWN_MS
                self._keep(self._now, child.refused or f"a new worker ended with {how} before its hello")
        for fd in (child.tasks.fileno(), child.control.fileno(), child.pidfd):
            self._loop.remove(fd)
        self.closed.append(child.keep_board())
        child.close()
        if not self._stopping and not self._respawn_at:
            self._respawn_at = self._now  # by the next tick: not among events that are still to be handled

    def _look_after(self, now: int) -> None:
        """Workers that do not say hello, that have worn out, that are missing."""
        for child in list(self._children.values()):
            if child.state == "starting" and now - child.started_at >= HELLO_MS:
                child.kill()
            if child.leaves and child.state == "ready":
                self._log("worker_leaves", worker=child.name, pid=child.process.pid)
                self._drain(child)
                self._respawn_at = self._respawn_at or now
            if child.worn and child.state == "ready" and not child.retiring and now >= child.keep_until and not self._stopping:
                self._retire(child, now)
        if self._respawn_at and now >= self._respawn_at and not self._stopping:
            self._respawn_at = 0.0
            self.start(now)
            self._restart_next(now)

    # -- the size --------------------------------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, int]:
        """The fewest and the most workers there may be."""
        return self._scaling.low, self._scaling.high

    def scale(self, now: int) -> None:
        """Have as many workers as the work needs. At the end of each turn: what could be handed out has been."""
        scaling = self._scaling
        if scaling.fixed or self._stopping:
            return
        ready = [child for child in self._children.values() if child.state == "ready" and not child.retiring]
        idle = self._of_use(ready)
        wanted = scaling.decide(now, self._size, len(ready), idle, lambda: self._unserved(ready))
        if wanted != self._size:
            self._log("pool_scaled", workers=wanted, before=self._size)
            self._resize(wanted, now)

    def _of_use(self, ready: Iterable[Child]) -> int:
        """How many of these workers have nothing, and are there for a task that wants one. Those whose slots a heavy task takes that
        runs elsewhere are not, nor are any while one waits for more slots than are free."""
        idle, beside = sum(not child.jobs for child in ready), self.beside()
        if not idle:
            return 0
        free = sum(max(self._slots - child.load, 0) for child in ready) - beside
        return 0 if self.heaviest(self._known) > max(free, 1) else max(idle - math.ceil(beside / self._slots), 0)

    def _unserved(self, ready: Iterable[Child]) -> int:
        """Tasks that wait for a worker: in the store, and behind a task that takes longer than was thought."""
        known = self._known.union(*(child.known for child in self._children.values()))
        behind = sum(max(child.load - self._slots, 0) for child in ready if child.flushed)
        gathering = self._gathering
        return self.backlog(known - gathering.kinds) + gathering.unserved(self._now) + behind

    def set_sizes(self, low: int, high: int, now: int) -> None:
        """An operator's word: between so many workers from now on, and as near to what there is as that allows."""
        self._scaling.low, self._scaling.high = low, high
        least = low if self._known else 1  # who never had a worker does not know for which tasks to start one
        self._resize(min(max(self._size, least), high), now)

    def set_wear(self, cooldown_ms: int, recycle: int, max_rss: int, failing: int) -> None:
        """When workers go from now on: idle so long, after so many tasks, with more bytes of memory, after so many failures in a row; as
        ``Pool`` takes them."""
        self._scaling.cooldown_ms, self._recycle_after, self._max_rss, self._failing_after = cooldown_ms, recycle, max_rss, failing

    def dismiss(self, name: str) -> bool:
        """Let a worker finish what runs in it and go, without another in its place; False: there is none of that name.

        The pool is smaller by one from then on, and so is the fewest it may have (of a fixed size, the most too).
        """
        child = self._children.get(name)
        if child is None or child.only_checks:
            return False
        if child.state in {"starting", "ready"}:
            if not child.retiring:  # another takes its place already
                low, high = self.sizes
                self._size = max(self._size - 1, 0)
                self._scaling.low = min(low, self._size)
                self._scaling.high = high if low < high else self._size
            self._dismiss(child)
        return True

    def _resize(self, size: int, now: int) -> None:
        self._size = size
        staying = self._staying()
        # idle ones first, then those that have only begun to start, then the others; of each kind the youngest
        staying.sort(key=lambda child: (child.state == "ready" and bool(child.jobs), child.state != "ready", -child.started_at))
        for child in staying[: max(len(staying) - size, 0)]:
            self._dismiss(child)
        self.start(now)
        self._relieve()
