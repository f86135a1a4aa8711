"""Results that are recorded in files next to the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowkit import DAG, StateError


def large_files(box):
    folder = Path(box.db + ".files")
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_large_result_is_stored_once_in_separate_file(box):
    size = 2**20
    tasks = [
        box.task("small", value="s" * 1000),
        box.task("large", value="x" * size),
        box.task("twin", value="x" * size),
        box.task("other", value=b"y" * size),
        box.task("last"),
    ]
    pipeline = DAG("large", tasks=tasks)
    box.inject("last", "fail")
    box.failing_run(pipeline)
    box.repair("last")
    assert len(large_files(box)) == 2
    assert sum(path.stat().st_size for path in Path(box.folder).glob("runs.db*") if path.is_file()) < size
    assert all(path.stat().st_mode & 0o077 == 0 for path in (Path(box.db + ".files"), *large_files(box)))
    results = pipeline.run("serial", state=box.db, resume=True)
    assert (results["large"], results["twin"], results["other"]) == ("x" * size, "x" * size, b"y" * size)
    assert results["small"] == "s" * 1000
    assert box.ran == ["small", "large", "twin", "other", "last", "last"]


def test_small_results_create_no_folder(box):
    DAG("small", tasks=[box.task("small", value="s" * 100_000)]).run("serial", state=box.db)
    assert large_files(box) == []


@pytest.mark.parametrize("damage", ["gone", "cut", "altered"])
def test_damaged_file_of_result_is_detected(box, damage):
    first, second = box.task("first", value="x" * 2**20), box.task("second")
    first >> second
    pipeline = DAG("large", tasks=[second])
    box.inject("second", "fail")
    box.failing_run(pipeline)
    box.repair("second")
    (file,) = large_files(box)
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.write_bytes(file.read_bytes().replace(b"xxxx", b"xxyx", 1))
    try:
        results = pipeline.run("serial", state=box.db, resume=True)
    except StateError as error:
        assert file.name in str(error) or "first" in str(error)
    else:
        assert results["first"] == "x" * 2**20
        assert box.ran.count("first") == 2


def test_force_recomputes_damaged_result(box):
    first, second = box.task("first", value="x" * 2**20), box.task("second")
    first >> second
    pipeline = DAG("large", tasks=[second])
    box.inject("second", "fail")
    box.failing_run(pipeline)
    (file,) = large_files(box)
    file.write_bytes(file.read_bytes().replace(b"xxxx", b"xxyx", 1))
    with pytest.raises(StateError, match='resume="force"'):
        pipeline.run("serial", state=box.db, resume=True)
    box.failing_run(pipeline, resume="force")
    box.repair("second")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert set(results.resumed) == {"first"}
    assert box.records()[0].tasks["first"].result() == "x" * 2**20


def test_database_and_files_can_be_moved_together(box, tmp_path):
    first, second = box.task("first", value="x" * 2**20), box.task("second")
    first >> second
    pipeline = DAG("large", tasks=[second])
    box.inject("second", "fail")
    box.failing_run(pipeline)
    box.repair("second")
    target = tmp_path / "elsewhere"
    target.mkdir()
    for path in Path(box.folder).glob("runs.db*"):
        path.rename(target / path.name)
    results = pipeline.run("serial", state=target / "runs.db", resume=True)
    assert set(results.resumed) == {"first"}
    assert results["first"] == "x" * 2**20
