"""Typer's path: every command, with help and the words for what is wrong.

For: the Typer application, made from the option table.
Not for: what commands do (perform), lines that the quick parser understands (fast).
Runs in: the ``tq`` command, whenever the quick parser does not know.
Promises: its commands and options are exactly those of ``options.COMMANDS``; every error ends as one line on stderr
and the exit code of ``tq.errors``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import typer

from tq import __version__
from tq.cli.options import COMMANDS
from tq.cli.perform import perform
from tq.cli.table import DATA_DIR, Command, Option

EPILOG = (
    "Exit codes: 0 done; the task's own code for run and wait; 1 the task failed; 2 usage; 66 no such task; 69 no daemon; "
    "75 refused for now (a limit, a drain, a name that another task has, a task that is in no state for it); 77 not allowed; "
    "124 timed out or expired; 130 interrupted; 143 cancelled."
)
GROUPS = {
    "breaker": "Circuit breakers: services and types that are left alone while they fail.",
    "config": "Settings.",
    "daemon": "Start and stop the daemon.",
    "dead": "Tasks that failed for good.",
    "limit": "How many tasks begin in a time, and run at a time.",
    "queue": "Queues and their settings.",
    "resource": "Named resources that running tasks share.",
    "schedule": "Tasks and commands that are sent again and again.",
    "service": "The daemon as a service of systemd.",
    "tenant": "Whose tasks there are: weights, quotas and totals.",
    "worker": "Worker processes.",
    "workflow": "Named graphs of tasks.",
}


_HINT: Any = Annotated  # made from the table, so not for a type checker


def _parameter(option: Option) -> inspect.Parameter:
    hints: dict[str, tuple[Any, Any, list[str]]] = {
        "text": (str | None, None, option.flags),
        "many": (list[str] | None, None, option.flags),
        "flag": (bool, False, option.flags),
        "switch": (bool | None, None, [f"{option.flags[0]}/--no-{option.flags[0][2:]}"]),
    }
    kind, default, flags = hints[option.kind]
    annotation = _HINT[kind, typer.Option(*flags, help=option.help, show_default=False)]
    return inspect.Parameter(option.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _argument(command: Command) -> list[inspect.Parameter]:
    kinds: dict[str, tuple[Any, Any]] = {
        "one": (str, inspect.Parameter.empty),
        "optional": (str | None, None),
        "any": (list[str] | None, None),
        "some": (list[str], inspect.Parameter.empty),
        "rest": (list[str], inspect.Parameter.empty),
        "named": (str, inspect.Parameter.empty),
    }
    if command.takes == "none":
        return []
    kind, default = kinds[command.takes]
    hint = _HINT[kind, typer.Argument(metavar=command.argument.upper(), show_default=False)]
    found = [inspect.Parameter(command.argument, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)]
    if command.takes == "named":
        rest = _HINT[list[str] | None, typer.Argument(metavar="[-- COMMAND]", show_default=False)]
        found.append(inspect.Parameter("command", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=rest))
    return found


def _function(name: str, command: Command) -> Callable[..., None]:
    def act(ctx: typer.Context, **values: Any) -> None:
        outer = ctx.find_root().params.get(DATA_DIR.key)
        given = values if values[DATA_DIR.key] is not None else {**values, DATA_DIR.key: outer}
        raise typer.Exit(perform(name, given))

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *_argument(command), *(_parameter(option) for option in command.options)]
    act.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    act.__annotations__ = {one.name: one.annotation for one in parameters}
    act.__doc__ = command.help
    return act


def meant(argv: Sequence[str]) -> Sequence[str]:
    """The names of the commands that a line may mean, be it wrong or a question for help: to make all takes longer than most run."""
    at = 2 if argv[:1] == ["--data-dir"] else int(bool(argv) and argv[0].startswith("--data-dir="))
    first, second = [*argv[at : at + 2], "", ""][:2]
    if first in COMMANDS:
        return [first]
    if f"{first} {second}" in COMMANDS:
        return [f"{first} {second}"]
    return [name for name in COMMANDS if name.startswith(f"{first} ")] or list(COMMANDS)


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The application, as the table says, with these commands."""
    app = typer.Typer(
        name="tq", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, epilog=EPILOG, rich_markup_mode=None
    )
    parts = {name.partition(" ")[0] for name in names}
    groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in GROUPS.items() if name in parts}
    for name in names:
        command = COMMANDS[name]
        group, _, leaf = name.rpartition(" ")
        settings = {"allow_interspersed_args": False} if command.takes == "rest" else {}
        (groups[group] if group else app).command(leaf, help=command.help, context_settings=settings)(_function(name, command))
    for name, part in groups.items():
        app.add_typer(part, name=name)

    @app.callback()
    def root(
        data_dir: Annotated[str | None, typer.Option("--data-dir", help=DATA_DIR.help)] = None,
        version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)] = False,
    ) -> None:
        """A durable task queue: shell commands and Python functions in one queue, on one machine."""

    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tq {__version__}")
        raise typer.Exit


def main(argv: Sequence[str]) -> int:
    """Run a command line; its exit code."""
    try:
        build(meant(argv))(args=list(argv), prog_name="tq")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            return 141  # which Typer makes a 1
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0
