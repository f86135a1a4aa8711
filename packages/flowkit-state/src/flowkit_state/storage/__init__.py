"""Storage backends: where entries and the tables of runs are stored.

* `base`: the protocols `Store` and `Database`, `Entry` and `Batch`.
* `memory`, `json_file` and `sqlite`: the backends. `memory_database` has the tables of runs in memory.
* `database_file` and `schema`: opening and migrating the SQLite file, and its tables. `schema_check` and `row_check`:
  checks of the tables of a file, and of their contents.
* `blobs`: files for large values.
* `limits`: how large a store may become. `totals`: the removal of the oldest entries of a database.
* `atomic_files` and `syscalls`: files that are replaced atomically and locked, and the system calls for that.
* `ownership` and `trust`: which process owns a run, and which users could have written a file.
* `processes`: the state of other processes.
"""
