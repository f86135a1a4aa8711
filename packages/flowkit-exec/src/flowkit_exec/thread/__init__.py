"""Runs tasks in threads of this process."""
