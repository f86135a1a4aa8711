"""Build, test and check all distributions of flowkit; needs only Python 3.11+ and a package index.

    python3 noxfile.py                                       all checks, one per processor at a time
    python3 noxfile.py -s demo                               the main example
    python3 noxfile.py -s "tests-3.12(exec)" -- -k retry     the tests of one layer on one Python
    python3 noxfile.py -l                                    all sessions

The first call installs nox and uv into ``.nox/tools`` and runs nox from there. A nox of your own works as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent / "tests" / "tools"))
    import bootstrap

    sys.exit(bootstrap.main(__file__, sys.argv[1:]))

import itertools
import os
import re
import shutil
import tempfile
import tomllib

import nox

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).resolve().parent
WHEELHOUSE = ROOT / ".nox" / "wheelhouse"

# The Pythons of the classifiers, and the one that runs nox if it is newer.
PYTHONS = sorted({"3.11", "3.12", "3.13", f"3.{sys.version_info.minor}"})
META = "flowkit"
VIEW = "flowkit-view"

# Exact versions of the checkers, so that a new rule of theirs does not break an unchanged commit.
RUFF = "ruff==0.17.6"
MYPY = "mypy==2.4.1"
IMPORT_LINTER = "import-linter==2.16"
MKDOCS = ["mkdocs==1.6.1", "mkdocs-material==9.8.1", "mkdocstrings[python]==1.0.8"]
PYTEST = ["pytest>=9.1,<10", "hypothesis>=6.100,<7"]
# What the tests of a companion need beside its own requirements and extras.
COMPANION_TESTS = {
    VIEW: [
        "ipykernel>=7",
        "nbclient>=0.10",
        "opentelemetry-exporter-otlp-proto-http>=1.30",
        "websocket-client>=1.8",
    ]
    + (["pexpect>=4.9", "pyte>=0.8"] if os.name == "posix" else []),
    "flowkit-dask": ["numpy>=2"],
}
# What draws the pictures of the documentation, beside a browser.
PICTURES = ["pexpect>=4.9", "pillow>=11", "pyte>=0.8"]
COVERAGE = "coverage>=7.10,<8"
# Optional packages that flowkit supports.
OPTIONAL_PACKAGES = ["cloudpickle>=3", "ipython>=8", "loky>=3.5"]
DATA_LIBRARIES = ["attrs", "numpy", "pandas", "polars", "pyarrow", "pydantic>=2"]
# Benchmarks compare with current versions. Prefect does not work with the newest fastapi, and may fail to install.
PEERS = ["dask", "joblib", "numpy"]
PREFECT = ["prefect>=3.8,<4", "fastapi<0.140"]

# The Python on which all tests run in depth, and the options with which they run on the others.
EXHAUSTIVE_PYTHON = "3.13"
BRIEF = ["--hypothesis-profile=brief", "-m", "not exhaustive and not whole"]
# The Python on which all distributions are installed when the tests of each of them run.
TOGETHER_PYTHON = "3.12"

# The Python on which the tests also measure coverage: there it costs little, by sys.monitoring, and sets no trace
# function, which some tests need to do themselves. Code that only runs in child processes counts as not covered.
COVERAGE_PYTHON = "3.13"
COVERAGE_MINIMUM = {
    "flowkit-core": 91,
    "flowkit-exec": 45,
    "flowkit-flow": 98,
    "flowkit-log": 96,
    "flowkit-state": 88,  # values of data libraries are tested by the session extras
    "flowkit": 98,
}

# Each module of an environment is compiled once, when it is first imported.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def enable_pyenv_pythons() -> None:
    """Enable each Python that pyenv has installed: nox sees only enabled ones, usually one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    enabled = [name for name in os.environ.get("PYENV_VERSION", "").split(":") if name]
    for python in PYTHONS:
        installed = [path.name for path in root.glob(f"versions/{python}.*") if path.suffix[1:].isdecimal()]
        if installed and not any(name.startswith(f"{python}.") for name in enabled):
            enabled.append(max(installed, key=lambda name: int(name.rpartition(".")[2])))
    if enabled:
        os.environ.update(PYENV_ROOT=str(root), PYENV_VERSION=":".join(enabled))


