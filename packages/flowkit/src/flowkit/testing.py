"""Helpers for tests of pipelines and executors, from `flowkit_core.testing`."""

from flowkit_core.testing import *  # noqa: F403 - the same names
from flowkit_core.testing import __all__  # noqa: F401 - and no others
