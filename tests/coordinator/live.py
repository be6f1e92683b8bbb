"""A coordinator as a real process, and nodes in this one that dial in over gRPC with TLS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import httpx

from demo.federation import free_port
from hanse.answers import Answerer
from hanse.bundle import thaw
from hanse.identity import JoinToken, NodeIdentity, csr
from hanse.messages import MAX_MESSAGE_BYTES, Memory, Message, Record
from hanse.signing import Signer
from hanse.table import Table
from hanse.transport import Progress
from hanse.transports import Caller, line
from hanse.trust import trusted
from tests.transports.grpc_federation import new_key
from tests.waiting import PATIENCE, eventually

from .federation import proof_of

Json = Any


class Live:
    """``hanse coordinator start``. The ports stay the same when it is started again."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home, self.arguments = home, arguments
        self.http_port, self.grpc_port = free_port(), free_port()
        self.popen: subprocess.Popen[str] | None = None
        self.printed: list[str] = []

    def start(self) -> Live:
        with (self.home.parent / "coordinator.err").open("a") as errors:
            self.popen = self._launch(errors)
        assert self.popen.stdout is not None
        too_late = threading.Timer(PATIENCE, self.popen.kill)
        too_late.start()
        for text in self.popen.stdout:
            self.printed.append(text)
            if text.startswith("ready"):
                break
        too_late.cancel()
        assert self.printed[-1].startswith("ready"), (self.home.parent / "coordinator.err").read_text()[-2000:]
        where = json.loads((self.home / "coordinator.json").read_text())
        self.url, self.address = where["url"], where["address"]
        self.http_port, self.grpc_port = int(self.url.rsplit(":", 1)[1]), int(self.address.rsplit(":", 1)[1])
        self.printed.append("")
        return self

    def _launch(self, errors: IO[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "hanse.cli",
                "coordinator",
                "start",
                "--home",
                str(self.home),
                "--plain-http",
                "--http",
                f"127.0.0.1:{self.http_port}",
                "--listen",
                f"grpc://127.0.0.1:{self.grpc_port}",
                *self.arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    @property
    def operator(self) -> str:
        return (self.home / "operator.token").read_text().strip()

    def kill(self) -> None:
        assert self.popen is not None
        self.popen.kill()
        self.popen.wait(PATIENCE)
        self.popen.stdout.close()  # type: ignore[union-attr]

    def stop(self) -> int:
        assert self.popen is not None
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(PATIENCE)
        self.popen.stdout.close()  # type: ignore[union-attr]
        return code

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token or self.operator}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=PATIENCE, verify=trusted(self.url))

    async def ok(self, method: str, path: str, body: Json = None, token: str | None = None) -> Json:
        async with self.client(token) as http:
            answer = await http.request(method, path, json=body)
            assert answer.status_code < 300, (answer.status_code, answer.text)
            return answer.json()


class GrpcSite:
    """A node that approves whatever is proposed and answers it, over mTLS."""

    def __init__(self, name: str, identity: NodeIdentity) -> None:
        self.name, self.identity = name, identity
        self.answerer = Answerer(name, lambda bundle: Table())
        self.proposals: dict[str, dict[str, Json]] = {}
        self.tasks: list[tuple[str, int]] = []
        self.slow = 0.0
        caller = Caller(
            name,
            lambda: identity,
            self.handle,
            Memory,
            self._report,
            lambda peer, what, detail: None,
            MAX_MESSAGE_BYTES,
        )
        self.link = line(identity.address, caller)
        self._greetings: set[asyncio.Task[None]] = set()

    @staticmethod
    async def enrol(live: Live, name: str) -> GrpcSite:
        made = await live.ok("POST", "/api/nodes/join-tokens", {"node": name})
        token, key = JoinToken.decode(made["token"]), new_key()
        answer = await live.ok(
            "POST", "/api/nodes/enrol", {"token": token.secret, "node_id": name, "csr": csr(key, name).decode()}
        )
        return GrpcSite(
            name, NodeIdentity(name, key, answer["certificate"].encode(), answer["ca"].encode(), answer["address"])
        )

    def _report(self, what: str, detail: str) -> None:
        if what == "connected":
            task = asyncio.ensure_future(self.greet())
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    async def greet(self) -> None:
        hello = Record({"hanse": "0", "capabilities": {}, "datasets": [], "consent": "coordinator"})
        welcome = await self.link.request(Message("hello", f"{self.name}/hello/{os.urandom(4).hex()}", "", hello))
        for proposal in welcome.body.data["proposals"]:
            self.proposals[proposal["run"]] = proposal
            proof = proof_of(Signer(self.identity), self.name, proposal, "accept", actor="me")
            said = {"run": proposal["run"], "sha256": proposal["sha256"], "decision": "accept", "actor": "me"}
            body = Record({**said, "proof": proof})
            await self.link.request(Message("consent", f"{self.name}/consent/{os.urandom(4).hex()}", "", body))

    async def handle(self, peer: str, message: Message, progress: Progress) -> Message:
        data = message.body.data
        if message.kind == "proposal":
            self.proposals[data["run"]] = dict(data)
            proof = proof_of(Signer(self.identity), self.name, data, "accept", actor="me")
            return Message("reply", message.id, self.name, Record({"decision": "accept", "proof": proof}))
        if message.kind == "task":
            self.tasks.append((data["run"], data["step"]))
            await asyncio.sleep(self.slow)
            proposal = self.proposals[data["run"]]
            reply = self.answerer.answer(message.body, thaw(proposal["text"], proposal["sha256"]).content, progress)
            return Message("reply", message.id, self.name, reply)
        return Message("reply", message.id, self.name, Record({}))

    async def connect(self) -> None:
        self.link.start()
        await self.link.connected()


async def until_online(live: Live, count: int) -> None:
    async def there() -> bool:
        return sum(n["connected"] for n in (await live.ok("GET", "/api/nodes"))["nodes"]) >= count

    await eventually(there)


async def until_state(live: Live, run: str, *wanted: str) -> Json:
    async def there() -> Json:
        session = await live.ok("GET", f"/api/training/sessions/{run}")
        return session["state"] in wanted and session

    return await eventually(there)
