"""What options mean that hold several things in a word: ``--meta K=V`` and ``--after 17,18``.

For: these words, the same in lines of a batch, and ``tq config set``.
Not for: resources (needs), ids as arguments (options).
Runs in: the ``tq`` command, where one of them is given; imports only the option table.
Promises: a value that cannot be used is a UsageError that names its option.
"""

from __future__ import annotations

from tq.cli.options import is_id, refuse, unicode_text


def pairs_of(flag: str, value: object) -> dict[str, str]:
    """From words ``K=V``, or a map (of a batch)."""
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


def ids_of(flag: str, value: object) -> list[int]:
    """Ids from numbers and words such as ``17,18``."""
    found: list[int] = []
    for given in value if isinstance(value, list) else [value]:
        if type(given) is int and 0 < given < 1 << 63:
            found.append(given)
            continue
        for word in given.split(",") if type(given) is str else [given]:
            if type(word) is not str or not is_id(word):
                refuse(flag, f"expected ids of tasks such as 17,18, got {given!r}")
            found.append(int(word))
    return found
