"""The application: every module in the folder `tasks`, whatever it is called.

    tq daemon start --app examples.shop.app

A new type is a new file in that folder; nothing that is there has to know of it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from examples.shop import tasks

for module in iter_modules(tasks.__path__, f"{tasks.__name__}."):
    import_module(module.name)
