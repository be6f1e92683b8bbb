"""People who log in by an OpenID provider have accounts."""

from __future__ import annotations

from sqlalchemy import Connection

from hanse.store.schema import identities


def upgrade(connection: Connection) -> None:
    """Adds who an account is at a provider; accounts of before are nobody there."""
    identities.create(connection)
