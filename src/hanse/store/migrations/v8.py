"""Studies have an end, and a bound of what their runs may tell (:mod:`hanse.store.studies`)."""

from __future__ import annotations

from sqlalchemy import Connection, Double


def upgrade(connection: Connection) -> None:
    """Adds them; those that there are have neither."""
    number = Double().compile(connection.dialect)
    for column in ("ends", "most_epsilon", "most_delta"):
        connection.exec_driver_sql(f"ALTER TABLE studies ADD COLUMN {column} {number}")
