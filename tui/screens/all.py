"""The screens there are, in the order of their digits.

For: the application: what it has as modes, and the second line of every screen.
Not for: pages behind a screen, which that screen opens itself.
Runs in: the monitor, on Textual.
Promises: a screen that is not here is nowhere: no digit, no name, no key.
"""

from __future__ import annotations

from tui.screens.batches import BatchesPage
from tui.screens.config import ConfigScreen
from tui.screens.dead import DeadScreen
from tui.screens.events import EventsScreen
from tui.screens.overview import OverviewScreen
from tui.screens.queues import QueuesScreen
from tui.screens.schedules import SchedulesScreen
from tui.screens.screen import MonitorScreen
from tui.screens.task import TaskPage
from tui.screens.tasks import TasksScreen
from tui.screens.tenants import TenantsPage
from tui.screens.workers import WorkersScreen
from tui.screens.workflow import WorkflowPage
from tui.screens.workflows import WorkflowsScreen

SCREENS: tuple[type[MonitorScreen], ...] = (
    OverviewScreen, QueuesScreen, TasksScreen, WorkersScreen, SchedulesScreen, DeadScreen, EventsScreen, ConfigScreen,
    WorkflowsScreen,
)  # fmt: skip
PAGES: tuple[type[MonitorScreen], ...] = (TaskPage, WorkflowPage, TenantsPage, BatchesPage)
"""What a screen opens over itself; their actions are in the registry, too."""
