"""Tables of a state database, as the migrations that create them; texts as SQLite can store them."""

from __future__ import annotations

APPLICATION_ID = 0x666C6F77  # "flow": distinguishes the database from those of other programs

# Never change a migration: files of every version exist. `entries.beside` and `tasks.beside` are names of blob files,
# `tasks.place` is the index of the task in topological order.
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
)
VERSION = len(MIGRATIONS)


def to_sql(text: str) -> str | bytes:
    """Return a text as SQLite can store it: as bytes if it has lone surrogates, which UTF-8 does not support."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sql(text: str | bytes) -> str:
    """Undo `to_sql`."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")
