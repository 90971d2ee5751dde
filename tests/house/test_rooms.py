"""House rules for each module: its docstring, its size, its name, and what it may not do."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.house.conftest import Module

PARTS = ("For: ", "Not for: ", "Runs in: ", r"Promises[:,] ")
NO_ROOMS = {"tq/__init__.py", "tq/__main__.py"}  # the map of the rooms, and a door without a room behind it
MODULE_LINES, FUNCTION_LINES = 600, 60
LONG_FUNCTIONS: dict[str, str] = {}  # "tq/room.py function": the reason it is better in one piece
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base", "manager", "core_utils", "shared"}

# Rooms that may ask the clock, chance or the environment, and why; everywhere else they come in as arguments.
CLOCK = {
    "tq/daemon": "makes the `now` of every turn",
    "tq/worker": "stamps the start and end of attempts",
    "tq/app": "a running task may ask how long it has left",
    "tq/output": "stamps output",
    "tq/shell": "stamps output",
    "tq/pool": "waits for processes to end",
    "tq/client": "waits with a deadline",
    "tq/cli": "turns words into instants, and ages into words",
    "tq/demo": "shows how long things took, and makes floods and ebbs",
    "tq/bench": "measures",
    "tq/testing": "starts its clock at the present",
    "tui/clock": "is the monitor's clock, which its tests turn by hand",
}
CHANCE = {"tq/daemon": "makes the chance of every turn", "tq/bench": "mixes its workload", "tq/demo": "mixes its load"}
ENVIRONMENT = {
    "tq/config": "settings",
    "tq/cli": "a command runs with its caller's environment",
    "tq/client": "whether and with what to start a daemon",
    "tq/app": "a command's own environment",
    "tq/launch": "a command's own environment",
    "tq/worker": "what workers pass on",
    "tq/pool": "what workers are given",
    "tq/daemon": "the service manager's notifications",
    "tq/demo": "its command gets the caller's environment, its busy instance none of tq's",
    "tq/bench": "its processes get the caller's environment",
    "tui/web/child": "begins a process: its environment is the argument of the rest",
}
PURE = (
    "tq/lifecycle.py", "tq/model.py", "tq/wire.py", "tq/errors.py", "tq/store/__init__.py", "tq/store/schedule.py", "tq/instants.py",
    "tq/query/__init__.py", "tq/query/terms.py", "tq/query/values.py", "tq/query/reading.py", "tq/query/matching.py", "tq/query/orders.py",
    "tq/query/completing.py",
)  # fmt: skip


def allowed(path: str, rooms: Iterable[str]) -> bool:
    """Whether the file is one of these rooms, be they modules or packages."""
    return any(path == f"{room}.py" or path.startswith(f"{room}/") for room in rooms)


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    left = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{left}.{node.attr}" if left and isinstance(node, ast.Attribute) else ""


def test_every_room_says_what_it_is_for_what_not_where_it_runs_and_what_it_promises(modules: list[Module]) -> None:
    silent = {}
    for module in modules:
        said = ast.get_docstring(module.tree) or ""
        missing = [part.strip(": ").split("[")[0] for part in PARTS if not re.search(f"^{part}", said, re.MULTILINE)]
        if missing and module.path not in NO_ROOMS:
            silent[module.path] = missing
    assert silent == {}


def test_no_room_is_longer_than_six_hundred_lines(modules: list[Module]) -> None:
    assert {m.path: m.text.count("\n") for m in modules if m.text.count("\n") > MODULE_LINES} == {}


def test_no_function_is_longer_than_sixty_lines_without_a_reason(modules: list[Module]) -> None:
    long = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                first = node.body[0]
                documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
                start = (first.end_lineno or node.lineno) if documented else node.lineno  # an explanation is no length
                if node.end_lineno - start >= FUNCTION_LINES:
                    long[f"{module.path} {node.name}"] = node.end_lineno - start
    assert set(long) == set(LONG_FUNCTIONS), long


def test_no_file_has_a_name_that_says_nothing(root: Path) -> None:
    names = [path for folder in ("tq", "tui", "tests", "examples") for path in (root / folder).rglob("*")]
    assert [path.relative_to(root) for path in names if path.stem.removeprefix("test_") in FORBIDDEN_NAMES] == []


def test_nothing_turns_data_into_code(modules: list[Module]) -> None:
    """No pickle and its kin, no eval, no shell that parses a string, nowhere."""
    found = []
    for module in modules:
        roots = {name.split(".")[0] for name in module.imported()}
        found += [(module.path, name) for name in roots & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "pty"}]
        for call in module.calls():
            name = dotted(call.func)
            if name in {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "builtins.eval"}:
                found.append((module.path, f"{name} in line {call.lineno}"))
            if any(k.arg == "shell" and not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in call.keywords):
                found.append((module.path, f"shell= in line {call.lineno}"))
            if any(k.arg == "preexec_fn" for k in call.keywords):
                found.append((module.path, f"preexec_fn in line {call.lineno}"))
    assert found == []


def uses(module: Module, wanted: Callable[[str], bool]) -> list[str]:
    """Dotted names in the module, ``from x import y`` spelled out, that are wanted."""
    names = [dotted(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return sorted({name for name in names if wanted(name)})


@pytest.mark.parametrize(
    ("pattern", "rooms"),
    [
        (r"time\.(time|time_ns|sleep|localtime|gmtime)|(datetime\.)?(datetime|date)\.(now|utcnow|today)", CLOCK),
        (r"random\.\w+|secrets\.\w+", CHANCE),
        (r"os\.(environ|environb|getenv|putenv)(\.\w+)?", ENVIRONMENT),
    ],
    ids=["clock", "chance", "environment"],
)
def test_clock_chance_and_environment_come_in_as_arguments(modules: list[Module], pattern: str, rooms: dict[str, str]) -> None:
    found = {m.path: names for m in modules if (names := uses(m, lambda name: re.fullmatch(pattern, name) is not None))}
    assert {path: names for path, names in found.items() if not allowed(path, rooms)} == {}


def test_deciding_and_framing_are_pure(modules: list[Module]) -> None:
    """Neither files nor sockets, processes, clocks nor chance, not even imported."""
    worldly = {"os", "io", "socket", "subprocess", "time", "random", "secrets", "threading", "asyncio", "select", "pathlib", "logging"}
    found = {m.path: m.imported() & worldly for m in modules if m.path in PURE}
    assert len(found) == len(PURE)
    assert {path: names for path, names in found.items() if names} == {}


def test_a_state_is_only_given_by_the_table_and_the_stores(modules: list[Module]) -> None:
    """``replace(status, state=...)`` and ``Status(state=...)`` elsewhere would be a change that is no row of the table."""
    found = [
        (module.path, call.lineno)
        for module in modules
        if not allowed(module.path, ["tq/lifecycle", "tq/model", "tq/store"])
        for call in module.calls()
        if dotted(call.func).split(".")[-1] in {"replace", "Status"} and any(k.arg == "state" for k in call.keywords)
    ]
    assert found == []


@pytest.mark.parametrize("package", ["tq", "tui"])
def test_the_tests_of_a_room_lie_where_the_room_lies(root: Path, package: str) -> None:
    """tests/tq mirrors tq: the folder of a test file is a package of tq, and at its top the file is named for a room. So does tests/tui."""
    homeless = []
    for path in (root / "tests" / package).rglob("test_*.py"):
        below = path.relative_to(root / "tests" / package)
        name = path.stem.removeprefix("test_")
        rooms = {room.stem for room in (root / package).iterdir()}
        if not (root / package / below.parent).is_dir() or (below.parent == Path() and not any(name.startswith(room) for room in rooms)):
            homeless.append(str(below))
    assert homeless == []


def test_names_of_tests_are_promises(root: Path) -> None:
    """At least three words: ``test_enqueue`` says what is called, not what is promised."""
    short = []
    for path in (root / "tests").rglob("test_*.py"):
        functions = [
            node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        short += [f"{path.name} {node.name}" for node in functions if node.name.startswith("test_") and node.name.count("_") < 3]
    assert short == []
