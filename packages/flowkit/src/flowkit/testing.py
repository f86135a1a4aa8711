"""Helpers for tests of pipelines, from `flowkit_core.testing`."""

from flowkit_core.testing import Verified, verify_resume

__all__ = ["Verified", "verify_resume"]
