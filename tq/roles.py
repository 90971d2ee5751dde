"""Roles: which verbs a connection that only reads may use.

For: the one table of verbs that change nothing, and of those that may; the refusal of the latter.
Not for: who may connect at all (api), what a verb does.
Runs in: the daemon, and clients that offer only what would be allowed.
Promises: every verb of the protocol is in one of the two (a test says so), and what is in neither is not allowed.

A verb counts by its name: the dry run of one that changes things is not for readers either. ``check_app`` runs the application's code,
and what ``workers`` asks of them changes none.
"""

from __future__ import annotations

from tq.errors import NotAllowed

READ_WRITE, READ_ONLY = "read-write", "read-only"

READING = frozenset({
    "hello", "get", "find", "view", "page", "place", "rows", "news", "complete", "explain", "dead", "peek", "why", "wait", "chores", "log",
    "stats", "history", "attention", "queues", "types", "resources", "limits", "tenants", "breakers",
    "events", "schedules", "alerts", "plan", "next_slots", "workers", "status", "config", "watch",
})  # fmt: skip
"""Verbs that change nothing."""

WRITING = frozenset({
    "enqueue", "cancel", "retry", "edit", "remove", "suspend", "resume", "input", "mute", "set_queue", "set_resource", "remove_resource",
    "enter_breaker", "report_breaker", "set_breaker", "remove_breaker", "reset_breaker", "trip_breaker",
    "set_limit", "remove_limit", "set_tenant", "remove_tenant",
    "set_schedule", "remove_schedule", "run_schedule", "scale_workers", "drain_worker", "restart_workers", "set_log", "configure",
    "check_app", "compact", "stop", "claim", "extend", "settle", "release",
})  # fmt: skip
"""Verbs that may."""


def allow(verb: str, read_only: bool) -> None:
    """NotAllowed if a connection that is ``read_only`` asks for a verb that may change something."""
    if read_only and verb not in READING:
        raise NotAllowed(f"{verb}: expected a verb that changes nothing on a connection that only reads. Use one that does not.")
