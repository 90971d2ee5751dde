"""The sources, parsed once for all house rules."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    """A file of the package: its path below the checkout, its text, its tree."""

    path: str
    text: str
    tree: ast.Module

    def calls(self) -> list[ast.Call]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]

    def imported(self) -> set[str]:
        """Names of modules that are imported anywhere in it."""
        names = {alias.name for node in ast.walk(self.tree) if isinstance(node, ast.Import) for alias in node.names}
        return names | {node.module for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom) and node.module}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    found = [path for folder in ("tq", "tui") for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in found}
    return [Module(path, text, ast.parse(text, path)) for path, text in texts.items()]
