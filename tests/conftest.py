"""What holds for every test: how deep hypothesis digs, what must be installed, and that nothing is skipped silently."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator

# A test may be skipped for what the machine is, if its reason says so; never for what is not installed.
ALLOWED_SKIPS = "platform: "

# In CI the same examples are tried each time: a commit must not fail for what another one did. Nor must it for what
# keeps the machine busy: how long an example takes to be made or tried says nothing here.
settings.register_profile(
    "full", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("brief", settings.get_profile("full"), max_examples=10)
settings.load_profile("full")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed",
        metavar="NAMES",
        help="fail unless exactly these distributions of flowkit are in site-packages, and unless each test runs",
    )


def heed_signals() -> None:
    """Heed signals that whoever started us has ignored, as nohup does: what tests start would ignore them too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # a handler, unlike SIG_IGN, is not handed on


def pytest_sessionstart(session: pytest.Session) -> None:
    heed_signals()
    names = session.config.getoption("installed")
    if names is None:
        return
    found = {dist.name for dist in importlib.metadata.distributions() if dist.name.split("-")[0] == "flowkit"}
    if found != set(names.split(",")):
        pytest.exit(f"these tests are for {names} alone, but installed are {','.join(sorted(found))}", returncode=3)
    site = Path(sysconfig.get_path("purelib")).resolve()
    for name in found:
        spec = importlib.util.find_spec(name.replace("-", "_"))
        if spec is None or spec.origin is None or site not in Path(spec.origin).resolve().parents:
            pytest.exit(f"{name} must be imported from {site}, not from {spec and spec.origin}", returncode=3)


def explain(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure, unless it is an expected failure or gives an allowed reason."""
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
        explain(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if collector.config.getoption("installed") is not None:
        explain(report)
    return report
