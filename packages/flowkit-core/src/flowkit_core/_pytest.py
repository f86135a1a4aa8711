"""A pytest plugin: the tasks that a test defines are forgotten when it ends."""

from __future__ import annotations

from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

try:
    import pytest
except ModuleNotFoundError:  # the module is only of use, and only imported, where pytest is
    pytest = None  # type: ignore[assignment]
else:

    @pytest.fixture(autouse=True)
    def _flowkit_forgets_tasks() -> Generator[None]:
        """Give every test the registry as it was before it."""
        from . import discovery

        known = discovery.snapshot()
        yield
        discovery.restore(known)
