"""Join tokens: each lets one node in, once, until it expires."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, Select, insert, or_, select, update

from hanse.errors import ConfigError, Conflict, NotAuthenticated, NotFound
from hanse.messages import Json
from hanse.store import tokens
from hanse.store.database import Database, Transaction, iso, name, now, words
from hanse.store.events import Events
from hanse.store.schema import accounts, join_tokens

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """``node`` None lets any id in; ``owner`` becomes the owner of the node that joins."""

    id: str
    node: str | None
    owner: str | None
    created: float
    created_by: str
    expires: float
    used_at: float | None
    used_by: str | None

    def public(self) -> dict[str, Json]:
        """As REST shows it: never the secret."""
        return {
            "id": self.id,
            "node": self.node,
            "owner": self.owner,
            "created": iso(self.created),
            "created_by": self.created_by,
            "expires": iso(self.expires),
            "used_at": iso(self.used_at),
            "used_by": self.used_by,
        }


class JoinTokens:
    """One-time tokens by which nodes join; of the secret only a digest is stored."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database, self._events = database, events

    def create(
        self,
        created_by: str,
        node_id: str | None = None,
        *,
        owner: str | None = None,
        lifetime_s: float = DAY_S,
    ) -> tuple[IssuedToken, str]:
        """A token and its secret, which is shown only now."""
        if not 0 < lifetime_s <= 366 * DAY_S:
            raise ConfigError(f"a join token cannot live {lifetime_s} s; expected more than 0, at most a year")
        if node_id is not None:
            name(node_id, "node")
        secret, created = tokens.make(), now()
        token = IssuedToken(
            "join-" + secrets.token_hex(6),
            node_id,
            owner,
            created,
            words(created_by, 200),
            created + lifetime_s,
            None,
            None,
        )
        with self._database.write() as tx:
            if owner is not None:
                role = tx.execute(select(accounts.c.role).where(accounts.c.id == words(owner))).scalar()
                if role != "data_owner":
                    raise ConfigError(f"{owner!r} is not the id of a data_owner's account")
            tx.execute(
                insert(join_tokens).values(
                    id=token.id,
                    digest=tokens.digest(secret),
                    node=node_id,
                    owner=owner,
                    created=created,
                    created_by=token.created_by,
                    expires=token.expires,
                    used_at=None,
                    used_by=None,
                )
            )
            self._events.record(tx, "join_token.created", node=node_id, actor=created_by, detail={"id": token.id})
        return token, secret

    def consume(self, secret: str, node_id: str) -> IssuedToken:
        """Uses the token up for this node; of any number at the same time, one succeeds. Raises
        ``NotAuthenticated``."""
        with self._database.write() as tx:
            return self.consume_in(tx, secret, name(node_id, "node"))

    def consume_in(self, tx: Transaction, secret: str, node_id: str) -> IssuedToken:
        """As ``consume``, as part of a larger transaction."""
        row = None
        if tokens.is_token(secret):
            row = tx.execute(_query().where(join_tokens.c.digest == tokens.digest(secret))).mappings().first()
        if row is None:
            raise NotAuthenticated("this join token is not known here; ask the operator for a new one")
        at = now()
        taken = tx.execute(
            update(join_tokens)
            .where(
                join_tokens.c.id == row["id"],
                join_tokens.c.used_at.is_(None),
                join_tokens.c.expires > at,
                or_(join_tokens.c.node.is_(None), join_tokens.c.node == node_id),
            )
            .values(used_at=at, used_by=node_id)
        )
        if not taken.rowcount:
            why = (
                "has been used"
                if row["used_at"] is not None
                else "has expired"
                if row["expires"] <= at
                else "is for another node"
            )
            raise NotAuthenticated(f"this join token {why}; ask the operator for a new one")
        return _token({**row, "used_at": at, "used_by": node_id})

    def is_open(self, secret: str) -> bool:
        """Whether this is the secret of a token that was neither used nor has expired."""
        if not tokens.is_token(secret):
            return False
        query = _query().where(
            join_tokens.c.digest == tokens.digest(secret),
            join_tokens.c.used_at.is_(None),
            join_tokens.c.expires > now(),
        )
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def revoke(self, token_id: str, *, actor: str) -> IssuedToken:
        """Makes an unused token worthless. Raises ``Conflict`` if it has been used."""
        with self._database.write() as tx:
            row = tx.execute(_query().where(join_tokens.c.id == words(token_id))).mappings().first()
            if row is None:
                raise NotFound(f"there is no join token {token_id!r}")
            if row["used_at"] is not None:
                raise Conflict(f"join token {token_id} has been used by {row['used_by']}; revoke that node instead")
            expires = min(row["expires"], now())
            tx.execute(update(join_tokens).where(join_tokens.c.id == row["id"]).values(expires=expires))
            self._events.record(tx, "join_token.revoked", node=row["node"], actor=actor, detail={"id": row["id"]})
            return _token({**row, "expires": expires})

    def list(self) -> Sequence[IssuedToken]:
        """All, used and withdrawn ones too, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(_query().order_by(join_tokens.c.created, join_tokens.c.id)).mappings()
            return [_token(row) for row in rows]


def _query() -> Select[Any]:
    return select(*(column for column in join_tokens.c if column.name != "digest"))


def _token(row: RowMapping | dict[str, Json]) -> IssuedToken:
    return IssuedToken(**row)
