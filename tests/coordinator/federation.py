"""A coordinator in this event loop, with nodes that really answer, and its REST interface."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from hanse.answers import Answerer
from hanse.bundle import thaw
from hanse.coordinator.app import create_app
from hanse.coordinator.service import Coordinator
from hanse.coordinator.settings import CoordinatorSettings
from hanse.decisions import SignedDecision, signed
from hanse.errors import NotAllowed, NotApproved, NotFound
from hanse.identity import Authority, NodeIdentity, create_key, csr, read_certificate
from hanse.messages import Message, Record
from hanse.signing import Signer
from hanse.store import Store
from hanse.store.events import Event
from hanse.store.nodes import CertificateOnFile
from hanse.table import Table
from hanse.transport import Progress
from hanse.transports.local import LocalTransport
from tests.waiting import PATIENCE

Json = Any
PROBE = {"federated_strategy": "probe", "num_rounds": 3, "sample_id_column": None}


def database(home: Path) -> str | None:
    """URL of a federation's database; None: SQLite in its home. Replaced for tests marked ``databases``."""
    return None


@functools.cache
def empty() -> bytes:
    """A database with all tables and no rows: what each federation would make anew, at a third of its price."""
    with tempfile.TemporaryDirectory() as folder:
        Store(None, folder, fsync=False).close()
        return (Path(folder) / "hanse.db").read_bytes()


@functools.cache
def routes() -> Any:
    """The routes of all federations: FastAPI works out anew for each application what a route depends on."""
    with tempfile.TemporaryDirectory() as folder, Store(None, folder, fsync=False) as store:
        return create_app(Coordinator(store, CoordinatorSettings())).router


def quiet() -> None:
    pass


def proof_of(signer: Signer, node: str, proposal: Mapping[str, Json], decision: str, **other: str) -> Json:
    """A node's decision on a proposal, signed with its key."""
    now = datetime.now(UTC)
    said = {
        "node": node,
        "run": proposal["run"],
        "sha256": proposal["sha256"],
        "proposer": proposal["proposer"],
        "decision": decision,
        "actor": "owner",
        "reason": "",
        "time": now.isoformat(),
        "until": (now + timedelta(days=30)).isoformat() if decision == "accept" else "",
    }
    return signed(SignedDecision(**{**said, **other}), signer)


