"""A node's next certificate counts beside the one that it has, until it is shown for the first time."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Adds the certificate that was issued and not yet shown."""
    connection.exec_driver_sql("ALTER TABLE nodes ADD COLUMN next_serial VARCHAR(80)")
    connection.exec_driver_sql("ALTER TABLE nodes ADD COLUMN next_fingerprint VARCHAR(128)")
