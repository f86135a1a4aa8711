"""Source text of modules that tests execute."""

from __future__ import annotations

ETL = """
@task
def extract():
    return [3, 1, 2]

@task
def transform(rows):
    return sorted(rows)

@task
def load(rows):
    return f"{len(rows)} rows"
"""
ETL_RESULTS = {"extract": [3, 1, 2], "transform": [1, 2, 3], "load": "3 rows"}
