"""The runs of a study are found without reading all runs."""

from __future__ import annotations

from sqlalchemy import Connection, update

from hanse.store.schema import runs


def upgrade(connection: Connection) -> None:
    """Adds the study of a run, as its settings have it, and an index."""
    connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN study VARCHAR(64)")
    connection.execute(update(runs).values(study=runs.c.config["study"].as_string()))
    connection.exec_driver_sql("CREATE INDEX ix_runs_study ON runs (study)")
