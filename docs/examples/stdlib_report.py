"""Measure the source code of the Python standard library: thousands of real files, and no download.

    python stdlib_report.py                                 # the library of the Python that runs this
    python stdlib_report.py --executor serial --verbose     # one task at a time, with every event in the log
    python stdlib_report.py --root ~/project --database project.sqlite3

The pipeline finds the files, measures them in parallel, loads the results into SQLite, lists the files that are not
Python *when* there are any, and reports:

    list_files ── measure (mapped) ── load_database ─┬─ quarantine ─┬─ report
                                                     └──────────────┘

What is counted:

* Every line is of one kind. A line of a docstring is a docstring line; of the others, a line without text is blank, a
  line that begins with ``#`` outside a string is a comment, and the rest is code.
* The complexity of a function is McCabe's: one, and one more for each ``if``, ``elif``, ``for``, ``while``,
  ``except``, ``case``, ``and`` and ``or`` in it, comprehensions and conditional expressions included. A function
  or class that is defined in it is counted separately.
* A module imports what its import statements name, anywhere in the file, each name once;
  ``from a import b`` names ``a``.
* A module is a test if ``test``, ``tests`` or ``idle_test`` is a part of its name. Tests count in the totals
  but not in the rankings.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import platform
import re
import sqlite3
import sys
import tempfile
import time
import tokenize
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from flowkit import DAG, LogLevel, configure_logging, get_logger, task

# Warnings of the compiler about the measured files are not of interest here.
warnings.filterwarnings("ignore", category=SyntaxWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)


# --- Measuring one file -----------------------------------------------------------------------------------------


class Module(NamedTuple):
    """One source file: a row of the table ``modules``."""

    path: str
    name: str
    package: str
    is_test: bool
    lines: int
    code: int
    comments: int
    docstrings: int
    blank: int
    functions: int
    classes: int


class Function(NamedTuple):
    """One function or method: a row of the table ``functions``. Its lines are those from ``def`` to its end."""

    path: str
    name: str
    line: int
    lines: int
    complexity: int


class Import(NamedTuple):
    """One name that a file imports: a row of the table ``imports``. The package is the first part of the name."""

    path: str
    name: str
    package: str


class Findings(NamedTuple):
    """What is found in some files: the rows of the four tables."""

    modules: list[Module]
    functions: list[Function]
    imports: list[Import]
    unparsable: list[tuple[str, str]]


Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}
TESTS = {"test", "tests", "idle_test"}
SCOPES = {ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef}
LEAVES = {ast.Constant, ast.Name, ast.Load, ast.Store, ast.Del}
STRING_OR_COMMENT = re.compile(
    r'''"""(?:\\.|[^\\])*?"""|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^\\"\n])*"|'(?:\\.|[^\\'\n])*'|#[^\n]*''', re.DOTALL
)

# What each kind of node adds to the complexity of the function that contains it.
DECISIONS: dict[type[ast.AST], Callable[[Any], int]] = {
    ast.If: lambda node: 1,
    ast.IfExp: lambda node: 1,
    ast.For: lambda node: 1,
    ast.AsyncFor: lambda node: 1,
    ast.While: lambda node: 1,
    ast.ExceptHandler: lambda node: 1,
    ast.BoolOp: lambda node: len(node.values) - 1,
    ast.comprehension: lambda node: 1 + len(node.ifs),
    ast.match_case: lambda node: 1 if node.guard is None else 2,
}


def nodes_of(scope: Scope) -> list[ast.AST]:
    """Return the nodes of a scope, without those inside functions and classes that are defined in it."""
    nodes = list(ast.iter_child_nodes(scope))
    for node in nodes:  # the list grows while it is read
        if type(node) not in LEAVES and type(node) not in SCOPES:
            nodes.extend(ast.iter_child_nodes(node))
    return nodes


def docstring_lines(scope: Scope) -> Iterable[int]:
    """Return the line numbers of the docstring of a scope."""
    match scope.body:
        case [ast.Expr(value=ast.Constant(value=str(), lineno=first, end_lineno=int(last))), *_]:
            return range(first, last + 1)
    return ()


def comment_lines(text: str) -> Iterator[int]:
    """Yield the numbers of the lines that contain only a comment."""
    line, counted = 1, 0
    for found in STRING_OR_COMMENT.finditer(text):
        start = found.start()
        if text[start] == "#" and not text[text.rfind("\n", 0, start) + 1 : start].strip():
            line += text.count("\n", counted, start)
            counted = start
            yield line


def imported_names(node: ast.Import | ast.ImportFrom, path: str) -> Iterator[str]:
    """Yield the full names of the modules that an import statement names; those outside the root have none."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    else:
        folders = path.split("/")[: -node.level] if node.level else []
        if folders or not node.level:
            yield ".".join([*folders, node.module] if node.module else folders)


