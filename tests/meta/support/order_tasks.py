"""Tasks of a pipeline with an order edge; worker processes import them from here."""

from __future__ import annotations

from durable_tasks import step


def create_table(folder):
    return step(folder, "create_table", None)


def extract(folder):
    return step(folder, "extract", 7)


def load(extract, folder, table="orders"):
    return step(folder, "load", f"{extract} rows in {table}")


def load_by_name(extract, folder, create_table="orders"):
    return step(folder, "load", f"{extract} rows in {create_table}")


def report(load, folder):
    return step(folder, "report", f"report: {load}")
