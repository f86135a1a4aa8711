"""Build, test and check all of flowkit, on a machine that has only Python 3.11+ and a package index.

    python3 noxfile.py            every check there is, several at a time
    python3 noxfile.py -s demo    the main example, on this machine's own standard library
    python3 noxfile.py -l         what else there is

The first call puts nox and uv into ``.nox/tools`` and hands over to them; a nox of your own does as well.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the newcomer's Python is not ours to choose
    sys.exit(f"flowkit needs Python 3.11 or newer and this is {sys.version.split()[0]}: try python3.12 noxfile.py")

import itertools
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
WHEELHOUSE = ROOT / ".nox" / "wheelhouse"
TOOLS = ROOT / ".nox" / "tools"


def bootstrap(arguments: list[str]) -> int:
    """Run nox from an environment of its own, made on first use, and return its exit code."""
    python = str(TOOLS / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    backend = TOOLS / f"backend-on-{sys.version_info.major}.{sys.version_info.minor}"
    if not backend.exists():
        print(f"Putting nox and uv into {TOOLS} (once) ...", flush=True)
        install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        try:
            venv.create(TOOLS, clear=True, with_pip=True)
            subprocess.run([*install, "nox>=2026.10.20"], check=True)
        except subprocess.CalledProcessError as error:
            print(
                f"Could not set up nox: {error}\nThis needs a package index that pip can reach, and the venv module"
                " (on Debian and Ubuntu: apt install python3-venv).",
                file=sys.stderr,
            )
            return 1
        # uv is much faster than pip, but is not everywhere, and has its own idea of where the package index is.
        probe = [python, "-m", "uv", "pip", "install", "--dry-run", f"--python={python}", "pytest"]
        attempts = (
            subprocess.run(command, capture_output=True, check=False) for command in ([*install, "uv>=0.8"], probe)
        )
        uv = all(attempt.returncode == 0 for attempt in attempts)
        backend.write_text("uv" if uv else "virtualenv", "utf-8")
        if not uv:
            print(
                "uv is not to be had here, or does not reach the package index: pip will do, more slowly.", flush=True
            )
    everything = [f"--parallel={os.cpu_count() or 1}"]
    nox = [python, "-m", "nox", f"--noxfile={__file__}", f"--default-venv-backend={backend.read_text('utf-8')}"]
    return subprocess.call([*nox, *(arguments or everything)])


if __name__ == "__main__":
    sys.exit(bootstrap(sys.argv[1:]))

import nox

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False

# Those of the classifiers, and the one at hand if that is newer: a newcomer's Python is never left out.
PYTHONS = sorted({"3.11", "3.12", "3.13", f"3.{sys.version_info.minor}"})
META = "flowkit"

# Versions of the checkers are fixed: a new rule of theirs must not break a commit that did not change.
RUFF = "ruff==0.17.6"
MYPY = "mypy==2.4.1"
IMPORT_LINTER = "import-linter==2.16"
MKDOCS = ["mkdocs==1.6.1", "mkdocs-material==9.8.1", "mkdocstrings[python]==1.0.8"]
PYTEST = ["pytest>=9.1,<10", "hypothesis>=6.100,<7"]
# Nothing of flowkit needs these, but some of it is to work beside them.
COMPANIONS = ["cloudpickle>=3", "ipython>=8"]
# Peers are compared as they are today. Prefect does not start with the newest fastapi, and may fail to install.
PEERS = ["dask", "joblib", "numpy"]
PREFECT = ["prefect>=3.8,<4", "fastapi<0.140"]

# Sixty environments start pytest sooner when what is in them is compiled once, at the installation.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")


def show_pyenv_pythons() -> None:
    """Let nox see each Python that pyenv has installed: pyenv shows only those that are switched on, usually one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on = [name for name in os.environ.get("PYENV_VERSION", "").split(":") if name]
    for python in PYTHONS:
        installed = [path.name for path in root.glob(f"versions/{python}.*") if path.suffix[1:].isdecimal()]
        if installed and not any(name.startswith(f"{python}.") for name in on):
            on.append(max(installed, key=lambda name: int(name.rpartition(".")[2])))
    if on:
        os.environ.update(PYENV_ROOT=str(root), PYENV_VERSION=":".join(on))


def needs() -> dict[str, set[str]]:
    """Map each distribution in ``packages/`` to the siblings it requires."""
    paths = sorted(ROOT.glob("packages/*/pyproject.toml"))
    projects = [tomllib.loads(path.read_text("utf-8"))["project"] for path in paths]
    names = {project["name"] for project in projects}
    return {
        project["name"]: {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in project["dependencies"]} & names
        for project in projects
    }


def combinations() -> list[str]:
    """List the sets of distributions that are closed under their requirements, smallest first."""
    graph = needs()
    return [
        " ".join(chosen)
        for size in range(1, len(graph) + 1)
        for chosen in itertools.combinations(graph, size)
        if all(graph[name] <= set(chosen) for name in chosen)
    ]


def label(names: str) -> str:
    """Shorten a combination for a session's name: ``flowkit-core flowkit-exec`` is ``core+exec``."""
    return META if META in names.split() else names.replace(f"{META}-", "").replace(" ", "+")


def folder(name: str) -> list[str]:
    """List the test folders of a distribution: that of its layer, or the whole house's for the meta-package."""
    return ["tests/meta", "tests/docs"] if name == META else [f"tests/{name.removeprefix(f'{META}-')}"]


def folders(names: str) -> tuple[list[str], list[str]]:
    """List the test folders of a combination: those to test in depth, and the others.

    A layer is tested in depth where it has just what it requires. Elsewhere, less shows what is asked there: that no
    layer leans on an absent one, or stumbles over a present one.
    """
    graph = needs()
    deep: list[str] = []
    rest: list[str] = []
    for name in names.split():
        alone = {name} | graph[name] == set(names.split())
        (deep if alone else rest).extend(folder(name))
    return deep, rest


