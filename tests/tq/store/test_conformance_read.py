"""What every store promises: lists, pages and counts."""

from __future__ import annotations

import pytest

from tq.model import State
from tq.store import Query, lookup, memory

PENDING, RUNNING, SUCCEEDED, FAILED = State.PENDING, State.RUNNING, State.SUCCEEDED, State.FAILED
ERROR = {"type": "ValueError", "message": "no"}
EVERYTHING = Query(limit=1_000_000)


# -- find --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(store):
    """Tasks in every state, by state."""
    store.add(3, queue="done")
    store.succeed(*store.claim(2))
    store.settle(store.claim()[0], "failed")
    store.add(2, "r", queue="again", retries=3)
    for claimed in store.claim(2):
        store.settle(claimed, "failed")
    store.add(2, "s", due_in=5000)
    store.cancel(store.add(due_in=5000)[0])
    store.run_out(store.add(due_in=5000)[0])
    store.add(queue="x", tenant="acme", label="l")
    store.claim()
    store.add(3, "p", tenant="acme")
    store.add(1, "p", label="l", priority=5)
    store.add(parents=(1,))
    return store


def by_level(store):
    """Pending tasks by level and sequence, whoever's they are: all are of one queue."""
    pending = [task for task in map(store.get, store.ids()) if task.state is PENDING]
    return [task.id for task in sorted(pending, key=lambda task: (-task.spec.header.priority, task.status.seq))]


def test_any_number_of_lists_may_be_under_way(mixed):
    """Each stands still where it was left: LMDB has 126 places for readers."""
    queries = [EVERYTHING, Query(limit=9, oldest=True), Query(frozenset({PENDING}), limit=9), Query(frozenset({FAILED}), limit=9)]
    lists = [mixed.raw.find(queries[number % 4]) for number in range(400)]
    for found in lists:
        assert next(found) is not None
    assert [len([one for one in found if one is not None]) for found in lists[:4]] == [len(mixed.ids()) - 1, 8, 3, 0]


def test_a_list_without_a_filter_is_everything_newest_first(mixed):
    assert mixed.ids() == list(range(mixed.raw.last_id(), 0, -1))


@pytest.mark.parametrize("state", State)
def test_a_list_of_one_state_is_complete_and_in_order(mixed, state):
    expected = [task.id for task in mixed.raw.get(range(20, 0, -1)) if task is not None and task.state is state]
    found = mixed.ids(states=frozenset({state}))
    assert expected
    assert found == (by_level(mixed) if state is PENDING else expected)
    assert sorted(found, reverse=True) == expected


def test_a_list_of_several_states_is_newest_first(mixed):
    states = frozenset({PENDING, SUCCEEDED, RUNNING, State.BLOCKED})
    expected = [task.id for task in mixed.raw.get(range(20, 0, -1)) if task is not None and task.state in states]
    assert mixed.ids(states=states) == expected
    assert mixed.ids(states=frozenset()) == []


@pytest.mark.parametrize(
    "query",
    [{"queue": "done"}, {"type": "p"}, {"tenant": "acme"}, {"label": "l"}, {"type": "p", "tenant": "acme"}, {"queue": "no"}, {"label": ""}],
)
@pytest.mark.parametrize("states", [None, frozenset({PENDING}), frozenset({SUCCEEDED, PENDING})])
def test_filters_narrow_a_list(mixed, query, states):
    def fits(task):
        head = task.spec.header
        return (states is None or task.state in states) and all(getattr(head, name) == value for name, value in query.items())

    everything = [mixed.get(task_id) for task_id in (by_level(mixed) if states == frozenset({PENDING}) else mixed.ids())]
    assert mixed.ids(states=states, **query) == [task.id for task in everything if fits(task)]


@pytest.mark.parametrize("states", [None, frozenset({PENDING}), frozenset({PENDING, SUCCEEDED})])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_join_without_a_gap_or_a_repeat(mixed, states, limit):
    whole, pages, cursor = mixed.ids(states=states), [], None
    for _ in range(len(whole) + 1):
        page = mixed.page(states=states, limit=limit, before=cursor)
        if not page:
            break
        assert len(page) <= limit
        pages += [task_id for task_id, _ in page]
        cursor = page[-1][1]
    assert pages == whole


def test_a_few_scheduled_tasks_are_listed_in_slices_however_many_timers_others_have(store, monkeypatch):
    monkeypatch.setattr(lookup, "FEW", 50)
    first = store.add(1, due_in=9000)
    for queue in ("a", "b", "c"):
        store.add(100, queue=queue, ttl=60_000)
    last = store.add(1, due_in=9000)
    reader = list(store.raw.find(Query(frozenset({State.SCHEDULED}), limit=10)))
    assert [row[0].id for row in reader if row is not None] == [*last, *first]
    assert store.kind == "memory" or reader.count(None) >= 3


def test_new_tasks_do_not_disturb_the_pages_of_older_ones(mixed):
    whole = mixed.ids()
    page = mixed.page(limit=5)
    mixed.add(3)
    assert [task_id for task_id, _ in page] + mixed.ids(before=page[-1][1]) == whole


