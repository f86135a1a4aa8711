"""State files that are moved, removed or replaced while a manager has them open."""

from __future__ import annotations

import shutil
import threading

import pytest

from flowkit_state import StateFileError, StateManager


def remove(path):
    path.unlink()


def remove_all(path):
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def move(path):
    path.rename(path.with_name("moved.db"))


def replace_by_copy(path):
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.replace(path)


def replace_by_other(path):
    other = path.with_name("other.db")
    with StateManager(other) as state:
        state.set("other", 1)
    other.replace(path)


def replace_by_link(path):
    path.rename(path.with_name("moved.db"))
    path.symlink_to("moved.db")


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def move_folder(path):
    path.parent.rename(path.parent.with_name("elsewhere"))


def remove_folder(path):
    shutil.rmtree(path.parent)


def remove_log(path):
    path.with_name(f"{path.name}-wal").unlink()


def replace_log(path):
    log = path.with_name(f"{path.name}-wal")
    shutil.copy(log, log.with_name("copy"))
    log.with_name("copy").replace(log)


CHANGES = [
    remove,
    remove_all,
    move,
    replace_by_copy,
    replace_by_other,
    replace_by_link,
    replace_by_folder,
    move_folder,
    remove_folder,
    remove_log,
    replace_log,
]


def in_batch(state):
    with state.batch():
        state.set("a", 2)
        state.delete("b")


OPERATIONS = {
    "set": lambda state: state.set("a", 2),
    "get": lambda state: state.get("a"),
    "has": lambda state: state.has("a"),
    "add": lambda state: state.add("new", 2),
    "incr": lambda state: state.incr("a"),
    "pop": lambda state: state.pop("a"),
    "touch": lambda state: state.touch("a", 5),
    "delete": lambda state: state.delete("a"),
    "clear": lambda state: state.clear(),
    "keys": lambda state: state.keys(),
    "get_all": lambda state: state.get_all(),
    "get_metadata": lambda state: state.get_metadata("a"),
    "expire": lambda state: state.expire(),
    "batch": in_batch,
    "runs": lambda state: state.runs(),
    "gc": lambda state: state.gc(keep=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_database_file_is_noticed_by_every_operation(tmp_path, change):
    for name, operation in OPERATIONS.items():
        path = tmp_path / name / "state.db"
        with StateManager(path) as state:
            state.set("a", 1)
            state.set("b", 1)
            change(path)
            for _ in range(2):
                with pytest.raises(StateFileError, match=r"moved, removed or replaced|status: a part of") as caught:
                    operation(state)
                assert caught.value.path.startswith(str(path))
        shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)


def replace_all_by_other(path):
    remove_all(path)
    replace_by_other(path)


@pytest.mark.parametrize("change", [remove_all, replace_all_by_other, remove_folder])
def test_other_manager_uses_new_file(tmp_path, change):
    path = tmp_path / "folder" / "state.db"
    with StateManager(path) as old:
        old.set("a", 1)
        change(path)
        with StateManager(path) as new:
            new.set("b", 2)
            with pytest.raises(StateFileError, match="Open another StateManager to use the file that is there now"):
                old.set("c", 3)
        with pytest.raises(StateFileError):
            old.get("a")
    with StateManager(path) as new:
        assert new.get("b") == 2
        assert "a" not in new
        assert "c" not in new


@pytest.mark.parametrize("change", [remove_all, move, replace_by_other])
def test_file_replaced_in_batch_is_noticed_at_its_end(tmp_path, change):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        state.set("a", 1)
        with pytest.raises(StateFileError, match="moved, removed or replaced"), state.batch():
            state.set("a", 2)
            change(path)
            state.set("a", 3)


@pytest.mark.parametrize("change", [remove_all, move, replace_by_other])
def test_file_replaced_while_used_by_threads_is_noticed_by_all(tmp_path, change):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        ready, go = threading.Barrier(4), threading.Event()
        errors = []

        def work(number):
            state.set(f"{number}", number)
            ready.wait()
            go.wait()
            try:
                state.set(f"{number}", "lost")
            except StateFileError as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        ready.wait()
        change(path)
        go.set()
        for thread in threads:
            thread.join()
        assert len(errors) == 3


def test_json_file_that_was_removed_is_created_again(tmp_path):
    path = tmp_path / "folder" / "state.json"
    with StateManager(path) as state:
        state.set("a", 1)
        path.unlink()
        assert state.get_all() == {}
        state.set("b", 2)
        remove_folder(path)
        assert state.keys() == []
        state.set("c", 3)
        with StateManager(path) as other:
            assert other.get_all() == {"c": 3}


def test_json_file_replaced_by_other_one_is_read(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state, StateManager(tmp_path / "other.json") as other:
        state.set("a", 1)
        other.set("b", 2)
        (tmp_path / "other.json").replace(path)
        assert state.get_all() == {"b": 2}


@pytest.mark.parametrize("change", [replace_by_link, replace_by_folder])
def test_json_file_replaced_by_link_or_folder_is_refused(tmp_path, change):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", 1)
        change(path)
        for operation in (lambda: state.get("a"), lambda: state.set("a", 2)):
            with pytest.raises(StateFileError, match=r"link|folder"):
                operation()


def test_lock_file_that_was_replaced_locks_nothing_twice(tmp_path):
    path = tmp_path / "state.json"
    lock = tmp_path / "state.json.lock"
    with StateManager(path) as one, StateManager(path, lock_timeout=0.05) as two:
        one.set("count", 0)
        for _ in range(3):
            lock.unlink()
            one.incr("count")
            two.incr("count")
        lock.rename(tmp_path / "old.lock")
        two.incr("count")
        one.incr("count")
        assert two.get("count") == 8
