"""What is printed: task objects for ``--json``, lines and tables for people, exit codes.

For: turning rows of the wire into text.
Not for: asking for them; colours (none: output is for pipes as much as for people).
Runs in: the ``tq`` command; imports only C modules and what msgpack has loaded already.
Promises: no text of a task reaches a terminal uncleaned; JSON is ASCII, one line, with RFC 3339 times in UTC and
durations in seconds; bytes in it are base64 text, and NaN and infinities their names (as in protobuf's JSON).
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

INF = float("inf")
UNREADABLE = "cannot be read as a value; these are its bytes in base64."
EXIT = {"succeeded": 0, "failed": 1, "cancelled": 143, "expired": 124}


def code_of(row: dict[str, Any] | None) -> int:
    """The exit code that a finished task stands for; 66 where there is none."""
    if row is None:
        return 66
    code, state = row["exit_code"], row["state"]
    if state == "failed":
        if (row["error"] or {}).get("type") == "TimedOut":
            return 124
        if isinstance(code, int) and code:
            return code & 0xFF or 1
    return EXIT.get(state, 1)


def value_of(data: bytes | None) -> Any:
    """The value in a payload or result; bytes that hold none are given as they are."""
    if not data:
        return None
    try:
        return msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=False)
    except (TypeError, ValueError, RecursionError, msgpack.UnpackException):  # TypeError: a list as a key of a map
        return data


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not -INF < value < INF:
        return "Infinity" if value > 0 else "-Infinity" if value < 0 else "NaN"
    if isinstance(value, bytes):
        from binascii import b2a_base64

        return b2a_base64(value, newline=False).decode()
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def json_line(value: Any) -> str:
    """One line of ASCII JSON, by the C encoder behind ``json`` (whose import costs most of an interpreter start)."""
    try:
        from _json import encode_basestring_ascii, make_encoder

        encode = make_encoder(None, repr, encode_basestring_ascii, None, ": ", ", ", False, False, False)
        return "".join(encode(value, 0))
    except (ImportError, TypeError):  # private to the standard library: it may change
        import json

        return json.dumps(value, allow_nan=False)


def instant(ms: int) -> str | None:
    """RFC 3339 in UTC with milliseconds; None for none."""
    if not ms:
        return None
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms after 1970"


_OUTCOMES = {"TimedOut": "timeout", "WorkerDied": "crashed", "LeaseLapsed": "crashed", "Interrupted": "interrupted"}  # tq.lifecycle's
ATTEMPT = ("attempt", "started_at", "finished_at", "outcome", "worker", "error", "exit_code")


def attempts_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The attempts that are known, the last (or running) one among them: the task itself has that. Times in ms."""
    found = [dict(zip(ATTEMPT, one, strict=True)) for one in row["attempts"]]
    known = found[-1]["attempt"] if found else 0
    state, count = row["state"], row["attempt"]
    if state == "running":
        found.append(dict(zip(ATTEMPT, (count + 1, row["started_at"], 0, "running", row["worker"], None, None), strict=True)))
    elif count > known and row["finished_at"]:
        kind = (row["error"] or {}).get("type")
        outcome = state if state in ("succeeded", "cancelled") else _OUTCOMES.get(str(kind), "failed")
        last = (count, row["started_at"], row["finished_at"], outcome, row["worker"], row["error"], row["exit_code"])
        found.append(dict(zip(ATTEMPT, last, strict=True)))
    return found


def backoff_object(row: Sequence[Any]) -> dict[str, Any]:
    kind, base, factor, cap, jitter = row
    return {"kind": kind, "delay": base / 1000, "factor": factor, "max_delay": cap / 1000, "jitter": jitter}


