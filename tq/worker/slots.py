"""More than one task at a time: threads for functions and commands, one event loop for coroutines.

For: tasks that wait. A thousand sleeping tasks need a few of these processes, not a thousand.
Not for: work that computes (more workers are for that), and one slot (``tq.worker`` alone is faster: handing a task to
a thread costs ten times what running an empty one does).
Runs in: the worker, if it has more than one slot.
Promises: a record is read only when a slot is free; a thread is started only when none rests; a task's end is sent
before its slot takes the next.
"""

from __future__ import annotations

import queue
import threading
import traceback
from typing import TYPE_CHECKING

from tq.context import run_here
from tq.model import SHELL
from tq.worker.capture import aside
from tq.worker.together import CALL, Call

if TYPE_CHECKING:
    import asyncio

    from tq.worker import Worker
    from tq.worker.capture import Run


class Slots:
    """The slots of one worker; ``serve`` belongs to the main thread."""

    def __init__(self, worker: Worker, count: int) -> None:
        self._worker = worker
        self._count = count
        self._free = list(range(count))
        self._resting = 0  # threads that wait for work, less the work that waits for them
        self._changed = threading.Condition()
        self._work: queue.SimpleQueue[tuple[Run, int]] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly

    def serve(self) -> None:
        """Run tasks until a drain; return when all that began have ended."""
        worker = self._worker
        while self._wait_for_one() and (record := worker.receive()) is not None:
            how, items = record
            for group in [items] if how == CALL else [[item] for item in items]:
                if self._wait_for_one():
                    slot = self._free.pop()
                    run = worker.begin_call(group, slot) if how == CALL else worker.begin(group[0], slot)
                    if run is None:
                        self._free.append(slot)
                    else:
                        self._start(run, slot)
                else:
                    for item in group:
                        worker.give_back(item)
            if worker.draining:
                worker.results.send()
        with self._changed:
            self._changed.wait_for(lambda: len(self._free) == self._count)

    def wake(self) -> None:
        """Look again: a drain was asked."""
        with self._changed:
            self._changed.notify_all()

    def _wait_for_one(self) -> bool:
        """Wait for a free slot; False: a drain came first."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._worker.draining)
        return not self._worker.draining

    def _start(self, run: Run, slot: int) -> None:
        kind = run.spec.header.type
        if self._worker.is_coroutine(kind):
            loop = self._event_loop()
            loop.call_soon_threadsafe(self._create, loop, run, slot)
            return
        if kind == SHELL:
            self._worker.mortal(False)
        with self._changed:
            self._resting -= 1
            rests = self._resting >= 0
            if not rests:
                self._resting = 0
        self._work.put((run, slot))
        if not rests:
            threading.Thread(target=self._run_here, name="tq-slot", daemon=True).start()

    def _run_here(self) -> None:
        """A thread's life: one task after another."""
        while True:
            run, slot = self._work.get()
            run_here(run)
            if isinstance(run, Call):
                self._worker.perform_call(run)
            else:
                self._worker.perform(run)
            run_here(None)
            self._worker.results.send()
            with self._changed:
                self._resting += 1
                self._give_back(slot)

    def _give_back(self, slot: int) -> None:
        self._free.append(slot)
        if len(self._free) == 1 or self._worker.draining:
            self._changed.notify_all()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._turn, args=(self._loop,), name="tq-loop", daemon=True).start()
        return self._loop

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """The event loop's life: whatever ends it (a handler's ``stop()``, SystemExit in a task that it has started), it goes on."""
        while not loop.is_closed():
            try:
                loop.run_forever()
            except BaseException:  # noqa: BLE001 - as above
                aside(traceback.format_exc().encode(errors="backslashreplace"))

    def _create(self, loop: asyncio.AbstractEventLoop, run: Run, slot: int) -> None:
        task = loop.create_task(self._await(run, slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await(self, run: Run, slot: int) -> None:
        run_here(run)
        if isinstance(run, Call):
            await self._worker.perform_call_async(run)
        else:
            await self._worker.perform_async(run)
        self._worker.results.send()
        with self._changed:
            self._give_back(slot)