def measure_file(root: Path, path: str, findings: Findings) -> None:
    """Measure the file at ``path`` below ``root``, and add its rows to the findings."""
    try:
        with tokenize.open(root / path) as file:
            text = file.read()
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        findings.unparsable.append((path, str(getattr(error, "msg", error))))
        return

    functions: list[Function] = []
    classes = 0
    imports: set[str] = set()
    docstrings: set[int] = set()
    scopes: list[tuple[Scope, str]] = [(tree, "")]
    for scope, name in scopes:  # the list grows while it is read
        complexity = 1
        for node in nodes_of(scope):
            if type(node) in DECISIONS:
                complexity += DECISIONS[type(node)](node)
            elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                scopes.append((node, f"{name}.{node.name}" if name else node.name))
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                imports.update(imported_names(node, path))
        docstrings.update(docstring_lines(scope))
        if isinstance(scope, ast.ClassDef):
            classes += 1
        elif not isinstance(scope, ast.Module):
            length = (scope.end_lineno or scope.lineno) - scope.lineno + 1
            functions.append(Function(path, name, scope.lineno, length, complexity))

    lines = text.removesuffix("\n").split("\n") if text else []
    blank = {number for number, line in enumerate(lines, 1) if not line.strip()} - docstrings
    comments = set(comment_lines(text)) - docstrings
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    findings.modules.append(
        Module(
            path=path,
            name=name,
            package=name.partition(".")[0],
            is_test=not TESTS.isdisjoint(name.split(".")),
            lines=len(lines),
            code=len(lines) - len(docstrings) - len(blank) - len(comments),
            comments=len(comments),
            docstrings=len(docstrings),
            blank=len(blank),
            functions=len(functions),
            classes=classes,
        )
    )
    findings.functions.extend(functions)
    findings.imports.extend(Import(path, name, name.partition(".")[0]) for name in sorted(imports))


# --- Tables and queries -----------------------------------------------------------------------------------------

TABLES: dict[str, tuple[str, ...]] = {
    "modules": Module._fields,
    "functions": Function._fields,
    "imports": Import._fields,
    "unparsable": ("path", "reason"),
}
TOTALS = ("modules", "lines", "code", "comments", "docstrings", "blank", "functions", "classes")
SUMS = ", ".join(f"COALESCE(SUM({column}), 0)" for column in TOTALS[1:])
RANKINGS = {
    "Largest modules (lines of code)": """
        SELECT code, name FROM modules WHERE NOT is_test
        ORDER BY code DESC, name""",
    "Most complex functions (independent paths)": """
        SELECT complexity, functions.name || '  ' || path || ':' || line FROM functions JOIN modules USING (path)
        WHERE NOT is_test ORDER BY complexity DESC, path, line""",
    "Hubs (modules of other packages that import them)": """
        SELECT COUNT(DISTINCT path) AS importers, imports.package FROM imports JOIN modules USING (path)
        WHERE NOT is_test AND imports.package != modules.package
        GROUP BY imports.package ORDER BY importers DESC, imports.package""",
    "What imports what most (modules)": """
        SELECT COUNT(DISTINCT path) AS importers, modules.package || ' → ' || imports.package AS pair
        FROM imports JOIN modules USING (path) WHERE NOT is_test AND imports.package != modules.package
        GROUP BY pair ORDER BY importers DESC, pair""",
    "Widest imports (names)": """
        SELECT COUNT(*) AS names, modules.name FROM imports JOIN modules USING (path) WHERE NOT is_test
        GROUP BY path ORDER BY names DESC, modules.name""",
}
BOLD, CYAN = 1, 36


# --- The tasks --------------------------------------------------------------------------------------------------


@task(retries=2, delay=0.2, retry_on=OSError)
def list_files(*, root: Path) -> list[str]:
    """Find the Python files below a folder, installed packages left out, and return their paths, largest first."""
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in NOT_OURS and not name.startswith(".")]
        paths = [Path(folder, name) for name in files if name.endswith(".py")]
        found += [(path.stat().st_size, path.relative_to(root).as_posix()) for path in paths]
    size = sum(size for size, _ in found) / 1e6
    get_logger().info(f"Found {len(found):,} files, {size:.1f} MB.")
    return [path for _, path in sorted(found, key=lambda item: (-item[0], item[1]))]


@task(retries=2, retry_on=OSError)
def measure(path: str, *, root: Path) -> Findings:
    """Measure one file."""
    findings = Findings([], [], [], [])
    measure_file(root, path, findings)
    return findings


@task(retries=5, delay=0.2, retry_on=sqlite3.OperationalError)
def load_database(found: list[Findings], *, database: str) -> dict[str, int]:
    """Write everything into SQLite, in one transaction, and return how many rows each table has."""
    counts = {}
    # If another process has locked the database, fail at once: the retry waits without holding a worker.
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in TABLES.items():
            rows = [row for findings in found for row in getattr(findings, table)]
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
            counts[table] = len(rows)
        connection.execute("COMMIT")
    return counts


