"""``python -m tq``: the command line.

For: calling the command of this very interpreter.
Not for: anything else; see ``tq.cli``.
Runs in: the ``tq`` command.
Promises: the same as ``tq``.
"""

from tq.cli.fast import main

main()
