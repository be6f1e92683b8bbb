"""Studies (:mod:`hanse.store.studies`)."""

from __future__ import annotations

from sqlalchemy import Connection, Double

from hanse.store.schema import study_nodes, study_people


def upgrade(connection: Connection) -> None:
    """Adds them, as they were in this version; nobody was in any."""
    time = Double().compile(connection.dialect)
    connection.exec_driver_sql(
        f"CREATE TABLE studies (name VARCHAR(64) NOT NULL, purpose TEXT NOT NULL, created {time} NOT NULL, "
        f"closed {time}, PRIMARY KEY (name))"
    )
    for table in (study_people, study_nodes):
        table.create(connection)
