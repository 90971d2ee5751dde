"""The demos: what tq does, shown on an instance of their own.

For: ``show`` (``tq demo``: real work, and what became of it), ``busy`` (``tq monitor --demo``: a busy queue to look around in).
Not for: measuring (bench), or anything another room could need.
Runs in: the process of its command, and one beside the monitor; the handlers, ``examples/demo_tasks.py``, in worker processes.
Promises: they work in a private temporary directory; when they end, the daemon, its workers and the directory are gone.
"""