def spoken(ms: int) -> str:
    """A duration as options take it: ``1h30m``, ``250ms``, ``0``."""
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, ms = divmod(ms, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0"


_ZERO = {"aging_ms": "never", "timeout_ms": "none", "keep_ms": "not at all"}
"""What nothing means: 0 ms would be a strange time limit."""


def option_name(name: str) -> str:
    """What the option is called that has this name on the wire."""
    known = {"due_at": "at", "routes": "route", "expires_at": "expires"}.get(name)
    return known or name.removesuffix("_ms").replace("_", "-")


def option_words(name: str, value: Any) -> str:
    """The value of a wire option or setting, as a person would say it."""
    if value is None:
        return "none" if name.startswith("hold_") else "default"
    if not value and name in _ZERO:
        return _ZERO[name]
    if name == "backoff":
        kind, base, _, cap, jitter = value
        return f"{kind} {spoken(base)} to {spoken(cap)}{'' if jitter else ' without jitter'}"
    if name.endswith("_ms"):
        return spoken(value)
    if name.endswith("_at"):
        return instant(value) or "none"
    if name == "hold_load":
        return f"{value:g}"
    if name in ("max_bytes", "hold_memory"):
        shift = next((shift for shift in (40, 30, 20, 10) if value and value % (1 << shift) == 0), 0)
        return f"{value >> shift}{' KMGT'[shift // 10].strip()}"
    if name == "payload" and isinstance(value, int):
        return f"{value} bytes"
    if name == "routes":
        return " ".join(map(clean, value)) or "none"
    return value if isinstance(value, str) else json_line(plain(value))


def held_words(hold: dict[str, Any]) -> str:
    """Why a queue is held, and when that was seen."""
    return clean(hold["why"]) + (f"; looked {seconds(hold['age_ms'] / 1000)} ago" if "age_ms" in hold else "")


def held_object(hold: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same for ``--json``."""
    return hold and {"rules": hold["rules"], "why": hold["why"], "age": hold["age_ms"] / 1000}


def options_object(found: dict[str, Any]) -> dict[str, Any]:
    """Wire options or settings for ``--json``: durations in seconds, times in RFC 3339; None where a default holds."""
    told: dict[str, Any] = {}
    for name, value in found.items():
        if name.endswith("_ms"):
            told[name.removesuffix("_ms")] = None if value is None else value / 1000
        elif name == "backoff":
            told[name] = backoff_object(value) if value else None
        else:
            told[name] = instant(value) if name.endswith("_at") else value
    return told


_TIMES = ("created_at", "due_at", "ready_at", "started_at", "finished_at", "expires_at")


def task_object(row: dict[str, Any]) -> dict[str, Any]:
    """A task for ``--json`` (design: at least id type queue state priority payload attempt ... correlation_id)."""
    found = {**row, "payload": plain(value_of(row["payload"])), "result": plain(value_of(row["result"]))}
    for key in _TIMES:
        found[key] = instant(row[key])
    found["timeout"] = found.pop("timeout_ms") / 1000 or None
    found["retry_for"] = found.pop("retry_for_ms") / 1000 or None
    deadline_ms = found.pop("deadline_ms")
    found["deadline_at"] = instant(row["created_at"] + deadline_ms) if deadline_ms else None
    found["backoff"] = backoff_object(row["backoff"])
    found["worker"] = row["worker"] or None
    found["suspended"] = bool(row.get("suspended"))
    found["progress"] = {"fraction": row["progress"][0], "text": row["progress"][1]} if row["progress"] else None
    found["attempts"] = [
        {**one, "started_at": instant(one["started_at"]), "finished_at": instant(one["finished_at"])} for one in attempts_of(row)
    ]
    for key in ("error", "meta", "attempts"):
        found[key] = plain(found[key])
    return found


def clean(text: object) -> str:
    """Text of a task, in one line, safe for a terminal."""
    word = str(text)
    if word.isprintable():
        return word
    from tq.model import safe_text

    return safe_text(word)


def seconds(value: float | None) -> str:
    """A duration as people read it; - for none."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def run_time(row: dict[str, Any]) -> float | None:
    """Seconds that the last attempt took."""
    return (row["finished_at"] - row["started_at"]) / 1000 if row["finished_at"] and row["started_at"] else None


def status_line(row: dict[str, Any]) -> str:
    """``42  succeeded  email  queue default  attempt 1  took 12 ms``."""
    parts = [str(row["id"]), row["state"], clean(row["type"]), f"queue {clean(row['queue'])}"]
    if row["attempt"]:
        parts.append(f"attempt {row['attempt']}")
    if row["state"] in ("scheduled", "retrying"):
        parts.append(f"due {instant(row['due_at'])}")
    if row["cancel_asked"] and row["state"] == "running":
        parts.append("asked to end")
    if row.get("suspended"):
        parts.append("suspended")
    if row["progress"]:
        parts.append(f"{row['progress'][0]:.0%} {clean(row['progress'][1] or '')}".strip())
    if (took := run_time(row)) is not None:
        parts.append(f"took {seconds(took)}")
    if row["exit_code"] is not None:
        parts.append(f"exit code {row['exit_code']}")
    if row["error"]:
        parts.append(clean(f"{row['error'].get('type') or 'Error'}: {row['error'].get('message') or ''}")[:200])
    if row["label"]:
        parts.append(f"label {clean(row['label'])}")
    return "  ".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int = 0) -> str:
    """Aligned columns, numbers to the right; cut to ``width`` characters if it is not 0."""
    lines = [[*head], *([clean("-" if cell is None else cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    right = [bool(rows) and all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(head))]
    found = []
    for line in lines:
        text = "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)).rstrip()
        found.append(text if not width or len(text) <= width else text[: width - 1] + "…")
    return "\n".join(found)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A table on stdout; where there are no rows ``empty``, for people, on stderr."""
    if rows:
        print(table(head, rows))
    else:
        from tq.cli.hot import say

        say(empty)


HELD_TOLD = 5
_SCOPES = {"flow": "flow key"}


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def stats_object(body: dict[str, Any]) -> dict[str, Any]:
    """The same for ``--json``: times in RFC 3339."""
    limits = [{**row, "opens_at": instant(row["opens_at"])} for row in body.get("limits", ())]
    breakers = [{**row, "since": instant(row["since"]), "until": instant(row["until"])} for row in body.get("breakers", ())]
    return {**body, "limits": limits, "breakers": breakers}


def held_lines(body: dict[str, Any]) -> list[str]:
    """Limits that are reached and breakers that are open, in a line each."""
    lines = []
    for row in body.get("limits", ()):
        whom = ", ".join(clean(name) for name in row["of"][:HELD_TOLD]) + (", ..." if len(row["of"]) > HELD_TOLD else "")
        until = f" until {instant(row['opens_at'])}" if row["opens_at"] else ""
        lines.append(f"limit        {clean(row['name'])} is reached by {_SCOPES.get(row['scope'], row['scope'])} {whom}{until}")
    for row in body.get("breakers", ()):
        name = f"type {clean(row['type'])}" if row["type"] else f"service {clean(row['name'])}"
        until = f" until {instant(row['until'])}" if row["until"] else ""
        lines.append(f"breaker      that of {name} is {clean(row['state']).replace('_', ' ')}{until} ({clean(row['why'])})")
    return lines


def stats_words(body: dict[str, Any]) -> str:
    """The body of ``stats``, every figure of it, for people."""
    states = "  ".join(f"{word} {count}" for word, count in body["states"].items() if count) or "none"
    workers = body["workers"]
    times = "  ".join(f"{name} {seconds(body[name])}" for name in ("p50", "p95", "p99"))
    lines = [
        f"tasks        {states}",
        f"waiting      {body['queue_length']}",
        f"running      {body['running']}",
        f"completed    {body['completed']}  (success rate {_share(body['success_rate'])})",
        f"failed       {body['failed']}  (failure rate {_share(body['failure_rate'])})",
        f"run time     mean {seconds(body['avg_process_time'])}  {times}",
        f"workers      {workers['active']} of {workers['total']} slots busy  (utilisation {_share(body['utilisation'])})",
    ]
    lines += held_lines(body)
    for what in ("queues", "types"):
        if body.get(what):
            head = (what[:-1], "waiting", "running", "completed", "failed", "success", "mean", "p50", "p95", "p99")
            rows = [
                (name, one["queue_length"], one["running"], one["completed"], one["failed"], _share(one["success_rate"]),
                 seconds(one["avg_process_time"]), seconds(one["p50"]), seconds(one["p95"]), seconds(one["p99"]))
                for name, one in body[what].items()
            ]  # fmt: skip
            lines += ["", table(head, rows)]
    return "\n".join(lines)
