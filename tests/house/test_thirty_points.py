"""Thirty points by which a dashboard in a terminal is judged, and the tests that make them.

Each line below a point is a test, or the bench that measures it ("bench: NAME" is ``python -m tests.bench NAME``).

1. The first paint comes within 0.7 s and the first list within 1 s, with a million tasks in the daemon.
   bench: monitor
   tests/tui/test_paging.py::test_a_million_rows_cost_one_page_to_open
2. At rest it costs next to nothing.
   bench: monitor
   tests/tui/screens/test_lists.py::test_a_second_without_news_draws_no_row_again_but_those_with_an_age
   tests/tui/test_app.py::test_at_rest_it_looks_once_a_second_and_what_comes_is_shown_at_once
   tests/tui/test_app.py::test_without_the_focus_of_the_terminal_it_asks_less
3. While all values move, it writes little to the terminal.
   bench: monitor
   tests/tui/widgets/test_charts.py::test_a_redraw_draws_only_lines_that_look_different
4. Under a flood of events keys are answered at once.
   bench: flood
   bench: monitor
   tests/tui/screens/test_tasks.py::test_nothing_is_asked_while_nothing_changes_and_at_most_once_a_second_otherwise
5. Any jump in a million tasks comes at once.
   bench: monitor
   bench: views
   tests/tui/test_paging.py::test_pages_that_were_passed_in_one_breath_are_never_asked_for
   tests/tui/screens/test_tasks.py::test_one_goes_to_a_row_to_a_share_and_to_both_ends
6. Memory is bounded, whatever was visited.
   bench: flood
   bench: monitor
   tests/tui/test_paging.py::test_only_so_many_pages_are_kept_those_seen_last
   tests/tui/test_state.py::test_only_so_many_buckets_are_kept
   tests/tui/test_eventlog.py::test_no_more_than_so_many_are_kept
7. Five rows that change draw five lines.
   tests/tui/screens/test_tasks.py::test_five_rows_that_change_draw_five_lines
   tests/tui/widgets/test_table.py::test_five_changed_rows_draw_five_lines_and_what_changed_is_reversed_for_a_second
8. The cursor stays on its task.
   tests/tui/screens/test_tasks.py::test_the_cursor_stays_on_its_task_through_news_another_order_a_filter_and_a_new_connection
   tests/tui/widgets/test_table.py::test_the_cursor_stays_on_its_row_when_five_hundred_come_before_it
9. What is new moves no row unless somebody follows; frozen, nothing moves.
   tests/tui/screens/test_tasks.py::test_what_is_new_waits_behind_its_sign_unless_the_list_follows
   tests/tui/test_app.py::test_frozen_nothing_moves_and_the_line_says_so
10. A filter means the same everywhere, and an error has its place and a suggestion.
   tests/flows/test_many_tasks_are_looked_through.py::test_the_order_in_the_terminal_is_that_of_the_view
   tests/tq/test_query.py::test_a_filter_means_what_its_words_say
   tests/tq/test_query.py::test_an_error_names_the_column_and_what_to_write
   tests/tui/screens/test_tasks.py::test_what_is_no_filter_changes_nothing_and_a_caret_shows_where
11. All that match are one request, counted before and told after; what failed stays marked.
   tests/tui/screens/test_tasks.py::test_all_that_match_are_one_request_counted_first_and_told_at_the_end
   tests/tui/screens/test_tasks.py::test_marks_are_kept_when_the_filter_changes_and_what_fails_stays_marked
12. Nothing is destroyed by mistake.
   tests/tui/screens/test_tasks.py::test_enter_pressed_blindly_fifty_times_deletes_nothing
   tests/tui/screens/test_tasks.py::test_deleting_wants_the_number_of_one_task_and_the_count_of_many
   tests/tui/test_app.py::test_keys_within_300_ms_of_a_dialog_count_for_nothing
13. Read-only is hidden in the monitor and refused by the daemon.
   tests/tui/test_actions.py::test_what_writes_is_offered_only_where_it_may_be_done
   tests/tq/test_roles.py::test_every_verb_that_may_change_something_is_refused_and_nothing_is_changed
   tests/flows/test_the_monitor.py::test_read_only_without_colours_in_plain_characters_it_shows_the_same
14. A daemon that is killed ends and blanks nothing, and is found again.
   tests/flows/test_monitor_in_a_terminal.py::test_a_daemon_that_is_killed_and_comes_back_ends_nothing
   tests/tui/test_app.py::test_a_daemon_that_dies_and_comes_back_ends_and_blanks_nothing
   tests/tui/test_app.py::test_an_hour_without_a_daemon_costs_a_try_every_eight_seconds
15. Hostile data steers nothing.
   tests/tui/test_app_bytes.py::test_no_escape_of_a_task_reaches_the_terminal
   tests/tui/test_app.py::test_no_word_of_a_task_steers_the_terminal_or_becomes_a_link
   tests/tui/test_formats.py::test_a_megabyte_is_not_measured_to_show_forty_cells
16. It fits 80 by 24, 120 by 36 and 60 by 16, and any size between is whole.
   tests/tui/test_app.py::test_sixty_sizes_and_no_line_is_too_long
   tests/tui/screens/test_tasks.py::test_keys_and_sizes_at_random_break_nothing
   tests/tui/widgets/test_table.py::test_forty_sizes_are_drawn_without_a_torn_line
17. Every action has a key, a place in the palette and a word, and the help has them all.
   tests/tui/test_actions.py::test_every_action_has_words_for_the_help_and_a_way_to_it
   tests/tui/test_actions.py::test_no_two_active_actions_of_a_screen_share_a_key
   tests/tui/test_app.py::test_the_help_lists_every_action_of_the_screen
18. Keys are changed by the id of their action, everywhere.
   tests/tui/test_app.py::test_a_key_map_changes_keys_line_and_binding
   tests/tui/test_preferences.py::test_a_key_map_names_what_there_is_and_takes_no_key_from_another
19. Without colours, and in plain characters, all is told.
   tests/tui/test_app_bytes.py::test_without_colours_no_sequence_has_one
   tests/tui/screens/test_overview.py::test_ascii_has_nothing_else
   tests/tui/test_plain.py::test_every_sign_of_both_sets_becomes_ascii_of_the_same_width
20. States can be read on every ground and told apart without their colour.
   tests/tui/test_themes.py::test_every_state_and_signal_can_be_read_on_every_ground
   tests/tui/test_themes.py::test_no_state_is_told_by_its_colour_alone
21. Copying works wherever the terminal is, and says how.
   tests/tui/test_copying.py::test_the_terminal_is_asked_in_its_own_words
   tests/tui/test_copying.py::test_inside_tmux_the_sequence_is_wrapped_and_its_escapes_doubled
   tests/tui/test_copying.py::test_what_is_too_long_goes_to_a_file_that_only_its_owner_reads
   tests/tui/screens/test_tasks.py::test_copying_says_by_which_means
22. A task with a megabyte opens at once; integers are exact; secrets are stars.
   tests/tui/screens/test_task.py::test_a_megabyte_opens_within_a_tenth_of_a_second
   tests/tui/screens/test_task.py::test_only_panes_that_are_seen_are_filled
   tests/tui/screens/test_task.py::test_whole_numbers_are_exact_and_secrets_hidden_until_asked_for
23. A torrent of output leaves time for keys and bounded memory.
   tests/tui/screens/test_task.py::test_a_torrent_of_output_leaves_two_thousand_lines_and_time_for_keys
   tests/tui/widgets/test_panes.py::test_five_thousand_lines_a_second_for_ten_seconds_keep_only_the_last_two_thousand
24. Charts are full at once, begin at zero, show gaps, and can be read value by value.
   tests/tui/screens/test_overview.py::test_charts_are_full_at_once_and_then_only_what_is_new_is_asked_for
   tests/tui/test_charts.py::test_the_axis_begins_at_zero_and_is_named_at_its_ends_and_half
   tests/tui/test_charts.py::test_a_gap_is_a_gap_and_a_zero_is_none
   tests/tui/widgets/test_charts.py::test_any_value_can_be_read_by_key
25. Every screen has its seven states.
   tests/tui/screens/test_overview.py::test_stale_it_keeps_all_and_tells_its_age
   tests/tui/screens/test_queues.py::test_down_it_keeps_all_and_offers_nothing_that_writes
   tests/tui/screens/test_tasks.py::test_loading_it_says_that_it_waits
   tests/tui/screens/test_lists.py::test_empty_it_says_why_and_what_to_do
   tests/tui/screens/test_dead.py::test_error_where_the_daemon_does_not_tell_it_says_so_and_why
   tests/tui/screens/test_config.py::test_loading_stale_and_down_it_says_so_keeps_all_and_offers_nothing_that_writes
26. No other command loads the screen's library.
   tests/tq/cli/test_monitor.py::test_no_other_command_imports_textual_or_the_monitor
   tests/tq/cli/test_monitor.py::test_the_package_of_the_monitor_alone_loads_nothing_of_the_screen
27. In a browser nothing leaves the host, nobody else gets in, and no process is left.
   tests/flows/test_the_monitor_in_a_browser.py::test_a_person_looks_at_it_clicks_and_types_and_nothing_is_asked_of_another_host
   tests/flows/test_the_monitor_in_a_browser.py::test_however_the_server_ends_no_process_of_a_page_is_left
   tests/tui/web/test_server.py::test_other_hosts_other_origins_and_other_paths_get_nothing_even_with_the_cookie
   tests/tui/web/test_server.py::test_no_more_pages_than_offered_are_open_and_one_too_many_is_told_so
28. Who did what, before and after, is kept.
   tests/flows/test_the_monitor.py::test_workers_schedules_and_events_are_a_real_daemons_and_are_steered
   tests/tui/screens/test_events.py::test_audit_only_is_what_people_did
   tests/tui/screens/test_events.py::test_a_line_tells_who_did_what_to_what_and_what_changed
29. What is harmless is taken back.
   tests/tui/test_app.py::test_what_was_done_is_taken_back_while_the_toast_stands
   tests/tui/screens/test_queue_acts.py::test_each_key_is_a_slot_and_one_undo_takes_all_of_them_back
   tests/tui/screens/test_schedules.py::test_pause_is_taken_back_and_resumes_what_is_paused
30. A newcomer finds why one task failed, and retries it, in eight keys.
   tests/flows/test_monitor_in_a_terminal.py::test_a_newcomer_finds_why_one_task_failed_and_retries_it_in_eight_keys
   tests/tui/screens/test_tasks.py::test_a_newcomer_finds_why_one_task_failed_and_retries_it_in_eight_keys
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.__main__ import BENCHES
from tests.house.test_pains import missing, table

BENCH = "bench: "


def test_every_point_has_a_test_or_a_bench() -> None:
    found = table(__doc__)
    assert list(found) == list(range(1, 31))
    assert [number for number, lines in found.items() if not lines] == []


def test_every_test_and_bench_that_is_named_is_there(root: Path) -> None:
    found = table(__doc__)
    benches = {line.removeprefix(BENCH) for lines in found.values() for line in lines if line.startswith(BENCH)}
    assert benches <= set(BENCHES)
    assert missing(root, {number: [line for line in lines if not line.startswith(BENCH)] for number, lines in found.items()}) == []
