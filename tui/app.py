"""The application: it owns the connection and what is known, and lets the screen in front repaint at most four times a second.

For: ``MonitorApp``: screens, themes, the flush, toasts and undo, carrying out actions; ``SHELL`` stands in shell.
Not for: what a screen shows (screens), how the daemon is asked (feed, refresh), what can be done everywhere (shell).
Runs in: the process of ``tq monitor``, on Textual.
Promises: nothing that the daemon does, or fails to do, ends it or empties a screen; a failed action is a toast; while nothing changes
nothing is painted but the seconds.
"""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, ClassVar

from textual import events
from textual.app import App, SuspendNotSupported
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter
from textual.message_pump import MessagePump
from textual.widget import Widget
from textual.widgets import Input

from tq.errors import ConfigError, DaemonError, TqError
from tui import pager
from tui.actions import Action, Context, Registry
from tui.clock import Clock, MachineClock, until_woken
from tui.copying import copy_out
from tui.feed import Feed, Phase
from tui.formats import ASCII, UNICODE, cleaned, counted, short
from tui.memory import Memory
from tui.plain import PlainCharacters
from tui.preferences import Preferences
from tui.refresh import Refresher, Want
from tui.screens.all import PAGES, SCREENS
from tui.screens.export_acts import Exporting
from tui.screens.screen import MonitorScreen, binding
from tui.shell import SHELL, screen_actions
from tui.state import Body, Known
from tui.terminal import TerminalDriver
from tui.themes import DEFAULTS, NAMES, THEMES, StyleSheet
from tui.widgets.bars import Piece
from tui.widgets.confirm import Confirm, Question
from tui.widgets.toast import Toast
from tui.widgets.topbar import Place, View

FLUSH_S = 0.25
STUCK_S = 0.3
"""A key that has not arrived by then, as its widget went away, keeps back no other."""
PASSED = 32
"""Keys that may be on their way through a screen at a time."""
TOAST_S, UNDO_S = 5.0, 10.0
TICK_S = 1.0
SAVE_S = 5.0
"""What is remembered is written at most so often."""
AGAIN_S = 2.0
"""Within so many seconds a second ctrl+c ends the monitor."""
ALWAYS = {"status": Want("status", every_s=5.0)}
"""Asked whatever screen is in front: line 1 tells it."""
PLACES = {
    "queue": "queues", "type": "tasks", "task": "tasks", "tasks": "dead", "workers": "workers", "worker": "workers",
    "schedule": "schedules", "alert": "events", "store": "config", "clock": "events", "service": "events",
    "filter": "tasks", "workflow": "workflows",
    "setting": "config", "view": "tasks",
}  # fmt: skip
"""The screen that shows what a line of attention is about."""
Undo = Callable[[], Awaitable[object]]


