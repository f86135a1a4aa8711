"""Metadata and contents of the six installed distributions."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

LAYERS = ["flowkit-core", "flowkit-exec", "flowkit-flow", "flowkit-log", "flowkit-state"]
DISTRIBUTIONS = ["flowkit", *LAYERS]


def module_name(distribution: str) -> str:
    return distribution.replace("-", "_")


def required(distribution: str) -> list[str]:
    """Return the requirements of a distribution without those of extras."""
    return [line for line in importlib.metadata.requires(distribution) or [] if "extra ==" not in line]


def test_installed_flowkit_is_not_the_unrelated_package_of_the_index() -> None:
    about = importlib.metadata.metadata("flowkit")
    if [re.split(r"[=<>]", line)[0] for line in required("flowkit")] != LAYERS:
        pytest.fail(
            f"the installed flowkit {about['Version']} ({about['Summary']}) is an unrelated package from the index:"
            " uninstall it, and install this project's from its repository",
            pytrace=False,
        )


def test_distributions_have_same_version() -> None:
    versions = {name: importlib.metadata.version(name) for name in DISTRIBUTIONS}
    assert len(set(versions.values())) == 1, versions


def test_meta_package_pins_layers_to_its_version() -> None:
    version = importlib.metadata.version("flowkit")
    assert sorted(required("flowkit")) == [f"{name}=={version}" for name in LAYERS]


def test_meta_package_pins_extras_to_its_version() -> None:
    version = importlib.metadata.version("flowkit")
    extras = [line for line in importlib.metadata.requires("flowkit") or [] if "extra ==" in line]
    assert [line.split(";")[0].strip() for line in extras] == [
        f"flowkit-exec[cloudpickle]=={version}",
        f"flowkit-dask=={version}",
        f"flowkit-view=={version}",
    ]


@pytest.mark.parametrize(
    ("layer", "requirements"),
    [
        ("flowkit-core", []),
        ("flowkit-exec", ["flowkit-core"]),
        ("flowkit-flow", ["flowkit-core"]),
        ("flowkit-log", []),
        ("flowkit-state", []),
    ],
)
def test_layer_requires_core_or_nothing(layer: str, requirements: list[str]) -> None:
    assert [re.split(r"[=<>]", line)[0] for line in required(layer)] == requirements


@pytest.mark.parametrize("layer", ["flowkit-exec", "flowkit-flow"])
def test_layer_accepts_any_core_of_its_minor_version(layer: str) -> None:
    major, minor = map(int, importlib.metadata.version("flowkit-core").split(".")[:2])
    (line,) = required(layer)
    assert set(line.removeprefix("flowkit-core").split(",")) == {f">={major}.{minor}", f"<{major}.{minor + 1}"}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_distribution_has_types_license_and_readme(distribution: str) -> None:
    names = {str(path) for path in importlib.metadata.files(distribution) or []}
    version = importlib.metadata.version(distribution)
    assert f"{module_name(distribution)}/py.typed" in names
    assert f"{module_name(distribution)}-{version}.dist-info/licenses/LICENSE" in names
    assert len(importlib.metadata.metadata(distribution).get_payload()) > 200


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_distribution_has_one_package(distribution: str) -> None:
    tops = {path.parts[0] for path in importlib.metadata.files(distribution) or []}
    version = importlib.metadata.version(distribution)
    assert tops == {module_name(distribution), f"{module_name(distribution)}-{version}.dist-info"}


def test_meta_package_is_marked_as_not_to_be_uploaded() -> None:
    assert "Private :: Do Not Upload" in importlib.metadata.metadata("flowkit").get_all("Classifier", [])


def test_executor_entry_points_can_be_loaded() -> None:
    factories = {point.name: point.load() for point in importlib.metadata.entry_points(group="flowkit.executors")}
    assert sorted(factories) == ["process", "serial", "thread"]
    assert {name: factory.__name__ for name, factory in factories.items()} == {
        "process": "ProcessExecutor",
        "serial": "SerialExecutor",
        "thread": "ThreadExecutor",
    }


def test_import_loads_few_modules_and_prints_nothing() -> None:
    """It starts no thread, and imports only the standard library without the modules that a run may not need."""
    costly = set(
        """
        asyncio concurrent ctypes dataclasses datetime hashlib importlib.metadata inspect json multiprocessing pickle
        random signal socket sqlite3 subprocess tempfile typing unicodedata uuid
        """.split()  # noqa: SIM905 - a list would take a line for each name
    )
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import _thread, flowkit\n"
        f"print(sorted(sys.modules.keys() & {costly!r}), _thread._count())\n"
        "print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    # -S: the site packages of a test environment import some of these themselves.
    command = [sys.executable, "-S", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    first, second = done.stdout.splitlines()
    assert (first, done.stderr) == ("[] 0", "")
    assert set(second.split()) <= {"__main__", *map(module_name, DISTRIBUTIONS)}


def test_python_m_flowkit_without_command_line_names_distribution_to_install() -> None:
    code = (
        f"import runpy, sys; sys.path[:] = {sys.path!r}; sys.modules['flowkit_view'] = None\n"
        "runpy.run_module('flowkit', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "needs the distribution 'flowkit-view'" in done.stderr
