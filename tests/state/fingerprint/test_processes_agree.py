"""Every process computes the same fingerprint."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import enum, dataclasses, multiprocessing, sys
class Color(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Row:
    color: Color = Color.RED
ROW, NAMES = Row(), {"a", "b", "c", Color.RED, 1.5}
def helper(x): return ROW, NAMES, x in {"x", "y", "z"}
def f(x): return [helper(y) for y in x]
def show(*_):
    from flowkit_state.fingerprint import components, key
    return key(components(f))
if __name__ == "__main__":
    print(show())
    import etl
    print(etl.show())
    if len(sys.argv) > 1:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(*pool.map(show, [1]))
"""


def test_script_worker_and_importer_compute_the_same_key(tmp_path):
    (tmp_path / "etl.py").write_text(SCRIPT)
    seen = []
    for number, command in enumerate((["etl.py", "pool"], ["-m", "etl"], ["-c", "import etl; print(etl.show())"])):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": str(number)}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        seen += done.stdout.split()
    assert len(seen) == 6
    assert len(set(seen)) == 1
