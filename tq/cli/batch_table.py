"""The part of the table of commands that is about batches.

For: ``tq batch create|list|show|close|cancel|retry|wait|remove``, as ``options.COMMANDS`` has them.
Not for: doing them (batches), ``--in-batch`` of other commands (options).
Runs in: the ``tq`` command; imports nothing but what a command is.
Promises: nothing.
"""

from __future__ import annotations

from tq.cli.table import Command, Option

JSON = Option("--json", "Print JSON: an object, or one a line where there may be many.", "flag")
WAIT_ALL = Option("--wait", "Of many: wait until all of it is done.", "flag")
BATCHES: dict[str, Command] = {
    "batch create": Command("Make a batch of tasks, open for `tq add --in-batch ID`, and print its id.", "name", "optional", (
        Option("--on-complete", "A line for the shell, or type:NAME and a payload as JSON: sent once when it is closed and all are over."),
        Option("--on-success", "The same, when all have succeeded."),
        Option("--on-failure", "The same, when the first fails for good."),
        Option("--auto", "It closes itself when it has members and they are over.", "flag"),
        Option("--meta", "K=V, a note of your own; may be repeated.", "many"),
    )),
    "batch list": Command("Batches, newest first.", options=(Option("--limit -n", "At most so many."), JSON)),
    "batch show": Command("How a batch stands, and what it waits for.", "id", "one", (JSON,)),
    "batch close": Command("That were all of its members, but for what they add: now it can be complete.", "id", "one"),
    "batch cancel": Command("Close it, cancel its members that wait, and ask those that run to end.", "id", "one", (WAIT_ALL,)),
    "batch retry": Command("Run its members again that did not succeed.", "id", "one", (WAIT_ALL,)),
    "batch wait": Command("Wait until it is complete; exit with 1, 124 or 143 if one failed, expired or was cancelled.", "id", "one", (
        Option("--timeout", "Give up waiting after this time (exit code 124)."), JSON,
    )),
    "batch remove": Command("Forget a batch whose members are over; the tasks stay.", "id", "one"),
}  # fmt: skip
