"""How many workers and segments the limit of open files of this process allows."""

from __future__ import annotations


def max_workers(descriptors: int) -> int:
    """Return the maximum number of workers: their descriptors must leave some for large values.

    Args:
        descriptors: how many descriptors one worker needs in this process.
    """
    limit = _open_files()
    return 1 << 16 if limit is None else max(1, (limit - descriptor_budget() - 32) // descriptors)


def descriptor_budget() -> int:
    """Return the maximum number of file descriptors for large values: a quarter of the limit of this process."""
    limit = _open_files()
    return 1024 if limit is None else max(8, min(1024, limit // 4))


def _open_files() -> int | None:
    """Return the limit of open files of this process; None if there is none."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
