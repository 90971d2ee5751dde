"""The door: what is said where it cannot be opened."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.living import unmeasured
from tq.errors import ConfigError, UsageError
from tui.web import Look, Offer, serve


def refused(where: Path, offer: Offer) -> str:
    said: list[str] = []
    with pytest.raises(UsageError) as caught:
        serve(str(where), {}, offer, said.append)
    assert said == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("package", ["textual_serve", "aiohttp"])
def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package or name in ("tui.web.server", "tui.web.session")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(tmp_path, Offer())
    assert said == f"--web: expected the extra tq[web], but {package} is not installed. Add it: pip install 'tq[web]'"


def test_a_port_that_is_taken_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path, Offer(port=port))
    had = f"got {port} (address already in use). Name another, or leave it out."
    assert said == f"--port: expected a port that can be had on 127.0.0.1, {had}"


def test_what_is_wrong_with_the_settings_is_said_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "tq.toml").write_text("[monitor]\ntheme = 7\n")
    with pytest.raises(ConfigError, match="theme: expected a text, got 7"):
        serve(str(tmp_path), {}, Offer(look=Look(charts="ascii")), print)


def test_the_package_alone_loads_neither_the_server_nor_the_screen() -> None:
    code = "import sys, tui.web, tui.web.gate, tui.web.messages, tui.web.page; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=unmeasured())
    assert {name.split(".")[0] for name in done.stdout.split()}.isdisjoint({"aiohttp", "textual", "textual_serve"})
