"""The model selection: the numbers are right, the same with each executor, and computed once."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "model_selection.py"
PARAMS = {"size": 60, "seed": 2}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the example: results of its classes can only be recorded if their module can be found by name."""
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.delitem(sys.modules, EXAMPLE.stem, raising=False)
    return importlib.import_module(EXAMPLE.stem)


def test_coefficients_recover_a_polynomial(example: Any) -> None:
    points = [example.Point(x, 2 - 3 * x + x**2) for x in (-2.0, -1.0, 0.0, 1.0, 3.0)]
    assert example.coefficients(points, 2, 0.0) == pytest.approx([2, -3, 1])
    assert example.score(example.Candidate(2, 0.0, 0), points).error == pytest.approx(0)


def test_best_model_has_the_smallest_mean_error(example: Any) -> None:
    results = example.MODEL_SELECTION.run("serial", params={**PARAMS, "degrees": [1, 3]})
    assert len(results["score"]) == 2 * len(example.PENALTIES) * example.FOLDS
    errors = [score.error for score in results["select"]]
    assert errors == sorted(errors)
    best = results["select"][0]
    assert results["fit"] == example.coefficients(results["load"], best.degree, best.penalty)


def test_scores_of_an_earlier_run_are_reused(example: Any, tmp_path: Path) -> None:
    runs = [
        example.MODEL_SELECTION.run("serial", params={**PARAMS, "degrees": degrees}, state=tmp_path / "models.db")
        for degrees in ([1, 2], [1, 2, 3])
    ]
    each = len(example.PENALTIES) * example.FOLDS
    assert [len(results.elements["score"].cached) for results in runs] == [0, 2 * each]
    assert [len(results.elements["score"]) for results in runs] == [2 * each, 3 * each]


@pytest.mark.skipif(os.name != "posix", reason="platform: processes need POSIX")
def test_processes_give_the_same_results_as_threads(tmp_path: Path) -> None:
    outputs = {
        executor: subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                str(EXAMPLE),
                "--size",
                "60",
                "--degrees",
                "1",
                "3",
                "--executor",
                executor,
            ],
            cwd=tmp_path,
            capture_output=True,
            check=True,
            encoding="utf-8",
        ).stdout
        for executor in ("thread", "process")
    }
    assert outputs["thread"] == outputs["process"] != ""
