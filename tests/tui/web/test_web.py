"""The door: what is said where it cannot be opened."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.errors import ConfigError, UsageError
from tui.web import Look, Offer, serve

Run = Callable[..., tuple[int, str, str]]


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
    assert refused(tmp_path, Offer()) == (
        f"--web: expected the package {package}, which is not installed. Install it with: pip install 'tq[web]'"
    )


def test_a_port_that_is_taken_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path, Offer(port=port))
    assert said == f"--port: expected a port that can be had on 127.0.0.1, got {port} (address already in use). Name another, or leave it out."


def test_what_is_wrong_with_the_settings_is_said_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "tq.toml").write_text("[monitor]\ntheme = 7\n")
    with pytest.raises(ConfigError, match="theme: expected a text, got 7"):
        serve(str(tmp_path), {}, Offer(look=Look(charts="ascii")), print)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--allow-writes"], "--allow-writes: expected --web beside it"),
        (["--port", "8080"], "--port: expected --web beside it"),
        (["--web", "--port", "65536"], "--port: expected a number up to 65535, got 65536"),
        (["--web", "--sessions", "0"], "--sessions: expected a number from 1 to 64, got 0"),
        (["--web", "--idle", "0"], "--idle: expected a time such as 30m, got '0'"),
        (["--web", "--read-only", "--allow-writes"], "expected either --read-only or --allow-writes, got both"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_served(fake: Any, run: Run, options: list[str], says: str) -> None:
    code, out, err = run("monitor", *options)
    assert (code, out) == (2, "")
    assert says in err


def test_the_package_alone_loads_neither_the_server_nor_the_screen() -> None:
    code = "import sys, tui.web, tui.web.gate, tui.web.messages, tui.web.page; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=unmeasured())
    assert {name.split(".")[0] for name in done.stdout.split()}.isdisjoint({"aiohttp", "textual", "textual_serve"})
