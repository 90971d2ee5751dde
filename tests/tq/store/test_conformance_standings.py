"""Where things of the broker's rooms stand: kept by kind and name, through a restart, and undone by an abort."""

from __future__ import annotations


def test_what_was_put_is_there_by_its_kind_after_a_restart_and_gone_when_it_is_forgotten(store):
    with store.turn() as raw:
        raw.put_standing("breaker", "smtp", [True, "x", 0])
        raw.put_standing("breaker", "gone", [1])
        raw.put_standing("tenant", "smtp", [None, {"a": 1}])
    with store.turn() as raw:
        raw.put_standing("breaker", "gone", None)
        raw.put_standing("breaker", "never", None)
        raw.put_standing("breaker", "smtp", [False, "y", 7])
    for _ in range(2):
        assert store.raw.standings("breaker") == {"smtp": [False, "y", 7]}
        assert store.raw.standings("tenant") == {"smtp": [None, {"a": 1}]}
        assert store.raw.standings("other") == {}
        store.reopen()
    store.check()


def test_what_was_put_in_a_turn_that_is_lost_was_never_there(store):
    with store.turn() as raw:
        raw.put_standing("breaker", "smtp", ["kept"])
    store.raw.begin(store.now)
    store.raw.put_standing("breaker", "smtp", ["lost"])
    store.raw.put_standing("breaker", "other", ["lost"])
    store.raw.abort()
    assert store.raw.standings("breaker") == {"smtp": ["kept"]}
    store.reopen()
    assert store.raw.standings("breaker") == {"smtp": ["kept"]}