def test_a_reader_may_be_left_for_another_turn(store):
    ids = store.add(1200)
    reader = store.raw.find(EVERYTHING)
    pauses, seen = 0, []
    for row in reader:
        if row is not None:
            seen.append(row[0].id)
            continue
        pauses += 1
        if pauses == 1:  # settle and remove what is still to be read
            claimed = store.claim(100)
            store.succeed(*claimed)
            store.remove(*ids[:50])
            store.add(1)
    assert pauses >= 2
    assert seen == ids[:49:-1]


def test_a_paused_and_an_external_queue_are_listed_like_any_other(store):
    store.put_queue("a", paused=True)
    store.put_queue("b", external=True)
    low, high = *store.add(queue="a"), *store.add(queue="a", priority=2)
    (other,) = store.add(queue="b")
    pending = frozenset({PENDING})
    assert store.ids(states=pending, queue="a") == [high, low]
    assert set(store.ids(states=pending)) == {low, high, other}


# -- counts ------------------------------------------------------------------------------------------------------


def test_tallies_follow_a_task_through_its_life(store):
    (task_id,) = store.add(payload=b"12345", retries=1)
    tally = store.tally()
    assert (tally.states[PENDING], tally.bytes) == (1, 5)
    claimed = store.take(task_id)
    assert store.tally().states[RUNNING] == 1
    store.now += 40
    store.settle(claimed, "failed", started_at=store.now - 30)
    tally = store.tally()
    assert (tally.states[State.RETRYING], tally.retried, tally.failed, tally.bytes) == (1, 1, 0, 5)
    store.come_due(task_id)
    claimed = store.take(task_id)
    store.settle(claimed, "timed_out", started_at=store.now - 20)
    tally = store.tally()
    assert (tally.states[FAILED], tally.retried, tally.failed, tally.succeeded, tally.bytes) == (1, 1, 1, 0, 0)
    assert (tally.runs, tally.run_ms) == (2, 50)
    store.retry(task_id)
    assert store.tally().bytes == 5
    store.succeed(store.take(task_id), ran=3)
    store.remove(task_id)
    tally = store.tally()
    assert (tally.succeeded, tally.failed, tally.runs, tally.run_ms, tally.bytes, sum(tally.states)) == (1, 1, 3, 53, 0, 0)


def test_a_run_is_as_long_as_it_was_even_if_its_answer_came_later(store):
    (task_id,) = store.add(retries=1)
    claimed = store.take(task_id)
    began = store.now
    store.now += 1000
    store.settle(claimed, "failed", started_at=began + 100, finished_at=began + 130)
    assert store.tally().run_ms == 30


@pytest.mark.parametrize("event", ["crashed", "interrupted", "released", "stopped"])
def test_only_runs_that_came_to_an_end_count_as_runs(store, event):
    (task_id,) = store.add(retries=9)
    store.settle(store.take(task_id), event)
    tally = store.tally()
    assert (tally.runs, tally.times, tally.succeeded, tally.failed, tally.retried) == (0, {}, 0, 0, 0)


def test_poison_counts_as_a_failure(store):
    (task_id,) = store.add()
    for _ in range(3):
        task = store.settle(store.take(task_id), "crashed", error=ERROR)
    assert task.state is FAILED
    assert store.tally().failed == 1


def test_a_tally_counts_what_came_and_nothing_that_comes_back(store):
    def added():
        return {(tally.queue, tally.type): tally.added for tally in store.raw.tallies()}

    first, *_ = store.enqueue([store.draft("t", queue="a"), store.draft("t", queue="a", due_in=5000), store.draft("u", queue="b")])
    assert added() == {("a", "t"): 2, ("b", "u"): 1}
    (claimed,) = store.claim(1, queues=frozenset({"a"}))
    store.settle(claimed, "released")
    store.enqueue([store.draft("t", queue="a")])
    assert first == claimed.id
    assert added() == {("a", "t"): 3, ("b", "u"): 1}


def test_there_is_one_tally_for_each_queue_and_type(store):
    store.enqueue([store.draft(kind, queue=queue) for kind, queue in (("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"))])
    counted = {(tally.queue, tally.type): tally.states[PENDING] for tally in store.raw.tallies()}
    assert counted == {("x", "a"): 2, ("y", "a"): 1, ("x", "b"): 1}


def test_totals_survive_a_restart(store):
    store.add(3)
    store.succeed(*store.claim(2), ran=100)
    before = store.tally()
    store.reopen()
    assert store.tally() == before
    store.succeed(*store.claim(1), ran=1)
    assert (store.tally().runs, store.tally().run_ms) == (3, 201)


def test_ready_means_that_the_pool_could_take_something(store):
    store.add(due_in=50)
    store.put_queue("out", external=True)
    store.add(queue="out")
    assert not store.raw.ready()
    (task_id,) = store.add()
    assert store.raw.ready()
    store.take(task_id)
    assert not store.raw.ready()


