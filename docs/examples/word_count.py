"""One task per file: count the words of each, leave out those that cannot be read, and print the most frequent.

Try it, with the modules of the standard library or with files of your own, and with processes:

    python word_count.py
    python word_count.py notes/*.txt --executor process
"""

from __future__ import annotations

import argparse
import re
import sysconfig
from collections import Counter
from pathlib import Path

from flowkit import DAG, task


@task
def list_files(paths: list[str]) -> list[Path]:
    """Return the files; without any, some modules of the standard library and one that does not exist."""
    library = Path(sysconfig.get_path("stdlib"))
    return [Path(path) for path in paths] or [*sorted(library.glob("a*.py")), library / "no_such_file.py"]


@task
def read(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


@task
def count(text: str) -> Counter[str]:
    """Count the words of a text."""
    return Counter(re.findall(r"[a-z]{4,}", text.lower()))


@task
def merge(counts: list[Counter[str]]) -> Counter[str]:
    """Add the counts of all files."""
    merged: Counter[str] = Counter()
    for each in counts:
        merged.update(each)
    return merged


# Each file is read and counted on its own; one that cannot be read is left out.
list_files >> read.map(errors="drop", label=lambda path: path.name, limit=4) >> count.map() >> merge


def main() -> None:
    """Run the pipeline, and print the most frequent words and the files that were left out."""
    parser = argparse.ArgumentParser(description="Count the words of files, one task per file.")
    parser.add_argument("paths", nargs="*", help="files; by default, modules of the standard library")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    options = parser.parse_args()

    results = DAG("word_count").run(executor=options.executor, params={"paths": options.paths})
    print(f"{len(results['count'])} of {len(results['list_files'])} files")
    for word, number in results["merge"].most_common(5):
        print(f"{number:>6} {word}")
    for number, error in results.elements["read"].failed.items():
        print(f"left out: {results['list_files'][number].name} ({type(error).__name__})")


if __name__ == "__main__":
    main()
