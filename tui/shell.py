"""What can be done on every screen.

For: ``SHELL``, the actions of the application, and those that lead to the screens.
Not for: the actions of a screen (beside it).
Runs in: the monitor, on Textual.
Promises: no key here loses anything; a digit is a screen, everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from tq.client.start import start_if_needed
from tui.actions import Action, Context
from tui.screens.batches import BatchesPage
from tui.screens.help import HelpScreen
from tui.screens.palette import open_palette
from tui.screens.prompt import Prompt
from tui.screens.tenants import TenantsPage
from tui.widgets.jump import Jump, panes_of

if TYPE_CHECKING:
    from tui.screens.screen import MonitorScreen


def screen_actions(screens: Iterable[type[MonitorScreen]]) -> list[Action]:
    """What leads to each screen: its digit, its name on the ``:`` line."""

    def leads_to(screen: type[MonitorScreen]) -> Action:
        return Action(
            id=f"screen.{screen.title_id}", title=screen.name_long, help=f"Show the screen {screen.name_long}.", keys=screen.number,
            run=lambda context: context.app.go_to(screen.title_id), words=(screen.title_id,), footer=0, group="Screens",
        )  # fmt: skip

    return [leads_to(screen) for screen in screens]


def _on_a_page(context: Context) -> bool:
    return bool(context.app.on_a_page)


def _can_go_back(context: Context) -> bool:
    return _on_a_page(context) or bool(context.screen is not None and context.screen.can_step_back)


def _back(context: Context) -> None:
    if context.screen.can_step_back:
        context.screen.step_back()
    else:
        context.app.pop_screen()


def _leave(context: Context) -> None:
    if _on_a_page(context):
        context.app.pop_screen()
    else:
        context.app.exit(0)


def _set(context: Context) -> None:
    name, _, value = context.words.partition(" ")
    if name != "theme" or not value.strip():
        raise ValueError(f"set: expected theme and its name, got {context.words!r}")
    context.app.set_theme(value.strip())


def _tenants(context: Context) -> None:
    if not isinstance(context.screen, TenantsPage):
        context.app.push_screen(TenantsPage())


def _batches(context: Context) -> None:
    if not isinstance(context.screen, BatchesPage):
        context.app.push_screen(BatchesPage())


def _settings(context: Context) -> Sequence[str]:
    return [f"theme {name}" for name in sorted(context.app.available_themes)]


def _views(context: Context) -> Sequence[str]:
    return sorted(context.app.memory.kept.views)


def _named(context: Context) -> str:
    """The view that is meant. ValueError: there is none of this name."""
    if context.words not in context.app.memory.kept.views:
        raise ValueError(f"view: expected {', '.join(_views(context)) or 'one that was saved (:save NAME)'}, got {context.words!r:.60}")
    return context.words


def _unsave(context: Context) -> None:
    memory, name = context.app.memory, _named(context)
    before = memory.view(name, None)

    async def undo() -> None:
        memory.view(name, before)

    context.app.say(f"View {name} forgotten.", undo=undo)


async def _start(context: Context) -> None:
    context.app.say("Starting a daemon ...")
    pid = await asyncio.to_thread(start_if_needed, context.app.data_dir)
    context.app.feed.poke()
    context.app.say("Another one has started it." if pid is None else f"The daemon runs (pid {pid}).")


def _cut_off(context: Context) -> bool:
    app = context.app  # a demo's tasks are not for the handlers that this user's daemons have
    return not app.feed.standing.phase.connected and not app.wanted.read_only and not app.demo


SHELL = (
    Action(
        id="command", title="Command", short="Cmd", help="Type a command: :overview, :set theme tq-light, :quit; tab completes.", keys=":",
        run=lambda context: context.app.push_screen(Prompt()) and None, footer=80,
    ),
    Action(
        id="palette", title="Palette", help="Find anything that can be done here, by a part of its name.", keys="ctrl+p",
        run=lambda context: open_palette(context.app), footer=85,
    ),
    Action(
        id="help", title="Help", help="This page: all keys and commands, made from what there is.", keys="?,f1",
        run=lambda context: context.app.push_screen(HelpScreen()) and None, words=("help",), footer=70,
    ),
    Action(
        id="freeze", title="Freeze", help="Hold everything on the screen as it is; once more lets it go on.", keys="Z",
        run=lambda context: context.app.toggle_freeze(), says=lambda context: "Go on" if context.app.frozen else "Freeze",
        words=("freeze",), footer=75,
    ),
    Action(
        id="undo", title="Undo", help="Take back what was just done, while the message about it stands.", keys="u",
        run=lambda context: context.app.undo(), applies=lambda context: bool(context.app.can_undo), words=("undo",), footer=5,
    ),
    Action(
        id="back", title="Back", help="Back from a page; on a list, away with marks, then with its filter.", keys="escape",
        run=_back, applies=_can_go_back, footer=6, words=("back",),
    ),
    Action(
        id="jump", title="Jump", help="Show a letter on each pane that can have the focus; its key goes there.", keys="ctrl+o",
        run=lambda context: context.app.push_screen(Jump(panes_of(context.screen.focus_chain))) and None, words=("jump",), footer=0,
        applies=lambda context: context.screen is not None and len(panes_of(context.screen.focus_chain)) > 1,
    ),
    Action(
        id="last", title="Last screen", help="The screen that was in front before this one.", keys="backspace",
        run=lambda context: context.app.last_screen(), applies=lambda context: bool(context.app.has_last), footer=0,
    ),
    Action(
        id="leave", title="Quit", help="Back from a page; on a screen, leave the monitor. The daemon goes on.", keys="q", run=_leave,
        says=lambda context: "Back" if _on_a_page(context) else "Quit", footer=90,
    ),
    Action(
        id="quit", title="Quit", help="Leave the monitor, whatever is in front. The daemon goes on.", keys="ctrl+q,f10",
        run=lambda context: context.app.exit(0), words=("quit",), footer=0, priority=True,
    ),
    Action(
        id="interrupt", title="Interrupt", help="Copies what is selected; else pressed twice it leaves the monitor.", keys="ctrl+c",
        run=lambda context: context.app.interrupt(), footer=0,
    ),
    Action(
        id="zone", title="UTC/local", help="Show times by this machine's clock, or by UTC again, on every screen.", keys="T",
        run=lambda context: context.app.toggle_zone(), says=lambda context: "Local time" if context.app.zone is UTC else "UTC",
        words=("zone",), footer=0,
    ),
    Action(
        id="reconnect", title="Reconnect", help="Make the connection anew and ask for everything again.", keys="ctrl+r",
        run=lambda context: context.app.feed.reconnect(), words=("reconnect",), footer=0,
    ),
    Action(
        id="redraw", title="Redraw", help="Paint the whole screen again.", keys="ctrl+l", run=lambda context: context.app.redraw(),
        words=("redraw",), footer=0,
    ),
    Action(
        id="set", title="Set", help="Change a setting of the monitor until it ends: :set theme tq-light.", run=_set, words=("set",),
        takes="theme NAME", choices=_settings, footer=0,
    ),
    Action(
        id="view", title="View", help="Open a view of the tasks that was saved: its filter, state and order.",
        run=lambda context: context.app.open_place("view", _named(context)), words=("view",), takes="NAME", choices=_views, footer=0,
    ),
    Action(
        id="tenants", title="Tenants", help="Show what each tenant has, its quotas, and how much of them is used.", run=_tenants,
        words=("tenants",), footer=0, group="Screens",
    ),
    Action(
        id="batches", title="Batches", help="Show the batches: how many members of each stand where, and their callbacks.", run=_batches,
        words=("batches",), footer=0, group="Screens",
    ),
    Action(
        id="unsave", title="Forget a view", help="Forget a view of the tasks that was saved.", run=_unsave, words=("unsave",),
        takes="NAME", choices=_views, footer=0,
    ),
    Action(
        id="export.stop", title="Stop the export", help="Break off the export that is under way; nothing of its file is left.",
        run=lambda context: setattr(context.app.exporting, "stopped", True), applies=lambda context: context.app.exporting is not None,
        words=("stop",), footer=0,
    ),
    Action(
        id="daemon.start", title="Start the daemon", help="Start a daemon for this instance, as `tq daemon start` does.", run=_start,
        applies=_cut_off, words=("start",), twin=lambda _: "tq daemon start", footer=0, weight=1,
    ),
)  # fmt: skip
