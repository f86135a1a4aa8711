"""Storage backends: where entries and the tables of runs are stored.

* `base`: the protocols `Store` and `Database`, `Entry` and `Batch`.
* `memory`, `json_file` and `sqlite`: the backends. `memory_database` has the tables of runs in memory.
* `database_file` and `schema`: opening and migrating the SQLite file, and its tables.
* `blobs`: files for large values.
* `atomic_files` and `syscalls`: files that are replaced atomically and locked, and the system calls for that.
* `ownership` and `trust`: which process owns a run, and which users could have written a file.
"""