class SiteNode:
    """A node in this process: remembers what was proposed, answers only what was approved."""

    def __init__(
        self,
        it: Coordinator,
        name: str,
        tables: Mapping[str, Table] | None = None,
        *,
        consent: str = "coordinator",
        standing: str = "pending",
        tags: Mapping[str, list[str]] | None = None,
        rows: int | None = None,
        country: str = "",
    ) -> None:
        self.it, self.name, self.consent, self.standing = it, name, consent, standing
        self.tables, self.tags, self.rows = dict(tables or {}), dict(tags or {}), rows
        self.country = country
        self.proposals: dict[str, dict[str, Json]] = {}
        self.approved: dict[str, str] = {}
        self.tasks: list[str] = []
        self.finished: list[str] = []
        self.hold: asyncio.Event | None = None
        self.inflate = 1.0
        self.signer: Signer | None = None  # made by ``Federation.node(..., signs=True)``
        self.metadata: list[str] = []
        self.answerer = Answerer(name, self._load)

    def _load(self, bundle: Mapping[str, Json]) -> Table:
        return self.tables[bundle["datasets"][self.name]["name"]]

    def datasets(self) -> list[dict[str, Json]]:
        return [
            {
                "name": n,
                "tags": self.tags.get(n, []),
                "kind": "tabular",
                "columns": t.schema(),
                "metadata_columns": self.metadata,
                "categories": {},
                "rows": t.rows if self.rows is None else self.rows,
                "version": "v1",
                "has_mock": False,
            }
            for n, t in self.tables.items()
        ]

    async def say(self, kind: str, **data: Json) -> Message:
        return await self.it.handle(self.name, Message(kind, f"{self.name}/{kind}", "", Record(data)), quiet)

    async def hello(self, **more: Json) -> Message:
        said = {"hanse": "0", "capabilities": {"cpus": 2}, "consent": self.consent, "country": self.country}
        welcome = await self.say("hello", **{**said, "datasets": self.datasets(), **more})
        for proposal in welcome.body.data.get("proposals", []):
            self.proposals[proposal["run"]] = proposal
        return welcome

    async def handle(self, peer: str, message: Message, progress: Progress) -> Message:
        data = message.body.data
        if message.kind == "proposal":
            thaw(data["text"], data["sha256"]).check_code()
            self.proposals[data["run"]] = dict(data)
            if self.standing == "accept":
                self.approved[data["run"]] = data["sha256"]
            proof = None if self.standing == "pending" else self.proof(data["run"], self.standing)
            return Message("reply", message.id, self.name, Record({"decision": self.standing, "proof": proof}))
        if message.kind == "consent":
            if self.consent == "node":
                raise NotAllowed(f"this node takes approvals only at the node: hanse node approve {data['run']}")
            if data["run"] not in self.proposals:
                raise NotFound("it was not proposed to this node, or not yet")
            if data["decision"] == "accept":
                self.approved[data["run"]] = data["sha256"]
            proof = self.proof(data["run"], data["decision"], actor=data["account"])
            return Message("reply", message.id, self.name, Record({"proof": proof}))
        if message.kind == "finished":
            self.finished.append(data["state"])
            return Message("reply", message.id, self.name, Record({}))
        assert message.kind == "task"
        self.tasks.append(message.id)
        if self.approved.get(data["run"]) != data["bundle"]:
            raise NotApproved("this hash was not approved here")
        if self.hold is not None:
            await self.hold.wait()
        proposal = self.proposals[data["run"]]
        bundle = thaw(proposal["text"], proposal["sha256"])
        reply = self.answerer.answer(message.body, bundle.content, progress)
        if self.inflate != 1.0:
            reply = Record({**reply.data, "weight": reply.data["weight"] * self.inflate}, reply.arrays)
        return Message("reply", message.id, self.name, reply)

    async def decide(self, run: str, decision: str, reason: str = "", sha256: str | None = None) -> Message:
        """The owner decides at the node."""
        known = self.proposals[run]["sha256"] if sha256 is None else sha256
        if decision == "accept":
            self.approved[run] = known
        proof = self.proof(run, decision, reason=reason)
        return await self.say(
            "consent", run=run, sha256=known, decision=decision, reason=reason, actor="owner", proof=proof
        )

    def proof(self, run: str, decision: str, **other: str) -> Json:
        """What the node signs of a decision; None where it has no key."""
        return proof_of(self.signer, self.name, self.proposals[run], decision, **other) if self.signer else None


