"""Runs tasks in worker processes."""
