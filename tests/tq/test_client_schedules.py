"""Schedules as programs have them: both faces of the client, and what an application declares, by the real broker's rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import tq
import tq.testing
from tq.errors import ConfigError, Conflict, UsageError

START = datetime(2030, 1, 31, 22, 0, tzinfo=UTC)


def application() -> tq.App:
    app = tq.App()

    @app.task("report")
    def report(n: int = 0) -> int:
        return n

    return app


def test_a_schedule_is_made_changed_run_paused_and_removed() -> None:
    with tq.testing.fake(application(), now=START) as q:
        client = q.client
        options: Any = {"label": "x", "retries": 2}
        client.add_schedule("night", "report", {"n": 7}, cron="0 3 * * *", tz="Europe/Paris", overlap="skip", options=options)
        row = client.schedule("night")
        assert (row["cron"], row["tz"], row["overlap"], row["payload"], row["options"]) == (
            "0 3 * * *", "Europe/Paris", "skip", {"n": 7}, {"label": "x", "retries": 2},
        )  # fmt: skip
        assert [datetime.fromtimestamp(slot / 1000, UTC).isoformat() for slot in client.next_slots("night", 2)] == [
            "2030-02-01T02:00:00+00:00", "2030-02-02T02:00:00+00:00",
        ]  # fmt: skip
        with pytest.raises(Conflict):
            client.add_schedule("night", "report", every="5m")
        assert q.advance("1d") == 1
        (task,) = q.tasks
        assert (task["result"], task["meta"], task["label"], task["retries"]) == (
            7, {"schedule": "night", "slot": "2030-02-01T02:00:00.000Z"}, "x", 2,
        )  # fmt: skip
        client.edit_schedule("night", options={"retries": 5}, every="6h")
        assert (client.schedule("night")["options"], client.schedule("night")["payload"]) == ({"label": "x", "retries": 5}, {"n": 7})
        client.edit_schedule("night", payload=None)
        assert client.schedule("night")["payload"] is None
        assert client.run_schedule("night").result() == 0
        slots = client.next_slots("night", 3)
        assert client.skip_schedule("night") == (slots[0], slots[1])
        assert client.next_slots("night", 2) == slots[1:]
        client.pause_schedule("night")
        assert q.advance("1d") == 0
        client.resume_schedule("night")
        assert q.advance("12h") == 2
        assert [row["name"] for row in client.schedules()] == ["night"]
        assert len(client.schedule("night")["runs"]) == 4
        client.enqueue("report", {"n": 1}, delay="90m")
        rows = client.plan("1d")["rows"]
        assert [row.get("schedule") for row in rows] == [None, "night", "night", "night", "night"]
        assert (len(client.plan("1d", 2)["rows"]), client.plan("1d", 2)["more"]) == (2, True)
        client.remove_schedule("night")
        assert client.schedules() == []
        with pytest.raises(UsageError, match="expected a schedule"):
            client.schedule("night")


@pytest.mark.asyncio
async def test_the_same_to_be_awaited() -> None:
    with tq.testing.fake(application(), now=START) as q:
        client = q.aconnect()
        await client.add_schedule("night", "report", {"n": 7}, every="1h")
        await client.edit_schedule("night", jitter="5s")
        assert (await client.schedule("night"))["jitter_ms"] == 5000
        assert len(await client.next_slots("night", 3)) == 3
        assert [row["schedule"] for row in (await client.plan("150m"))["rows"]] == ["night", "night"]
        handle = await client.run_schedule("night")
        assert await handle.result() == 7
        slots = await client.next_slots("night", 2)
        assert await client.skip_schedule("night") == tuple(slots)
        assert (await client.next_slots("night", 1))[0] == slots[1]
        await client.pause_schedule("night")
        await client.resume_schedule("night")
        assert [row["name"] for row in await client.schedules()] == ["night"]
        await client.remove_schedule("night")
        assert await client.schedules() == []


def test_many_schedules_come_in_pages() -> None:
    with tq.testing.fake(application(), now=START) as q:
        names = [f"s{number:03}" for number in range(230)]
        for name in names:
            q.client.add_schedule(name, "report", every="1h")
        assert [row["name"] for row in q.client.schedules()] == names


def test_a_failure_and_a_recovery_are_told_to_a_handler_and_each_once() -> None:
    app = tq.App()
    told: list[tuple[str, str, str]] = []
    broken = [True]

    @app.task("tell")
    def tell(alert: str, schedule: str, outcome: str, **more: str) -> None:
        told.append((alert, schedule, outcome))

    @app.task("report", retries=0, schedule=tq.Schedule(every="1h", on_failure="type:tell", on_recovery="type:tell"))
    def report() -> None:
        if broken[0]:
            raise ValueError("no")

    with tq.testing.fake(app, now=START) as q:
        q.client.add_schedule("mine", "report", every="2h", on_failure="type:tell", alert_each=True, on_missed="", missed_after=0)
        q.advance("6h")
        assert sorted(told) == sorted([("failure", "report", "failed"), *[("failure", "mine", "failed")] * 3])
        broken[0] = False
        q.advance("3h")
        assert told[4:] == [("recovery", "report", "succeeded")]
        q.client.edit_schedule("mine", on_failure="")
        assert q.client.schedule("mine")["alerts"] == {}


@pytest.mark.parametrize("wrong", [7, [], [1], [""], "type:"])
def test_an_alert_that_cannot_be_sent_is_an_error_where_it_is_said(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"^on_failure: expected"):
        tq.Schedule(every="1h", on_failure=wrong)


def test_what_an_application_declares_runs_by_itself() -> None:
    app = tq.App()
    ran: list[str] = []

    @app.task("report", schedule=tq.Schedule(cron="0 3 * * *", payload={"word": "night"}, misfire="skip"))
    def report(word: str) -> None:
        ran.append(word)

    @app.task("beat", schedule="every 90s")
    def beat() -> None:
        ran.append("beat")

    @app.task("plain")
    def plain() -> None:
        ran.append("plain")

    class Count(tq.Task[None, int], app=app):
        type = "count"
        schedule = "every 2h"

        def execute(self, payload: None) -> int:
            return 1

    with tq.testing.fake(app, now=START) as q:
        assert q.advance("5m") == 3
        assert q.advance("5h") == 203
        assert ran.count("night") == 1
        assert {row["name"]: row["declared"] for row in q.client.schedules()} == {"beat": True, "count": True, "report": True}


@pytest.mark.parametrize("schedule", ["soon", 7, "every now", "* * *"])
def test_a_declaration_that_makes_no_sense_is_an_error_where_it_stands(schedule: Any) -> None:
    app = tq.App()
    with pytest.raises(ConfigError, match=r"^task 'report' .*expected"):
        app.task("report", schedule=schedule)(print)
