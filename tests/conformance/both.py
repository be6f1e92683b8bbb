"""The same sites twice: as frames of ``hanse.simulate``, and as CSV files at real nodes behind a real coordinator.

A node is the agent with its gate, catalogue and worker process; only the line between it and the coordinator is a
function call. What the coordinator asks and what is answered passes the real frames.
"""

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

import pandas
import uvicorn

import hanse
from hanse.coordinator.app import create_app
from hanse.coordinator.service import Coordinator
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import from_code
from hanse.experiment.federation import Federation
from hanse.messages import Message
from hanse.node.agent import Agent
from hanse.node.catalogue import Catalogue
from hanse.node.settings import NodeSettings, Policy, TaskLimits
from hanse.node.summaries import summarise
from hanse.store import Store
from hanse.store.nodes import CertificateOnFile
from hanse.transport import Progress
from hanse.transports import Caller, Patience
from hanse.transports.local import LocalTransport
from tests.waiting import PATIENCE

Sites = Mapping[str, pandas.DataFrame]


@dataclass(frozen=True)
class Case:
    """Site tables, and the column that most would predict in them (what owners named when they added the file)."""

    sites: Sites
    target: str = "y"


@dataclass
class Both:
    """Two federations of the same tables."""

    cases: Mapping[str, Case]
    owner: Mapping[str, Any]
    far: Federation
    near: dict[str, Federation] = field(default_factory=dict)

    def of(self, case: str) -> tuple[Federation, Federation]:
        """The simulation and the real federation of one case; choose its tables by ``tags=[case]``."""
        if case not in self.near:
            self.near[case] = hanse.simulate(self.cases[case].sites, policy=self.owner)
        return self.near[case], self.far


class _Line:
    """A node's end: what it says is heard by the coordinator in this process."""

    def __init__(self, coordinator: Coordinator, transport: LocalTransport, caller: Caller) -> None:
        self._coordinator, self._transport, self._caller = coordinator, transport, caller

    def start(self) -> None:
        self._transport.attach(self._caller.node, self._caller.handler)
        self._caller.report("connected", "here")

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        reply = await self._coordinator.handle(self._caller.node, message, progress)
        if reply.kind == "error":
            raise from_code(str(reply.body.data["code"]), str(reply.body.data["message"]))
        return reply

    async def close(self) -> None:
        self._transport.detach(self._caller.node)


def _settle(home: Path, node: str, cases: Mapping[str, Case], owner: Mapping[str, Any]) -> None:
    """A node's folder with a file of each case that it takes part in."""
    policy = Policy(standing="accept-allowed", **owner)
    NodeSettings(node, policy=policy, limits=TaskLimits(threads=1)).save(home)
    for name, case in cases.items():
        if node in case.sites:
            file = home / f"{name}.csv"
            case.sites[node].to_csv(file, index=False)
            added = Catalogue(home).add(file, name, tags=[name])
            columns = {" ".join(column.split()) for column in added.schema}
            summarise(home, added, case.target if case.target in columns else None, lambda done: None)


@contextlib.contextmanager
def both(home: Path, cases: Mapping[str, Case], **owner: Any) -> Iterator[Both]:
    """The federations of all ``cases``; ``owner`` are settings of the policy of every site."""
    nodes = sorted({node for case in cases.values() for node in case.sites})
    for node in nodes:
        _settle(home / node, node, cases, owner)
    ready, failed, urls, stop = threading.Event(), list[BaseException](), list[tuple[str, str]](), threading.Event()

    async def serve() -> None:
        store = Store(None, home / "coordinator")
        coordinator = Coordinator(store, CoordinatorSettings(patience=Patience(heartbeat_s=60)))
        transport = LocalTransport({}, "exact")
        coordinator.attach(transport)
        await coordinator.start()
        for number, node in enumerate(nodes):
            store.nodes.register(node, CertificateOnFile(str(number), f"{number:064x}"))
        agents = [Agent(home / node, functools.partial(_Line, coordinator, transport)) for node in nodes]
        working = [asyncio.create_task(agent.run()) for agent in agents]
        try:
            token = store.accounts.create_account("Ada", "data_scientist")[1]
            async with asyncio.timeout(PATIENCE):
                while any(not store.nodes.get(node).datasets for node in nodes):
                    await asyncio.sleep(0.02)
            listener = socket.create_server(("127.0.0.1", 0))
            how = functools.partial(uvicorn.Config, create_app(coordinator), lifespan="off", log_level="error")
            server = uvicorn.Server(how(timeout_graceful_shutdown=1))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            urls.append((f"http://127.0.0.1:{listener.getsockname()[1]}", token))
            ready.set()
            await asyncio.to_thread(stop.wait)
            coordinator.chronicle.close_streams()
            server.should_exit = True
            await serving
        finally:
            for agent in agents:
                agent.stop()
            await asyncio.gather(*working, return_exceptions=True)
            await coordinator.stop()
            store.close()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="federation")
    thread.start()
    ready.wait(PATIENCE)
    try:
        if not failed:
            with hanse.connect(*urls[0]) as far:
                yield Both(cases, owner, far)
    finally:
        stop.set()
        thread.join(PATIENCE)
    if failed:
        raise failed[0]
