"""Storage backends: memory, a JSON file, and a SQLite database with blob files."""
