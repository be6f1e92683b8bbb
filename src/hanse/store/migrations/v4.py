"""A consent is kept with what proves it: the node's signature (:mod:`hanse.decisions`)."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Adds the proof; consents of before have none."""
    connection.exec_driver_sql("ALTER TABLE consents ADD COLUMN proof JSON")
