"""The wheel is whole: what it carries, what it asks for, and that the demo runs from it alone."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.living import unmeasured

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.flow, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(into), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(into.glob("tq-*.whl"))


def test_a_wheel_has_the_package_the_command_and_the_demos_handlers_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        script = archive.read(next(name for name in names if name.endswith(".data/scripts/tq")))
    assert "tq/examples/demo_tasks.py" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tq", "tui"}
    assert "tui/monitor.tcss" in names
    assert script.startswith(b"#!python\n")
    needed = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==).*$", metadata, re.MULTILINE)
    assert sorted(needed) == ["cronsim", "lmdb", "msgpack", "psutil", "pydantic", "rich", "textual", "tomlkit", "typer", "tzdata"]
    assert "License-Expression: MIT" in metadata


def test_the_demo_runs_from_an_installed_wheel(wheel: Path, data_dir: Path) -> None:
    site = data_dir / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=100)
    env = unmeasured(PYTHONPATH=str(site), TMPDIR=str(data_dir))
    done = subprocess.run([site / "bin" / "tq", "demo"], cwd=data_dir, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{site}/tq/examples/demo_tasks.py" in done.stdout  # in the traceback of the task that fails on purpose
