"""Who is let in: hosts, origins, the token that counts once, the cookie."""

from __future__ import annotations

import pytest

from tui.web.gate import MOST_BROWSERS, Gate, known_host, same_origin


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8471", "localhost", "LocalHost:9000", "[::1]:9000"])
def test_every_name_of_this_machine_is_known_with_any_port_since_ssh_forwards_to_another(host: str) -> None:
    assert known_host(host)


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:8471", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example",
        "127.0.0.1:", "127.0.0.1:99999999", "127.0.0.1:84\n71", "127.0.0.1:٣", "0.0.0.0:8471", "10.0.0.7:8471", 'localhost:1"><script>',
        "127.0.0.1 evil",
    ],
)  # fmt: skip
def test_a_host_that_is_not_this_machine_or_that_could_break_out_of_a_page_is_refused(host: str | None) -> None:
    assert not known_host(host)


@pytest.mark.parametrize("origin", ["http://localhost:9000", "HTTP://LOCALHOST:9000"])
def test_a_page_may_ask_the_server_that_it_came_from(origin: str) -> None:
    assert same_origin("localhost:9000", origin)


@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "http://evil.example", "https://localhost:9000", "http://localhost", "http://localhost:9001", "http://127.0.0.1:9000",
     "http://localhost:9000.evil.example", "http://localhost:9000/", "http://evil.example?localhost:9000"],
)  # fmt: skip
def test_a_page_of_another_site_another_port_or_of_nowhere_may_not(origin: str | None) -> None:
    assert not same_origin("localhost:9000", origin)


def test_a_token_lets_in_one_browser_and_the_next_one_needs_another() -> None:
    gate = Gate()
    token = gate.token
    cookie = gate.let_in(token)
    assert gate.holds(cookie)
    assert gate.let_in(token) is None
    other = gate.let_in(gate.token)
    assert other != cookie
    assert gate.holds(cookie)
    assert gate.holds(other)


@pytest.mark.parametrize("token", ["", "x", "\udcff", "ünicode"])
def test_what_is_no_token_lets_nobody_in_and_leaves_the_token_as_it_is(token: str) -> None:
    gate = Gate()
    before = gate.token
    assert gate.let_in(token) is None
    assert gate.let_in(before[:-1]) is None
    assert gate.token == before


@pytest.mark.parametrize("cookie", [None, "", "x", "\udcff"])
def test_what_is_no_cookie_of_ours_holds_nothing(cookie: str | None) -> None:
    gate = Gate()
    assert not gate.holds(cookie)
    gate.let_in(gate.token)
    assert not gate.holds(cookie)
    assert not gate.holds(gate.token)


def test_secrets_are_long_differ_and_are_never_told_apart_by_servers_that_share_a_name() -> None:
    one, other = Gate(), Gate()
    assert len(bytes.fromhex(one.token)) == 32
    assert one.token != other.token
    assert one.cookie_name != other.cookie_name
    assert not other.holds(one.let_in(one.token))


def test_the_browsers_that_were_let_in_last_are_remembered_and_no_more() -> None:
    gate = Gate()
    cookies = [gate.let_in(gate.token) for _ in range(MOST_BROWSERS + 1)]
    assert not gate.holds(cookies[0])
    assert all(gate.holds(cookie) for cookie in cookies[1:])
