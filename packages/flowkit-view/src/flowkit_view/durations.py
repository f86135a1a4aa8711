"""Function `duration_text`: a duration as people read it."""

from __future__ import annotations


def duration_text(seconds: float | None) -> str:
    """Return a duration with a unit that suits it.

    Examples:
        >>> [duration_text(each) for each in (2e-6, 0.0012, 0.5, 12.34, 200, 7260, None)]
        ['2 µs', '1.2 ms', '0.50 s', '12.3 s', '3 min 20 s', '2 h 1 min', '']
    """
    if seconds is None:
        return ""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
