"""What the settings file said of queues, resources and limits at the last start, so that what it says no more can have its default again.

For: ``DATA_DIR/declared.json``, written after each time the file was applied.
Not for: what settings mean (broker.declared), what queues are (the store).
Runs in: the daemon, when it starts and when it reads its settings again.
Promises: a daemon that dies between applying and writing applies the same again; a file that is gone, or cannot be read or
written, means that what a settings file names no more stays as it was, and nothing worse.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tq.broker import Broker
from tq.broker.declared import Declared, declared_queues
from tq.broker.declared_limits import declared_limits
from tq.broker.resources import declared_resources
from tq.broker.rules import declared_rules
from tq.config.settings import Settings

FILE = "declared.json"
RESOURCES, LIMITS = "", ":limits"
"""What stands for resources among names of queues, and for limits among those of resources, of which they are none."""


def declare(broker: Broker, settings: Settings, now: int) -> None:
    """Set resources, limits, queues and alert rules as the settings file says.

    ConfigError: nothing was changed. Refused: there is no room; resources, limits, queues and rules are set in this order, each of the
    four whole or not at all, and the next start or reload does what is left.
    """
    queues, rules = declared_queues(settings.file, settings.queues), declared_rules(settings.file, settings.alerts)
    resources = declared_resources(settings.file, settings.resources)
    path = settings.data_dir / FILE
    former = _read(path)
    limits = declared_limits(settings.file, settings.limits)
    beside = resources | ({LIMITS: limits} if limits else {})
    said = queues | ({RESOURCES: beside} if beside else {})
    same = said == former
    before = former.pop(RESOURCES, {})
    limits_before = before.pop(LIMITS, {})
    if resources or before:
        broker.declare_resources(resources, before, str(settings.file), now)
    if limits or limits_before:
        broker.declare_limits(limits, limits_before, str(settings.file), now)
    if queues or former:
        broker.declare(queues, former, str(settings.file), now)
    if not same:
        _write(path, said)
    broker.watch_rules(rules, str(settings.file), now)


def _read(path: Path) -> Declared:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    good = isinstance(found, dict) and all(isinstance(settings, dict) for settings in found.values())
    return found if good else {}


def _write(path: Path, declared: Declared) -> None:
    fresh = path.with_suffix(".new")
    try:
        if declared:
            fresh.write_text(json.dumps(declared, indent=1) + "\n")
            os.replace(fresh, path)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass  # no room: the next start tries again
