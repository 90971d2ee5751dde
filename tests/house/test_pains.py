"""Twenty-five pains of other task queues, and the tests that show that tq does not have them.

Each line below a pain is a test; "not yet" names what has to be built before one can be written.

1. Tasks that stay "running" for days after a crash or a deployment.
   tests/flows/test_the_daemon_is_killed.py::test_what_ran_when_the_daemon_died_runs_again_and_what_had_not_begun_is_not_charged
   tests/flows/test_the_daemon_is_killed.py::test_a_stopped_worker_and_its_command_are_ended_before_the_next_daemon_runs_their_task
2. A worker is killed and its task is gone.
   tests/flows/test_a_worker_is_killed.py::test_fifty_times_the_task_runs_again_and_those_behind_it_are_not_charged
3. A task with a long delay runs several times.
   tests/tq/store/test_flat_costs.py::test_what_is_due_later_stays_in_the_store_and_is_handed_out_once
   tests/flows/test_external_consumers.py::test_a_lease_that_runs_out_gives_the_task_to_another_and_the_first_may_change_nothing
4. Workers run out of memory because tasks of the future lie in them.
   tests/tq/store/test_flat_costs.py::test_what_is_due_later_stays_in_the_store_and_is_handed_out_once
5. A worker lives and takes no work after the broker was away for a moment.
   tests/flows/test_external_consumers.py::test_a_claim_outlives_the_daemon
   tests/tq/test_client.py::test_an_async_client_reconnects_between_calls_and_tells_when_nobody_answers
   not yet: a pool against a store on another machine (Redis, PostgreSQL); here the store is part of the daemon.
6. One long task blocks short ones while other workers idle.
   tests/flows/test_workers_come_and_go.py::test_a_long_task_never_delays_the_ones_behind_it_while_another_worker_idles
   tests/flows/test_a_stopped_worker_gives_back_its_tasks.py::test_a_long_task_does_not_hoard_what_stands_behind_it
7. Priority is ignored, or its number means something else.
   tests/tq/store/test_conformance_claim.py::test_a_higher_priority_goes_first_whatever_came_before
   tests/tq/test_broker_control.py::test_a_critical_task_waits_for_at_most_one_aged_task_however_many_there_are
   tests/tq/test_model.py::test_what_is_no_priority_is_an_error
8. A graceful stop runs finished tasks again, or kills at once.
   tests/flows/test_drain.py::test_what_runs_finishes_and_what_has_not_begun_waits_for_the_next_daemon
   tests/flows/test_drain.py::test_shutdowns_at_random_moments_lose_nothing_and_charge_nobody
9. Memory grows until there is none.
   tests/tq/test_pool.py::test_a_worker_is_recycled_after_so_many_tasks
   tests/tq/test_pool.py::test_a_worker_that_takes_too_much_memory_is_replaced_after_its_task
10. A task that kills its worker comes back for ever and takes others along.
   tests/flows/test_a_worker_is_killed.py::test_a_task_that_kills_its_worker_three_times_is_poison_and_the_others_never_notice
11. A success that is called failed or abandoned later.
   tests/tq/store/test_conformance_settle.py::test_what_is_over_cannot_be_settled_again
   tests/tq/store/test_conformance_settle.py::test_a_stale_claim_never_changes_anything
12. A timeout that the task swallows, or that is not enforced.
   tests/tq/test_pool_endings.py::test_what_hears_nothing_is_killed_within_the_bar
   tests/tq/test_pool_endings.py::test_what_a_function_started_is_ended_with_it
13. "database is locked".
   tests/flows/test_external_consumers.py::test_consumers_at_the_same_time_never_get_the_same_task
   tests/tq/store/test_files.py::test_a_second_daemon_is_refused_and_told_who_holds_the_directory
14. Adding gets slower with the length of the queue.
   tests/tq/store/test_flat_costs.py::test_accepting_a_task_costs_the_same_however_many_wait
15. Damaged or old state, and everything is gone.
   tests/flows/test_bad_input.py::test_a_damaged_a_foreign_and_a_newer_data_file_are_left_as_they_are
   tests/tq/store/test_verify.py::test_a_damaged_task_is_failed_and_those_behind_it_run
16. Disks fill: logs and finished tasks never shrink.
   tests/tq/store/test_conformance_settle.py::test_what_is_older_than_its_age_is_forgotten_and_no_more
   tests/tq/store/test_conformance_edit.py::test_what_is_over_its_bytes_goes_oldest_first_failed_apart
   tests/tq/test_broker.py::test_what_is_over_the_limit_is_forgotten_also_when_nothing_else_happens
   tests/tq/test_output.py::test_head_and_tail_are_kept_within_the_limit_and_the_note_says_how_much_is_gone
   tests/tq/test_log.py::test_the_file_is_rotated_and_three_old_ones_are_kept
17. Schedules that stop silently, run twice, or flood.
   tests/flows/test_schedules_run.py::test_a_daemon_that_is_killed_again_and_again_runs_each_slot_of_a_declared_schedule_once
   tests/tq/test_broker_schedules.py::test_a_thousand_slots_and_a_daemon_killed_at_random_commits
   tests/tq/test_broker_schedules.py::test_what_was_missed_is_made_up_for_as_it_says
   tests/tq/test_broker_alerts.py::test_missed_and_skipped_slots_are_told_once_until_a_run_succeeds
18. A cancel that does not stick.
   tests/tq/test_broker.py::test_a_cancel_of_a_running_task_outlives_the_daemon
   tests/tq/test_broker.py::test_a_running_task_that_is_cancelled_ends_cancelled_unless_it_succeeds
   tests/tq/test_lifecycle.py::test_a_cancel_wins_over_every_end_but_success
19. What should follow a group of tasks never does.
   not yet: workflows.
20. Sending hangs for ever when nobody is there.
   tests/tq/test_client.py::test_a_daemon_that_does_not_answer_is_an_error_after_the_deadline
   tests/tq/cli/test_fast.py::test_without_a_daemon_every_hot_verb_says_so_and_ends_with_69
21. Limits count per worker, or cost half of the throughput.
   tests/tq/store/test_conformance_turns.py::test_a_queue_runs_no_more_tasks_than_it_has_slots
   tests/tq/store/test_conformance_turns.py::test_a_full_queue_does_not_hold_up_the_others
   not yet: limits by rate, key and tenant.
22. A lock that runs out while its task works.
   tests/tq/test_pool.py::test_a_worker_that_gives_no_sign_of_life_while_it_works_keeps_its_task
   tests/flows/test_external_consumers.py::test_extending_keeps_the_task_for_as_long_as_it_goes_on
23. Figures that are forgotten with a restart.
   tests/tq/store/test_conformance_read.py::test_totals_survive_a_restart
   not yet: the monitor.
24. "Where is the output of my task?"
   tests/tq/test_worker.py::test_everything_a_task_prints_is_its_output
   tests/flows/test_output_is_followed.py::test_what_a_function_prints_is_followed_before_it_returns
25. What is finished makes claims slower, and starts take minutes.
   tests/tq/store/test_flat_costs.py::test_handing_out_and_settling_cost_the_same_however_many_are_over
   tests/tq/store/test_flat_costs.py::test_opening_a_store_costs_the_same_however_many_are_over
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

NUMBERED = re.compile(r"(\d+)\. ")


def table(text: str | None) -> dict[int, list[str]]:
    """The lines below each numbered one."""
    found: dict[int, list[str]] = {}
    for line in (text or "").splitlines():
        if number := NUMBERED.match(line):
            found[int(number[1])] = []
        elif line.startswith("   "):
            found[len(found)].append(line.strip())
    return found


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def missing(root: Path, found: dict[int, list[str]]) -> list[str]:
    """Tests that a table names and that are not there."""
    named = [line.split("::") for lines in found.values() for line in lines if not line.startswith("not yet: ")]
    return [f"{path}::{name}" for path, name in named if not (root / path).is_file() or name not in names_in(root / path)]


def test_every_pain_has_a_test_or_says_what_is_missing() -> None:
    found = table(__doc__)
    assert list(found) == list(range(1, 26))
    assert [number for number, lines in found.items() if not lines] == []


def test_every_test_that_is_named_is_there(root: Path) -> None:
    assert missing(root, table(__doc__)) == []
