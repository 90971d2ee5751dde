"""Forty checks of what "reliable and secure" means, and the tests that make them.

Each line below a check is a test (``tests/campaign/results.json`` adds up the long runs); "not yet" says for what it waits.

1. No accepted task is lost, however often the daemon is killed.
   tests/campaign/test_kills.py::test_nothing_accepted_is_lost_and_nothing_survives_kills_at_any_moment
2. Killed before and after every call that changes a file.
   tests/campaign/test_points.py::test_a_store_killed_at_any_call_that_changes_a_file_keeps_what_it_has_answered
3. The power fails: nothing lost, damaged or half done.
   tests/campaign/test_images.py::test_nothing_answered_is_lost_in_power_cuts
4. Planted bugs are caught by at least two suites each.
   tests/campaign/test_planted.py::test_every_bug_that_would_lose_a_task_is_seen_by_two_suites
5. No answer leaves before its commit.
   tests/campaign/test_points.py::test_an_answer_before_its_sync_is_told_as_such
   tests/tq/test_broker.py::test_nothing_is_answered_when_the_store_cannot_be_written
6. A first start that is cut short leaves a directory that starts.
   tests/campaign/test_points.py::test_a_store_killed_at_any_call_that_changes_a_file_keeps_what_it_has_answered
   tests/tq/store/test_files.py::test_a_first_start_that_was_cut_short_is_made_again_from_the_beginning
7. Any call fails, once or for good: no false answer, a sound store.
   tests/campaign/test_io_errors.py::test_no_call_that_fails_makes_a_false_answer_or_a_damaged_store
8. A backup under load is synced, private, sound, and one moment of the store.
   tests/tq/store/test_files.py::test_a_backup_under_load_is_one_moment_of_the_store
   tests/tq/store/test_restoring.py::test_a_backup_takes_the_place_of_the_store_which_is_kept
9. Flipped bits are found, or the file is refused; never wrong data.
   tests/campaign/test_damage.py::test_a_damaged_file_is_refused_with_words_or_read_rightly_and_never_changed
10. Foreign file systems, unknown and newer formats are refused with what to do.
   tests/tq/store/test_files.py::test_a_newer_or_unknown_format_is_refused_by_name
   tests/tq/doctor/test_doctor.py::test_the_file_system_is_judged
11. A full queue, map or disk is drained to nothing without a restart.
   tests/campaign/test_full.py::test_a_store_that_was_filled_to_any_limit_is_drained_to_nothing
   tests/campaign/test_full.py::test_on_a_disk_that_others_fill_tasks_end_and_come_in_again_when_there_is_room
   tests/campaign/test_full.py::test_where_no_file_may_grow_tasks_end_and_come_in_again
12. At the limit sending is refused for now, settling never.
   tests/tq/store/test_room.py::test_a_request_that_would_not_leave_enough_is_refused_though_the_map_is_not_full
   tests/campaign/test_full.py::test_a_store_that_was_filled_to_any_limit_is_drained_to_nothing
13. The daemon's memory stays bounded with 10,000 clients, 1,000 bad ones and a million tasks.
   tests/campaign/test_clients.py::test_bad_clients_harm_nobody_else
   tests/bench/test_bench.py::test_every_bench_measures_something_and_says_what
14. The data file stays bounded under lists; no reader is pinned.
   tests/tq/store/test_conformance_read.py::test_any_number_of_lists_may_be_under_way
   tests/campaign/test_soak.py::test_an_instance_holds_no_more_after_much_work_than_after_little
15. Group commits are bounded in count, bytes and time.
   tests/tq/test_broker.py::test_connections_take_turns_so_that_one_with_much_to_ask_delays_nobody
16. Logs, events, dead letters, requests and names all have caps.
   tests/tq/store/test_conformance_edit.py::test_what_is_over_its_bytes_goes_oldest_first_failed_apart
   tests/tq/test_log.py::test_the_file_is_rotated_and_three_old_ones_are_kept
   tests/tq/test_output.py::test_head_and_tail_are_kept_within_the_limit_and_the_note_says_how_much_is_gone
17. A worker's death is seen at once, the pool is whole again, its siblings notice nothing.
   tests/campaign/test_workers.py::test_no_way_to_lose_a_worker_costs_anything_but_its_task_an_attempt
18. A worker that hangs is killed and reaped before its task is offered again.
   tests/campaign/test_workers.py::test_a_planted_bug_is_caught
   tests/campaign/test_workers.py::test_no_way_to_lose_a_worker_costs_anything_but_its_task_an_attempt
19. Runs of one task on one machine never overlap.
   tests/campaign/test_workers.py::test_no_way_to_lose_a_worker_costs_anything_but_its_task_an_attempt
   tests/campaign/test_simulation.py::test_a_daemon_keeps_its_promises_through_its_simulated_lives
20. The third crash is poison, and the others go on.
   tests/flows/test_a_worker_is_killed.py::test_a_task_that_kills_its_worker_three_times_is_poison_and_the_others_never_notice
   tests/campaign/test_storms.py::test_every_storm_passes_and_its_dead_letters_are_bounded
21. A killed daemon leaves no worker alive.
   tests/campaign/test_kills.py::test_nothing_accepted_is_lost_and_nothing_survives_kills_at_any_moment
   tests/campaign/test_shutdowns.py::test_an_end_in_any_phase_is_clean_loses_nothing_and_charges_nobody
22. SIGTERM loses nothing, charges nobody, exit 0.
   tests/flows/test_drain.py::test_shutdowns_at_random_moments_lose_nothing_and_charge_nobody
   tests/campaign/test_shutdowns.py::test_an_end_in_any_phase_is_clean_loses_nothing_and_charges_nobody
23. Workers hold no descriptor or mapping of the store.
   tests/tq/store/test_files.py::test_no_descriptor_of_the_store_or_the_lock_reaches_a_child
24. A stale claim never changes anything, in any store.
   tests/tq/store/test_conformance_settle.py::test_a_stale_claim_never_changes_anything
   tests/campaign/test_simulation.py::test_a_daemon_keeps_its_promises_through_its_simulated_lives
25. An attempt is durable before user code runs.
   tests/campaign/test_points.py::test_a_planted_bug_is_caught_in_one_session
   tests/campaign/test_kills.py::test_nothing_accepted_is_lost_and_nothing_survives_kills_at_any_moment
26. Tasks run twice only where it is documented.
   tests/campaign/test_kills.py::test_nothing_accepted_is_lost_and_nothing_survives_kills_at_any_moment
   tests/campaign/test_simulation.py::test_a_daemon_keeps_its_promises_through_its_simulated_lives
27. The same idempotency key gives the same id, also across a crash.
   tests/flows/test_the_daemon_is_killed.py::test_a_request_whose_answer_died_with_the_daemon_gives_the_same_ids_when_repeated
   tests/campaign/test_points.py::test_a_store_killed_at_any_call_that_changes_a_file_keeps_what_it_has_answered
28. Tasks start in the order in which they came, also across restarts.
   tests/campaign/test_model.py::test_the_stores_are_the_model_through_every_history
29. The clock steps or the machine sleeps: nothing lost, no lease lost early.
   tests/tq/test_broker_clock_steps.py::test_a_clock_that_steps_loses_nothing_runs_nothing_twice_and_holds_nothing_up
30. Every slot of a schedule as documented, over two years and summer times.
   tests/tq/test_schedule.py::test_five_hundred_expressions_in_three_zones_over_two_years_come_due_as_another_library_says
   tests/tq/test_schedule.py::test_around_a_change_of_the_clock_each_minute_is_as_the_rules_say
   tests/tq/test_broker_schedules.py::test_a_thousand_slots_and_a_daemon_killed_at_random_commits
31. All stores are one model and pass one conformance suite.
   tests/campaign/test_model.py::test_the_stores_are_the_model_through_every_history
   tests/tq/store/test_two_stores.py::test_all_stores_give_the_same_tasks_the_same_turns
32. Simulated lives are sound, and a failing one repeats itself.
   tests/campaign/test_simulation.py::test_a_seed_repeats_itself_to_the_last_event
33. Another user cannot connect, read, or see payloads in lists of processes and logs.
   tests/campaign/test_instances.py::test_another_user_cannot_connect_nor_read_anything
   tests/campaign/test_instances.py::test_a_secret_in_a_payload_is_seen_in_no_log_and_no_list_of_processes
34. Directories that others reach into are refused, a live socket is never stolen.
   tests/campaign/test_instances.py::test_a_directory_that_others_could_reach_into_is_refused_and_left_as_it_is
   tests/campaign/test_instances.py::test_of_four_daemons_started_at_once_one_runs_whatever_was_left_there
35. Mutated frames end nothing, size bombs cost little.
   tests/campaign/test_frames.py::test_mutated_frames_by_the_hundred_thousand_are_refused_or_answered_and_what_is_stored_stays_sound
   tests/campaign/test_frames.py::test_no_bomb_costs_much_memory_or_time_and_each_is_refused_with_a_reason
36. Nothing turns bytes of clients into code.
   tests/house/test_rooms.py::test_nothing_turns_data_into_code
37. Every route of REST and gRPC denies without credentials.
   not yet: REST and gRPC.
38. Webhooks reach no private address and are signed.
   not yet: webhooks.
39. Encrypted payloads cannot be swapped, cut or read.
   not yet: encryption.
40. Hostile text steers no terminal, breaks no markup, forges no line.
   tests/campaign/test_text.py::test_hostile_text_steers_no_terminal_forges_no_line_and_breaks_no_command
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.test_pains import missing, table


def test_every_check_has_a_test_or_says_what_is_missing() -> None:
    found = table(__doc__)
    assert list(found) == list(range(1, 41))
    assert [number for number, lines in found.items() if not lines] == []


def test_every_test_that_is_named_is_there(root: Path) -> None:
    assert missing(root, table(__doc__)) == []


def test_every_test_that_the_readme_names_is_there(root: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (root / "README.md").read_text())
    assert len(named) > 15
    assert [path for path in named if not (root / path).is_file()] == []
