"""Process that measures one cell of a table: it prepares, then measures once for each line of its standard input.

It answers each line with a line of JSON: the measured values, or the reason why there are none. A fast turn is
repeated, and its values are medians.
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

MAX_SECONDS = 0.05
MAX_REPEATS = 50


def repeated(turn: Turn) -> dict[str, Laps]:
    """Repeat a turn for at most MAX_SECONDS or MAX_REPEATS times; return the median and the best of each value."""
    gc.collect()
    laps: list[Laps] = []
    began = perf_counter()
    while not laps or (perf_counter() - began < MAX_SECONDS and len(laps) < MAX_REPEATS):
        laps.append(turn())
    return {
        "median": {name: median(lap[name] for lap in laps) for name in laps[0]},
        "best": {name: min(lap[name] for lap in laps) for name in laps[0]},
    }


def main() -> None:
    """Answer requests until the standard input ends."""
    measure, *arguments = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of a peer must not mix with the answers

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
