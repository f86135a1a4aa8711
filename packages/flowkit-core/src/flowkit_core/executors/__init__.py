"""Executors: the protocol, the serial executor, the registry by name, and which executor runs each task of a run."""
