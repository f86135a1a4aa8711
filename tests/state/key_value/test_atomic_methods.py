"""`add`, `incr`, `decr`, `pop`, `touch`, `expire`, and the methods that a dictionary has too."""

from __future__ import annotations

import threading

import pytest

from flowkit_state import (
    MissingKeyError,
    RestoreError,
    StateClosedError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
    UnsupportedValueError,
)


def test_add_stores_value_of_missing_key_only(make_state, clock):
    state = make_state()
    assert state.add("a", 1, ttl=10, metadata={"by": "first"}) is True
    assert state.add("a", 2, ttl=99, metadata={"by": "second"}) is False
    assert (state.get("a"), state.get_metadata("a")) == (1, {"by": "first"})
    clock.advance(10)
    assert state.add("a", 3) is True
    assert (state.get("a"), state.get_metadata("a")) == (3, {})
    clock.advance(1e9)
    assert state.get("a") == 3


def test_add_keeps_stored_none(make_state):
    state = make_state()
    state.set("a", None)
    assert state.add("a", 1) is False
    assert state.get("a", "default") is None


def test_add_with_ttl_zero_stores_nothing(make_state):
    state = make_state()
    assert state.add("a", 1, ttl=0) is True
    assert not state.has("a")


def test_incr_adds_to_value_or_default(make_state):
    state = make_state()
    assert state.incr("a") == 1
    assert state.incr("a", 10) == 11
    assert state.incr("a", -1) == 10
    assert state.incr("b", 5, default=100) == 105
    assert state.decr("b", 6) == 99
    assert state.decr("c") == -1
    assert state.incr("big", 10**30) + state.incr("big") == 2 * 10**30 + 1
    assert state.get_all() == {"a": 10, "b": 99, "c": -1, "big": 10**30 + 1}


def test_incr_keeps_expiry_and_metadata(make_state, clock):
    state = make_state()
    state.set("a", 1, ttl=10, metadata={"n": 1})
    clock.advance(6)
    state.incr("a", ttl=1000)
    assert state.get_metadata("a") == {"n": 1}
    clock.advance(4)
    assert state.incr("a") == 1


def test_incr_of_new_entry_has_ttl_or_default_ttl(make_state, clock):
    state = make_state(default_ttl=100)
    state.incr("short", ttl=5)
    state.incr("long")
    clock.advance(5)
    assert state.keys() == ["long"]
    clock.advance(95)
    assert state.keys() == []


@pytest.mark.parametrize("value", ["1", 1.0, True, None, [1]])
def test_incr_of_other_value_is_refused(make_state, value):
    state = make_state()
    state.set("a", value)
    with pytest.raises(StateOptionTypeError, match=r"the value of key 'a' is .*, but must be an int for incr\(\)"):
        state.incr("a")
    assert state.get("a") == value


@pytest.mark.parametrize("number", ["1", 1.5, True, None])
def test_incr_by_other_type_is_refused(make_state, number):
    state = make_state()
    for use in (state.incr, state.decr):
        with pytest.raises(StateOptionTypeError, match=r"delta is .*, but must be an int"):
            use("a", number)
        with pytest.raises(StateOptionTypeError, match=r"default is .*, but must be an int"):
            use("a", 1, number)
    assert not state.has("a")


def test_pop_removes_and_returns_value(make_state, clock):
    state = make_state()
    state.set("a", [1])
    state.set("b", 2, ttl=1)
    assert state.pop("a") == [1]
    assert state.pop("a") is None
    assert state.pop("a", "default") == "default"
    clock.advance(1)
    assert state.pop("b", "expired") == "expired"
    assert state.keys() == []


def test_pop_of_value_that_cannot_be_restored_removes_nothing(path):
    with StateManager(path, serializer="pickle") as state:
        state.set("a", {1})
    with StateManager(path) as state:
        with pytest.raises(RestoreError):
            state.pop("a")
        assert state.has("a")


def test_touch_restarts_time_to_live(make_state, clock):
    state = make_state(default_ttl=7)
    state.set("a", [1], ttl=10, metadata={"n": 1})
    clock.advance(9)
    assert state.touch("a", 10) is True
    clock.advance(9)
    assert state.touch("a") is True
    assert (state.get("a"), state.get_metadata("a")) == ([1], {"n": 1})
    clock.advance(7)
    assert state.touch("a") is False
    assert state.touch("b", 10) is False
    assert state.keys() == []


def test_touch_can_end_or_remove_time_to_live(make_state, clock):
    state = make_state()
    state.set("a", 1, ttl=10)
    state.set("b", 1)
    assert state.touch("a", float("inf"))
    assert state.touch("b", 0)
    clock.advance(1e9)
    assert state.keys() == ["a"]


