"""Problems and parameters of pipelines that are not run, from `flowkit_core.checking`."""

from flowkit_core.checking import REQUIRED, OpenParameter, Problem

__all__ = ["REQUIRED", "OpenParameter", "Problem"]
