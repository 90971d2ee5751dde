"""``tq resource list|set|remove``: what tasks that run share.

For: named resources, how much there is of each, and who has it.
Not for: which task needs what (``--use``: needs), who gets it (the store).
Runs in: the ``tq`` command.
Promises: a name that nobody has used may be a slip, so it is said.
"""

from __future__ import annotations

from typing import Any

from tq.cli import hot
from tq.cli.options import a_name, whole
from tq.cli.render import clean, json_line, plain, print_table
from tq.client import Client
from tq.errors import UsageError


def resource_set(client: Client, values: dict[str, Any]) -> int:
    words = values["name_and_amount"]
    if len(words) != 2:
        raise UsageError("expected a name and an amount: tq resource set gpu 2. `tq resource list` shows what there is.")
    name, amount = a_name("NAME", words[0]), whole("AMOUNT", words[1])
    answer = client.call("set_resource", {"name": name, "amount": amount})
    if answer["new"]:
        hot.say(f"resource {name} is new: `tq add --use {name}` takes 1 of it. `tq resource list` shows those there are.")
    if answer.get("declared", amount) != amount:
        _say_declared(name, answer["declared"])
    return 0


def resource_remove(client: Client, values: dict[str, Any]) -> int:
    name = a_name("NAME", values["name"])
    answer = client.call("remove_resource", {"name": name})
    if "declared" in answer:
        _say_declared(name, answer["declared"])
    return 0


def _say_declared(name: str, amount: int) -> None:
    hot.say(f"the settings file says {amount} of resource {name}: that is set again when the daemon starts. `tq config path`")


def resource_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.resources()
    if values["json"]:
        for row in rows:
            print(json_line(plain(dict(row))))
        return 0
    cells = []
    for row in rows:
        users = ", ".join(map(str, row["tasks"])) or "-"
        kept = f"  kept for task {row['kept_for']}" if row.get("kept_for") else ""
        cells.append((clean(row["name"]), row["amount"], row["in_use"], users + kept))
    print_table(("resource", "there is", "in use", "by tasks"), cells, "no resources yet: `tq resource set gpu 2` makes one")
    return 0
