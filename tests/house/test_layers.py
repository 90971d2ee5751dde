"""Imports go down: the contracts of pyproject.toml hold, and every room has a floor."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path


def test_all_contracts_on_imports_hold(root: Path) -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_a_floor_and_every_floor_a_room(root: Path) -> None:
    contracts = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["id"] == "layers")
    floors = [room.strip() for layer in layers["layers"] for room in layer.split("|")]
    rooms = {path.stem for path in (root / "tq").glob("*.py") if path.stem != "__init__"}
    rooms |= {path.parent.name for path in (root / "tq").glob("*/__init__.py")}
    assert len(floors) == len(set(floors))
    assert set(floors) == rooms - set(layers["exhaustive_ignores"])
