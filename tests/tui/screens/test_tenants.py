"""The page of the tenants: what it tells, and that a change is of the right one, of what was typed, and taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import STATES, Driven, busy, driven
from tests.tui.stock import Stock
from tui.screens.tenants import TenantsPage, back_to, changes_of, texts_of
from tui.widgets.form import Form

NONE = dict.fromkeys(("queued", "running", "per_day", "bytes"))
EVIL = "e\x1b[31mvil [b]x[/b]"


def tenant(name: str | None, waiting: int = 0, running: int = 0, **more: Any) -> dict[str, Any]:
    """A row of ``tenants``."""
    states = dict.fromkeys(STATES, 0) | {"pending": waiting, "running": running}
    states |= {"succeeded": more.pop("done", 0), "failed": more.pop("bad", 0)}
    quotas = NONE | more.pop("quotas", {})
    return {
        "name": name, "weight": 1, "set": False, "quotas": quotas, "states": states, "waiting": waiting, "bytes": 100 * waiting,
        "today": waiting + running, "mean_ms": None, **more,
    }  # fmt: skip


@asynccontextmanager
async def at_tenants(where: Path, *tenants: dict[str, Any], more: str | None = None, **how: Any) -> AsyncIterator[Driven]:
    """The page of these tenants in front, at rest."""
    async with driven(where, busy(), **how) as monitor:
        Stock(monitor.daemon)
        total = tenant(None, 900, 12, done=10, mean_ms=41.0)
        monitor.daemon.verbs |= {
            "tenants": lambda _: {"tenants": list(tenants), "total": total, "next": more}, "set_tenant": lambda _: {"new": False},
            "remove_tenant": lambda _: {},
        }  # fmt: skip
        await monitor.press("2", "a")
        await monitor.shows(1)
        assert isinstance(monitor.app.front, TenantsPage)
        yield monitor


def some() -> list[dict[str, Any]]:
    acme = tenant("acme", 950, 5, weight=3, set=True, quotas={"queued": 1000, "running": 5, "bytes": 1 << 20}, done=4000, mean_ms=213.0)
    return [acme, tenant(EVIL, 7, bad=2), tenant("zeta")]


@pytest.mark.asyncio
@pytest.mark.parametrize(("size", "name"), [((120, 36), "120"), ((80, 24), "80"), ((60, 16), "60")])
async def test_the_page_as_it_stands(where: Path, same: Same, size: tuple[int, int], name: str) -> None:
    async with at_tenants(where, *some(), size=size) as monitor:
        same(f"tenants-{name}", await monitor.shows())


@pytest.mark.asyncio
async def test_without_any_it_says_how_one_comes_to_be_and_with_more_that_there_are(where: Path) -> None:
    async with at_tenants(where) as monitor:
        assert "tq add --tenant acme -- make" in await monitor.shows()
    async with at_tenants(where, tenant("a"), more="a") as monitor:
        assert "the first 1 tenant" in await monitor.shows()


@pytest.mark.asyncio
async def test_the_word_opens_it_anywhere_and_only_once(where: Path) -> None:
    async with at_tenants(where, *some()) as monitor:
        await monitor.press("escape", "3")
        for _ in range(2):
            await monitor.press(*":tenants", "enter")
        assert isinstance(monitor.app.front, TenantsPage)
        await monitor.press("escape")
        assert not isinstance(monitor.app.front, TenantsPage)


@pytest.mark.asyncio
async def test_while_nothing_changes_it_is_asked_for_once_in_ten_seconds(where: Path) -> None:
    async with at_tenants(where, *some()) as monitor:
        await monitor.shows(5)
        before = len(monitor.daemon.asked_for("tenants"))
        await monitor.shows(30)
        assert len(monitor.daemon.asked_for("tenants")) - before <= 3


@pytest.mark.asyncio
async def test_enter_shows_its_tasks_by_a_filter_that_is_quoted(where: Path, shown_tasks: list[tuple[str, str]]) -> None:
    async with at_tenants(where, tenant("big corp", 3)) as monitor:
        await monitor.press("enter")
        await monitor.shows()
        assert shown_tasks == [("filter", 'tenant:"big corp"')]


@pytest.mark.asyncio
async def test_the_form_sends_what_was_changed_by_its_own_name_and_undo_sets_it_back(where: Path) -> None:
    async with at_tenants(where, *some()) as monitor:
        await monitor.press("e", "backspace", "9", "down", "end", *["backspace"] * 4, "ctrl+s")
        assert monitor.daemon.asked_for("set_tenant") == [{"name": "acme", "weight": 9, "queued": 0}]
        assert "Set 2 settings of tenant acme." in await monitor.shows()
        await monitor.press("u")
        assert monitor.daemon.asked_for("set_tenant")[1] == {
            "name": "acme", "weight": 3, "queued": 1000, "running": 5, "per_day": 0, "bytes": 1 << 20,
        }  # fmt: skip


@pytest.mark.asyncio
async def test_for_whom_nothing_was_set_undo_forgets_it_and_a_hostile_name_is_sent_as_it_is(where: Path) -> None:
    async with at_tenants(where, *some()) as monitor:
        await monitor.press("j", "e", "end", "backspace", "5", "ctrl+s")
        assert monitor.daemon.asked_for("set_tenant") == [{"name": EVIL, "weight": 5}]
        await monitor.press("u")
        assert monitor.daemon.asked_for("remove_tenant") == [{"name": EVIL}]


@pytest.mark.asyncio
async def test_what_is_set_is_forgotten_and_taken_back_and_offered_only_there(where: Path) -> None:
    async with at_tenants(where, *some()) as monitor:
        await monitor.press("j", "D")
        assert not monitor.daemon.asked_for("remove_tenant")
        await monitor.press("k", "D")
        assert monitor.daemon.asked_for("remove_tenant") == [{"name": "acme"}]
        await monitor.press("u")
        assert monitor.daemon.asked_for("set_tenant")[0]["weight"] == 3


@pytest.mark.asyncio
async def test_two_that_look_the_same_are_not_changed(where: Path) -> None:
    async with at_tenants(where, tenant(EVIL), tenant(EVIL.replace("\x1b", "\\x1b"))) as monitor:
        assert "tenants look the same here" in await monitor.press("e")


@pytest.mark.asyncio
async def test_what_cannot_be_stays_in_the_form_with_the_reason(where: Path) -> None:
    async with at_tenants(where, *some()) as monitor:
        await monitor.press("e", "x", "ctrl+s")
        assert "weight: expected a whole number, got '3x'" in await monitor.shows()
        assert isinstance(monitor.app.screen, Form)


@pytest.mark.asyncio
async def test_a_daemon_without_tenants_says_so(where: Path) -> None:
    scenario = busy()
    scenario.lacking = ("tenants",)
    async with driven(where, scenario) as monitor:
        Stock(monitor.daemon)
        await monitor.press("2", "a")
        assert "This daemon does not tell it" in await monitor.shows(1)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ({}, {}), ({"weight": ""}, {"weight": 1}), ({"bytes": "2G"}, {"bytes": 2 << 30}), ({"bytes": ""}, {"bytes": 0}),
        ({"per_day": "86400", "queued": "7"}, {"per_day": 86_400, "queued": 7}),
    ],
)  # fmt: skip
def test_only_what_was_changed_is_sent(typed: dict[str, str], sent: dict[str, int]) -> None:
    before = texts_of(some()[0])
    assert before == {"weight": "3", "queued": "1000", "running": "5", "per_day": "", "bytes": "1M"}
    assert changes_of(before, before | typed) == sent
    assert back_to(some()[0])["bytes"] == 1 << 20


@pytest.mark.parametrize("typed", [{"queued": "-1"}, {"running": "many"}, {"bytes": "huge"}, {"per_day": "1.5"}])
def test_what_cannot_be_meant_names_the_setting(typed: dict[str, str]) -> None:
    before = texts_of(some()[0])
    with pytest.raises(ValueError, match=r"^(queued|running|per day|bytes): "):
        changes_of(before, before | typed)
