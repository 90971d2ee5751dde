"""The repository as a stranger finds it: what lies at its top, and nothing of the place where it was written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

TOP = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tq", "tui", "tests", "examples"}
MADE = {"build", "dist", "__pycache__"}
PASSING = {".git", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".import_linter_cache"} | MADE


def files(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in PASSING]
        yield from (Path(folder, name) for name in names if not name.endswith(".pyc") and not name.startswith(".coverage"))


def test_the_top_level_is_exactly_what_the_design_says(root: Path) -> None:
    found = {path.name for path in root.iterdir() if not path.name.startswith(".")} - MADE
    assert found == TOP


def test_the_top_level_has_the_dotfiles_that_tools_look_for(root: Path) -> None:
    for name in (".ci/run", ".justfile", ".gitignore", ".editorconfig", ".pre-commit-config.yaml", ".github/workflows/ci.yml"):
        assert (root / name).is_file(), name


def test_what_is_run_directly_is_executable(root: Path) -> None:
    for name in (".ci/run", "tq/cli/entry"):
        assert os.access(root / name, os.X_OK), name


def test_no_file_names_a_place_on_somebodys_machine(root: Path) -> None:
    places = re.compile(r"(?<![\w.~-])/(?:wor" + r"k|roo" + r"t|hom" + r"e/\w)(?:/|\b)(?!\s*of\b)")
    named = []
    for path in files(root):
        text = path.read_bytes().decode("utf-8", "replace")
        named += [f"{path.relative_to(root)}: {found[0]}" for found in places.finditer(text)]
    assert named == []


def test_every_text_file_is_utf8_ends_with_a_newline_and_has_no_stray_characters(root: Path) -> None:
    for path in files(root):
        if path.suffix == ".xz":  # data directories of released versions
            continue
        data = path.read_bytes()
        text = data.decode("utf-8")
        assert not data or data.endswith(b"\n"), path
        assert b"\r" not in data, path
        assert not re.search("[\u202a-\u202e\u2066-\u2069\ufeff]", text), path