def wheel(name: str) -> Path:
    """Return the path of the one wheel that was built of a distribution."""
    (path,) = WHEELHOUSE.glob(f"{name.replace('-', '_')}-*.whl")
    return path.relative_to(ROOT)


def install(session: nox.Session, names: str) -> None:
    """Install wheels by path and without an index: no source tree, no stale copy and no namesake can slip in."""
    pip, yes = (["uv", "pip"], []) if session.venv_backend == "uv" else (["python", "-m", "pip"], ["--yes"])
    session.run(*pip, "uninstall", "--quiet", *yes, *needs(), silent=True, log=False)
    session.run(*pip, "install", "--quiet", "--no-index", *map(wheel, names.split()))


def run_pytest(session: nox.Session, names: str, *arguments: str) -> None:
    """Run pytest, which checks that exactly these distributions are installed and lets no test skip silently."""
    # Tests of durable files wait for the disk most of their time: memory does as well, where there is enough of it.
    shm = Path("/dev/shm")
    memory = shm if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2**30 else None
    with tempfile.TemporaryDirectory(prefix="flowkit-", dir=memory) as folder:
        here = [f"--installed={names.replace(' ', ',')}", f"--basetemp={folder}/pytest"]
        session.run("pytest", "-q", "-p", "no:cacheprovider", *here, *arguments, env={"TMPDIR": folder})


show_pyenv_pythons()
ALL = " ".join(needs())


@nox.session(allow_parallel=False)
def build(session: nox.Session) -> None:
    """Build each distribution once: an sdist, and from it the wheel that every other session installs."""
    session.install("build", "hatchling")
    for stale in WHEELHOUSE.glob("*"):
        stale.unlink()
    for name in needs():
        session.run(
            "python",
            "-m",
            "build",
            "--no-isolation",
            f"-o{WHEELHOUSE.relative_to(ROOT)}",
            f"packages/{name}",
            silent=True,
        )


@nox.session(python=PYTHONS, requires=["build"], allow_parallel=True)
def tests(session: nox.Session) -> None:
    """Test every combination of distributions, installed from the wheels.

    ``-- core+exec flowkit -k retry`` picks combinations; what is not the name of one goes to pytest.
    """
    by_label = {label(names): names for names in combinations()}
    picked = [word for word in session.posargs if word in by_label]
    arguments = [word for word in session.posargs if word not in by_label]
    session.install(*PYTEST)
    failed = []
    for number, combination in enumerate(picked or by_label, 1):
        names = by_label[combination]
        session.log(f"{combination}: combination {number} of {len(picked or by_label)} on Python {session.python}")
        install(session, names)
        deep, rest = folders(names)
        for where, *depth in (deep, "full", "-m", "not whole"), (rest, "brief", "-m", "not slow and not whole"):
            try:
                if where:
                    run_pytest(session, names, "--hypothesis-profile", *depth, *where, *arguments)
            except nox.command.CommandFailed:
                failed.append(combination)
    if failed:
        session.error(f"on Python {session.python}, tests failed with {', '.join(dict.fromkeys(failed))}")


@nox.session(requires=["build"], allow_parallel=True)
def extras(session: nox.Session) -> None:
    """Test what there is only beside optional companions: cloudpickle, and IPython."""
    session.install(*PYTEST, *COMPANIONS)
    install(session, ALL)
    run_pytest(session, ALL, "tests/exec/test_process_cloudpickle.py")
    run_pytest(session, ALL, "tests/docs/test_promise.py", "-k", "ipython")


@nox.session(allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check style and layout with ruff."""
    session.install(RUFF)
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session(requires=["build"], allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check the types of the sources, and of users' code against the installed wheels, with mypy --strict."""
    session.install(MYPY, "nox", *PYTEST)
    install(session, ALL)
    sources = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("packages/*/src"))]
    for python in PYTHONS:
        session.run("mypy", f"--python-version={python}", *sources, "noxfile.py")
        session.run("mypy", f"--python-version={python}", "tests/typing")
        session.run("mypy", f"--python-version={python}", "tests/benchmarks")


@nox.session(requires=["build"], allow_parallel=True)
def layers(session: nox.Session) -> None:
    """Check with import-linter that the layers form a star around the core."""
    session.install(IMPORT_LINTER)
    install(session, ALL)
    session.run("lint-imports", "--no-cache")


@nox.session(requires=["build"], allow_parallel=True)
def docs(session: nox.Session) -> None:
    """Build the site with warnings as errors, and run every code block of the README and the docs."""
    session.install(*MKDOCS, RUFF, *PYTEST)  # ruff lays out the signatures in the reference
    install(session, ALL)
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", "build", "--strict", "--quiet", "--config-file=docs/mkdocs.yml", env=quiet)
    run_pytest(session, ALL, "tests/docs")


@nox.session(requires=["build"], allow_parallel=False)
def demo(session: nox.Session) -> None:
    """Run the main example: a report on the standard library of the Python that runs it."""
    install(session, ALL)
    session.run("python", "docs/examples/stdlib_report.py", *session.posargs)


@nox.session(requires=["build"], allow_parallel=False, default=False)
def bench(session: nox.Session) -> None:
    """Measure flowkit against its targets and peers, and write docs/pages/benchmarks.md; ``-- --quick`` for a taste."""
    session.install(*PEERS)
    if "--quick" not in session.posargs:
        session.install(*PREFECT, success_codes=range(256))
    install(session, ALL)
    session.run("python", "tests/benchmarks/bench.py", *session.posargs)
