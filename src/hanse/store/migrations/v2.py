"""The database says which release wrote its schema, and when a paused run goes on by itself."""

from __future__ import annotations

from sqlalchemy import Connection, Double


def upgrade(connection: Connection) -> None:
    """Adds which release wrote the database, and when a paused run is tried again."""
    time = Double().compile(connection.dialect)
    connection.exec_driver_sql("ALTER TABLE schema_version ADD COLUMN release VARCHAR(40)")
    connection.exec_driver_sql(f"ALTER TABLE runs ADD COLUMN retry_at {time}")
