"""The main example, run as a script, and its figures compared with independent counts."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.sampled(3)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "examples" / "stdlib_report.py"
COUNTER = Path(__file__).with_name("count_by_tokens.py")
EXECUTORS = ["serial", "thread", "process"]

FILES = {
    "pkg/__init__.py": '''\
"""A package."""
from . import core
from .core import Shape as S, area
import os.path, sys as system
''',
    "pkg/core.py": '''\
# -*- coding: latin-1 -*-
"""Two lines
of text."""

import os

TEXT = """
# not a comment

"""  # caf\xe9

class Shape:
    """A class."""
    def area(self, a, b=1 or 2):
        # why
        if a and b:
            return [x for x in a if x or b]
        elif a:
            def helper():
                while a:
                    break
            return helper
        try:
            pass
        except ValueError:
            return a if b else None
''',
    "main.py": """\
import pkg.core
from pkg import core
match pkg:
    case 1 if core:
        pass
    case _:
        pass
async def run(x):
    match x:
        case [1, *_]:
            return 1
        case str() if x and not core:
            async for y in x: pass
    return lambda: 1 if x else 2
""",
    "empty.py": "",
    "tests/test_main.py": """\
import main
import unittest


def test(): assert main or unittest
""",
    "site-packages/other.py": "import main\n",
    ".hidden/cache.py": "import main\n",
    "__pycache__/main.py": "import main\n",
    "notes.txt": "import main\n",
}
BROKEN = {"broken/old.py": "print 'hello'\n", "broken/cookie.py": "# coding: klingon\n"}

# Counted by hand: path, name, package, is_test, lines, code, comments, docstrings, blank, functions, classes.
MODULES = [
    ("empty.py", "empty", "empty", 0, 0, 0, 0, 0, 0, 0, 0),
    ("main.py", "main", "main", 0, 14, 14, 0, 0, 0, 1, 0),
    ("pkg/__init__.py", "pkg", "pkg", 0, 4, 3, 0, 1, 0, 0, 0),
    ("pkg/core.py", "pkg.core", "pkg", 0, 26, 17, 2, 3, 4, 2, 1),
    ("tests/test_main.py", "tests.test_main", "tests", 1, 5, 3, 0, 0, 2, 1, 0),
]
FUNCTIONS = [
    ("main.py", "run", 8, 7, 7),
    ("pkg/core.py", "Shape.area", 14, 13, 10),
    ("pkg/core.py", "Shape.area.helper", 19, 3, 2),
    ("tests/test_main.py", "test", 5, 1, 2),
]
IMPORTS = [
    ("main.py", "pkg", "pkg"),
    ("main.py", "pkg.core", "pkg"),
    ("pkg/__init__.py", "os.path", "os"),
    ("pkg/__init__.py", "pkg", "pkg"),
    ("pkg/__init__.py", "pkg.core", "pkg"),
    ("pkg/__init__.py", "sys", "sys"),
    ("pkg/core.py", "os", "os"),
    ("tests/test_main.py", "main", "main"),
    ("tests/test_main.py", "unittest", "unittest"),
]
REPORT = """\
                 modules       lines        code    comments  docstrings       blank   functions     classes
Library                4          44          34           2           4           4           3           1
Tests                  1           5           3           0           0           2           1           0
Total                  5          49          37           2           4           6           4           1

Largest modules (lines of code)
      17  ████████████████████  pkg.core
      14  ████████████████      main
       3  ████                  pkg

Most complex functions (independent paths)
      10  ████████████████████  Shape.area  pkg/core.py:14
       7  ██████████████        run  main.py:8
       2  ████                  Shape.area.helper  pkg/core.py:19

Hubs (modules of other packages that import them)
       2  ████████████████████  os
       1  ██████████            pkg
       1  ██████████            sys

What imports what most (modules)
       2  ████████████████████  pkg → os
       1  ██████████            main → pkg
       1  ██████████            pkg → sys

Widest imports (names)
       4  ████████████████████  pkg
       2  ██████████            main
       1  █████                 pkg.core
