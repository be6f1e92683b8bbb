"""Accounts of people and programs: who may use the coordinator, in which role."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import RowMapping, bindparam, delete, insert, select, update

from hanse.errors import ConfigError, Conflict, NotFound
from hanse.messages import Json
from hanse.store import tokens
from hanse.store.database import Database, Transaction, iso, name, now, words
from hanse.store.events import Events
from hanse.store.schema import accounts, identities, owners

# Every request asks these, so they are made once.
_BY_DIGEST = select(accounts).where(accounts.c.token_digest == bindparam("digest"))
_LINKED = select(owners.c.node).where(owners.c.account == bindparam("account_id")).order_by(owners.c.node)


class Role(StrEnum):
    """What an account may do; :mod:`hanse.coordinator.access` says which routes."""

    OPERATOR = "operator"
    DATA_OWNER = "data_owner"
    DATA_SCIENTIST = "data_scientist"


@dataclass(frozen=True, slots=True)
class UserAccount:
    """``nodes`` are those that a data owner decides for."""

    id: str
    name: str
    role: Role
    created: float
    disabled: bool
    nodes: tuple[str, ...] = ()

    def public(self) -> dict[str, Json]:
        """As REST shows it; the token is in nothing but the answer that made it."""
        return {
            "id": self.id,
            "name": self.name,
            "role": str(self.role),
            "created": iso(self.created),
            "disabled": self.disabled,
            "nodes": list(self.nodes),
        }


class Accounts:
    """Makes, authenticates, lists and disables accounts."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database, self._events = database, events

    def create_account(
        self, account_name: str, role: str, nodes: Sequence[str] = (), *, actor: str = "system"
    ) -> tuple[UserAccount, str]:
        """A new account and its token, which is shown only now. Raises ``Conflict`` if the name is
        taken or a node has another owner."""
        known = _role(role)
        shown = words(account_name, 200).strip()
        if not shown:
            raise ConfigError("an account needs a name")
        token, values = tokens.make(), {"id": "acc-" + secrets.token_hex(6), "name": shown, "created": now()}
        with self._database.write() as tx:
            if tx.execute(select(accounts.c.id).where(accounts.c.name == shown)).first():
                raise Conflict(f"there is an account {shown!r} already; choose another name")
            tx.execute(insert(accounts).values(role=str(known), token_digest=tokens.digest(token), **values))
            for node in nodes:
                self._link(tx, str(values["id"]), known, node)
            detail = {"account": values["id"], "name": shown, "role": str(known)}
            self._events.record(tx, "account.created", actor=actor, detail=detail)
            account = self._get(tx.connection, str(values["id"]))
        return account, token

    def rotate_token(self, account_id: str, *, actor: str = "system") -> str:
        """A new token; the old one is worth nothing from now on."""
        token = tokens.make()
        with self._database.write() as tx:
            self._get(tx.connection, account_id)
            tx.execute(update(accounts).where(accounts.c.id == account_id).values(token_digest=tokens.digest(token)))
            self._events.record(tx, "account.token", actor=actor, detail={"account": account_id})
        return token

    def of_person(self, issuer: str, subject: str, shown: str, role: str) -> UserAccount:
        """The account of a person at an OpenID provider, made at the first login; its role is the one that is given,
        from now on. It has no token that anybody knows. Its name says whose word it is, so it is never that of an
        account that was made here."""
        known, host = _role(role), urlsplit(issuer).netloc
        with self._database.write() as tx:
            query = select(identities.c.account).where(
                identities.c.issuer == words(issuer, 2000), identities.c.subject == words(subject, 255)
            )
            found = tx.execute(query).scalar()
            if found is None:
                called, number = words(f"{shown} ({host})", 190).strip(), 1
                while tx.execute(select(accounts.c.id).where(accounts.c.name == called)).first():
                    number += 1
                    called = f"{words(f'{shown} ({host})', 190).strip()} {number}"
                found = "acc-" + secrets.token_hex(6)
                values = {"id": found, "name": called, "role": str(known), "created": now()}
                tx.execute(insert(accounts).values(token_digest=tokens.digest(tokens.make()), **values))
                tx.execute(insert(identities).values(issuer=issuer, subject=subject, account=found))
                detail: dict[str, Json] = {"account": found, "name": called, "role": str(known), "issuer": issuer}
                self._events.record(tx, "account.created", actor=called, detail=detail)
            account = self._get(tx.connection, found)
            if account.role != known:
                tx.execute(update(accounts).where(accounts.c.id == found).values(role=str(known)))
                tx.execute(delete(owners).where(owners.c.account == found))  # only a data owner decides for nodes
                changed: dict[str, Json] = {"account": found, "from": str(account.role), "to": str(known)}
                self._events.record(tx, "account.role", actor=account.name, detail=changed)
                account = self._get(tx.connection, found)
        return account

    def authenticate(self, token: str) -> UserAccount | None:
        """Whose token this is; None for a wrong one, and for a disabled account."""
        if not tokens.is_token(token):
            return None
        digest = tokens.digest(token)
        with self._database.read() as connection:
            row = connection.execute(_BY_DIGEST, {"digest": digest}).mappings().first()
            if row is None or not tokens.same(row["token_digest"], digest) or row["disabled_at"] is not None:
                return None
            return self._account(connection, row)

    def get(self, account_id: str) -> UserAccount:
        """Raises ``NotFound``."""
        with self._database.read() as connection:
            return self._get(connection, account_id)

    def find(self, account_name: str) -> UserAccount | None:
        """By name."""
        with self._database.read() as connection:
            query = select(accounts).where(accounts.c.name == words(account_name, 200).strip())
            row = connection.execute(query).mappings().first()
            return None if row is None else self._account(connection, row)

    def role(self, account_name: str) -> str:
        """Of the account of this name; "" where there is none that still opens anything."""
        found = self.find(account_name)
        return "" if found is None or found.disabled else str(found.role)

    def list(self, role: str | None = None) -> Sequence[UserAccount]:
        """All, or those of a role, oldest first."""
        query = select(accounts).order_by(accounts.c.created, accounts.c.id)
        if role is not None:
            query = query.where(accounts.c.role == str(_role(role)))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
            return [self._account(connection, row) for row in rows]

    def disable(self, account_id: str, *, actor: str = "system") -> UserAccount:
        """From now on its token opens nothing. Disabling twice is fine."""
        with self._database.write() as tx:
            if not self._get(tx.connection, account_id).disabled:
                tx.execute(update(accounts).where(accounts.c.id == account_id).values(disabled_at=now()))
                self._events.record(tx, "account.disabled", actor=actor, detail={"account": account_id})
            return self._get(tx.connection, account_id)

    def link(self, account_id: str, node_id: str, *, actor: str = "system") -> UserAccount:
        """Makes a data owner decide for a node, which may enrol later."""
        with self._database.write() as tx:
            account = self._get(tx.connection, account_id)
            self._link(tx, account_id, account.role, node_id)
            self._events.record(tx, "account.linked", node=node_id, actor=actor, detail={"account": account_id})
            return self._get(tx.connection, account_id)

    def unlink(self, account_id: str, node_id: str, *, actor: str = "system") -> UserAccount:
        """The account no longer decides for the node; nothing happens where it never did."""
        with self._database.write() as tx:
            self._get(tx.connection, account_id)
            gone = tx.execute(delete(owners).where(owners.c.node == words(node_id), owners.c.account == account_id))
            if gone.rowcount:
                self._events.record(tx, "account.unlinked", node=node_id, actor=actor, detail={"account": account_id})
            return self._get(tx.connection, account_id)

    def _link(self, tx: Transaction, account_id: str, role: Role, node_id: str) -> None:
        if role is not Role.DATA_OWNER:
            raise ConfigError(f"only a data_owner decides for nodes; this account is {role}")
        claim(tx, account_id, name(node_id, "node"))

    def _get(self, connection: Any, account_id: str) -> UserAccount:
        row = connection.execute(select(accounts).where(accounts.c.id == words(account_id, 64))).mappings().first()
        if row is None:
            raise NotFound(f"there is no account {account_id!r}")
        return self._account(connection, row)

    def _account(self, connection: Any, row: RowMapping) -> UserAccount:
        linked: tuple[str, ...] = ()
        if row["role"] == Role.DATA_OWNER:
            linked = tuple(connection.execute(_LINKED, {"account_id": row["id"]}).scalars())
        return UserAccount(
            row["id"], row["name"], Role(row["role"]), row["created"], row["disabled_at"] is not None, linked
        )


def claim(tx: Transaction, account_id: str, node_id: str) -> None:
    """Makes the account the owner of the node. Raises ``Conflict`` if it has another one."""
    owner = tx.execute(select(owners.c.account).where(owners.c.node == node_id)).scalar()
    if owner is None:
        tx.execute(insert(owners).values(node=node_id, account=account_id))
    elif owner != account_id:
        raise Conflict(f"node {node_id} has another owner; unlink that one first")


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise ConfigError(f"there is no role {role!r}; known are {', '.join(Role)}") from None
