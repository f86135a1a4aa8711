"""The checks that every executor passes, and `check_executor`, which runs them."""

from .runner import check_executor, executor_checks

__all__ = ["check_executor", "executor_checks"]