def read_requirements() -> dict[str, set[str]]:
    """Return the distributions in ``packages/``, each with those of them that it requires."""
    paths = sorted(ROOT.glob("packages/*/pyproject.toml"))
    projects = [tomllib.loads(path.read_text("utf-8"))["project"] for path in paths]
    names = {project["name"] for project in projects}
    return {
        project["name"]: {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in project["dependencies"]} & names
        for project in projects
    }


# Distributions that require packages of the index.
DASK = "flowkit-dask"
COMPANIONS = [DASK, VIEW]
REQUIREMENTS = read_requirements()
ALL = [name for name in REQUIREMENTS if name not in COMPANIONS]
# The combinations with them that are tested: what they find beside them, or miss, differs in each.
COMPANION_COMBINATIONS = [
    [*ALL, DASK, VIEW],
    [*ALL, DASK],
    [*ALL, VIEW],
    ["flowkit-core", DASK, "flowkit-flow"],
    ["flowkit-core", DASK, "flowkit-log"],
    ["flowkit-core", DASK, "flowkit-state"],
    ["flowkit-core", "flowkit-state", VIEW],
    ["flowkit-core", DASK],
]


def list_combinations() -> list[list[str]]:
    """Return the sets of distributions that can be installed, largest first: those that contain what they require.

    Of those with companions, only `COMPANION_COMBINATIONS` are among them.
    """
    return COMPANION_COMBINATIONS + [
        list(chosen)
        for size in range(len(ALL), 0, -1)
        for chosen in itertools.combinations(ALL, size)
        if all(REQUIREMENTS[name] <= set(chosen) for name in chosen)
    ]


def label(names: list[str]) -> str:
    """Return a short name of a combination: ``core+exec`` for flowkit-core and flowkit-exec."""
    shown = [META, *(name for name in names if name in COMPANIONS)] if META in names else names
    return "+".join(name.removeprefix(f"{META}-") for name in shown)


def test_folders(name: str) -> list[str]:
    """Return the folders of the tests of a distribution."""
    return ["tests/meta", "tests/docs"] if name == META else [f"tests/{name.removeprefix(f'{META}-')}"]


def wheel_folder(name: str) -> Path:
    """Return the folder of a wheel: all wheels directly in ``WHEELHOUSE`` can be installed without an index."""
    return WHEELHOUSE / "companions" if name in COMPANIONS else WHEELHOUSE


def wheel(name: str) -> Path:
    """Return the path of the wheel of a distribution."""
    (path,) = wheel_folder(name).glob(f"{name.replace('-', '_')}-*.whl")
    return path.relative_to(ROOT)


def install_wheels(session: nox.Session, names: list[str]) -> None:
    """Install wheels by path and without an index, which has an unrelated package ``flowkit``."""
    session.install("--quiet", "--no-index", "--force-reinstall", *map(str, map(wheel, names)))


def required_packages(name: str, *, extras: bool = False) -> list[str]:
    """Return the packages of the index that a distribution requires, with ``extras`` also those of its extras."""
    project = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"]]
    for optional in project.get("optional-dependencies", {}).values() if extras else ():
        lines += optional
    return [line for line in lines if not line.startswith(META)]


def install_with_companions(session: nox.Session, names: list[str], *packages: str) -> None:
    """Install packages of the index, and distributions with what the companions among them require."""
    companions = [name for name in names if name in COMPANIONS]
    session.install(*packages, *(line for name in companions for line in required_packages(name)))
    install_wheels(session, [name for name in names if name not in COMPANIONS])
    if companions:  # without what they require: it is installed, and not from these folders
        session.install("--quiet", "--no-index", "--no-deps", "--force-reinstall", *map(str, map(wheel, companions)))


