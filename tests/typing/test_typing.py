"""What an editor and a type checker make of the Python face: mypy on right and on wrong calls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.living import unmeasured

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def _mypy(name: str, cache: Path) -> list[tuple[int, str]]:
    """(line, kind) of each error in a file, once."""
    words = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--cache-dir", str(cache), str(HERE / name)]
    done = subprocess.run(words, cwd=ROOT, env=unmeasured(), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    pattern = re.compile(rf"^\S*{re.escape(name)}:(\d+): error: .*\[([a-z-]+)\]$", re.MULTILINE)
    return sorted({(int(line), kind) for line, kind in pattern.findall(done.stdout)})


def test_right_calls_are_accepted_and_wrong_ones_refused_with_the_right_kind(tmp_path: Path) -> None:
    assert _mypy("right_calls.py", tmp_path) == []
    lines = (HERE / "wrong_calls.py").read_text().splitlines()
    wanted = [(number, line.partition("# wrong: ")[2]) for number, line in enumerate(lines, 1) if "# wrong: " in line]
    assert len(wanted) > 10
    assert _mypy("wrong_calls.py", tmp_path) == wanted
