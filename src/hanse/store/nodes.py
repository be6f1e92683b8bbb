"""The registry of nodes: who they are, what they say about their data, when they were last heard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, bindparam, insert, or_, select, update

from hanse.errors import ConfigError, Conflict, NotFound
from hanse.messages import Json
from hanse.store.accounts import claim
from hanse.store.database import Database, Transaction, iso, name, now, words
from hanse.store.events import Events
from hanse.store.join_tokens import JoinTokens
from hanse.store.schema import nodes, owners

ENROLLED, REVOKED = "enrolled", "revoked"
_HEARD = update(nodes).where(nodes.c.id == bindparam("node")).values(last_heartbeat=bindparam("at"))


@dataclass(frozen=True, slots=True)
class CertificateOnFile:
    """What the registry keeps of a node's certificate: serial number and SHA-256, as text."""

    serial: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Node:
    """``summary`` is the body that it registered with, ``datasets`` are public descriptions,
    ``owner`` is the id of an account."""

    id: str
    status: str
    owner: str | None
    serial: str
    fingerprint: str
    registered_at: float
    last_heartbeat: float | None
    address: str
    capabilities: Mapping[str, Json]
    summary: Mapping[str, Json]
    datasets: Sequence[Mapping[str, Json]]
    consent_mode: str
    updated: float
    next_serial: str | None = None
    next_fingerprint: str | None = None

    @property
    def release(self) -> str:
        """The release of Hanse that it said it runs; "" where it has not."""
        return str(self.capabilities.get("hanse", ""))

    @property
    def country(self) -> str:
        """Where it says that it is, by ISO 3166-1; "" where it has not said."""
        return str(self.capabilities.get("country", ""))

    def public(self) -> dict[str, Json]:
        """As REST shows it, times in ISO 8601."""
        return {
            "id": self.id,
            "status": self.status,
            "owner": self.owner,
            "serial": self.serial,
            "fingerprint": self.fingerprint,
            "registered_at": iso(self.registered_at),
            "last_heartbeat": iso(self.last_heartbeat),
            "address": self.address,
            "capabilities": dict(self.capabilities),
            "summary": dict(self.summary),
            "datasets": [dict(d) for d in self.datasets],
            "consent_mode": self.consent_mode,
            "updated": iso(self.updated),
        }