@task(when=lambda loaded: loaded["unparsable"] > 0)
def quarantine(loaded: dict[str, int], *, database: str) -> str:
    """Write a list of the files that are not Python, next to the database, and return its path."""
    listing = Path(database).with_suffix(".unparsable.txt")
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT path, reason FROM unparsable ORDER BY path").fetchall()
    listing.write_text("".join(f"{path}: {reason}\n" for path, reason in rows), encoding="utf-8")
    get_logger().info(f"Files that could not be parsed: {len(rows)}.")
    return str(listing)


@task
def report(loaded: dict[str, int], listing: str | None = None, *, database: str, top: int, color: bool) -> str:
    """Query the database, and return totals and rankings as text."""

    def paint(text: str, code: int) -> str:
        return f"\033[{code}m{text}\033[0m" if color else text

    lines = []
    with closing(sqlite3.connect(database)) as connection:
        lines.append(paint("".join(f"{column:>12}" for column in ("", *TOTALS)), BOLD))
        for label, condition in {"Library": "NOT is_test", "Tests": "is_test", "Total": "TRUE"}.items():
            row = connection.execute(f"SELECT COUNT(*), {SUMS} FROM modules WHERE {condition}").fetchone()
            lines.append(f"{label:<12}" + "".join(f"{number:>12,}" for number in row))
        for title, query in RANKINGS.items():
            lines += ["", paint(title, BOLD)]
            rows = connection.execute(f"{query} LIMIT ?", [top]).fetchall()
            for number, name in rows:
                bar = "█" * round(20 * number / (rows[0][0] or 1))
                lines.append(f"{number:>8,}  {paint(f'{bar:<20}', CYAN)}  {name}")
        if listing:
            lines += ["", paint(f"Not Python ({loaded['unparsable']} files)", BOLD)]
            for path, reason in connection.execute("SELECT path, reason FROM unparsable ORDER BY path LIMIT ?", [top]):
                lines.append(f"  {path}: {reason}"[:100])
    return "\n".join(lines)


# --- The pipeline -----------------------------------------------------------------------------------------------


list_files >> measure.map() >> load_database >> quarantine
[load_database, quarantine] >> report
STDLIB_REPORT = DAG("stdlib_report", tasks=[report])


def main() -> None:
    """Read the command line, run the pipeline, and print its report."""
    library = Path(os.__file__).parent
    parser = argparse.ArgumentParser(description="Measure the source code of the Python standard library.")
    parser.add_argument("--root", type=folder, default=library, help="measure the Python files below this")
    usual = "process" if os.name == "posix" else "thread"
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default=usual)
    parser.add_argument("--workers", type=at_least_one, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--database", metavar="FILE", help="keep the database here, with its list of unparsable files")
    parser.add_argument("--report", metavar="FILE", help="write a report of the run: an HTML file; needs flowkit-view")
    parser.add_argument("--top", type=at_least_one, default=5, metavar="N", help="length of the rankings")
    parser.add_argument("--json-logs", action="store_true", help="log in JSON lines")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help="log more")
    loudness.add_argument("--quiet", action="store_true", help="log only what goes wrong")
    options = parser.parse_args()

    level = LogLevel.DEBUG if options.verbose else LogLevel.WARNING if options.quiet else LogLevel.INFO
    configure_logging(level=level, json_output=options.json_logs)

    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        results = STDLIB_REPORT.run(
            executor=options.executor,
            max_workers=options.workers,
            report=options.report,
            params={
                "root": options.root,
                "database": options.database or str(Path(scratch, "report.sqlite3")),
                "top": options.top,
                "color": sys.stdout.isatty() and "NO_COLOR" not in os.environ,
            },
        )
        elapsed = time.perf_counter() - started

    subject = "Python code"
    if options.root == library:
        subject = f"The standard library of Python {platform.python_version()}"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # print the numbers also where the bars cannot be printed
    modules, busy = results["load_database"]["modules"], sum(results.elements["measure"].durations)
    seconds = results.durations["measure"]
    at_a_time = busy / seconds if seconds else 0.0
    print(f"{subject} in {options.root}\n\n{results['report']}\n")
    print(f"{modules:,} modules in {elapsed:.1f} s: executor {options.executor}, {at_a_time:.1f} files at a time.")
    if options.database:
        print("Kept:", " and ".join(filter(None, [options.database, results.get("quarantine")])))
    if options.report:
        print("What the run did:", options.report)


def folder(text: str) -> Path:
    """Return the path of an existing folder, for argparse."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return path


def at_least_one(text: str) -> int:
    """Return a number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


if __name__ == "__main__":
    main()
