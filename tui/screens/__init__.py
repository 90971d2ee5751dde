"""The screens: one module for each place a digit leads to, and ``screen``, which all of them are.

For: what is shown where, and the actions of each screen beside it.
Not for: how a part draws itself (widgets), what an action costs (actions).
Runs in: the monitor, on Textual.
Promises: each screen names its questions (``wants``), so that nothing is asked for what is not seen.
"""
