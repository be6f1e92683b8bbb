"""Code that runs have in common is kept once (:mod:`hanse.store.bundles`)."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from hanse.store import bundles
from hanse.store.schema import codes, runs


def upgrade(connection: Connection) -> None:
    """Takes the code out of the bundles of all runs."""
    codes.create(connection)
    connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN code VARCHAR(64)")
    for (run,) in connection.execute(select(runs.c.id)).all():
        bundle = connection.execute(select(runs.c.bundle).where(runs.c.id == run)).scalar_one()
        connection.execute(update(runs).where(runs.c.id == run).values(bundles.put(connection, bundle)))
