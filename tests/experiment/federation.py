"""A real coordinator on a loopback port, with its nodes in this process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from hanse.answers import Answerer
from hanse.bundle import Bundle, thaw
from hanse.coordinator.app import create_app
from hanse.coordinator.service import Coordinator
from hanse.coordinator.settings import CoordinatorSettings
from hanse.messages import Message, Record
from hanse.store import Store
from hanse.store.nodes import CertificateOnFile
from hanse.table import Table
from hanse.transport import Progress
from hanse.transports import Patience
from hanse.transports.local import LocalTransport
from tests.waiting import PATIENCE


@dataclass
class Hospital:
    """The node's end of the protocol, without a gate: its owner decides at the coordinator."""

    name: str
    table: Table
    bundles: dict[str, Bundle] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)  # cleared: it does not answer tasks

    def __post_init__(self) -> None:
        self.hold.set()
        self.answerer = Answerer(self.name, lambda bundle: self.table)

    async def handle(self, peer: str, message: Message, progress: Progress) -> Message:
        data = message.body.data
        if message.kind == "proposal":
            self.bundles[data["run"]] = thaw(data["text"], data["sha256"])
            return Message("ok", message.id, self.name, Record({"decision": "pending"}))
        if message.kind == "task":
            frozen = self.bundles[data["run"]]
            assert frozen.sha256 == data["bundle"]
            await asyncio.to_thread(self.hold.wait, 30)
            work = functools.partial(self.answerer.answer, message.body, frozen.content, progress)
            return Message("reply", message.id, self.name, await asyncio.to_thread(work))
        return Message("ok", message.id, self.name)

    def hello(self) -> Message:
        dataset = {
            "name": "patients",
            "version": "v1",
            "tags": ["demo"],
            "kind": "table",
            "rows": self.table.rows,
            "columns": self.table.schema(),
        }
        said = {"hanse": "0", "capabilities": {"cpus": 1}, "datasets": [dataset], "consent": "coordinator"}
        return Message("hello", "hello", self.name, Record(said))


@dataclass
class Living:
    """What a test gets: address, tokens by role, and the nodes."""

    url: str
    tokens: Mapping[str, str]
    hospitals: Mapping[str, Hospital]
    coordinator: Coordinator
    restart_http: Any = None


@contextlib.contextmanager
def living(home: Path, sites: Mapping[str, Any]) -> Iterator[Living]:
    hospitals = {name: Hospital(name, Table.of(rows)) for name, rows in sites.items()}
    ready, stop = threading.Event(), threading.Event()
    found: list[Living] = []
    failed: list[BaseException] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        store = Store(None, home)
        coordinator = Coordinator(store, CoordinatorSettings(patience=Patience(heartbeat_s=60)))
        transport = LocalTransport({name: h.handle for name, h in hospitals.items()})
        coordinator.attach(transport)
        await coordinator.start()
        tokens = {}
        for number, name in enumerate(hospitals):
            store.nodes.register(name, CertificateOnFile(str(number), f"{number:064x}"))
            tokens[name] = store.accounts.create_account(f"owner of {name}", "data_owner", [name])[1]
            welcome = await coordinator.handle(name, hospitals[name].hello(), lambda: None)
            assert welcome.kind == "welcome", welcome.body.data
        tokens["scientist"] = store.accounts.create_account("Ada", "data_scientist")[1]
        tokens["operator"] = store.accounts.create_account("Olga", "operator")[1]
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        how = functools.partial(uvicorn.Config, create_app(coordinator), lifespan="off", log_level="error")
        server = uvicorn.Server(how(timeout_graceful_shutdown=1))
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        found.append(Living(f"http://127.0.0.1:{port}", tokens, hospitals, coordinator))
        ready.set()
        await asyncio.to_thread(stop.wait)
        for hospital in hospitals.values():
            hospital.hold.set()
        coordinator.chronicle.close_streams()
        server.should_exit = True
        await serving
        await coordinator.stop()
        store.close()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
            loop.run_until_complete(loop.shutdown_default_executor())
        except BaseException as error:
            failed.append(error)
            ready.set()
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="coordinator")
    thread.start()
    ready.wait(PATIENCE)
    try:
        if not failed:
            yield found[0]
    finally:
        stop.set()
        thread.join(PATIENCE)
    if failed:
        raise failed[0]
