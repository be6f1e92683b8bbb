"""The coordinator as one object: store, transport, presence, runs, audit.

It answers what nodes send (:meth:`Coordinator.handle`), and lends its parts to the REST routes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import hanse
from hanse import countries, validity
from hanse.allocator import give_back
from hanse.coordinator import capabilities as machines
from hanse.coordinator import enrolment
from hanse.coordinator.chronicle import Chronicle
from hanse.coordinator.consent import Decided
from hanse.coordinator.enrolment import FailedAttempts
from hanse.coordinator.evidence import POLICIES
from hanse.coordinator.governance import Governance, OwnPolicies
from hanse.coordinator.life import RunLife
from hanse.coordinator.network_controller import NetworkController
from hanse.coordinator.preferred import Preferring
from hanse.coordinator.presence import Presence
from hanse.coordinator.settings import CoordinatorSettings
from hanse.coordinator.sight import Sight
from hanse.errors import HanseError, NotAllowed, NotAuthenticated, NotFound, StorageFailed, WireError
from hanse.identity import Authority
from hanse.messages import Json, Message, Record
from hanse.store import Store
from hanse.store.accounts import UserAccount
from hanse.store.consents import Consent
from hanse.store.faults import passing
from hanse.store.nodes import ENROLLED
from hanse.transport import Progress, Transport

_log = logging.getLogger(__name__)
_WRITE_EVERY_S = 30.0  # heartbeats are kept in memory; the database is told now and then
_MAX_DATASETS = 1000
_MAX_ROWS = 10**12
_REFUSALS_PER_MINUTE = 120  # of one node, in events and audit: a flood of nonsense must not fill the disk
_RENEWALS_PER_MINUTE = 3  # of one node; it asks once a day, in the last two months of a year
_LOGINS_PER_MINUTE = 120  # with a wrong token, from one address
_MAX_COLUMNS = 100_000  # what a greeting's length allows is fewer, unless their names are short


class Coordinator:
    """One federation.

    Args:
        store: everything that rests.
        transport: reaches the nodes; made with this object's ``handle``, ``accept`` and ``refused``,
            hence given by :meth:`attach`.
        authority: signs certificates of nodes; None: nobody can enrol (simulations).
    """

    def __init__(
        self, store: Store, settings: CoordinatorSettings | None = None, authority: Authority | None = None
    ) -> None:
        self.store, self.settings, self.authority = store, settings or CoordinatorSettings(), authority
        self.chronicle = Chronicle(store)
        written = self.settings.policy_file
        own = OwnPolicies(Path(written), store.folder / POLICIES) if written else None
        self.governance = Governance(self.settings.policy_engine or own, self.chronicle.note)
        self.attempts = FailedAttempts(self.settings.enrol_per_minute)
        self.logins = FailedAttempts(_LOGINS_PER_MINUTE)
        self.oidc = settings.oidc(store) if settings is not None else None
        self._refusals = FailedAttempts(_REFUSALS_PER_MINUTE)
        self._renewals = FailedAttempts(_RENEWALS_PER_MINUTE)
        self._plain: set[str] = set()  # nodes that connected without a certificate, on this machine (plaintext)
        self._certified: set[str] = set()  # and those that connected with one
        self.presence: Presence
        self.runs: RunLife
        self._preferring: Preferring | None = None
        self._heard: dict[str, float] = {}  # node to when it was last heard, since the database was last told
        self._telling: asyncio.Task[None] | None = None
        self.clocks: dict[str, str] = {}  # node to what is wrong with its clock

    def attach(self, transport: Transport) -> None:
        """The transport that the nodes are on. Before :meth:`start`."""

        def moved(node: str, on: bool) -> None:
            self.chronicle.note("node.online" if on else "node.offline", node=node, actor=node)

        def declined(node: str, asked: Message, error: HanseError) -> None:
            run = asked.body.data.get("run")
            detail: dict[str, Json] = {"code": error.code, "reason": error.message[:2000], "asked": asked.id[:300]}
            self.chronicle.note(f"{asked.kind}.refused", run if isinstance(run, str) else None, node, node, detail)

        self.presence = Presence(transport, self.settings.patience, moved, declined)
        self._preferring = self._preferred()
        joined = self.authority.pem if self.authority is not None else b""
        self.runs = RunLife(
            self.store,
            self.presence,
            self.chronicle,
            self.settings,
            self.governance,
            joined,
            self._certified.__contains__,
        )

    def _preferred(self) -> Preferring | None:
        """What has large transfers preferred, where there is a network controller."""
        if self.settings.network is None:
            return None

        def note(kind: str, detail: Mapping[str, Json]) -> None:
            self.chronicle.note(kind, actor="coordinator", detail=detail)

        return Preferring(NetworkController(self.settings.network), self.presence.ends, note)

    def moves(self, node: str) -> Callable[[], None]:
        """A large payload begins to move to or from the node; what is returned is called when it does no more."""
        return _nothing if self._preferring is None else self._preferring.moves(node)

    async def start(self) -> None:
        """Takes up what an earlier process left: open proposals, running runs, unaudited events; and
        removes what nobody needs of it."""
        await self.chronicle.start()
        days = self.settings.models_days
        kept_s = None if days is None else days * 86_400.0
        if (most := self.settings.audit_days) is not None:
            await asyncio.to_thread(self.store.audit.cut, most, "coordinator")
        await asyncio.to_thread(self.store.sweep, failed_s=self.settings.failed_days * 86_400.0, models_s=kept_s)
        self.presence.start()
        await self.runs.start()
        self._telling = asyncio.ensure_future(self._tell_database())

    async def stop(self) -> None:
        """Runs keep their state and go on after the next start."""
        self.chronicle.close_streams()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
            await self._write_heard()
        await self.runs.stop()
        if self._preferring is not None:
            await self._preferring.stop()
        await self.presence.stop()
        await self.chronicle.stop()

    async def _tell_database(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            await self._write_heard()
            if self.runs.idle():
                await asyncio.to_thread(give_back)  # what many nodes' answers took lies between what is used

    async def _write_heard(self) -> None:
        """Of all nodes in one commit: a thousand commits would cost more than all that they beat for."""
        heard, self._heard = self._heard, {}
        try:
            await asyncio.to_thread(self.store.nodes.heartbeats, heard)
        except Exception as error:
            self._heard = {**heard, **self._heard}
            if not passing(error):
                _log.exception("when nodes were heard could not be written")

    # ------------------------------------------------------------ the transport's questions

    async def accept(self, node: str, fingerprint: str) -> None:
        """Whether this node, with this certificate, may connect. Raises if not."""

        def check() -> None:
            if fingerprint:
                known = self.store.nodes.authenticate(fingerprint)
                if known is None or known.id != node:
                    raise NotAuthenticated(f"the certificate of {node} does not count here; join with a new token")
                return
            try:
                plain = self.store.nodes.get(node)
            except NotFound:
                raise NotAuthenticated(f"there is no node {node!r} here; join with a join token") from None
            if plain.status != ENROLLED:
                raise NotAllowed(f"node {node} is {plain.status}")

        try:
            await asyncio.to_thread(check)
        except Exception as error:
            if not (fault := passing(error)):
                raise
            _log.warning("cannot tell now whether %s may connect (%s)", node, fault)
            raise _storage_failed() from None
        shown, other = (self._certified, self._plain) if fingerprint else (self._plain, self._certified)
        shown.add(node)
        other.discard(node)

    async def enrol(self, asked: Mapping[str, str], where: str) -> dict[str, str]:
        """A certificate against a join token's secret (``token``, ``node_id``, ``csr``). ``where``: whence it is asked.
        Raises ``NotAuthenticated``, ``TooMany``, ``Conflict``, ``WireError``."""
        if not {"token", "node_id", "csr"} <= {*asked}:
            raise WireError("who wants to join says token, node_id and csr; is it of another release?")
        if not await asyncio.to_thread(self.store.nodes.join_tokens.is_open, asked["token"]):
            self.attempts.check(where)  # whoever has a token that counts is not held up by others behind its address
        if self.authority is None:
            raise NotFound("this coordinator has no authority, so nodes cannot enrol")
        try:
            node, pem = await asyncio.to_thread(
                enrolment.enrol, self.store, self.authority, asked["token"], asked["node_id"], asked["csr"], where
            )
        except HanseError as error:
            self.attempts.failed(where)
            self.chronicle.note(
                "node.refused",
                node=None,
                actor=where or "unknown",
                detail={"what": "enrolment", "claimed": asked["node_id"][:200], "detail": error.message},
            )
            raise
        self.presence.disconnect(node.id, "the node has a new certificate")
        return {
            "node_id": node.id,
            "certificate": pem,
            "ca": self.authority.pem.decode(),
            "address": self.settings.address,
        }

    def refused(self, node: str, what: str, detail: str) -> None:
        """Something that came in was not accepted: an event, and in the audit."""
        detail = detail[:2000]
        count = self._refusals.count(node)
        if count > _REFUSALS_PER_MINUTE:
            return
        if count == _REFUSALS_PER_MINUTE:
            detail += " (and more of the like: no further ones are noted for a minute)"
        self.chronicle.note(
            "node.refused", node=node or None, actor=node or "unknown", detail={"what": what, "detail": detail}
        )

    async def handle(self, peer: str, message: Message, progress: Progress) -> Message:
        """The answer to a node's request. ``peer`` is authenticated by the transport."""
        handlers = {
            "hello": self._hello,
            "heartbeat": self._heartbeat,
            "datasets": self._datasets,
            "consent": self._consent,
            "certificate": self._certificate,
        }
        handler = handlers.get(message.kind)
        try:
            if handler is None:
                raise WireError(f"a coordinator does not take messages of kind {message.kind[:40]!r}")
            kind, data = await handler(peer, message.body.data)
        except HanseError as error:
            if isinstance(error, (WireError, NotAllowed)):
                self.refused(peer, message.kind[:40], error.message)
            return _error(message.id, error)
        except Exception as error:
            if fault := passing(error):
                _log.warning("a message of kind %s from %s is to come again (%s)", message.kind, peer, fault)
                return _error(message.id, _storage_failed())
            _log.exception("a message of kind %s from %s could not be handled", message.kind, peer)
            return _error(message.id, HanseError("the coordinator could not handle this; its log has the details"))
        return Message(kind, message.id, "coordinator", Record(data))

    async def _hello(self, peer: str, data: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
        capabilities, summary = _object(data, "capabilities"), _object(data, "summary")
        listed = _dataset_list(data)
        mode = data.get("consent", "node")
        if mode not in ("node", "coordinator"):
            raise WireError(f"consent is {mode!r}; expected node or coordinator")

        def describe() -> tuple[list[dict[str, Json]], list[Decided]]:
            node = self.store.nodes.get(peer)
            said: dict[str, Json] = {
                "capabilities": machines.measured(
                    node, {**capabilities, "hanse": str(data.get("hanse", ""))[:40], **_own_words(data)}
                ),
                "datasets": listed,
                "consent_mode": mode,
            }
            if summary:
                said["summary"] = _flat(summary)
            if any(getattr(node, k) != v for k, v in said.items()):
                node = self.store.nodes.describe(peer, **said)
            return self.runs.consent.at_hello(node)

        before = self.runs.consent.told
        proposals, decided = await asyncio.to_thread(describe)
        self._heard[peer] = time.time()
        told = validity.time(data.get("time")) or validity.now()
        self.clocks[peer] = validity.apart(told, validity.now(), peer, "the coordinator")
        if self.clocks[peer]:
            _log.warning("%s", self.clocks[peer])
        self.runs.consent.greet(peer, decided, before)
        return "welcome", {
            "node": peer,
            "heartbeat_interval_s": self.presence.heartbeat_s,
            "proposals": proposals,
            "hanse": hanse.__version__,
            "time": validity.now().isoformat(),
        }

    async def _heartbeat(self, peer: str, data: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
        await self.heartbeat(peer, bool(data.get("busy", False)))
        return "ok", {"heartbeat_interval_s": self.presence.heartbeat_s}

    async def heartbeat(self, node: str, busy: bool | None) -> float:
        """Notes a sign of life of a node that is known; returns the time."""
        heard = self._heard[node] = time.time()
        self.presence.heard(node, busy)
        return heard

    async def _datasets(self, peer: str, data: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
        listed, summary, said = _dataset_list(data), _object(data, "summary"), _own_words(data)

        def describe() -> None:
            known = dict(self.store.nodes.get(peer).capabilities)
            now = None if known == {**known, **said} else {**known, **said}
            self.store.nodes.describe(peer, datasets=listed, summary=_flat(summary) or None, capabilities=now)

        await asyncio.to_thread(describe)
        self.presence.heard(peer)
        return "ok", {}

    async def _consent(self, peer: str, data: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
        run, sha256, decision = data.get("run"), data.get("sha256"), data.get("decision")
        if not (isinstance(run, str) and isinstance(sha256, str) and decision in ("accept", "reject")):
            raise WireError("a consent has run, sha256 and a decision (accept or reject)")
        actor, reason = str(data.get("actor") or "owner")[:100], str(data.get("reason") or "")[:2000]
        proof = data.get("proof")
        by = f"{actor} at {peer}"
        settled = await self.runs.consent.decide(
            Consent(run, peer, str(decision), sha256, by, via="node", reason=reason, proof=proof)
        )
        return "ok", {"state": str(settled.state)}

    async def _certificate(self, peer: str, data: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
        csr = data.get("csr")
        if not isinstance(csr, str):
            raise WireError("a request for a certificate has a csr (PEM)")
        if self.authority is None:
            raise NotFound("this coordinator signs no certificates")
        if peer in self._plain:  # it only said that it is this node
            raise NotFound("this connection was opened without a certificate, so none is signed for it")
        self._renewals.check(peer)
        self._renewals.failed(peer)
        certificate = await asyncio.to_thread(enrolment.renew, self.store, self.authority, peer, csr)
        return "certificate", {"certificate": certificate, "authority": self.authority.pem.decode()}

    # ------------------------------------------------------------ what an account may see

    def authenticate(self, token: str) -> UserAccount | None:
        """Whose token this is, or whose session's; None for a wrong one, and for a disabled account. Blocks."""
        found = self.store.accounts.authenticate(token)
        return found if found is not None or self.oidc is None else self.oidc.authenticate(token)

    def sees(self, account: UserAccount) -> Sight:
        """Which runs and nodes it may see now. Blocks."""
        return Sight(account, self.store.studies.of(account), self.store.studies.list())


def _nothing() -> None:
    pass


def _error(id: str, error: HanseError) -> Message:
    return Message("error", id, "coordinator", Record({"code": error.code, "message": error.message}))


def _storage_failed() -> StorageFailed:
    """Without the reason, which may name a path: the log has it."""
    return StorageFailed("the coordinator's storage fails; its log says how, and it is asked again in a while")


def _own_words(data: Mapping[str, Json]) -> dict[str, Json]:
    """When the node's certificate ends, for a warning, and the country that its owner declares, for policies."""
    ends, country = validity.time(data.get("certificate_ends")), data.get("country", "")
    if not countries.CHECK.fits(country):
        raise WireError(f"country is {str(country)[:40]!r}; expected {countries.CHECK.expected}")
    return {"country": country} | ({} if ends is None else {"certificate_ends": ends.isoformat()})


def _object(data: Mapping[str, Json], name: str) -> dict[str, Json]:
    value = data.get(name) or {}
    if not isinstance(value, Mapping):
        raise WireError(f"{name} is not an object")
    return dict(value)


def _flat(summary: Mapping[str, Json]) -> dict[str, Json]:
    """A node tells one summary for each dataset (:mod:`hanse.coordinator.summaries`)."""
    each = {name: s for name, s in summary.items() if isinstance(s, Mapping)}
    if len(each) != len(summary):
        return dict(summary)  # one summary, as in a registration by REST
    return {"datasets": {name: dict(s) for name, s in each.items()}} if each else {}


def _dataset_list(data: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Descriptions of datasets with the fields that the coordinator reads, checked."""
    listed = data.get("datasets")
    if not isinstance(listed, list) or len(listed) > _MAX_DATASETS:
        raise WireError(f"datasets is not a list of at most {_MAX_DATASETS}")
    for item in listed:
        if not isinstance(item, Mapping) or not all(isinstance(item.get(n), str) for n in ("name", "version")):
            raise WireError("a dataset has a name and a version")
        columns = item.get("columns")
        if not isinstance(columns, Mapping) or len(columns) > _MAX_COLUMNS:
            raise WireError(f"the columns of dataset {item['name'][:80]!r} are not an object of at most {_MAX_COLUMNS}")
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in columns.items()):
            raise WireError(f"the columns of dataset {item['name'][:80]!r} are not names with kinds")
        for name in ("tags", "metadata_columns"):
            found = item.get(name) or []
            if not isinstance(found, list) or not all(isinstance(t, str) for t in found):
                raise WireError(f"the {name} of dataset {item['name'][:80]!r} are not a list of texts")
        for name in ("rows", "most_rows"):
            rows = item.get(name)
            if rows is not None and (not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= _MAX_ROWS):
                raise WireError(f"the {name} of dataset {item['name'][:80]!r} are neither a whole number nor null")
    return [dict(item) for item in listed]
