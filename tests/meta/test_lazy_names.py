"""Names of ``flowkit`` that are looked up at their first use, because importing them takes long."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

import flowkit
import flowkit_core
import flowkit_exec


@pytest.fixture
def fresh():
    """Return the package as it is before the lazy names were used."""
    for name in ("FuturesExecutor", "ProcessExecutor", "Rate", "ThreadExecutor"):
        vars(flowkit).pop(name, None)
    return flowkit


@pytest.mark.parametrize("name", ["FuturesExecutor", "ProcessExecutor", "ThreadExecutor"])
def test_executor_is_that_of_its_distribution(fresh, name):
    assert getattr(fresh, name) is getattr(flowkit_exec, name)
    assert name in vars(fresh)


@pytest.mark.parametrize(
    "name",
    ["Call", "Elements", "MapLengthError", "Outcome", "PoolBlockedError", "Rate", "Retry", "Run", "UnknownPoolError"],
)
def test_name_of_the_core_is_that_of_the_core(fresh, name):
    assert getattr(fresh, name) is getattr(flowkit_core, name)
    assert name in vars(fresh)


def test_dir_has_the_lazy_names(fresh):
    assert {"FuturesExecutor", "ProcessExecutor", "DAG", "Rate"} <= set(dir(fresh))


def test_version_is_that_of_the_distribution(fresh):
    assert fresh.__version__ == version("flowkit")


def test_application_without_metadata_has_no_version(fresh, monkeypatch):
    def not_found(_name):
        raise PackageNotFoundError("flowkit")

    monkeypatch.setattr("importlib.metadata.version", not_found)
    with pytest.raises(AttributeError, match="module 'flowkit' has no attribute '__version__'"):
        fresh.__version__


def test_unknown_name_is_an_attribute_error(fresh):
    with pytest.raises(AttributeError, match="module 'flowkit' has no attribute 'Dag'"):
        fresh.Dag
