"""What ``--use`` means: resources, and how much of each.

For: words such as ``gpu`` and ``gpu:2``, and the same in lines of a batch.
Not for: whether there is so much (the daemon knows), the commands about resources (resources).
Runs in: the ``tq`` command; imports only the option table.
Promises: a value that cannot be used is a UsageError that names its option.
"""

from __future__ import annotations

from tq.cli.options import a_name, refuse, unicode_text, whole


def uses_of(flag: str, value: object) -> dict[str, int]:
    """From one word or several, each once, or a map (of a batch); nothing for an empty one."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        words = value if isinstance(value, list) else [value]
        pairs = [_pair(flag, word) for word in words if word != ""]
    found: dict[str, int] = {}
    for name, amount in pairs:
        if name in found:
            refuse(flag, f"expected each resource once, got {name!r} twice")
        found[unicode_text(flag, a_name(flag, name))] = whole(flag, amount) or refuse(flag, f"expected 1 of {name!r} or more, got 0")
    return found


def _pair(flag: str, word: object) -> tuple[str, object]:
    name, colon, amount = word.partition(":") if type(word) is str else ("", "", "")
    if not name or (colon and not amount):
        refuse(flag, f"expected a resource such as gpu, or gpu:2, got {word!r}")
    return name, amount if colon else 1