class Federation:
    """Use with ``async with``."""

    def __init__(self, home: Path, settings: CoordinatorSettings | None = None) -> None:
        self.home, url = home, database(home)
        if url is None and not (home / "hanse.db").exists():
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            (home / "hanse.db").write_bytes(empty())
        self.store = Store(url, home, fsync=False)
        self.settings = settings or CoordinatorSettings()
        self.it = Coordinator(self.store, self.settings, Authority.open(home / "authority"))
        self.transport = LocalTransport({}, wire="exact")
        self.it.attach(self.transport)
        self.nodes: dict[str, SiteNode] = {}
        self.tokens: dict[str, str] = {}
        self.app = create_app(self.it)
        self.app.router = routes()
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://c"
        )

    async def __aenter__(self) -> Federation:
        await self.it.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.it.stop()
        self.store.close()

    def account(self, name: str, role: str, *nodes: str) -> str:
        found = self.store.accounts.find(name)
        if found is None:
            _, self.tokens[name] = self.store.accounts.create_account(name, role, nodes)
        else:
            self.tokens[name] = self.store.accounts.rotate_token(found.id)
        return name

    def people(self, *nodes: str) -> None:
        """``op``, ``sci``, and an owner ``owner-NODE`` of each node."""
        self.account("op", "operator")
        self.account("sci", "data_scientist")
        for node in nodes:
            self.account(f"owner-{node}", "data_owner", node)

    async def node(
        self,
        name: str,
        tables: Mapping[str, Table] | None = None,
        *,
        online: bool = True,
        signs: bool = False,
        **how: Any,
    ) -> SiteNode:
        identity = self.identity(name) if signs else None
        read = read_certificate(identity.cert_pem) if identity else None
        on_file = (read.serial, read.fingerprint) if read else (f"serial-{name}", f"print-{name}")
        self.store.nodes.register(name, CertificateOnFile(*on_file))
        node = self.nodes[name] = SiteNode(self.it, name, tables, **how)
        node.signer = Signer(identity) if identity else None
        if online:
            await self.connect(name)
        else:
            self.store.nodes.describe(name, datasets=node.datasets(), consent_mode=node.consent)
        return node

    def identity(self, name: str) -> NodeIdentity:
        """A key of the node, with a certificate of this federation's authority."""
        assert self.it.authority is not None
        key = create_key(self.home / f"node-{name}")
        certificate = self.it.authority.issue_node(csr(key, name), name)
        return NodeIdentity(name, key, certificate, self.it.authority.pem, "grpc://localhost:7443")

    async def connect(self, name: str) -> None:
        self.transport.attach(name, self.nodes[name].handle)
        await self.nodes[name].hello()
        while name not in self.it.presence.online():
            await self.it.presence.changed()

    async def call(
        self, who: str | None, method: str, path: str, body: Json = None, *, raw: bytes | None = None, **more: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[who]}"} if who else {}
        headers.update(more.pop("headers", {}))
        if raw is not None:
            return await self.http.request(method, path, content=raw, headers=headers, **more)
        return await self.http.request(method, path, json=body, headers=headers, **more)

    async def ok(self, who: str | None, method: str, path: str, body: Json = None, status: int = 200) -> Json:
        answer = await self.call(who, method, path, body)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json()

    async def refused(self, who: str | None, method: str, path: str, body: Json, status: int) -> str:
        answer = await self.call(who, method, path, body)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return str(answer.json()["error"]["message"])

    async def propose(self, **config: Json) -> dict[str, Json]:
        found: dict[str, Json] = await self.ok("sci", "POST", "/api/training/start", {**PROBE, **config}, 201)
        return found

    async def consent(
        self, session: Mapping[str, Json], node: str, decision: str = "accept", status: int = 200
    ) -> Json:
        body = {"client_id": node, "decision": decision, "code_hash": session["code_hash"]}
        path = f"/api/training/sessions/{session['session_id']}/consent"
        return await self.ok(f"owner-{node}", "POST", path, body, status)

    async def until(self, seen: Callable[[list[Event]], bool], run: str | None = None) -> list[Event]:
        """Waits until ``seen`` is true of all events (or of whatever else it looks at)."""
        async with asyncio.timeout(PATIENCE):
            while True:
                news = self.it.chronicle.news()
                events = await asyncio.to_thread(self.store.events.since, 0, 100_000, run=run)
                if seen(events):
                    return events
                await _soon(news)

    async def state(self, run: str, *wanted: str) -> str:
        """Waits until the run is in one of these states."""
        async with asyncio.timeout(PATIENCE):
            while True:
                news = self.it.chronicle.news()
                found = str((await asyncio.to_thread(self.store.runs.get, run)).state)
                if found in wanted:
                    return found
                await _soon(news)


async def _soon(news: asyncio.Event) -> None:
    """Returns when there is news, and after a moment in any case."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(news.wait(), 0.05)


def summary(**changes: Json) -> dict[str, Json]:
    """A registration as in mllabiome's tutorial."""
    return {
        "num_samples": 73,
        "num_features": 3,
        "data_sparsity": 0.95,
        "feature_coverage": 0.05,
        "class_distribution": {"CD": 30, "UC": 33, "Control": 10},
        "features": ["a", "b", "c"],
        "metadata_columns": ["Sample", "Study.Group"],
        **changes,
    }
