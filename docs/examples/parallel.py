"""Three batches of one dataset in parallel, then one total.

Try it, with threads or with processes:

    python parallel.py
    python parallel.py --executor process
"""

from __future__ import annotations

import argparse

from flowkit import DAG, task


@task()
def fetch_data() -> range:
    """Fetch the initial dataset."""
    return range(1000)


@task()
def process_batch_1(data: range) -> int:
    """Process the first batch."""
    return sum(list(data)[:333])


@task()
def process_batch_2(data: range) -> int:
    """Process the second batch."""
    return sum(list(data)[333:666])


@task()
def process_batch_3(data: range) -> int:
    """Process the third batch."""
    return sum(list(data)[666:])


@task()
def aggregate_results(data: range, b1: int, b2: int, b3: int) -> str:
    """Combine all results."""
    total = b1 + b2 + b3
    return f"Total: {total}"


# Parallel processing pipeline.
fetch_data >> [process_batch_1, process_batch_2, process_batch_3]
[fetch_data, process_batch_1, process_batch_2, process_batch_3] >> aggregate_results


def main() -> None:
    """Run the pipeline with parallel workers, and print its picture and its results."""
    parser = argparse.ArgumentParser(description="Three batches of one dataset in parallel, then one total.")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    options = parser.parse_args()

    dag = DAG("parallel_processing", max_workers=3)
    print(dag.visualize(), end="\n\n")
    for name, value in dag.run(executor=options.executor).items():
        print(f"{name:<18} {value}")


if __name__ == "__main__":
    main()
