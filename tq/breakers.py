"""Circuit breakers: when calls of something that fails are to stop, and when it is tried again.

For: rules and their words (``5 failures in 1m, cool 30s``), and the one table of what a breaker does with each call's outcome.
Not for: clocks, stores, who is asked (broker), how a handler asks (client.guard).
Runs in: the daemon; programs that declare a rule, and the command line, for its words.
Promises: pure: an instant and an outcome give another breaker, and nothing else; what a breaker remembers is bounded; an outcome of a
call that began before the breaker last opened or closed changes nothing.

The states are Michael Nygard's (Release It!, 2007, "Circuit Breaker"), the words of the settings those that resilience4j has::

    closed ──so many failures, or such a rate of them──> open ──its cool-down is over──> half_open ──so many successes──> closed
                                                          ^                                  │
                                                          └────────a probe failed────────────┘   (cools twice as long, up to a bound)

While it is closed all may call, while it is open nobody, while it is half open so many at a time as it has ``probes``.

A rule is clauses with commas between them, in any order:

    5 failures          it opens after so many in a row (the default, if there is no other rule of when)
    5 failures in 1m    after so many within that time, whatever succeeded between them
    50% of 20           when of the last 20 calls so many have failed
    50% in 1m           when of the calls within that time so many have failed, of at least 10; ``50% of 30 in 1m``: of at least 30
    cool 30s            for how long it stays open (30s), twice as long each time a probe fails, up to 20 times that
    cool 30s to 10m     the same, up to that
    probes 2            how many may try at a time while it is half open (1)
    close 3             after how many successes of theirs it closes (1)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tq.model import brief, duration_ms

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
PARTS = 20
"""A window of time is kept in so many parts."""
LEAST_CALLS = 10
"""Of fewer calls within a time no rate says anything, unless the rule does."""
COUNT_MOST = 1000
"""Of calls and failures that a rule counts."""
COOL_MS = (100, 86_400_000)
GROWTH, GROWN_MOST = 2, 20
LEVEL_MOST = 30
FORMS = "such as '5 failures in 1m, cool 30s', '50% of 20, cool 10s to 5m, probes 2, close 3'"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a breaker opens and closes; 0: that is none of its reasons. Durations in ms, ``rate`` in per cent."""

    failures: int = 5
    failures_ms: int = 0
    rate: int = 0
    rate_calls: int = 0
    rate_ms: int = 0
    cool_ms: int = 30_000
    cool_most_ms: int = 600_000
    probes: int = 1
    successes: int = 1

    @classmethod
    def of(cls, text: str) -> Rule:
        """The rule that the words mean; see the module. ValueError says what was expected."""
        found: dict[str, int] = {}
        for clause in text.lower().split(","):
            words = " ".join(clause.split())
            said = next((read(match) for form, read in _CLAUSES if (match := re.fullmatch(form, words, re.ASCII))), None)
            if said is None or not found.keys().isdisjoint(said):
                raise ValueError(f"expected a rule {FORMS}, got {brief(text)}" + (f" (at {brief(words)})" if words else ""))
            found |= said
        if "rate" in found and "failures" not in found:
            found["failures"] = 0
        if "cool_ms" in found:
            found.setdefault("cool_most_ms", min(found["cool_ms"] * GROWN_MOST, COOL_MS[1]))
        rule = cls(**found)
        rule.check()
        return rule

    def check(self) -> None:
        """ValueError where a number is out of its range."""
        counts = {"failures": self.failures, "calls": self.rate_calls, "probes": self.probes, "successes": self.successes}
        least = {"failures": int(not self.rate), "calls": 0}
        for name, count in counts.items():
            if not least.get(name, 1) <= count <= COUNT_MOST:
                raise ValueError(f"expected from {least.get(name, 1)} to {COUNT_MOST} {name}, got {count}")
        if self.rate and not (0 < self.rate <= 100 and (self.rate_calls or self.rate_ms)):
            raise ValueError(f"expected a rate from 1% to 100%, got {self.rate}%")
        for name, ms in (("failures in", self.failures_ms), ("a rate in", self.rate_ms)):
            if ms and not COOL_MS[0] <= ms <= COOL_MS[1]:
                raise ValueError(f"expected {name} 100ms to 1d, got {words_of(ms)}")
        if not COOL_MS[0] <= self.cool_ms <= self.cool_most_ms <= COOL_MS[1]:
            raise ValueError(f"expected to cool from 100ms to 1d, got {words_of(self.cool_ms)} to {words_of(self.cool_most_ms)}")

    def __str__(self) -> str:
        """Its words; ``Rule.of`` reads them."""
        parts = []
        if self.failures:
            parts.append(f"{self.failures} failures" + (f" in {words_of(self.failures_ms)}" if self.failures_ms else ""))
        if self.rate:
            of = f" of {self.rate_calls}" if self.rate_calls else ""
            parts.append(f"{self.rate}%{of}" + (f" in {words_of(self.rate_ms)}" if self.rate_ms else ""))
        parts.append(f"cool {words_of(self.cool_ms)} to {words_of(self.cool_most_ms)}")
        return ", ".join([*parts, f"probes {self.probes}", f"close {self.successes}"])


