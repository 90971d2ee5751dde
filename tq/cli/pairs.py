"""What K=V means: texts by name.

For: ``--meta``, the same in lines of a batch, and ``tq config set``.
Not for: which names there are (who asks knows).
Runs in: the ``tq`` command; imports only the option table.
Promises: a value that cannot be used is a UsageError that names its option.
"""

from __future__ import annotations

from tq.cli.options import refuse, unicode_text


def pairs_of(flag: str, value: object) -> dict[str, str]:
    """From one word or several, or a map (of a batch); of one name the last counts."""
    if isinstance(value, dict):
        for key, text in value.items():
            if type(text) is not str:
                refuse(flag, f'expected an object of texts such as {{"branch": "main"}}, got {text!r} for {key!r}')
            unicode_text(flag, key)
            unicode_text(flag, text)
        return value
    found = {}
    for pair in value if isinstance(value, list) else [value]:
        key, equals, text = pair.partition("=") if type(pair) is str else ("", "", "")
        if not key or not equals:
            refuse(flag, f"expected K=V, got {pair!r}")
        found[unicode_text(flag, key)] = unicode_text(flag, text)
    return found
