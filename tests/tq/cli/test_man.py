"""``tq man``: every command, option and setting is on a page, and man(1) has nothing to say against any."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tq.broker.declared import KEYS, WORDS
from tq.cli.app import EPILOG, GROUPS
from tq.cli.man import pages
from tq.cli.options import COMMANDS
from tq.config.settings import OPTIONS
from tq.config.tables import TABLES

Run = Callable[..., tuple[int, str, str]]


def words(page: str) -> str:
    """A page as it is read: without fonts and escapes."""
    text = re.sub(r"\\f[BIR]|\\&", "", page).replace("\\-", "-").replace("\\(aq", "'").replace("\\(ga", "`").replace("\\(ti", "~")
    return text.replace("\\(ha", "^").replace("\\e", "\\")


def test_every_command_and_option_is_on_its_page() -> None:
    found = {name: words(page) for name, page in pages().items()}
    assert set(found) == {"tq.1", "tq.toml.5", *(f"tq-{name.split()[0]}.1" for name in COMMANDS)}
    for name, command in COMMANDS.items():
        head = name.split()[0]
        page = found[f"tq-{head}.1"]
        assert f"tq {name}" in found["tq.1"]
        assert command.help in page
        for option in command.options:
            assert option.help in page, (name, option.flags)
            assert all(flag in page for flag in option.flags), (name, option.flags)
            assert option.kind != "switch" or f"--no-{option.flags[0][2:]}" in page
        assert EPILOG in page
        assert GROUPS.get(head, "") in page


def test_every_setting_is_on_the_page_of_the_file() -> None:
    page = words(pages()["tq.toml.5"])
    tabled = [name for keys in TABLES.values() for name in keys.values()]
    assert sorted(tabled) == sorted(OPTIONS)  # each in one table
    for keys in TABLES.values():
        for key, name in keys.items():
            assert f"{key} [{name}, " in page
            assert OPTIONS[name].metadata["says"] in page
    assert all(key in page for key in (*KEYS, *WORDS))


def test_the_pages_are_written_where_man_looks_and_are_the_same_each_time(run: Run, tmp_path: Path) -> None:
    code, out, err = run("man", str(tmp_path / "share"))
    paths = [Path(line) for line in out.splitlines()]
    assert (code, len(paths), "man -M" in err) == (0, len(pages()), True)
    assert {path.parent.name for path in paths} == {"man1", "man5"}
    assert {path.name: path.read_text("utf-8") for path in paths} == pages()
    (tmp_path / "file").write_text("")
    code, _, err = run("man", str(tmp_path / "file"))
    assert (code, "expected a directory that can be written" in err) == (2, True)


def test_man_renders_every_page_without_a_warning(tmp_path: Path) -> None:
    tool = shutil.which("man")
    if tool is None:
        pytest.skip("there is no man(1) to ask; the text of the pages is checked by the others")
    for name, page in pages().items():
        (tmp_path / name).write_text(page, "utf-8")
        done = subprocess.run(
            [tool, "-l", "--warnings=w", tmp_path / name], capture_output=True, text=True, timeout=30, check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "HOME": str(tmp_path)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), name
        assert "NAME" in done.stdout
