"""Doors: what comes in becomes requests, what the broker says becomes answers, and nothing else happens here.

For: the ways into the daemon. Today one, the Unix socket (unix.py), and following a task's output (follow.py).
Not for: verbs; each door offers the same ones, by the same names.
Runs in: the daemon, on the thread of its loop.
Promises: a door's client can be slow, rude or gone without anybody else noticing.
"""
