"""The commands of ``tq tenant``.

For: the table of commands (options), which has them from here.
Not for: what their values mean, doing (tenants).
Runs in: the ``tq`` command; imports only what every command needs.
Promises: each option of ``tq tenant set`` is named as its setting is on the wire.
"""

from __future__ import annotations

from tq.cli.table import Command, Option

_JSON = Option("--json", "Print JSON, one object a line.", "flag")
TENANTS: dict[str, Command] = {
    "tenant list": Command("Tenants: weights, quotas, how much of them is used, and the totals of all.", options=(_JSON,)),
    "tenant show": Command("Everything about one of them.", "name", "one", (_JSON,)),
    "tenant set": Command("Its weight and quotas, of which 0 or none is none; what is not named stays as it is.", "name", "one", (
        Option("--weight", "Its share of a queue beside other tenants that have work there (default 1)."),
        Option("--queued", "At most so many of its tasks wait; more are refused (exit code 75)."),
        Option("--running", "At most so many run at a time; the others wait."),
        Option("--per-day", "At most so many are accepted in a day (UTC); more are refused."),
        Option("--bytes", "At most so many bytes of payload in tasks that are not over, 500M or 1G; more are refused."),
    )),
    "tenant remove": Command("Forget its weight and quotas; its tasks stay.", "name", "one"),
}  # fmt: skip
