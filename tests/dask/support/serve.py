"""Runs a command of Dask until it ends, or until the standard input ends: it does not outlive the tests."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from threading import Thread


def end_with_input():
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    Thread(target=end_with_input, daemon=True).start()
    import_module(f"distributed.cli.dask_{sys.argv.pop(1)}").main()