def test_touch_is_stored_in_file(path, clock):
    with StateManager(path, clock=clock) as state:
        state.set("a", 1, ttl=10)
        state.touch("a", 1000)
    clock.advance(999)
    with StateManager(path, clock=clock) as state:
        assert state.get("a") == 1


def test_expire_removes_and_counts_expired_entries(make_state, clock):
    state = make_state()
    state.set("a", 1, ttl=1)
    state.set("b", 1, ttl=2)
    clock.advance(1)
    assert state.expire() == 1
    assert state.expire() == 0
    assert state.keys() == ["b"]


def test_length_iteration_and_membership_leave_out_expired_entries(make_state, clock):
    state = make_state()
    for key in "cab":
        state.set(key, None)
    state.set("d", None, ttl=1)
    assert (len(state), list(state)) == (4, ["c", "a", "b", "d"])
    assert "d" in state
    clock.advance(1)
    assert (len(state), list(state)) == (3, ["c", "a", "b"])
    assert "d" not in state


def test_iteration_is_over_keys_at_its_begin(make_state):
    state = make_state()
    state.set("a", 1)
    state.set("b", 1)
    for key in state:
        state.delete(key)
        state.set(f"{key}{key}", 1)
    assert list(state) == ["aa", "bb"]


def test_manager_without_entries_is_true(make_state):
    state = make_state()
    assert len(state) == 0
    assert state


def test_brackets_get_set_and_delete(make_state, clock):
    state = make_state(default_ttl=10)
    state["a"] = (1, 2)
    assert state["a"] == (1, 2)
    del state["a"]
    state["b"] = 1
    clock.advance(10)
    for key in ("a", "b"):
        with pytest.raises(MissingKeyError, match=f"no value under the key '{key}'") as caught:
            state[key]
        assert (caught.value.key, caught.value.location) == (key, state.path)
        assert isinstance(caught.value, KeyError)
        with pytest.raises(KeyError):
            del state[key]


USES = {
    "add": lambda state, key: state.add(key, 1),
    "incr": lambda state, key: state.incr(key),
    "decr": lambda state, key: state.decr(key),
    "pop": lambda state, key: state.pop(key),
    "touch": lambda state, key: state.touch(key),
    "in": lambda state, key: key in state,
    "get item": lambda state, key: state[key],
    "set item": lambda state, key: state.__setitem__(key, 1),
    "del item": lambda state, key: state.__delitem__(key),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_key_of_other_type_is_refused(make_state, use, key):
    with pytest.raises(StateOptionTypeError, match=r"key is .* but must be a str"):
        use(make_state(), key)


@pytest.mark.parametrize("use", [*USES.values(), lambda state, _: len(state), lambda state, _: list(state)])
def test_closed_manager_is_refused(make_state, use):
    state = make_state()
    state.close()
    with pytest.raises(StateClosedError):
        use(state, "a")
    with pytest.raises(StateClosedError):
        state.expire()


@pytest.mark.parametrize("method", ["add", "incr", "touch"])
def test_invalid_ttl_is_refused(make_state, method):
    state = make_state()
    state.set("a", 1)
    call = getattr(state, method)
    arguments = ("b", 1) if method == "add" else ("a",)
    with pytest.raises(StateOptionError, match="ttl is -1"):
        call(*arguments, ttl=-1)
    with pytest.raises(StateOptionTypeError, match="ttl is '5'"):
        call(*arguments, ttl="5")
    assert state.get_all() == {"a": 1}


def test_add_of_unsupported_value_or_metadata_is_refused(make_state):
    state = make_state()
    with pytest.raises(UnsupportedValueError):
        state.add("a", object())
    with pytest.raises(StateOptionTypeError, match="metadata is"):
        state.add("a", 1, metadata=[])
    assert not state.has("a")


def test_atomic_methods_are_part_of_batch(make_state):
    state = make_state()
    state.set("a", 1)
    with pytest.raises(RuntimeError), state.batch():
        state.incr("a")
        state.add("b", 1)
        state.touch("a", 5)
        assert state.pop("a") == 2
        raise RuntimeError
    assert state.get_all() == {"a": 1}


def in_threads(work, count=6):
    results = []
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait()
        results.append(work(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_changes_of_threads_are_atomic(make_state):
    state = make_state()
    state.set("prize", "cake")
    assert sorted(in_threads(lambda number: state.add("leader", number))) == [False] * 5 + [True]
    assert [prize for prize in in_threads(lambda _: state.pop("prize")) if prize] == ["cake"]
    in_threads(lambda _: [state.incr("count") for _ in range(10)])
    assert state.get("count") == 60
