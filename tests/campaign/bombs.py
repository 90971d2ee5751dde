"""Size bombs (T15): frames that cost much more memory or time than their bytes, or mean something else than they say.

For: each of them through all of a daemon in this process (``frames.House``), refused in bounded memory and time.
Not for: frames that are merely wrong (frames).
Runs in: a process of its own, under RLIMIT_AS.
Promises: every bomb has its own line of memory and time on stderr; after all of them the daemon still serves.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgpack

from tests.campaign.frames import GROWTH_MIB, framed, house, limited, memory
from tests.campaign.planted import plant as plant_bug
from tests.campaign.suite import ROOT, plain_env, python
from tq import wire

MAX_FRAME = 16 << 20
"""The largest frame that is tried: a daemon takes 1 MiB unless its settings say more."""


def _array(count: int, item: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + item * count


def _asked(verb: str, key: str, value: bytes) -> bytes:
    """The body of a request with one argument, packed already."""
    return b"\x93\x07" + wire.pack(verb) + b"\x81" + wire.pack(key) + value


def bombs(size: int) -> dict[str, bytes]:
    """Streams of about ``size`` bytes that cost much more, or mean something else than they say, after a greeting."""
    room = size - 64
    found = {
        "empty maps": _asked("get", "ids", _array(room, b"\x80")),
        "empty lists": _asked("get", "ids", _array(room, b"\x90")),
        "maps of one": _asked("get", "ids", _array(room // 3, b"\x81\xa0\xc0")),
        "chains of maps": _asked("get", "ids", _array(room // 1001, b"\x81\xa0" * 500 + b"\xc0")),
        "chains of lists": _asked("get", "ids", _array(room // 901, b"\x91" * 900 + b"\xc0")),
        "short texts": _asked("get", "ids", _array(room // 4, b"\xa3\xe4\xb8\x80")),
        "numbers": _asked("get", "ids", _array(room // 5, b"\xce\x7f\xff\xff\xff")),
        "nothing": _asked("get", "ids", _array(room, b"\xc0")),
        "a map of many keys": _asked("edit", "changes", b"\xdf" + (room // 5).to_bytes(4,
        "big") + b"".join(b"\xa3%03x\xc0" % (n & 0xFFF) for n in range(room // 5))),
        "many options": _asked("enqueue", "tasks", _array(room // 14, b"\x93\xa3add\xc0\x81\xa5queue\xc0")),
        "depth": _asked("get", "ids", b"\x91" * (room - 1) + b"\xc0"),
        "lists that announce more": _asked("get", "ids", b"\xdd\x00\x00\x27\x0f" * 1000),
        "a list of four billion": _asked("get", "ids", b"\xdd\xff\xff\xff\xff"),
        "a map of four billion": _asked("get", "ids", b"\xdf\xff\xff\xff\xff"),
        "four gigabytes": _asked("get", "ids", b"\xc6\xff\xff\xff\xff"),
        "a text of four gigabytes": _asked("get", "ids", b"\xdb\xff\xff\xff\xff"),
        "an extension of four gigabytes": _asked("get", "ids", b"\xc9\xff\xff\xff\xff\x05"),
        "a long verb": wire.pack([7, "x" * room, {}]),
        "a long name": wire.pack([7, "peek", {"queue": "x" * room}]),
        "a long argument": wire.pack([7, "peek", {"x" * room: 1}]),
        "a long option": wire.pack([7, "enqueue", {"tasks": [["add", b"", {"x" * (room - 32): 1}]]}]),
        "a long change": wire.pack([7, "edit", {"ids": [1], "changes": {"x" * (room - 32): 1}}]),
        "a deep filter": wire.pack([7, "find", {"where": "(" * room}]),
        "a long filter": wire.pack([7, "find", {"where": "a:b " * (room // 4)}]),
        "a long backoff": _asked("enqueue", "tasks", b"\x91\x93\xa3add\xc0\x81\xa7backoff" + _array(room - 64, b"\xc0")),
        "the same key twice": b"\x93\x07\xa3get\x82\xa3ids\x91\x01\xa3ids\x91\x02",
        "an extension": _asked("get", "ids", b"\xd4\x05\x00"),
        "an extension in extras": _asked("enqueue", "tasks", b"\x91\x93\xa3add\xc0\x81\xa6extras\x81\xa1a\xd4\x05\x00"),
        "an empty extension": _asked("get", "ids", b"\xc7\x00\x05"),
        "a timestamp": _asked("get", "ids", wire.pack(msgpack.Timestamp(1, 2))),
        "a number as a key": b"\x93\x07\xa3get\x81\x05\x91\x01",
        "not a number": wire.pack([7, "peek", {"limit": float("nan")}]),
        "bytes behind it": wire.pack([7, "stats", {}]) + b"\xc0",
    }  # fmt: skip
    streams = {name: framed(body) for name, body in found.items()}
    streams["a frame of four gigabytes"] = b"\xff\xff\xff\xff"
    streams["a frame one byte too long"] = (MAX_FRAME + 1).to_bytes(4, "big")
    streams["requests that pile up"] = framed(_asked("get", "ids", _array(200, b"\x81\xa0" * 500 + b"\xc0"))) * 16
    return streams


HANGS_UP = frozenset({
    "empty maps", "empty lists", "maps of one", "chains of maps", "chains of lists", "a map of many keys", "depth",
    "lists that announce more",
    "short texts", "numbers", "nothing", "many options", "a long backoff",
    "a list of four billion", "a map of four billion", "four gigabytes", "a text of four gigabytes", "an extension of four gigabytes",
    "the same key twice", "an extension", "an extension in extras", "an empty extension", "a timestamp", "a number as a key",
    "bytes behind it",
    "a frame of four gigabytes", "a frame one byte too long",
})  # fmt: skip
"""What is no request at all; the others are requests, each refused with a reason."""
MOST_S = 3.0
"""CPU seconds that no bomb may take; each takes some tenths."""


def exploded(size: int) -> Iterator[str]:
    """Each bomb for itself: refused, in bounded memory and time, and the daemon goes on."""
    with house(max_frame=max(size, 1 << 20)) as one:
        for name, stream in bombs(size).items():
            connection = one.connect()
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # the peak of memory starts anew
            before, began = memory("VmRSS"), time.process_time()
            try:
                with limited(GROWTH_MIB):
                    one.take(connection, stream)
                    one.settle_down()
            except Exception as error:
                yield f"{name}: expected a refusal, got {error!r:.200}"
            grown, took = (memory("VmHWM") - before) >> 10, time.process_time() - began
            sock: Any = connection.sock
            told, closed = one.told(connection), sock.closed
            print(
                f"{name:<32} {len(stream):>9} bytes {grown:>4} MiB {took:6.3f} s  {told[-1][2] if told else told!s:.130}", file=sys.stderr
            )
            if grown > GROWTH_MIB or took > MOST_S:
                yield f"{name}: expected less than {GROWTH_MIB} MiB and {MOST_S} s, got {grown} MiB and {took:.2f} s"
            if not told or any(message[1] == wire.ANSWER for message in told[1:]) or told[-1][1] != wire.ERROR:
                yield f"{name}: expected to be refused, got {told!r:.300}"
            elif told[-1][2][0] == "error":
                yield f"{name}: expected a refusal with a reason, got {told[-1]!r:.300}"
            elif closed != (name in HANGS_UP) or (closed and told[-1][2][0] != "protocol"):
                yield f"{name}: expected the connection {'closed' if name in HANGS_UP else 'open'}, got {told[-1]!r:.300}"
            one.door.close(connection)
        yield from one.wrong()


def apart(size: int, plant: str | None = None) -> list[str]:
    """What is wrong with the bombs of about ``size`` bytes, in a process of their own."""
    argv = python("-m", "tests.campaign.bombs", str(size), *([plant] if plant else []))
    done = subprocess.run(argv, cwd=ROOT, env=plain_env(), capture_output=True, text=True, check=False)
    print(done.stderr)
    return done.stdout.splitlines() if done.returncode == 0 else [f"exit code {done.returncode}: {done.stderr[-2000:]}"]


def main() -> None:
    plant_bug(sys.argv[2] if len(sys.argv) > 2 else None)
    for line in exploded(int(sys.argv[1])):
        print(line)


if __name__ == "__main__":
    main()
