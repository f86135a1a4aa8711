"""Executor of flowkit for Dask clusters: ``run(executor="dask")``, or ``DaskExecutor("tcp://scheduler:8786")``."""

from flowkit_core import register_executor

from .executor import DaskExecutor

register_executor("dask", DaskExecutor)

__all__ = ["DaskExecutor"]