class MonitorApp(App[int], inherit_bindings=False):
    """The monitor of the instance at ``data_dir``. ``live``: repaint by itself; tests turn the clock and call ``flush_now``."""

    CSS_PATH = "monitor.tcss"
    ENABLE_COMMAND_PALETTE = False
    MODES: ClassVar[dict[str, Any]] = {screen.title_id: screen for screen in SCREENS}
    DEFAULT_MODE = SCREENS[0].title_id
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-tiny"),
        (60, "-small"),
        (80, "-narrow"),
        (100, "-wide"),
        (140, "-huge"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-low"), (24, "-usual"), (34, "-tall")]  # noqa: RUF012 - as above
    registry = Registry([*SHELL, *screen_actions(SCREENS), *(action for screen in (*SCREENS, *PAGES) for action in screen.ACTIONS)])
    BINDINGS: ClassVar[Any] = [binding(action) for action in registry if not action.screen and action.keys]

    def __init__(
        self, data_dir: str, wanted: Preferences | None = None, *, memory: Memory | None = None, clock: Clock | None = None,
        live: bool = True, environ: Mapping[str, str], demo: bool = False,
    ) -> None:  # fmt: skip
        wanted, self.memory = wanted or Preferences(), memory or Memory()
        if self.memory.kept.screen in self.MODES:
            self.__dict__["DEFAULT_MODE"] = self.memory.kept.screen  # before what is above asks for it, and for this one alone
        super().__init__(ansi_color=True if "NO_COLOR" in environ else None)
        self.data_dir, self.wanted, self.environ, self.demo = data_dir, wanted, environ, demo
        self.clock: Clock = clock or MachineClock()
        self.known = Known()
        self.feed = Feed(data_dir, self.clock, self._heard, self._stands, read_only=wanted.read_only)
        self.refresher = Refresher(self.feed, self.known)
        self.glyphs = ASCII if wanted.ascii else UNICODE
        self.drawing = "ascii" if wanted.ascii else wanted.charts
        self.flashes = not wanted.reduce_motion
        """Whether lists show in reverse for a moment what has changed."""
        self.zone: tzinfo | None = UTC
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        kept = self.memory.kept.theme if self.memory.kept.theme in self.available_themes else NAMES[0]
        self.theme = self._theme_of(wanted.theme) if wanted.theme else kept  # before the first rule is parsed
        self.stylesheet = StyleSheet(variables=self.get_css_variables())
        self._live = live
        self._plain = PlainCharacters() if wanted.ascii else None
        self._frozen: float | None = None
        self._blurred = False
        self._painted = -TICK_S
        self._saved = self.clock.ticks()
        self._problem = ""
        self._toast_until = 0.0
        self._undo: Undo | None = None
        self._asked_to_quit = -AGAIN_S
        self.exporting: Exporting | None = None
        self._restarts = 0
        self._last = ""
        self._here = ""
        self.keys_by_id = dict(wanted.keys)
        self.passed: deque[tuple[events.Key, MonitorScreen]] = deque(maxlen=PASSED)
        """The last keys that nothing on a screen took, and the screen."""
        self._keys: deque[events.Key] = deque()
        """The key that is on its way, and those behind it."""
        self._stuck: asyncio.TimerHandle | None = None
        self._check_keys()

    def _check_keys(self) -> None:
        """The key map names actions that there are, and gives no key to two that are active on one screen."""
        for id_ in self.keys_by_id:
            if id_ not in self.registry:
                raise ConfigError(f"[monitor.keys]: expected the id of an action, got {id_!r}. The help (?) has them all.")
        for screen in ("", *(one.title_id for one in (*SCREENS, *PAGES))):
            taken: dict[str, str] = {}
            for action in self.registry.on(screen):
                for key in self.keys_by_id.get(action.id, action.keys).split(","):
                    other = taken.setdefault(key.strip(), action.id)
                    if key.strip() and other != action.id:
                        raise ConfigError(f"[monitor.keys]: expected one action on {key.strip()!r}, got {other} and {action.id}.")

    # what Textual asks for

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return DEFAULTS

    def get_driver_class(self) -> type[Driver]:
        usual = super().get_driver_class()  # a browser has its own
        return TerminalDriver if usual is LinuxDriver else usual

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return filters if self._plain is None else [*filters, self._plain]

    def on_mount(self) -> None:
        self.set_keymap(self.keys_by_id)
        self.feed.via = "web" if self.is_web else ""
        self.run_worker(self.feed.run(), group="feed")
        self.run_worker(self.refresher.run(), group="refresh")
        if self._live:
            self.run_worker(self._painting(), group="painting")
            for number in (signal.SIGTERM, signal.SIGHUP):  # or the terminal would be left as it is; nohup, too, is for what needs none
                asyncio.get_running_loop().add_signal_handler(number, self.exit, 128 + number)
        if self.demo:
            self.say("A demo: this queue is its own, works for nobody and is gone when you leave. ? has the keys.")

    def _theme_of(self, name: str) -> str:
        if name not in self.available_themes:
            raise ConfigError(f"theme: expected one of {', '.join(sorted(self.available_themes))}, got {name!r}.")
        return name

    def on_app_blur(self) -> None:
        self._blurred, self.refresher.pace = True, 0.0 if self._frozen is not None else 4.0

    def on_app_focus(self) -> None:
        self._blurred, self.refresher.pace = False, 0.0 if self._frozen is not None else 1.0
        self.feed.poke()
        self.refresher.wake()

    async def on_event(self, event: events.Event) -> None:
        """One key at a time: the next one when this has gone all its way, since on that way some act at once, and others at its end."""
        if not isinstance(event, events.Key) or event.is_forwarded:
            await super().on_event(event)
            return
        self._keys.append(event)
        if len(self._keys) == 1:
            await self._give(event)

    async def _give(self, key: events.Key) -> None:
        self._stuck = asyncio.get_running_loop().call_later(STUCK_S, self.call_later, self._given, key)
        way = self.focused or self.screen
        await super().on_event(key)
        self._follow(way if key.is_forwarded else self, key)

    def _follow(self, way: MessagePump | None, key: events.Key) -> None:
        """Go behind the key from a widget to those around it, and then take the next."""
        while way is not None and way is not self:
            if way.call_later(self._follow, way._parent, key):
                return
            way = way._parent
        self.call_later(self._given, key)

    async def _given(self, key: events.Key) -> None:
        if self._keys and self._keys[0] is key:
            self._keys.popleft()
            if self._stuck is not None:
                self._stuck.cancel()
            if self._keys:
                await self._give(self._keys[0])

    def on_key(self, event: events.Key) -> None:
        self.feed.poke()  # somebody is there: try now
        screen = next((screen for key, screen in self.passed if key is event), self.screen)
        missed = event.is_printable and isinstance(self.focused, Input)  # which takes every letter that comes to it
        if screen is not self.screen or missed:  # typed ahead of what the key before it has opened: give it to that
            event.prevent_default()
            self._keys.insert(1, events.Key(event.key, event.character))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "do" and parameters:
            return str(parameters[0]) in self.registry and self.registry[str(parameters[0])].available(self.context())
        return True

    # what screens ask for

    @property
    def front(self) -> MonitorScreen | None:
        """The screen in front, below any dialog."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, MonitorScreen)), None)

    @property
    def on_a_page(self) -> bool:
        """Whether what is in front was opened from a screen."""
        return len([screen for screen in self.screen_stack if isinstance(screen, MonitorScreen)]) > 1

    @property
    def has_last(self) -> bool:
        return bool(self._last)

    @property
    def may_write(self) -> bool:
        return self.feed.may_write

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def context(self, words: str = "") -> Context:
        return Context(self, self.front, words)

    async def call(self, verb: str, args: Body | None = None) -> Body:
        """Any verb of the protocol; what comes is cleaned here. The daemon's error, or DaemonError."""
        found: Body = cleaned(await self.feed.call(verb, args))
        return found

    def view(self) -> View:
        """What the lines at the top tell."""
        now, status = self.clock.now_ms(), self.known.get("status") or {}
        started = status.get("started_at")
        return View(
            standing=self.feed.standing, glyphs=self.glyphs, instance=self.data_dir.rstrip("/").rpartition("/")[2], path=self.feed.path,
            now_ms=now, ticks=self.clock.ticks(), may_write=self.may_write, read_only=self.wanted.read_only,
            rate=self.known.ended_per_s(now), progress=self.refresher.progress,
            uptime_ms=now - started if isinstance(started, int) and started else None, draining=bool(status.get("draining")),
            frozen_since=self._frozen, blurred=self._blurred, can_start=not self.wanted.read_only and not self.demo, zone=self.zone,
            demo=self.demo,
        )  # fmt: skip

    def places(self) -> list[Place]:
        """The screens of the second line."""
        failed = ((self.known.totals or {}).get("states") or {}).get("failed")
        notes = {"dead": short(failed) if failed else ""}
        return [Place(one.title_id, one.number, one.name_long, one.name_short, notes.get(one.title_id, "")) for one in SCREENS]

    def jobs(self) -> list[Piece]:
        """Long work under way, for the status line."""
        found = []
        if self.exporting is not None:
            found.append(Piece(f"{self.glyphs.state('retrying')} {self.exporting.told}  ", "$warn"))
        for chore in self.known.rows("chores", "chores")[:2]:
            words = f"{chore.get('verb')}: {counted(int(chore.get('changed') or 0), 'task')} of {int(chore.get('seen') or 0):,} seen"
            found.append(Piece(f"{self.glyphs.state('retrying')} {words}  ", "$warn"))
        return found

    def headline(self) -> str:
        """The six numbers of a terminal that is too small."""
        totals = self.known.totals
        if totals is None:
            return ""
        states = totals.get("states", {})
        return "  ".join(
            f"{name} {short(states.get(name))}" for name in ("pending", "running", "retrying", "scheduled", "failed", "succeeded")
        )

    def entered(self, screen: MonitorScreen) -> None:
        """A screen came to the front: ask for what it shows."""
        if screen.place != self._here:
            self._last, self._here = self._here, screen.place
            self.memory.screen(screen.place)
        self.refresher.want({**ALWAYS, **screen.wants()})
        screen.flush({"all"})

    def wants_changed(self) -> None:
        """The screen in front has other questions than when it came."""
        if (front := self.front) is not None:
            self.refresher.want({**ALWAYS, **front.wants()})

    # events in, frames out

    async def _painting(self) -> None:
        """Flush when something has come, at most each FLUSH_S; else as often as the seconds need it, and no more."""
        while True:
            await until_woken(self.clock, self.known.came, max(self._painted + TICK_S - self.clock.ticks(), 0.0))
            self.flush_now()
            self.known.came.clear()
            await self.clock.sleep(FLUSH_S)

    def _heard(self, topic: str, body: Body) -> None:
        self.known.take(topic, body, self.clock.now_ms())
        if topic == "totals":
            self.refresher.stirred()

    def _stands(self) -> None:
        self.known.touch("standing")
        self.refresher.wake()
        restarts = self.feed.standing.restarts
        if restarts != self._restarts and self.feed.standing.phase is Phase.SYNCING:
            self._restarts = restarts
            self.say("The daemon was restarted; what is shown is asked for anew.", "$warn")

    def flush_now(self) -> None:
        """Let the screen in front repaint what changed since the last time."""
        now = self.clock.ticks()
        if self._toast_until and now >= self._toast_until:
            self.say("")
        if self.memory.changed and now - self._saved >= SAVE_S:
            self._saved = now
            self.memory.save()
        due = now - self._painted >= TICK_S
        if isinstance(self.screen, Confirm) and due:
            self.screen.repaint()
        front = self.front
        if self.memory.problem != self._problem and front is not None and front.is_mounted:
            self._problem = self.memory.problem
            self.say(self._problem, "$warn")
        still = self._frozen is not None or self._blurred or not self.known.dirty
        if front is None or not front.is_mounted or (still and not due):
            return
        # Ages tick along with what has come, if anything has, so that a second costs one repaint and not two.
        ticked, self._painted = int(now) != int(self._painted), now
        if self._frozen is not None:
            front.lines()
            return
        dirty, self.known.dirty = self.known.dirty, set()
        front.flush({*dirty, "tick"} if ticked else dirty)

    # what actions ask for

    def action_do(self, id_: str, words: str = "") -> None:
        """Carry out an action by its id; what it raises is told, and ends nothing."""
        self.carry_out(self.registry[id_], words)

    def carry_out(self, action: Action, words: str = "", *, told: bool = False) -> None:
        """Carry out an action; ``told``: then show the command line that does the same."""
        context = self.context(words)
        if not action.available(context):
            self.say(f"{action.title.rstrip('…')} is not possible here and now.", "$warn")
            return
        try:
            found = action.run(context)  # at once: the next key may be meant for what this has changed
        except (TqError, ValueError) as error:
            self.say(str(error), "$bad")
            return
        if found is not None:
            self.run_worker(self._carried_out(action, context, found, told), group="actions", exit_on_error=False)
        elif told:
            self._tell_twin(action, context)

    def _tell_twin(self, action: Action, context: Context) -> None:
        if action.twin is not None and self._undo is None:
            self.say(f"Done, as by: {action.twin(context)}")

    async def _carried_out(self, action: Action, context: Context, found: Awaitable[None], told: bool) -> None:
        try:
            await found
            if told:
                self._tell_twin(action, context)
        except DaemonError as error:
            self.say(error.message, "$bad")
            self.feed.poke()
        except (TqError, ValueError) as error:
            self.say(str(error), "$bad")

    def say(self, text: str, style: str = "", *, undo: Undo | None = None) -> None:
        """A toast; with ``undo`` it can be taken back while the toast stands. "" takes it away."""
        self._undo = undo
        self._toast_until = self.clock.ticks() + (UNDO_S if undo else TOAST_S) if text else 0.0
        shown = f"{text}   u undo" if undo else text
        for screen in self.screen_stack:
            for toast in screen.query(Toast):
                toast.say(str(cleaned(shown)), style)
        if self.front is not None and self.front.is_mounted:
            self.front.lines()  # whether something can be undone is on the keys line

    @property
    def can_undo(self) -> bool:
        return self._undo is not None

    async def undo(self) -> None:
        """Take back what the toast offers."""
        undo = self._undo
        if undo is not None:
            self.say("")
            await undo()
            self.say("Taken back.")
            self.refresher.again()

    async def confirm(self, question: Question) -> bool:
        """Ask; whether it was confirmed. For use inside an action."""
        answer: bool = await self.push_screen_wait(Confirm(question))
        return answer

    def toggle_freeze(self) -> None:
        """Hold everything as it is, or let it go on."""
        self._frozen = None if self._frozen is not None else self.clock.ticks()
        self.refresher.pace = 0.0 if self._frozen is not None else 1.0
        self.refresher.wake()
        if (front := self.front) is not None:
            front.flush(set() if self.frozen else {"all"})

    def copy_to_clipboard(self, text: str) -> None:
        """Copy by the first means that works, and say which it was."""
        self.run_worker(self._copied(text), group="actions", exit_on_error=False)

    async def _copied(self, text: str) -> None:
        try:
            self.say(await copy_out(text, self.environ, self._write, self.is_web))
        except OSError as error:
            self.say(f"It could not be copied: {error.strerror}.", "$bad")

    def _write(self, data: str) -> None:
        if self._driver is not None:
            self._driver.write(data)

    def show_in_pager(self, text: str) -> None:
        """Leave the terminal to the person's pager, with this text. ValueError: there is none, or the terminal cannot be left."""
        command = pager.command_of(self.environ)
        try:
            with self.suspend():
                pager.show(text, command, self.environ)
        except SuspendNotSupported:
            raise ValueError("this terminal cannot be left for a pager") from None
        self.feed.poke()
        self.refresher.again()  # what came meanwhile was not looked at

    def interrupt(self) -> None:
        """ctrl+c: the first says how to leave, a second soon after leaves."""
        now = self.clock.ticks()
        if now - self._asked_to_quit < AGAIN_S:
            self.exit(0)
        self._asked_to_quit = now
        self.say("ctrl+c once more leaves the monitor; the daemon goes on either way.")

    def go_to(self, id_: str) -> None:
        """Another screen in front, its list as it was left."""
        if id_ in self.MODES and id_ != self.current_mode:
            self.switch_mode(id_)

    def open_place(self, kind: str, name: str) -> None:
        """Show what is about a queue, a schedule, ...: its screen with it under the cursor, or the one in front, if that has it."""
        place = PLACES.get(kind, "")
        if place in self.MODES:
            self.go_to(place)
            self.call_after_refresh(self._show_item, kind, name)
        else:
            self._show_item(kind, name)

    def _show_item(self, kind: str, name: str) -> None:
        try:
            found = self.front is None or self.front.show_item(kind, name)
        except (TqError, ValueError) as error:  # a filter, say, that this version does not know
            self.say(str(error), "$bad")
            return
        if not found:
            self.say(f"{kind} {name} is not listed here.".replace("  ", " "))

    def last_screen(self) -> None:
        if self._last:
            self.go_to(self._last)

    def set_theme(self, name: str) -> None:
        """ConfigError says which there are."""
        self.theme = self._theme_of(name)
        self.memory.theme(name)

    def toggle_zone(self) -> None:
        """Times by this machine's clock, or by UTC again."""
        self.zone = None if self.zone is UTC else UTC
        if (front := self.front) is not None:
            front.flush({"all"})

    def redraw(self) -> None:
        self.refresh(repaint=True, layout=True)
        for widget in self.screen.query(Widget):
            widget.refresh()