"""


def environment(scratch: Path) -> dict[str, str]:
    scratch.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return inherited | {"TMPDIR": str(scratch), "TEMP": str(scratch), "PYTHONIOENCODING": "utf-8"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder of its own."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder / "scratch"),
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        newline = "\r\n" if name == "main.py" else "\n"
        path.write_bytes(text.replace("\n", newline).encode("latin-1"))


def table(database: Path, name: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()  # noqa: S608 - a name of ours


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    write(root, FILES)
    return root


def events(log: str) -> list[tuple[str, str]]:
    """Return event and task of every line of a JSON log."""
    records = map(json.loads, log.splitlines())
    return [(record["event"], record.get("task", "")) for record in records if "event" in record]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_report_of_small_tree_equals_hand_counted_figures(tmp_path: Path, tree: Path, executor: str) -> None:
    write(tree, BROKEN)
    database = tmp_path / "tree.sqlite3"
    where = ["--root", tree, "--database", database]
    done = run(tmp_path, *where, "--executor", executor, "--workers", 2, "--top", 3, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")

    assert table(database, "modules") == MODULES
    assert table(database, "functions") == FUNCTIONS
    assert table(database, "imports") == IMPORTS
    (cookie, klingon), (old, missing) = table(database, "unparsable")
    assert (cookie, old) == ("broken/cookie.py", "broken/old.py")
    assert "klingon" in klingon
    assert missing == "Missing parentheses in call to 'print'. Did you mean print(...)?"

    listing = tmp_path / "tree.unparsable.txt"
    assert listing.read_text("utf-8") == f"{cookie}: {klingon}\n{old}: {missing}\n"

    report, _, end = done.stdout.partition("\nNot Python (2 files)\n")
    assert report == f"Python code in {tree}\n\n{REPORT}"
    first, second, empty, times, kept = end.splitlines()
    assert first == f"  {cookie}: {klingon}"[:100]
    assert second == f"  {old}: {missing}"
    assert empty == ""
    assert re.fullmatch(rf"5 modules in [\d.]+ s: executor {executor}, [\d.]+ files at a time\.", times)
    assert kept == f"Kept: {database} and {listing}"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_quarantine_without_unparsable_files_is_skipped(tmp_path: Path, tree: Path, executor: str) -> None:
    database = tmp_path / "tree.sqlite3"
    done = run(tmp_path, "--root", tree, "--executor", executor, "--workers", 1, "--database", database, "--json-logs")
    assert done.returncode == 0, done.stderr

    seen = events(done.stderr)
    assert ("task_skipped", "quarantine") in seen
    assert {task for event, task in seen if event == "task_succeeded"} == {
        "list_files",
        "measure",
        "load_database",
        "report",
    }
    assert table(database, "unparsable") == []
    assert not (tmp_path / "tree.unparsable.txt").exists()
    assert "Not Python" not in done.stdout
    assert done.stdout.endswith(f"Kept: {database}\n")


def test_report_without_database_option_leaves_nothing_behind(tmp_path: Path, tree: Path) -> None:
    write(tree, BROKEN)
    done = run(tmp_path, "--root", tree, "--executor", "thread", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "Kept" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch", "tree"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_report_on_terminal_has_colors(tmp_path: Path, tree: Path) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command("--root", tree, "--executor", "serial", "--quiet"), stdout=theirs, env=environment(tmp_path / "scratch")
    ) as script:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # end of output of a pseudo terminal
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert script.returncode == 0
    lines = shown.decode().splitlines()
    assert "\x1b[1mLargest modules (lines of code)\x1b[0m" in lines
    assert "      17  \x1b[36m████████████████████\x1b[0m  pkg.core" in lines


def test_report_in_ascii_terminal_prints_figures(tmp_path: Path, tree: Path) -> None:
    done = subprocess.run(
        command("--root", tree, "--executor", "serial", "--quiet"),
        env=environment(tmp_path / "scratch") | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="ascii",
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "      17  ????????????????????  pkg.core\n" in done.stdout


def test_report_of_tree_without_python_is_empty(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = run(tmp_path, "--root", "nothing", "--executor", "serial", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Total                  0           0" in done.stdout


def test_locked_database_is_retried_until_free(tmp_path: Path, tree: Path) -> None:
    database = tmp_path / "tree.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        script = subprocess.Popen(
            command("--root", tree, "--executor", "thread", "--database", database, "--json-logs"),
            cwd=tmp_path,
            env=environment(tmp_path / "scratch"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        with script:
            assert script.stderr is not None
            for line in script.stderr:
                if json.loads(line).get("event") == "task_retrying":
                    assert json.loads(line)["error"] == "OperationalError: database is locked"
                    other.execute("ROLLBACK")
                    break
            else:
                pytest.fail("the load was not tried again")
            _, log = script.communicate(timeout=120)
    assert script.returncode == 0, log
    assert ("task_succeeded", "load_database") in events(log)
    assert table(database, "modules") == MODULES


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--root", "nowhere"], "argument --root: 'nowhere' is not a folder"),
        (["--workers", "0"], "argument --workers: '0' is not a number of at least 1"),
        (["--top", "many"], "argument --top: 'many' is not a number of at least 1"),
        (["--executor", "magic"], "argument --executor: invalid choice: 'magic'"),
        (["--quiet", "--verbose"], "not allowed with argument"),
    ],
)
def test_invalid_command_line_is_explained(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stdout == ""


def source_files(root: Path) -> list[str]:
    """List the Python files below a folder, independently of the script."""
    found = [path.relative_to(root) for path in root.rglob("*.py")]
    left_out = {"site-packages", "dist-packages", "__pycache__"}
    return sorted(
        path.as_posix()
        for path in found
        if left_out.isdisjoint(path.parts) and not any(part.startswith(".") for part in path.parts[:-1])
    )


def compiles(path: Path) -> bool:
    try:
        compile(path.read_bytes(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


LIBRARY = Path(os.__file__).parent
strange = pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")


@pytest.mark.whole
@strange
def test_report_of_standard_library_is_correct(tmp_path: Path) -> None:
    """The whole library; every fifth file is counted by another technique."""
    title = f"The standard library of Python {sys.version.split()[0]} in {LIBRARY}"
    check_report(tmp_path, LIBRARY, title, 5)


@strange
def test_report_of_part_of_standard_library_is_correct(tmp_path: Path) -> None:
    """Another part on each Python, with files that cannot be parsed or have unusual encodings."""
    names = source_files(LIBRARY)
    hard = [
        name for name in names if re.search(r"/bad|lib2to3/tests/data/|/test_(fstring|grammar|patma|tokenize)", name)
    ]
    for name in {*names[sys.version_info.minor % 20 :: 20], *hard}:
        copy = tmp_path / "part" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((LIBRARY / name).read_bytes())
    check_report(tmp_path, tmp_path / "part", f"Python code in {tmp_path / 'part'}", 2, "--root", tmp_path / "part")


def check_report(folder: Path, library: Path, subject: str, share: int, *arguments: object) -> None:
    """Compare printed figures with the rows of the database, and these rows with the tokens of the files."""
    database = folder / "stdlib.sqlite3"
    done = run(folder, "--database", database, "--quiet", "--top", 10, *arguments)
    assert (done.returncode, done.stderr) == (0, "")

    modules = {row[0]: row for row in table(database, "modules")}
    functions: dict[str, list[list[Any]]] = {}
    for path, *facts in table(database, "functions"):
        functions.setdefault(path, []).append(facts)
    imports: dict[str, list[str]] = {}
    for path, name, package in table(database, "imports"):
        assert package == name.split(".")[0]
        imports.setdefault(path, []).append(name)

    # Every file is there, measured or refused; what was refused does not compile, and what was measured has its lines.
    refused = [path for path, _ in table(database, "unparsable")]
    assert sorted([*modules, *refused]) == source_files(library)
    assert not any(compiles(library / path) for path in refused)
    for path, row in modules.items():
        data = (library / path).read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        assert row[4] == data.count(b"\n") + (data[-1:] not in (b"", b"\n")), path
        assert row[4] == sum(row[5:9]), path
        assert row[9] == len(functions.get(path, ())), path

    # The report is what follows from the rows.
    ours = [row for row in modules.values() if not {"test", "tests", "idle_test"} & set(row[1].split("."))]
    assert {row[0] for row in ours} == {row[0] for row in modules.values() if not row[3]}
    title, _, _, *totals = done.stdout.splitlines()[:6]
    assert title == subject
    others = [row for row in modules.values() if row not in ours]
    for line, rows in zip(totals, [ours, others, [*ours, *others]], strict=True):
        expected = [len(rows), *(sum(row[column] for row in rows) for column in range(4, 11))]
        assert [int(number) for number in line.replace(",", "").split()[1:]] == expected

    sections = dict(section.split("\n", 1) for section in done.stdout.split("\n\n")[2:-1])
    largest = sorted((-row[5], row[1]) for row in ours)
    tallest = sorted((-facts[3], row[0], facts[1], facts[0]) for row in ours for facts in functions.get(row[0], ()))
    widest = sorted((-len(imports[row[0]]), row[1]) for row in ours if row[0] in imports)
    hubs: dict[str, set[str]] = {}
    pairs: dict[str, set[str]] = {}
    for row in ours:
        for name in imports.get(row[0], ()):
            if (package := name.split(".")[0]) != row[2]:
                hubs.setdefault(package, set()).add(row[0])
                pairs.setdefault(f"{row[2]} → {package}", set()).add(row[0])
    expected_sections = {
        "Largest modules (lines of code)": largest,
        "Most complex functions (independent paths)": [
            (number, f"{name}  {path}:{line}") for number, path, line, name in tallest
        ],
        "Hubs (modules of other packages that import them)": sorted((-len(hubs[name]), name) for name in hubs),
        "What imports what most (modules)": sorted((-len(pairs[pair]), pair) for pair in pairs),
        "Widest imports (names)": widest,
    }
    for heading, rows in expected_sections.items():
        printed = re.findall(r"^ *([\d,]+)  █* *(.+)$", sections[heading], re.MULTILINE)
        assert printed == [(f"{-number:,}", name) for number, name in rows[:10]]
    if refused:
        assert f"Not Python ({len(refused)} files)" in sections

    # The rows are what another technique finds: in a share of the files, and in every file that the report names.
    named = {path for _, path, *_ in tallest[:10]} | {row[0] for row in ours if (-row[5], row[1]) in largest[:10]}
    chosen = sorted(named | set(sorted(modules)[::share]))
    counted = subprocess.run(
        [sys.executable, COUNTER, library], input=json.dumps(chosen), capture_output=True, encoding="utf-8", check=True
    )
    for path, count in json.loads(counted.stdout).items():
        row = modules[path]
        assert {
            "code": row[5], "comments": row[6], "docstrings": row[7], "blank": row[8], "classes": row[10],
            "functions": sorted(functions.get(path, [])), "imports": sorted(imports.get(path, [])),
        } == {key: value for key, value in count.items() if key != "lines"}, path  # fmt: skip
