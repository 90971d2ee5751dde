"""The command line: a thin path for the verbs that live in shell loops, and Typer for everything.

For: words, tables, JSON lines and exit codes; ``options`` is the one table that both parsers are built from.
Not for: anything a program could want (client), or deciding about tasks (broker).
Runs in: the ``tq`` command.
Promises: ids and data on stdout, words for people on stderr; every error says what was expected, what came and what to
do next; both parsers send the same requests. Importing this package loads nothing.
"""