def run_pytest(session: nox.Session, names: list[str], *arguments: str, coverage_of: str | None = None) -> None:
    """Run pytest with ``--installed``, which fails if other distributions are installed, or if tests are skipped.

    Args:
        session: the session.
        names: the installed distributions.
        arguments: options and folders for pytest.
        coverage_of: a distribution whose coverage is measured; it must reach the minimum if all tests are run.
    """
    # Tests of durable files mostly wait for the disk, so their folders are in memory if there is enough of it.
    shm = Path("/dev/shm")
    memory = shm if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2**30 else None
    with tempfile.TemporaryDirectory(prefix="flowkit-", dir=memory) as folder:
        env = {"TMPDIR": folder, "COVERAGE_FILE": f"{folder}/coverage", "COVERAGE_CORE": "sysmon"}
        command = ["python", "-m"]
        if coverage_of is not None:
            command += ["coverage", "run", f"--source={coverage_of.replace('-', '_')}", "-m"]
        options = ["-q", "-p", "no:cacheprovider", f"--installed={','.join(names)}", f"--basetemp={folder}/pytest"]
        session.run(*command, "pytest", *options, *arguments, *session.posargs, env=env)
        if coverage_of is not None and not session.posargs:
            minimum = f"--fail-under={COVERAGE_MINIMUM[coverage_of]}"
            session.run("python", "-m", "coverage", "report", "--skip-covered", "--show-missing", minimum, env=env)


enable_pyenv_pythons()


@nox.session(allow_parallel=False)
def build(session: nox.Session) -> None:
    """Build an sdist of each distribution, and from it the wheel that all other sessions install."""
    session.install("build", "hatchling")
    shutil.rmtree(WHEELHOUSE, ignore_errors=True)
    for name in REQUIREMENTS:
        output = wheel_folder(name).relative_to(ROOT)
        session.run("python", "-m", "build", "--no-isolation", f"-o{output}", f"packages/{name}", silent=True)


@nox.session(python=PYTHONS, requires=["build"], allow_parallel=True)
@nox.parametrize("name", [nox.param(name, id=label([name])) for name in ALL])
def tests(session: nox.Session, name: str) -> None:
    """Run the tests of one distribution; ``--`` passes options to pytest.

    Only what it requires is installed; with one Python, all distributions are.
    """
    needed = {name} | REQUIREMENTS[name]
    names = [each for each in ALL if each in needed or session.python == TOGETHER_PYTHON]
    measured = session.python == COVERAGE_PYTHON
    session.install(*PYTEST, *([COVERAGE] if measured else []))
    install_wheels(session, names)
    depth = ["-m", "not whole"] if session.python == EXHAUSTIVE_PYTHON else BRIEF
    run_pytest(session, names, *depth, *test_folders(name), coverage_of=name if measured else None)


@nox.session(requires=["build"], allow_parallel=True)
@nox.parametrize("names", [nox.param(",".join(names), id=label(names)) for names in list_combinations()])
def combinations(session: nox.Session, names: str) -> None:
    """Test what depends on which distributions are installed, in one combination of them."""
    installed = names.split(",")
    install_with_companions(session, installed, *PYTEST)
    run_pytest(session, installed, "--hypothesis-profile=brief", "tests/combinations")


@nox.session(requires=["build"], allow_parallel=True)
def portable(session: nox.Session) -> None:
    """Test worker processes over the portable transport, as on systems that are not POSIX."""
    names = ["flowkit-core", "flowkit-exec"]
    session.install(*PYTEST)
    install_wheels(session, names)
    session.env["FLOWKIT_TRANSPORT"] = "portable"
    run_pytest(session, names, "--hypothesis-profile=brief", "tests/exec/process", "tests/exec/scripts")
    checks = "tests/exec/conformance/test_check_executor.py"
    run_pytest(session, names, "--hypothesis-profile=brief", "-k", "process", checks)


