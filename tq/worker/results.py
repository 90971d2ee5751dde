"""Answers on their way from the worker to the pool.

For: gathering the rows that settle tasks, and sending them in records that a kernel takes.
Not for: what an answer is (calls), when one must go (worker).
Runs in: the worker, on any of its threads.
Promises: a record is never larger than ``SEND_MOST``; what is said after the daemon is gone is nobody's error.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from typing import Any

import msgpack

from tq.model import MAX_ERROR

SEND_MOST = 100 * 1024
"""Bytes of results in one record: a kernel's SOCK_SEQPACKET takes no more than some 200 kB."""
RESULT_MOST = 160 * 1024
GATHER_MOST = 64
GATHER_NS = 1_000_000
ROW_BYTES = 48
"""What a result takes in a record beside the value itself, generously."""
FAILURE_BYTES = MAX_ERROR + 256
"""What any other end may take."""

Row = list[Any]


class Results:
    """Answers on their way to the pool, gathered and sent in records of at most SEND_MOST. Any thread may add and send."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._rows: deque[Row] = deque()
        self._lock = threading.Lock()
        self._pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
        self.add = self._rows.append
        self.waiting = self._rows.__len__

    def send(self) -> None:
        """Send all there is. The order in which the pool hears of ends has no meaning."""
        if not self._rows:
            return
        try:
            self._send()
        except ConnectionError:  # the daemon is gone: the helper thread ends the process
            pass

    def tell(self, row: Row) -> None:
        """Send a row that is no answer (a task's progress), now and alone."""
        try:
            with self._lock:
                self._channel.send(self._pack(row))
        except ConnectionError:  # as above
            pass

    def _send(self) -> None:
        rows = self._rows
        with self._lock:
            group: list[Row] = []
            size = 0
            while rows:
                row = rows.popleft()
                more = ROW_BYTES + (len(row[6] or b"") if row[2] == 0 else FAILURE_BYTES)
                if size + more > SEND_MOST or len(group) >= 4 * GATHER_MOST:
                    self._channel.send(self._pack(group))
                    group, size = [], 0
                group.append(row)
                size += more
            if group:
                self._channel.send(self._pack(group))