def test_a_walk_from_the_oldest_keeps_the_order_of_arrival_and_goes_on_where_it_was_left(store):
    for priority in (1, 5, 3, 5, 1):
        store.add(priority=priority)
    first = store.page(limit=2, oldest=True)
    assert [task_id for task_id, _ in first] == [1, 2]
    assert store.ids(limit=9, oldest=True, before=first[-1][1]) == [3, 4, 5]
    assert store.ids(states=frozenset({State.PENDING}), oldest=True) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("states", [None, frozenset({State.PENDING}), frozenset({State.RUNNING}), frozenset({State.SUCCEEDED})])
@pytest.mark.parametrize("oldest", [False, True])
def test_only_the_ids_that_are_asked_for_are_found_whatever_else_is_asked(store, states, oldest):
    store.add(12)
    claimed = store.claim(8)
    store.succeed(*claimed[:4])
    every = [i for i in range(1, 13) if states is None or store.get(i).state in states]
    for first, last in ((1, 12), (3, 10), (0, 99), (5, 5), (9, 4), (13, 20)):
        expected = [i for i in every if first <= i <= last]
        found = store.ids(limit=99, states=states, oldest=oldest, ids=(first, last))
        assert sorted(found) == expected
        if oldest:
            assert found == expected
    some = [cursor for _, cursor in store.page(limit=2, oldest=True, states=states, ids=(2, 11))]
    assert store.ids(limit=99, oldest=True, before=some[-1], states=states, ids=(2, 11)) == [i for i in every if 2 <= i <= 11][2:]


# -- walk --------------------------------------------------------------------------------------------------------


def walked(store, states=None, first=1, last=1 << 62, **how):
    return [task_id for ids in store.raw.walk(states, first, last, **how) for task_id in ids]


def test_a_walk_gives_every_id_newest_or_oldest_first(mixed):
    everything = mixed.ids()
    assert walked(mixed) == everything
    assert walked(mixed, oldest=True) == everything[::-1]
    mixed.remove(everything[3], everything[0], everything[-1])
    assert walked(mixed) == mixed.ids() != everything
    assert walked(mixed, oldest=True) == mixed.ids()[::-1]


@pytest.mark.parametrize("bounds", [(5, 9), (9, 5), (1, 1), (0, 3), (15, 1 << 62), (1 << 61, 1 << 62)])
@pytest.mark.parametrize("oldest", [False, True])
def test_a_walk_stays_between_its_ends(mixed, bounds, oldest):
    expected = [one for one in mixed.ids() if bounds[0] <= one <= bounds[1]]
    assert walked(mixed, None, *bounds, oldest=oldest) == expected[:: -1 if oldest else 1]
    assert walked(mixed, frozenset(State), *bounds, oldest=oldest) == expected[:: -1 if oldest else 1]


@pytest.mark.parametrize("few", [lookup.FEW, 0])
@pytest.mark.parametrize("state", State)
def test_a_walk_gives_those_in_a_state_be_they_few_or_many(mixed, monkeypatch, state, few):
    monkeypatch.setattr(lookup, "FEW", few)
    both = frozenset({state, FAILED})
    expected = [task.id for task in mixed.raw.get(mixed.ids()) if task.state in both]
    assert walked(mixed, both) == expected
    assert walked(mixed, both, oldest=True) == expected[::-1]
    assert walked(mixed, frozenset({state})) == [one for one in expected if mixed.state(one) is state]
    assert walked(mixed, frozenset()) == []


def test_a_header_is_known_without_the_rest_of_its_task(mixed):
    ids = [0, *mixed.ids(), 9999]
    expected = [None if task is None else task.spec.header for task in mixed.raw.get(ids)]
    assert mixed.raw.headers(ids) == expected
    assert expected[0] is expected[-1] is None
    with mixed.turn() as raw:
        (fresh,) = raw.enqueue([mixed.draft(queue="fresh")])
        assert raw.headers([fresh])[0].queue == "fresh"


def test_a_walk_in_the_turn_sees_what_the_turn_wrote(mixed):
    before = mixed.ids()
    with mixed.turn() as raw:
        (fresh,) = raw.enqueue([mixed.draft()])
        assert walked(mixed) == [fresh, *before]
        raise mixed.lost
    assert walked(mixed) == before


@pytest.mark.parametrize("oldest", [False, True])
def test_a_walk_that_is_left_alone_holds_nothing_and_goes_on_past_what_was_removed(store, monkeypatch, oldest):
    monkeypatch.setattr(lookup, "WALK", 7)
    monkeypatch.setattr(memory, "SCAN_MOST", 7)
    ids = store.add(40)
    walks = [store.raw.walk(None, 1, 1 << 62, oldest=oldest) for _ in range(300)]  # LMDB has 126 places for readers
    firsts = [list(next(walk)) for walk in walks]
    assert firsts == [ids[:7] if oldest else ids[:-8:-1]] * 300
    store.remove(*ids[5:35])
    rest = [one for some in walks[0] for one in some]
    assert rest == (ids[35:] if oldest else ids[4::-1])