def _within(text: str | None) -> int:
    """The ms of a clause; a time of 0 would be no limit."""
    if text is None:
        return 0
    return duration_ms(text) or -1


_CLAUSES: tuple[tuple[str, Callable[[re.Match[str]], dict[str, int]]], ...] = (
    (r"(\d{1,9}) failures?(?: in (.+))?", lambda m: {"failures": int(m[1]) or -1, "failures_ms": _within(m[2])}),
    (r"(\d{1,3})% of (\d{1,9})(?: in (.+))?", lambda m: {"rate": int(m[1]) or -1, "rate_calls": int(m[2]), "rate_ms": _within(m[3])}),
    (r"(\d{1,3})% in (.+)", lambda m: {"rate": int(m[1]) or -1, "rate_ms": _within(m[2])}),
    (r"cool (\S+) to (\S+)", lambda m: {"cool_ms": duration_ms(m[1]), "cool_most_ms": duration_ms(m[2])}),
    (r"cool (\S+)", lambda m: {"cool_ms": duration_ms(m[1])}),
    (r"probes (\d{1,9})", lambda m: {"probes": int(m[1])}),
    (r"close (\d{1,9})", lambda m: {"successes": int(m[1])}),
)  # fmt: skip


def words_of(ms: int) -> str:
    """A duration as a rule has it: 90s, 5m, 250ms."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


class Permit(NamedTuple):
    """Whether a call may be made: ``number`` is that of a probe (0: none), whose outcome is to be told with it; ``wait_ms``: when not to be
    made, how long to wait before asking again."""

    go: bool
    number: int = 0
    wait_ms: int = 0


Calls = tuple[int, int, int]
"""When, and how many of them succeeded and failed."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Instants in ms. ``until``: when it is half open, 0 of one that is open: not by itself. ``level``: how often it has opened since it
    was last closed; ``epoch`` rises whenever it opens or closes."""

    rule: Rule = Rule()
    state: str = CLOSED
    since: int = 0
    until: int = 0
    level: int = 0
    epoch: int = 0
    why: str = ""
    row: int = 0
    """Failures in a row."""
    failed_at: tuple[int, ...] = ()
    calls: tuple[Calls, ...] = ()
    won: int = 0
    """Probes that have succeeded."""
    passes: tuple[tuple[int, float], ...] = ()
    """Probes under way: number, and when it counts as lost."""
    given: int = 0

    def looked(self, now: int) -> Breaker:
        """The breaker as it is now: half open where its cool-down is over, without probes that are lost."""
        if self.state == OPEN and 0 < self.until <= now:
            return Breaker(self.rule, HALF_OPEN, self.until, self.until, self.level, self.epoch, self.why, given=self.given)
        if self.passes and min(lost for _, lost in self.passes) <= now:
            return replace(self, passes=tuple(one for one in self.passes if one[1] > now))
        return self

    @property
    def places(self) -> int:
        """How many probes may begin, of one that is half open."""
        return max(self.rule.probes - len(self.passes), 0)

    def enter(self, now: int, lost_ms: float = math.inf, number: int = 0) -> tuple[Breaker, Permit]:
        """Somebody wants to call. A probe gets ``number`` (0: one of its own), and is lost when nothing was heard for ``lost_ms``."""
        here = self.looked(now)
        if here.state == CLOSED:
            return here, Permit(True)
        if here.state == OPEN:
            return here, Permit(False, wait_ms=here.until - now if here.until else here.rule.cool_ms)
        if not here.places:
            return here, Permit(False, wait_ms=max(here.rule.cool_ms // 4, COOL_MS[0]))
        number = number or here.given + 1
        given = max(here.given, number)
        return replace(here, given=given, passes=(*here.passes, (number, now + lost_ms))), Permit(True, number)

    def heard(self, now: int, good: int, bad: int, *, epoch: int | None = None, number: int = 0, why: str = "") -> Breaker:
        """So many calls have succeeded, and after them so many failed; of the probe ``number``: how it went (neither: nobody knows).

        ``epoch`` is that of the breaker when they began, None: they began under this one.
        """
        here = self.looked(now)
        if epoch is not None and epoch != here.epoch:
            return here
        if here.state == HALF_OPEN and number:
            return here._probed(now, good, bad, number, why)
        if here.state != CLOSED or not (good or bad):
            return here
        here = here._counted(now, good, bad)
        reason = here._reason() if bad else ""
        return here.opened(now, f"{reason}; the last: {why}" if why else reason) if reason else here

    def _probed(self, now: int, good: int, bad: int, number: int, why: str) -> Breaker:
        if number not in dict(self.passes):
            return self
        here = replace(self, passes=tuple(one for one in self.passes if one[0] != number), won=self.won + bool(good and not bad))
        if bad:
            return here.opened(now, f"a probe failed: {why}" if why else "a probe failed")
        return here.closed(now, "its probes succeeded") if here.won >= here.rule.successes else here

    def _counted(self, now: int, good: int, bad: int) -> Breaker:
        rule, calls, failed_at = self.rule, self.calls, self.failed_at
        if rule.failures_ms and bad:
            failed_at = (*failed_at, *[now] * min(bad, rule.failures))[-rule.failures :]
            failed_at = tuple(at for at in failed_at if at > now - rule.failures_ms)
        if rule.rate_ms:
            part = max(rule.rate_ms // PARTS, 1)
            last = calls[-1] if calls and calls[-1][0] // part == now // part else None
            calls = (*calls[:-1], (last[0], last[1] + good, last[2] + bad)) if last else (*calls, (now, good, bad))
            calls = tuple(one for one in calls if one[0] > now - rule.rate_ms)
        elif rule.rate:
            calls = _newest([*calls, *([(now, good, 0)] if good else []), *([(now, 0, bad)] if bad else [])], rule.rate_calls)
        return replace(self, row=self.row + bad if bad and not good else bad, failed_at=failed_at, calls=calls)

    def _reason(self) -> str:
        """Why it is to open; "" if it is not."""
        rule, (total, bad) = self.rule, self.lately()
        if rule.failures and rule.failures_ms and len(self.failed_at) >= rule.failures:
            return f"{rule.failures} failures in {words_of(rule.failures_ms)}"
        if rule.failures and not rule.failures_ms and self.row >= rule.failures:
            return f"{self.row} failures in a row"
        least = rule.rate_calls or LEAST_CALLS
        if rule.rate and total >= least and bad * 100 >= rule.rate * total:
            return f"{bad} of {total} calls failed"
        return ""

    def lately(self) -> tuple[int, int]:
        """Of how many calls its window knows, and how many of these failed."""
        return sum(good + bad for _, good, bad in self.calls), sum(bad for _, _, bad in self.calls)

    def opened(self, now: int, why: str, until: int | None = None) -> Breaker:
        """Open from now on, and as long as its rule says, or ``until`` then (0: until it is closed by hand)."""
        cool = min(self.rule.cool_ms * GROWTH ** min(self.level, LEVEL_MOST), self.rule.cool_most_ms)
        level = min(self.level + 1, LEVEL_MOST)
        return Breaker(self.rule, OPEN, now, now + cool if until is None else until, level, self.epoch + 1, why, given=self.given)

    def closed(self, now: int, why: str) -> Breaker:
        """Closed from now on, with nothing counted."""
        return Breaker(self.rule, CLOSED, now, 0, 0, self.epoch + 1, why, given=self.given)

    def ruled(self, rule: Rule) -> Breaker:
        """The same under another rule: what was counted is forgotten, an open one stays open."""
        return self if rule == self.rule else replace(self, rule=rule, row=0, failed_at=(), calls=(), won=0)

    def record(self) -> list[Any]:
        """What survives a restart."""
        return [str(self.rule), self.state, self.since, self.until, self.level, self.epoch, self.why]

    @classmethod
    def recorded(cls, row: Sequence[Any]) -> Breaker:
        rule, state, since, until, level, epoch, why = row
        return cls(Rule.of(rule), OPEN if state == HALF_OPEN else state, since, until, level, epoch, why)


def _newest(calls: Sequence[Calls], most: int) -> tuple[Calls, ...]:
    """The newest ``most`` calls, those that ended alike one after the other together."""
    found: list[Calls] = []
    for at, good, bad in calls:
        if found and bool(found[-1][2]) == bool(bad):
            found[-1] = (at, found[-1][1] + good, found[-1][2] + bad)
        else:
            found.append((at, good, bad))
    beyond = sum(good + bad for _, good, bad in found) - most
    while beyond > 0:
        at, good, bad = found[0]
        if good + bad <= beyond:
            found.pop(0)
        else:
            found[0] = (at, max(good - beyond, 0), max(bad - beyond, 0))
        beyond -= good + bad
    return tuple(found)
