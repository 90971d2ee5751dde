"""What the outside sees: public names, verbs, commands, settings; each is there, has words, and is in the README."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import tq
from tq import roles, wire
from tq.config.settings import OPTIONS


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert sorted(tq.__all__) == tq.__all__
    assert set(tq.__all__) == {*tq._WHERE, "__version__"}
    for name, room in tq._WHERE.items():
        assert getattr(tq, name) is getattr(importlib.import_module(f"tq.{room}"), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tq.__getattr__("nothing")


def test_type_checkers_see_the_same_public_names(root: Path) -> None:
    tree = ast.parse((root / "tq" / "__init__.py").read_text("utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: str(node.module) for node in imports for alias in node.names}
    assert seen == {name: f"tq.{room}" for name, room in tq._WHERE.items()}


def keys_of(path: Path, *tables: str) -> list[str]:
    """The keys of the dictionaries that a room assigns to these attributes of its object."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict) and ast.unparse(node.target) in tables:
            found += [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    return found


def test_the_verbs_of_the_protocol_are_those_the_daemon_carries_out(root: Path) -> None:
    text = (wire.__doc__ or "").split("The first request of a connection")[1].split("\nErrors ")[0]
    written = re.findall(r"^([a-z][a-z_]*) +\{", text, re.MULTILINE)
    rooms = sorted((root / "tq" / "broker").glob("*.py"))
    broker = [verb for room in rooms for verb in keys_of(room, "self.reads", "self.writes", "self._acts")]
    daemon = keys_of(root / "tq" / "daemon" / "verbs.py", "self._verbs")
    assert len(broker) > 10
    assert len(daemon) > 5
    assert sorted(written) == sorted(broker + daemon)


def test_every_verb_either_reads_or_may_change_something(root: Path) -> None:
    text = (wire.__doc__ or "").split("The first request of a connection")[1].split("\nErrors ")[0]
    written = re.findall(r"^([a-z][a-z_]*) +\{", text, re.MULTILINE)
    assert roles.READING.isdisjoint(roles.WRITING)
    assert set(written) == roles.READING | roles.WRITING


def test_what_the_broker_carries_out_as_a_reading_verb_is_one(root: Path) -> None:
    rooms = sorted((root / "tq" / "broker").glob("*.py"))
    assert {verb for room in rooms for verb in keys_of(room, "self.reads")} <= roles.READING
    assert {verb for room in rooms for verb in keys_of(room, "self.writes", "self._acts")} <= roles.WRITING


def commands(group: Any, path: str = "tq") -> list[tuple[str, Any]]:
    """Every command below a Typer group, with the words that call it."""
    found = []
    for name, command in group.commands.items():
        here = f"{path} {name}"
        found += commands(command, here) if hasattr(command, "commands") else [(here, command)]
    return found


@pytest.fixture(scope="module")
def all_commands() -> list[tuple[str, Any]]:
    from typer.main import get_command

    from tq.cli.app import build

    found = commands(get_command(build()))
    assert len(found) > 20
    return found


def test_every_command_and_option_has_help(all_commands: list[tuple[str, Any]]) -> None:
    silent = [words for words, command in all_commands if not (command.help or "").strip()]
    silent += [
        f"{words} {param.opts[0]}"
        for words, command in all_commands
        for param in command.params
        if param.param_type_name == "option" and not (param.help or "").strip()
    ]
    assert silent == []


def test_every_command_is_in_the_readme(all_commands: list[tuple[str, Any]], root: Path) -> None:
    readme = (root / "README.md").read_text("utf-8")
    assert [words for words, command in all_commands if not command.hidden and not re.search(rf"\b{words}\b", readme)] == []


def test_every_setting_is_in_the_readme_with_its_default_and_is_read_somewhere(root: Path) -> None:
    readme = (root / "README.md").read_text("utf-8")
    code = "\n".join(path.read_text("utf-8") for path in (root / "tq").rglob("*.py"))
    assert [name for name in OPTIONS if f"| `{name}` |" not in readme] == []
    assert [name for name in OPTIONS if not re.search(rf"\.{name}\b", code)] == []


def test_the_version_is_the_newest_of_the_changelog(root: Path) -> None:
    newest = re.search(r"^## \[([^\]]+)\]", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] in {tq.__version__, "Unreleased"}
