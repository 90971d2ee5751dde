"""``python -m tq.daemon``: the door to the room, without anything behind it.

For: being run.
Not for: anything else; see ``tq.daemon``.
Runs in: the daemon process.
Promises: the exit code is ``main``'s; a SIGTERM that comes before the daemon listens for it is exit code 0, too: there is
nothing that it could lose.
"""

import os
import signal
import sys


def _enter() -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from tq.daemon import main

    return main()


if __name__ == "__main__":
    sys.exit(_enter())
