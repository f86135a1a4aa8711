"""The checks of executors, by subject; they build pipelines as user code does."""
