"""Choose the best of several models by cross-validation: processes, and results that are computed once.

    python model_selection.py
    python model_selection.py --state models.db                     # run it twice: the second run only looks up
    python model_selection.py --state models.db --degrees 1 2 3 4   # computes only the new models

A model is a polynomial with a penalty on its coefficients. ``score`` is mapped over the combinations of a degree, a
penalty and a fold of the data, so all of them run in parallel. Each score is cached by its arguments and by the code:

    candidates ─┬─ score (mapped) ── select ─┬─ fit
    load ───────┴────────────────────────────┘
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from itertools import product
from math import sin
from random import Random
from statistics import fmean
from typing import NamedTuple

from flowkit import DAG, task

FOLDS = 5
PENALTIES = (0.0, 0.1, 10.0)


class Point(NamedTuple):
    """One observation."""

    x: float
    y: float


class Candidate(NamedTuple):
    """One model, and the fold of the data that it is tested on."""

    degree: int
    penalty: float
    fold: int


class Score(NamedTuple):
    """The mean squared error of one model on one fold."""

    degree: int
    penalty: float
    error: float


@task
def load(*, size: int, seed: int) -> list[Point]:
    """Return noisy observations of a curve; a real job would read a file."""
    random = Random(seed)
    xs = [random.uniform(-2, 2) for _ in range(size)]
    return [Point(x, sin(2 * x) + random.gauss(0, 0.2)) for x in xs]


def solve(matrix: list[list[float]], values: list[float]) -> list[float]:
    """Solve a system of linear equations by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, values, strict=True)]
    for index in range(len(rows)):
        pivot = max(range(index, len(rows)), key=lambda row: abs(rows[row][index]))
        rows[index], rows[pivot] = rows[pivot], rows[index]
        for row in range(len(rows)):
            if row != index:
                factor = rows[row][index] / rows[index][index]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[index], strict=True)]
    return [row[-1] / row[index] for index, row in enumerate(rows)]


def coefficients(points: Sequence[Point], degree: int, penalty: float) -> list[float]:
    """Fit a polynomial to points."""
    powers = range(degree + 1)
    sums = [sum(point.x**power for point in points) for power in range(2 * degree + 1)]
    matrix = [[sums[i + j] + penalty * (i == j) for j in powers] for i in powers]
    return solve(matrix, [sum(point.y * point.x**power for point in points) for power in powers])


def predict(model: Sequence[float], x: float) -> float:
    """Return the value of a polynomial."""
    return sum(factor * x**power for power, factor in enumerate(model))


@task
def candidates(*, degrees: Sequence[int]) -> list[Candidate]:
    """Return each combination of a degree, a penalty and a fold."""
    return [Candidate(*each) for each in product(degrees, PENALTIES, range(FOLDS))]


@task(cache=True)
def score(candidate: Candidate, points: Sequence[Point]) -> Score:
    """Fit a model to all points but those of one fold, and return its error on that fold."""
    degree, penalty, fold = candidate
    model = coefficients([point for i, point in enumerate(points) if i % FOLDS != fold], degree, penalty)
    return Score(degree, penalty, fmean((predict(model, x) - y) ** 2 for x, y in points[fold::FOLDS]))


@task
def select(scores: Sequence[Score]) -> list[Score]:
    """Return the mean score of each model, the best first."""
    errors: dict[tuple[int, float], list[float]] = {}
    for degree, penalty, error in scores:
        errors.setdefault((degree, penalty), []).append(error)
    means = [Score(*model, fmean(values)) for model, values in errors.items()]
    return sorted(means, key=lambda score: score.error)


@task
def fit(points: Sequence[Point], ranking: Sequence[Score]) -> list[float]:
    """Fit the best model to all points."""
    return coefficients(points, ranking[0].degree, ranking[0].penalty)


[candidates, load] >> score.map("candidate", label=str) >> select
[load, select] >> fit

MODEL_SELECTION = DAG("model_selection", tasks=[fit])


def main() -> None:
    """Read the command line, run the pipeline, and print the ranking and the best model."""
    parser = argparse.ArgumentParser(description="Choose the best of several models by cross-validation.")
    parser.add_argument("--degrees", type=int, nargs="+", default=[1, 3, 5, 7], help="degrees of the polynomials")
    parser.add_argument("--size", type=int, default=500, help="number of observations")
    parser.add_argument("--seed", type=int, default=1, help="seed of the observations")
    usual = "process" if os.name == "posix" else "thread"
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default=usual)
    parser.add_argument("--state", metavar="FILE", help="a SQLite file (.db) for the run and the cached scores")
    options = parser.parse_args()

    results = MODEL_SELECTION.run(
        options.executor,
        params={"size": options.size, "seed": options.seed, "degrees": options.degrees},
        state=options.state,
    )
    for degree, penalty, error in results["select"][:5]:
        print(f"degree {degree}, penalty {penalty:g}: mean squared error {error:.4f}")
    print("best model:", " + ".join(f"{factor:.3f} x^{power}" for power, factor in enumerate(results["fit"])))
    scores = results.elements["score"]
    print(f"{len(scores)} scores, {len(scores.cached)} of them from the cache")


if __name__ == "__main__":
    main()
