"""Studies (:mod:`hanse.store.studies`)."""

from __future__ import annotations

from sqlalchemy import Connection

from hanse.store.schema import studies, study_nodes, study_people


def upgrade(connection: Connection) -> None:
    """Adds them; nobody was in any."""
    for table in (studies, study_people, study_nodes):
        table.create(connection)
