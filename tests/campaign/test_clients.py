"""Bad clients beside good ones, ten thousand that do nothing, and a daemon without descriptors; figures are printed (``-s``)."""

from __future__ import annotations

import pytest

from tests.campaign import clients

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", [
    pytest.param("storm", id="ten good clients are served beside a thousand that are slow, deaf, half-open or vanish"),
    pytest.param("vanish", id="clients that are killed in the middle leave nothing behind"),
    pytest.param("hoard", id="what clients begin to send, or do not read, costs bounded memory"),
    pytest.param("idle", id="ten thousand idle connections cost next to nothing"),
    pytest.param("starve", id="without descriptors clients are told so, nobody spins, and it goes on when they leave"),
])  # fmt: skip
def test_bad_clients_harm_nobody_else(name: str) -> None:
    assert clients.scenario(name) == []


def test_a_planted_bug_is_caught_by_clients_that_hoard() -> None:
    found = clients.scenario("hoard", "nobody_hung_up_on")
    assert any("unread: expected less than" in line for line in found), found
    assert any("heavy: expected less than" in line for line in found), found
