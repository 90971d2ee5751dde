"""``python -m tq.daemon``: the door to the room, without anything behind it.

For: being run.
Not for: anything else; see ``tq.daemon``.
Runs in: the daemon process.
Promises: the exit code is ``main``'s.
"""

import sys

from tq.daemon import main

if __name__ == "__main__":
    sys.exit(main())