class Nodes:
    """Enrols, describes, finds and revokes nodes. ``join_tokens`` are how they get in."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database, self._events = database, events
        self.join_tokens = JoinTokens(database, events)

    def enrol(
        self,
        secret: str,
        node_id: str,
        issue: Callable[[], CertificateOnFile],
        *,
        address: str = "",
        capabilities: Mapping[str, Json] | None = None,
    ) -> Node:
        """Uses up a join token, calls ``issue`` for the certificate and registers the node: all of
        it or nothing. Raises ``NotAuthenticated`` for a token that does not fit, ``Conflict`` if
        the id is taken."""
        with self._database.write() as tx:
            token = self.join_tokens.consume_in(tx, secret, name(node_id, "node"))
            node = self._register(
                tx, node_id, issue(), address=address, capabilities=capabilities or {}, actor=f"token {token.id}"
            )
            if token.owner is not None:
                claim(tx, token.owner, node_id)
                node = self._get(tx.connection, node_id)
        return node

    def register(
        self,
        node_id: str,
        certificate: CertificateOnFile,
        *,
        address: str = "",
        capabilities: Mapping[str, Json] | None = None,
        actor: str = "system",
    ) -> Node:
        """Registers a node without a token (by an operator). With the same certificate again it
        changes nothing; with another one it raises ``Conflict``."""
        with self._database.write() as tx:
            return self._register(
                tx, name(node_id, "node"), certificate, address=address, capabilities=capabilities or {}, actor=actor
            )

    def renew(self, node_id: str, certificate: CertificateOnFile, *, actor: str = "system") -> Node:
        """A new certificate for an enrolled node; the old one no longer counts."""
        with self._database.write() as tx:
            if self._get(tx.connection, node_id).status == REVOKED:
                raise Conflict(f"node {node_id} is revoked; reinstate it first")
            self._unused(tx, node_id, certificate)
            self._set(tx, node_id, **_current(certificate))
            self._events.record(tx, "node.renewed", node=node_id, actor=actor, detail={"serial": certificate.serial})
            return self._get(tx.connection, node_id)

    def promise(self, node_id: str, certificate: CertificateOnFile, *, actor: str) -> None:
        """A next certificate, which counts beside the one that the node has. From when it is shown for the first time
        (:meth:`authenticate`) the older one no longer counts; a node that never got it goes on with the older one."""
        with self._database.write() as tx:
            if self._get(tx.connection, node_id).status == REVOKED:
                raise Conflict(f"node {node_id} is revoked; reinstate it first")
            self._unused(tx, node_id, certificate)
            self._set(tx, node_id, next_serial=certificate.serial, next_fingerprint=certificate.fingerprint)
            detail: dict[str, Json] = {"serial": certificate.serial}
            self._events.record(tx, "node.certificate_issued", node=node_id, actor=actor, detail=detail)

    def describe(
        self,
        node_id: str,
        *,
        summary: Mapping[str, Json] | None = None,
        datasets: Sequence[Mapping[str, Json]] | None = None,
        capabilities: Mapping[str, Json] | None = None,
        consent_mode: str | None = None,
        address: str | None = None,
    ) -> Node:
        """Replaces what the node says about itself; what is None stays. Counts as a heartbeat."""
        values: dict[str, Any] = {"last_heartbeat": now()}
        if summary is not None:
            values["summary"] = dict(summary)
        if datasets is not None:
            values["datasets"] = [dict(d) for d in datasets]
        if capabilities is not None:
            values["capabilities"] = dict(capabilities)
        if consent_mode is not None:
            values["consent_mode"] = words(consent_mode, 20)
        if address is not None:
            values["address"] = words(address)
        with self._database.write() as tx:
            self._set(tx, node_id, **values)
            self._events.record(
                tx,
                "node.described",
                node=node_id,
                actor=node_id,
                detail={"changed": sorted(set(values) - {"last_heartbeat"})},
            )
            return self._get(tx.connection, node_id)

    def heartbeat(self, node_id: str, at: float | None = None) -> float:
        """Notes that the node was heard (default: now); returns the time."""
        heard = now() if at is None else at
        with self._database.write() as tx:
            found = tx.execute(update(nodes).where(nodes.c.id == words(node_id)).values(last_heartbeat=heard))
            if not found.rowcount:
                raise NotFound(f"there is no node {node_id!r}; it must enrol first")
        return heard

    def heartbeats(self, heard: Mapping[str, float]) -> None:
        """Notes when each of these nodes was heard, in one commit; one that is not known is passed over."""
        if not heard:
            return
        with self._database.write() as tx:
            tx.connection.execute(_HEARD, [{"node": id, "at": at} for id, at in heard.items()])

    def revoke(self, node_id: str, *, actor: str, reason: str = "") -> Node:
        """Shuts the node out: its certificate no longer counts. Twice is fine."""
        return self._status(node_id, REVOKED, "node.revoked", actor, reason)

    def reinstate(self, node_id: str, *, actor: str, reason: str = "") -> Node:
        """A revoked node may take part again. Raises ``NotFound``."""
        return self._status(node_id, ENROLLED, "node.reinstated", actor, reason)

    def get(self, node_id: str) -> Node:
        """Raises ``NotFound``."""
        with self._database.read() as connection:
            return self._get(connection, node_id)

    def authenticate(self, fingerprint: str) -> Node | None:
        """The enrolled node with this certificate; None if there is none or it is revoked. A next certificate
        (:meth:`promise`) takes the place of the older one here."""
        shown = words(fingerprint)
        with self._database.read() as connection:
            row = connection.execute(_WITH_CERTIFICATE, {"shown": shown}).mappings().first()
            if row is None:  # asked for at once, no index would help, and all nodes be looked at for each that connects
                row = connection.execute(_query().where(nodes.c.next_fingerprint == shown)).mappings().first()
        if row is None or row["status"] != ENROLLED:
            return None
        return _node(row) if row["fingerprint"] == shown else self._take_up(row["id"], shown)

    def _take_up(self, node_id: str, shown: str) -> Node | None:
        with self._database.write() as tx:
            node = self._get(tx.connection, node_id)
            if node.status != ENROLLED:
                return None
            if node.next_fingerprint == shown and node.next_serial is not None:
                self._set(tx, node_id, **_current(CertificateOnFile(node.next_serial, shown)))
                detail: dict[str, Json] = {"serial": node.next_serial}
                self._events.record(tx, "node.renewed", node=node_id, actor=node_id, detail=detail)
                node = self._get(tx.connection, node_id)
            return node if node.fingerprint == shown else None

    def list(self, status: str | None = None) -> Sequence[Node]:
        """All, or those of a status, by id."""
        query = _query().order_by(nodes.c.id)
        if status is not None:
            query = query.where(nodes.c.status == words(status))
        with self._database.read() as connection:
            return [_node(row) for row in connection.execute(query).mappings()]

    def _register(
        self,
        tx: Transaction,
        node_id: str,
        certificate: CertificateOnFile,
        *,
        address: str,
        capabilities: Mapping[str, Json],
        actor: str,
    ) -> Node:
        row = tx.execute(_query().where(nodes.c.id == node_id)).mappings().first()
        if row is not None:
            if row["fingerprint"] != certificate.fingerprint:
                raise Conflict(f"node {node_id} is registered with another certificate; use renew, or another id")
            return _node(row)
        self._unused(tx, node_id, certificate)
        at = now()
        tx.execute(
            insert(nodes).values(
                id=node_id,
                status=ENROLLED,
                serial=certificate.serial,
                fingerprint=certificate.fingerprint,
                registered_at=at,
                last_heartbeat=None,
                address=words(address),
                capabilities=dict(capabilities),
                summary={},
                datasets=[],
                consent_mode="ask",
                updated=at,
            )
        )
        self._events.record(tx, "node.enrolled", node=node_id, actor=actor, detail={"serial": certificate.serial})
        return self._get(tx.connection, node_id)

    def _unused(self, tx: Transaction, node_id: str, certificate: CertificateOnFile) -> None:
        if not certificate.serial or not certificate.fingerprint:
            raise ConfigError("a certificate needs a serial number and a fingerprint")
        if any(holder != node_id for holder in holders(tx, certificate.fingerprint)):
            raise Conflict(f"this certificate belongs to another node; make a new key for {node_id}")

    def _status(self, node_id: str, status: str, kind: str, actor: str, reason: str) -> Node:
        with self._database.write() as tx:
            if self._get(tx.connection, node_id).status != status:
                self._set(tx, node_id, status=status)
                self._events.record(tx, kind, node=node_id, actor=actor, detail={"reason": words(reason)})
            return self._get(tx.connection, node_id)

    def _set(self, tx: Transaction, node_id: str, **values: Any) -> None:
        values["updated"] = now()
        if not tx.execute(update(nodes).where(nodes.c.id == words(node_id)).values(**values)).rowcount:
            raise NotFound(f"there is no node {node_id!r}; it must enrol first")

    def _get(self, connection: Any, node_id: str) -> Node:
        row = connection.execute(_OF_ID, {"node": words(node_id)}).mappings().first()
        if row is None:
            raise NotFound(f"there is no node {node_id!r}; it must enrol first")
        return _node(row)


def holders(tx: Transaction, fingerprint: str) -> Sequence[str]:
    """The ids of the nodes whose certificate, or next one, this is."""
    return [str(id) for (id,) in tx.execute(select(nodes.c.id).where(_certificate_is(fingerprint)))]


def _certificate_is(fingerprint: str) -> Any:
    return or_(nodes.c.fingerprint == fingerprint, nodes.c.next_fingerprint == fingerprint)


def _current(certificate: CertificateOnFile) -> dict[str, Any]:
    """The only certificate that counts from now on."""
    return {
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint,
        "next_serial": None,
        "next_fingerprint": None,
    }


def _query() -> Any:
    return select(nodes, owners.c.account.label("owner")).select_from(
        nodes.outerjoin(owners, owners.c.node == nodes.c.id)
    )


_OF_ID = _query().where(nodes.c.id == bindparam("node"))
_WITH_CERTIFICATE = _query().where(nodes.c.fingerprint == bindparam("shown"))


def _node(row: RowMapping) -> Node:
    return Node(**row)
