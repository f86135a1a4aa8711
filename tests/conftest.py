"""Settings of all tests: profiles of hypothesis, the option ``--installed``, samples, and skips as failures."""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import os
import signal
import sys
import sysconfig
import threading
import zlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

sys.path.insert(0, str(Path(__file__).parent / "support"))

# A test may be skipped for what the machine lacks, with a reason that begins so, but never for a missing package.
ALLOWED_SKIPS = "platform: "

# In CI, hypothesis tries the same examples each time, so that a commit does not fail for an older fault. Examples have
# no time limit, because the machine may be busy.
settings.register_profile(
    "full", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("brief", settings.get_profile("full"), max_examples=10)
settings.load_profile("full")


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """An event that the functions of a test wait for; it is set at the end, so that abandoned threads end."""
    event = threading.Event()
    yield event
    event.set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed",
        metavar="NAMES",
        help="fail unless exactly these distributions of flowkit are installed; turn skips into failures",
    )


def restore_signals() -> None:
    """Handle signals that the calling process has set to be ignored, as nohup does: child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # child processes do not inherit a handler


def pytest_sessionstart(session: pytest.Session) -> None:
    restore_signals()
    names = session.config.getoption("installed")
    if names is None:
        return
    found = {dist.name for dist in importlib.metadata.distributions() if dist.name.split("-")[0] == "flowkit"}
    if found != set(names.split(",")):
        pytest.exit(f"--installed={names}, but {','.join(sorted(found))} are installed", returncode=3)
    site = Path(sysconfig.get_path("purelib")).resolve()
    for name in found:
        spec = importlib.util.find_spec(name.replace("-", "_"))
        if spec is None or spec.origin is None or site not in Path(spec.origin).resolve().parents:
            pytest.exit(f"{name} must be imported from {site}, but is from {spec and spec.origin}", returncode=3)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as exhaustive all cases of a test marked ``sampled(n)`` but each n-th, which differ between Pythons."""
    cases = defaultdict(list)
    for item in items:
        marker = item.get_closest_marker("sampled")
        if marker is not None:
            cases[item.path, item.name.partition("[")[0], marker.args[0]].append(item)
    for (*_, n), sampled in cases.items():
        sampled.sort(key=lambda item: zlib.crc32(f"{item.name} {sys.version_info.minor}".encode()))
        for item in sampled[-(-len(sampled) // n) :]:
            item.add_marker("exhaustive")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exempt the collected tests from garbage collection, which many tests run: its time grows with the heap."""
    gc.collect()
    gc.freeze()


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure, unless it is an expected failure or has an allowed reason."""
    if report.outcome != "skipped" or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return
    path, line, reason = report.longrepr
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped ({reason}), but only a reason like '{ALLOWED_SKIPS}...' is allowed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.config.getoption("installed") is not None:
        fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if collector.config.getoption("installed") is not None:
        fail_if_skipped(report)
    return report
