"""Large loads need a person's approval, small ones do not: conditions, skips and defaults.

Try it, with other sizes too:

    python approval.py                               # a small load, then a large one
    python approval.py 1000 1001 --executor process
"""

from __future__ import annotations

import argparse

from flowkit import DAG, task


@task()
def extract(*, incoming: int) -> int:
    """Find out how much data has come in."""
    return incoming


@task()
def transform(data_size: int) -> int:
    """Enrich the data, which doubles it."""
    return data_size * 2


@task(when=lambda x: x > 2000)
def require_manual_approval(size: int) -> str:
    """Large datasets need approval."""
    print(f"Large dataset ({size}) - manual approval required", flush=True)
    return "MANUAL_APPROVAL"


@task(when=lambda x: x <= 2000)
def auto_approve(size: int) -> str:
    """Small datasets auto-approved."""
    print(f"Small dataset ({size}) - auto-approved", flush=True)
    return "AUTO_APPROVED"


@task()
def load(transform_result: int, manual: str | None = None, auto: str | None = None) -> str:
    """Load the data. The parameter of the skipped branch has its default."""
    approval = manual or auto
    print(f"Loading {transform_result} with {approval}", flush=True)
    return f"LOADED_{approval}"


# Build the conditional pipeline.
extract >> transform
transform >> [require_manual_approval, auto_approve]
[transform, require_manual_approval, auto_approve] >> load


def main() -> None:
    """Run the pipeline once for each size, and print the results and the skipped tasks."""
    parser = argparse.ArgumentParser(description="Large loads need a person's approval, small ones do not.")
    parser.add_argument("sizes", nargs="*", type=int, default=[800, 1500], help="how much data comes in")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    options = parser.parse_args()

    dag = DAG("approval_workflow")
    print(dag.visualize())
    for size in options.sizes:
        print(f"\nIncoming: {size}", flush=True)
        results = dag.run(options.executor, params={"incoming": size})
        print(f"Results: {results}")
        for name, reason in results.skipped.items():
            print(f"Skipped: {name}, because {reason}")


if __name__ == "__main__":
    main()
