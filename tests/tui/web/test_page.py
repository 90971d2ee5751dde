"""What browsers get: nothing that names another host, and a policy that would stop it."""

from __future__ import annotations

import re

import pytest

from tui.web.page import FILES, headers, monitor_page, notice

HOST = "127.0.0.1:8471"


def test_the_page_names_only_files_of_the_table_and_its_own_socket() -> None:
    page = monitor_page(HOST)
    named = re.findall(r'(?:href|src|url)="([^"]*)"', page)
    assert set(named) == {f"/static/{name}" for name in FILES} | {f"ws://{HOST}/ws", "/"}
    assert "<style" not in page
    assert re.findall(r"<script(?! src=)", page) == []


def test_no_style_sheet_and_no_page_asks_another_host_for_anything() -> None:
    texts = [FILES[name].read().decode() for name in ("page.css", "page.js", "xterm.css")] + [notice("No."), notice("Yes.", onward=True)]
    for text in texts:
        assert re.findall(r"""(?:url\(|@import|href=|src=)\s*["']?(?:\w+:)?//""", text) == []


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_table_is_there(name: str) -> None:
    assert len(FILES[name].read()) > 100


def test_the_policy_allows_the_server_itself_and_nothing_else() -> None:
    found = headers(HOST)
    policy = dict(one.split(" ", 1) for one in found["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    assert policy.pop("connect-src") == f"'self' ws://{HOST}"
    assert policy.pop("style-src") == "'self' 'unsafe-inline'"
    assert set(policy.values()) == {"'self'", "'none'"}
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert found["X-Frame-Options"] == "DENY"
    assert found["Referrer-Policy"] == "no-referrer"
