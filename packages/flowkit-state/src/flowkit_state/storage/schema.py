"""Tables of a state database, as the migrations that create them; texts as SQLite can store them."""

from __future__ import annotations

APPLICATION_ID = 0x666C6F77  # "flow": distinguishes the database from those of other programs

# Never change a migration: files of every version exist. `beside` is the name of a blob file in all tables, `place` the
# index of a task in the topological order of the execution that recorded it.
MIGRATIONS = (
    (  # to version 1: the entries of a StateManager
        """CREATE TABLE IF NOT EXISTS entries (
            key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL, metadata TEXT)""",
        "CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    (  # to version 2: runs, and blob files for large values
        "ALTER TABLE entries ADD COLUMN beside TEXT",
        "CREATE TABLE plans (key TEXT PRIMARY KEY NOT NULL, content TEXT NOT NULL)",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline TEXT NOT NULL,
            plan TEXT NOT NULL REFERENCES plans (key), params TEXT NOT NULL, status TEXT NOT NULL,
            started REAL NOT NULL, ended REAL, seconds REAL, resumes INTEGER NOT NULL DEFAULT 0, error TEXT,
            owner TEXT)""",
        "CREATE INDEX runs_by_pipeline ON runs (pipeline, id)",
        """CREATE TABLE tasks (
            run INTEGER NOT NULL REFERENCES runs (id), place INTEGER NOT NULL, name TEXT NOT NULL,
            state TEXT NOT NULL, attempts INTEGER NOT NULL, ended REAL NOT NULL, seconds REAL NOT NULL, value BLOB,
            beside TEXT, reason TEXT, error TEXT, source TEXT NOT NULL, why TEXT,
            PRIMARY KEY (run, place)) WITHOUT ROWID""",
        "CREATE TABLE pins (name TEXT NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (name, token))",
    ),
    (  # to version 3: a digest of the parameters of each run, NULL until `add_identities` computes it for older runs
        "ALTER TABLE runs ADD COLUMN identity TEXT",
        "CREATE INDEX runs_by_identity ON runs (pipeline, identity, id)",
        # the key for digests of environment variables, which could be guessed from plain digests
        "CREATE TABLE settings (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)",
        "INSERT INTO settings VALUES ('digest key', randomblob(32))",
    ),
    (  # to version 4: a history to which rows are added only
        # `outcome` is NULL until the execution ends
        """CREATE TABLE executions (
            run INTEGER NOT NULL REFERENCES runs (id), number INTEGER NOT NULL, plan TEXT NOT NULL,
            started REAL NOT NULL, ended REAL, process INTEGER, host TEXT, outcome TEXT, error TEXT,
            PRIMARY KEY (run, number)) WITHOUT ROWID""",
        # The last row of a task has its state. `element` is the index of an element of a mapped task, or -1 for the
        # task itself. `seconds` is NULL if the function was not called; `process` and `host` are NULL if they are
        # those of the execution.
        """CREATE TABLE attempts (
            run INTEGER NOT NULL REFERENCES runs (id), element INTEGER NOT NULL, execution INTEGER NOT NULL,
            place INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, label TEXT, state TEXT NOT NULL,
            ready REAL, ended REAL NOT NULL, seconds REAL, worker TEXT, process INTEGER, host TEXT, value BLOB,
            beside TEXT, reason TEXT, error TEXT, source TEXT NOT NULL, why TEXT,
            PRIMARY KEY (run, element, execution, place, number)) WITHOUT ROWID""",
        """INSERT INTO executions (run, number, plan, started, ended, outcome, error)
            SELECT id, resumes + 1, plan, started, ended, CASE WHEN status != 'running' THEN status END, error
            FROM runs""",
        """INSERT INTO attempts (run, element, execution, place, number, name, state, ended, seconds, value, beside,
            reason, error, source, why)
            SELECT run, -1, resumes + 1, place, max(attempts, 1), name, state, tasks.ended,
            CASE WHEN attempts > 0 THEN tasks.seconds END, value, beside, reason, tasks.error, source, why
            FROM tasks JOIN runs ON runs.id = tasks.run""",
        "DROP TABLE tasks",
        # values of parameters; `runs.params` has their digests and texts
        """CREATE TABLE params (
            run INTEGER NOT NULL REFERENCES runs (id), name TEXT NOT NULL, value BLOB NOT NULL, beside TEXT,
            PRIMARY KEY (run, name)) WITHOUT ROWID""",
        # what tasks remember over attempts and executions
        """CREATE TABLE notes (
            run INTEGER NOT NULL REFERENCES runs (id), task TEXT NOT NULL, element INTEGER NOT NULL, key TEXT NOT NULL,
            value BLOB NOT NULL, beside TEXT, PRIMARY KEY (run, task, element, key)) WITHOUT ROWID""",
        # the run that a linked run was started from, and the names of the tasks that it starts at, as JSON
        "ALTER TABLE runs ADD COLUMN parent TEXT",
        "ALTER TABLE runs ADD COLUMN rerun TEXT",
    ),
    (  # to version 5: how an execution was started, the CPU time of its process, and what a run logs
        "ALTER TABLE executions ADD COLUMN executor TEXT",
        "ALTER TABLE executions ADD COLUMN target TEXT",
        "ALTER TABLE executions ADD COLUMN folder TEXT",
        "ALTER TABLE executions ADD COLUMN python TEXT",
        "ALTER TABLE executions ADD COLUMN cpu REAL",
        # `number` counts the lines of a run, over all its executions; `task` is NULL for a line about the run
        """CREATE TABLE logs (
            run INTEGER NOT NULL REFERENCES runs (id), number INTEGER NOT NULL, execution INTEGER NOT NULL,
            time REAL NOT NULL, level TEXT NOT NULL, levelno INTEGER NOT NULL, logger TEXT NOT NULL, task TEXT,
            element INTEGER, attempt INTEGER, message TEXT NOT NULL, PRIMARY KEY (run, number)) WITHOUT ROWID""",
    ),
    (  # to version 6: the elements of mapped tasks
        # The executions of a run that map a task over the same input share a row. `code` is a digest of the code of the
        # task, `inputs` what identifies the input or NULL, `common` a digest of the arguments that are not mapped, and
        # `size` the number of elements, NULL until it is known.
        """CREATE TABLE maps (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL REFERENCES runs (id), name TEXT NOT NULL,
            execution INTEGER NOT NULL, code TEXT NOT NULL, inputs TEXT, common BLOB, size INTEGER)""",
        "CREATE INDEX maps_by_run ON maps (run, name)",
        # The last row of an element has its state. `origin` is the map that has its value, if that is another one.
        """CREATE TABLE elements (
            map INTEGER NOT NULL REFERENCES maps (id), element INTEGER NOT NULL, execution INTEGER NOT NULL,
            state TEXT NOT NULL, ended REAL NOT NULL, seconds REAL, attempts INTEGER NOT NULL, label TEXT, reason TEXT,
            error TEXT, fingerprint BLOB, origin INTEGER, beside TEXT, value BLOB,
            PRIMARY KEY (map, element, execution)) WITHOUT ROWID""",
        "CREATE INDEX elements_by_file ON elements (beside) WHERE beside IS NOT NULL",
    ),
)
VERSION = len(MIGRATIONS)


def to_sql(text: str) -> str | bytes:
    """Return a text as SQLite can store it: as bytes if it has lone surrogates, which UTF-8 does not support."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sql(text: str | bytes) -> str:
    """Undo `to_sql`."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")
