"""The monitor: a full-screen dashboard for people on call, ``tq monitor``.

For: watching and steering one instance from a terminal.
Not for: programs and scripts (``tq stats --json``, the client); nothing outside of this package imports its rooms.
Runs in: the process of ``tq monitor``; importing this package alone loads nothing of the screen.
Promises: what tasks say is cleaned once, where it enters (``state``); a daemon that goes away ends or blanks nothing.

Without a screen: ``clock feed state refresh actions command formats charts paging`` and ``keymap``. On it: ``app``, the ``screens``
and the ``widgets`` that they are made of.
"""
