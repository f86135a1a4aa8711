"""The example "From laptop to cluster" prints the same in threads and on clusters of several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs/examples/cluster.py"


def test_example_prints_the_same_on_clusters(cluster, tmp_path):
    def output(*options):
        command = [sys.executable, EXAMPLE, "--days", "40", *options]
        done = subprocess.run(command, cwd=tmp_path, env=cluster.env, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    expected = output()
    assert expected.count("readings") == 4
    assert output("--executor", "dask") == output("--scheduler", cluster.address) == expected
