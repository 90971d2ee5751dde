"""What the monitor's screens are made of.

For: the lists, charts, panes, bars and dialogs that more than one screen shows.
Not for: what is known (state), what can be done (actions), which screen has what (screens).
Runs in: the monitor, on the loop of its Textual application.
Promises: none of them has a style sheet of its own (``monitor.tcss`` is the only one); none parses markup in what it shows.
"""
