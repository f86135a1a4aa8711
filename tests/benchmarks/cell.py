"""One cell of a table, in a process of its own: gets ready, then measures once for each line that it is sent.

It answers in JSON, a line for each: what a turn measured, or why there is nothing to measure. A turn of a quick thing
is repeated, and stands for the median of each of its figures.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from measures import MEASURES

if TYPE_CHECKING:
    from measures import Laps, Turn

ENOUGH = 0.05
MOST = 50


def repeated(turn: Turn) -> dict[str, Laps]:
    """Measure for a while; return the median and the best."""
    gc.collect()
    laps: list[Laps] = []
    began = perf_counter()
    while not laps or (perf_counter() - began < ENOUGH and len(laps) < MOST):
        laps.append(turn())
    return {
        "median": {name: median(lap[name] for lap in laps) for name in laps[0]},
        "best": {name: min(lap[name] for lap in laps) for name in laps[0]},
    }


def main() -> None:
    """Serve the process that compares."""
    measure, *arguments = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a peer prints is no answer

    def answer(content: object) -> None:
        print(json.dumps(content), file=answers, flush=True)

    try:
        with MEASURES[measure](*arguments) as turn:
            answer({})
            for _ in sys.stdin:
                answer(repeated(turn))
    except ImportError as error:
        answer({"problem": f"not installed ({error.name})"})
    except NotImplementedError as error:
        answer({"problem": str(error)})
    except Exception as error:
        first = str(error).split("\n", 1)[0]
        answer({"problem": f"fails: {type(error).__name__}: {first[:100]}"})


if __name__ == "__main__":
    main()
