from ._thread import ThreadExecutor as ProcessExecutor