@nox.session(requires=["build"], allow_parallel=True)
def extras(session: nox.Session) -> None:
    """Test what needs optional packages: cloudpickle, IPython, loky and data libraries."""
    session.install(*PYTEST, *OPTIONAL_PACKAGES, *DATA_LIBRARIES)
    install_wheels(session, ALL)
    run_pytest(session, ALL, "tests/exec/process/test_cloudpickle.py")
    pools = "tests/exec/conformance/test_check_executor.py", "tests/exec/scripts/test_scripts_in_pools.py"
    run_pytest(session, ALL, *pools, "-k", "loky")
    run_pytest(session, ALL, "tests/docs/test_promise.py", "-k", "ipython")
    run_pytest(
        session, ALL, "tests/state/serialization/test_library_values.py", "tests/meta/recording/test_data_libraries.py"
    )


@nox.session(requires=["build"], allow_parallel=True)
@nox.parametrize("name", [nox.param(name, id=label([name])) for name in COMPANIONS])
def companions(session: nox.Session, name: str) -> None:
    """Test a distribution that requires packages of the index, together with all others."""
    extras = required_packages(name, extras=True)
    install_with_companions(session, [*ALL, name], *PYTEST, *extras, *COMPANION_TESTS.get(name, []))
    run_pytest(session, [*ALL, name], test_folders(name)[0])


@nox.session(python=[python for python in PYTHONS if python != "3.11"], requires=["build"], allow_parallel=True)
def dask(session: nox.Session) -> None:
    """Check the executor for Dask with only the core installed."""
    names = ["flowkit-core", DASK]
    install_with_companions(session, names, *PYTEST)
    run_pytest(session, names, "tests/dask/test_conformance.py")


@nox.session(allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install(RUFF)
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session(requires=["build"], allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check with mypy --strict the types of the sources, and of users' code against the installed wheels."""
    session.install(MYPY, "nox", *PYTEST)
    install_wheels(session, ALL)
    session.install("--quiet", "--no-index", "--no-deps", str(wheel(DASK)))  # for a benchmark
    sources = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("packages/*/src"))]
    for python in PYTHONS:
        session.run("mypy", f"--python-version={python}", *sources, "noxfile.py", "tests/tools")
        session.run("mypy", f"--python-version={python}", "tests/typing", "tests/benchmarks")


@nox.session(requires=["build"], allow_parallel=True)
def layers(session: nox.Session) -> None:
    """Check with import-linter that the layers form a star around the core."""
    session.install(IMPORT_LINTER)
    install_wheels(session, ALL)
    session.install("--quiet", "--no-index", "--no-deps", *map(str, map(wheel, COMPANIONS)))
    session.run("lint-imports", "--no-cache")


@nox.session(requires=["build"], allow_parallel=True)
def docs(session: nox.Session) -> None:
    """Build the site with warnings as errors, and run what reads the whole standard library."""
    session.install(*MKDOCS, RUFF, *PYTEST)  # ruff formats the signatures in the reference
    install_wheels(session, ALL)
    session.install("--quiet", "--no-index", "--no-deps", str(wheel(DASK)))  # for the reference
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", "build", "--strict", "--quiet", "--config-file=docs/mkdocs.yml", env=quiet)
    run_pytest(session, [*ALL, DASK], "-m", "whole", "tests/docs")


@nox.session(requires=["build"], allow_parallel=False)
def demo(session: nox.Session) -> None:
    """Run the main example, which measures the standard library of this Python, with a report of the run."""
    install_with_companions(session, [*ALL, VIEW])
    report = Path(".nox", "stdlib_report.html")
    session.run("python", "docs/examples/stdlib_report.py", "--report", str(report), *session.posargs)


@nox.session(requires=["build"], allow_parallel=False, default=False)
def pictures(session: nox.Session) -> None:
    """Make the pictures in docs/pages/images; needs Chromium."""
    install_with_companions(session, [*ALL, VIEW], *PICTURES)
    session.run("python", "docs/pictures/make.py")


@nox.session(requires=["build"], allow_parallel=False, default=False)
def bench(session: nox.Session) -> None:
    """Measure flowkit against its targets and peers, and write docs/pages/benchmarks.md; ``-- --quick`` is short."""
    session.install(*PEERS)
    if "--quick" not in session.posargs:
        session.install(*PREFECT, success_codes=range(256))
    install_wheels(session, ALL)
    session.run("python", "tests/benchmarks/bench.py", *session.posargs)
