"""``with tq.breaker(...)``: in handlers that run in this process, at a clock turned by hand, and against a daemon of paper."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import tq
from tq.client import connect, guard
from tq.errors import DaemonError, UsageError
from tq.testing import fake as in_one_process

RULE = "2 failures, cool 10s"


def test_a_handler_that_a_service_fails_is_put_off_and_loses_no_retry_once_the_breaker_is_open() -> None:
    app, down, called = tq.App(), [True], []

    @app.task("mail", retries=9, backoff=tq.Backoff("fixed", 1000))
    def mail(n: int) -> str:
        with tq.breaker("smtp", RULE, failures=OSError):
            called.append(n)
            if down:
                raise OSError("no")
        return "sent"

    with in_one_process(app) as q:
        for n in range(4):
            mail.enqueue(n)
        q.run_all()
        assert called == [0, 1], "the breaker is open from the second failure on"
        states = [(task["state"], task["failures"]) for task in q.tasks]
        assert sorted(states) == [("retrying", 1)] * 2 + [("scheduled", 0)] * 2
        down.clear()
        q.advance("9s")
        assert called == [0, 1]
        q.advance("30s")
        assert [task["state"] for task in q.tasks] == ["succeeded"] * 4
        assert sorted(called) == [0, 0, 1, 1, 2, 3]


def test_a_coroutine_is_guarded_as_well() -> None:
    app, ends = tq.App(), []

    @app.task("mail", retries=0)
    async def mail() -> None:
        try:
            async with tq.breaker("smtp", "1 failure"):
                raise OSError("no")
        except OSError:
            ends.append("failed")
        except tq.ServiceDown as error:
            ends.append(error.name)

    with in_one_process(app) as q:
        mail.enqueue()
        mail.enqueue()
        q.run_all()
        assert ends == ["failed", "smtp"]


def closed(**changes: Any) -> dict[str, Any]:
    return {"go": True, "state": "closed", "epoch": 3, "pass": 0, "wait_ms": 0, "why": "", **changes}


def test_a_closed_breaker_is_asked_once_for_many_calls_and_hears_of_their_successes_with_the_next_question(
    fake: Any, data_dir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    fake.verbs["enter_breaker"] = lambda _: closed()
    with connect(data_dir) as client:
        smtp = tq.breaker("smtp", client=client)
        threads = [threading.Thread(target=lambda: smtp.__enter__() or smtp.__exit__(None, None, None)) for _ in range(5)]
        with smtp:
            pass
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now[0] += guard.AGE_S
        with smtp, smtp:
            pass
    assert fake.asked("enter_breaker") == [
        {"name": "smtp", "rule": None, "epoch": 0, "good": 0}, {"name": "smtp", "rule": None, "epoch": 3, "good": 6},
    ]  # fmt: skip
    assert not fake.asked("report_breaker")


def test_a_failure_is_told_at_once_with_the_successes_before_it_and_others_are_none(fake: Any, data_dir: Any) -> None:
    fake.verbs["enter_breaker"] = lambda _: closed()
    fake.verbs["report_breaker"] = lambda _: {"state": "open", "epoch": 4}
    with connect(data_dir) as client:
        smtp = tq.breaker("smtp", failures=(OSError, tq.Retry), client=client)
        with smtp:
            pass
        for error in (ValueError("x"), KeyboardInterrupt(), tq.Permanent("x")):
            with pytest.raises(type(error)), smtp:
                raise error
        assert not fake.asked("report_breaker")
        with pytest.raises(OSError, match="down"), smtp:
            raise OSError("down\x1b" + "x" * 300)
        (told,) = fake.asked("report_breaker")
        assert (told["good"], told["bad"], told["epoch"], told["pass"]) == (1, 1, 3, 0)
        assert told["text"].startswith("OSError: down")
        assert ("\x1b" in told["text"], len(told["text"])) == (False, 200)
        fake.verbs["enter_breaker"] = lambda _: closed(go=False, state="open", epoch=4, wait_ms=5000, why="5 failures")
        with pytest.raises(tq.ServiceDown, match="'smtp' is open: 5 failures") as down, smtp:
            raise AssertionError("it was entered")
        assert (down.value.retry_after, down.value.after_ms) == (5.0, 5000)


def test_how_a_probe_went_is_told_whatever_it_was(fake: Any, data_dir: Any) -> None:
    fake.verbs["enter_breaker"] = lambda _: closed(state="half_open", **{"pass": 7})
    fake.verbs["report_breaker"] = lambda _: {"state": "half_open", "epoch": 3}
    with connect(data_dir) as client:
        smtp = tq.breaker("smtp", failures=OSError, client=client)
        with smtp:
            pass
        with pytest.raises(ValueError, match="x"), smtp:
            raise ValueError("x")
        with pytest.raises(OSError, match="y"), smtp:
            raise OSError("y")
    assert [(one["good"], one["bad"], one["pass"]) for one in fake.asked("report_breaker")] == [(1, 0, 7), (0, 0, 7), (0, 1, 7)]


def test_a_report_that_cannot_be_told_hides_no_failure(fake: Any, data_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.verbs["enter_breaker"] = lambda _: closed()
    with connect(data_dir) as client:
        real = client.call

        def broken(verb: str, *args: Any) -> Any:
            if verb == "report_breaker":
                raise DaemonError("gone")
            return real(verb, *args)

        monkeypatch.setattr(client, "call", broken)
        with pytest.raises(OSError, match="the service"), tq.breaker("smtp", client=client):
            raise OSError("the service")


@pytest.mark.parametrize(("name", "rule"), [("", None), ("a b", None), ("a:b", None), ("smtp", "often"), ("smtp", "")])
def test_what_is_no_name_or_rule_is_refused_where_it_is_written(name: str, rule: str | None) -> None:
    with pytest.raises(UsageError, match="expected"):
        tq.breaker(name, rule)


def test_a_client_of_the_other_kind_is_refused(data_dir: Any) -> None:
    async def awaited() -> None:
        async with tq.breaker("smtp", client=connect(data_dir)):
            raise AssertionError("it was entered")

    with pytest.raises(UsageError, match="expected `with`"):
        asyncio.run(awaited())
    with pytest.raises(UsageError, match="expected `async with`"), tq.breaker("smtp", client=tq.aconnect(data_dir)):
        raise AssertionError("it was entered")
