"""The log of pipeline runs in a state database: writing, resuming and querying."""
