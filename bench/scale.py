"""A thousand nodes at one coordinator: connecting, beating, a round with all of them, a statistic, and a restart.

The coordinator is a real process with all defaults. The nodes are light (the node's end of the transport, the
greeting, heartbeats and the node half of the algorithms, without a gate and a worker) and share a few processes, but
each has its own certificate, its own TLS connection and its own stream. In the same run a bare gRPC server without TLS
sends 1 KB to as many streams and reads as much back (``floor_seconds``).

``..._cpu_seconds`` are of the coordinator alone. ``connect_seconds``: from the start of the node processes to the last
greeting; ``restart_seconds``: from the start of a coordinator that was killed to the last greeting. ``kb_per_node``:
resident memory of the coordinator with all nodes less without any (1 KB = 1000 bytes); ``kb_per_node_after``: the same
half a minute after the run and the statistic. ``round_seconds``: the median of rounds of 1 KB that ask all.
``idle_share``: of a core, while all nodes beat and nothing else happens, from when each of them has been told how often
(by the reply to its first heartbeat, which some send before the last has connected). ``load`` is what else the machine
does: where it is above the number of cores, wall times say little.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from _runs import one_run, probe

from hanse import connect, event_loop
from hanse.answers import Answerer
from hanse.bundle import thaw
from hanse.decisions import SignedDecision, signed
from hanse.identity import Authority, NodeIdentity, create_key, csr, read_certificate
from hanse.messages import MAX_MESSAGE_BYTES, Memory, Message, Record
from hanse.signing import Signer
from hanse.store import Store
from hanse.store.nodes import CertificateOnFile
from hanse.table import Table
from hanse.transport import Progress
from hanse.transports import Caller, Patience, line

PROCESSES = 4
BYTES = 1024
ROUNDS = 8
_GIVE_UP_S = 300.0


class LightNode:
    """One node: agrees to everything and answers."""

    def __init__(self, identity: NodeIdentity, table: Table, contents: dict[str, Any]) -> None:
        self.name, self._contents, self._signer = identity.node_id, contents, Signer(identity)
        self._answerer = Answerer(self.name, lambda bundle: table)
        self._table, self._work, self._every = table, set[asyncio.Task[None]](), Patience().heartbeat_s
        self._line = line(
            identity.address,
            Caller(
                self.name,
                lambda: identity,
                self._handle,
                Memory,
                self._report,
                lambda *said: None,
                MAX_MESSAGE_BYTES,
                lambda: self._every,
            ),
        )

    def start(self) -> None:
        self._line.start()

    def _report(self, what: str, detail: str) -> None:
        for task in list(self._work):
            task.cancel()
        if what == "connected":
            task = asyncio.ensure_future(self._greet())
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _say(self, kind: str, **data: Any) -> Any:
        id = f"{self.name}/{kind}/{os.urandom(6).hex()}"
        return (await self._line.request(Message(kind, id, "", Record(data)))).body.data

    async def _greet(self) -> None:
        dataset = {
            "name": "visits",
            "version": "v1",
            "tags": [],
            "kind": "tabular",
            "rows": self._table.rows,
            "columns": self._table.schema(),
        }
        with contextlib.suppress(Exception):
            welcome = await self._say("hello", hanse="", capabilities={}, datasets=[dataset], consent="node")
            self._every = float(welcome["heartbeat_interval_s"])
            await asyncio.sleep(random.uniform(0, self._every))
            while True:
                said = await self._say("heartbeat", busy=False, run=None)
                self._every = float(said["heartbeat_interval_s"])
                await asyncio.sleep(self._every)

    def _accepted(self, data: Any) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC)
        said = SignedDecision(
            node=self.name,
            run=data["run"],
            sha256=data["sha256"],
            proposer=data["proposer"],
            decision="accept",
            actor="bench",
            reason="",
            time=now.isoformat(),
            until=(now + datetime.timedelta(days=1)).isoformat(),
        )
        return {"decision": "accept", "actor": "bench", "proof": signed(said, self._signer)}

    async def _handle(self, peer: str, message: Message, progress: Progress) -> Message:
        data = message.body.data
        if message.kind == "proposal":
            if data["sha256"] not in self._contents:
                self._contents[data["sha256"]] = thaw(data["text"], data["sha256"]).content
            return Message("reply", message.id, self.name, Record(self._accepted(data)))
        if message.kind != "task":
            return Message("reply", message.id, self.name, Record({}))
        reply = self._answerer.answer(message.body, self._contents[data["bundle"]], progress)
        return Message("reply", message.id, self.name, reply)


def nodes_process(file: str) -> None:
    """Runs the nodes whose identities stand in ``file`` until it is ended."""
    told = json.loads(Path(file).read_text())
    rng = np.random.default_rng(1)
    table = Table.of({"age": rng.normal(60, 10, 50), "ill": ["yes", "no"] * 25})
    contents: dict[str, Any] = {}

    async def main() -> None:
        key, ca = told["key"].encode(), told["ca"].encode()
        for name, certificate in told["nodes"].items():
            identity = NodeIdentity(name, key, certificate.encode(), ca, told["address"])
            LightNode(identity, table, contents).start()
        await asyncio.Event().wait()

    event_loop.run(main())


# ---------------------------------------------------------------- the coordinator


class Coordinator:
    """The process, and what is asked of it."""

    def __init__(self, home: Path, http: int, grpc: int, token: str) -> None:
        self.home, self.url, self.address = home, f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{grpc}"
        self.token = token
        self._arguments = ["--http", f"127.0.0.1:{http}", "--listen", self.address, "--plain-http"]
        self.popen: subprocess.Popen[bytes]

    def start(self) -> None:
        command = [sys.executable, "-m", "hanse.cli", "coordinator", "start", "--home", str(self.home)]
        with (self.home.parent / "coordinator.log").open("ab") as log:
            self.popen = subprocess.Popen([*command, *self._arguments], stdout=log, stderr=log)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self.token}"}
        answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=120)
        answer.raise_for_status()
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    def connected(self) -> int:
        """Nodes that can be asked now; -1 where it does not answer yet."""
        try:
            headers = {"authorization": f"Bearer {self.token}", "accept": "text/plain"}
            text = httpx.get(f"{self.url}/metrics", headers=headers, timeout=30).text
        except httpx.HTTPError:
            return -1
        return int(next((x.split()[1] for x in text.splitlines() if x.startswith("hanse_nodes_connected ")), "-1"))

    def heartbeat_s(self) -> float:
        """Seconds between two heartbeats of a node, as it tells those that ask now."""
        return float(self.ask("GET", "/api/me")["coordinator"]["heartbeat_interval_s"])

    def until(self, count: int) -> float:
        """Seconds until so many can be asked."""
        began = time.perf_counter()
        while self.connected() < count:
            if time.perf_counter() - began > _GIVE_UP_S:
                raise SystemExit(f"{self.connected()} of {count} nodes are on line after {_GIVE_UP_S:g} s")
            time.sleep(0.5)  # what is asked lists all nodes: oftener, it would take a good part of what is measured
        return time.perf_counter() - began

    def resident(self) -> int:
        return int(psutil.Process(self.popen.pid).memory_info().rss)

    def worked(self) -> float:
        times = psutil.Process(self.popen.pid).cpu_times()
        return float(times.user + times.system)


def prepared(home: Path, nodes: int, ports: tuple[int, int]) -> tuple[Coordinator, list[Path]]:
    """A coordinator's home in which all nodes are enrolled, and their identities in files, one for each process."""
    with Store(None, home, fsync=False) as store:
        authority = Authority.open(home / "authority")
        _, token = store.accounts.create_account("scale", "operator")
        key = create_key(home.parent / "key")
        certificates = {}
        for number in range(nodes):
            name = f"node-{number:04}"
            pem = authority.issue_node(csr(key, name), name)
            read = read_certificate(pem)
            store.nodes.register(name, CertificateOnFile(read.serial, read.fingerprint))
            certificates[name] = pem.decode()
    coordinator = Coordinator(home, *ports, token)
    files = []
    for number in range(PROCESSES):
        file = home.parent / f"nodes-{number}.json"
        mine = {n: c for i, (n, c) in enumerate(certificates.items()) if i % PROCESSES == number}
        told = {"key": key.decode(), "ca": authority.pem.decode(), "address": coordinator.address, "nodes": mine}
        file.write_text(json.dumps(told))
        files.append(file)
    return coordinator, files


def round_seconds(coordinator: Coordinator, nodes: int) -> tuple[float, float]:
    """Median wall seconds of a round that asks all, and processor seconds of the coordinator for one."""
    names = [f"node-{number:04}" for number in range(nodes)]
    before = coordinator.worked()
    settings = {**probe(nodes, ROUNDS, bytes=BYTES), "sample_id_column": None, "expected_client_ids": names}
    steps = one_run(coordinator.ask, settings, _GIVE_UP_S)["rounds"]
    assert all(len(step["participants"]) == nodes for step in steps)
    worked = (coordinator.worked() - before) / len(steps)
    return statistics.median(step["seconds"] for step in steps[1:]), worked


# ---------------------------------------------------------------- the floor


def _echoes(port: int, streams: int) -> None:
    from grpc import aio

    async def one() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            call = channel.stream_stream("/floor/round")()
            while (data := await call.read()) is not aio.EOF:
                await call.write(data)

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(streams)), return_exceptions=True)

    asyncio.run(main())


async def floor_seconds(nodes: int) -> float:
    """Median seconds of a round of a bare gRPC server with as many streams."""
    import grpc
    from grpc import aio

    streams: list[Any] = []
    everyone, over = asyncio.Event(), asyncio.Event()

    async def handle(requests: Any, context: Any) -> None:
        streams.append(context)
        if len(streams) == nodes:
            everyone.set()
        await over.wait()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(handle)

    server = aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    spawn = multiprocessing.get_context("spawn")
    shares = [nodes // PROCESSES + (n < nodes % PROCESSES) for n in range(PROCESSES)]
    processes = [spawn.Process(target=_echoes, args=(port, share), daemon=True) for share in shares]
    for process in processes:
        process.start()
    try:
        await asyncio.wait_for(everyone.wait(), _GIVE_UP_S)
        payload, times = bytes(BYTES), []

        async def one(context: Any) -> None:
            await context.write(payload)
            await context.read()

        for _ in range(ROUNDS):
            began = time.perf_counter()
            await asyncio.gather(*(one(context) for context in streams))
            times.append(time.perf_counter() - began)
    finally:
        for process in processes:
            process.kill()
        over.set()
        await server.stop(0)
    return statistics.median(times[1:])


# ---------------------------------------------------------------- all of it


def free_ports() -> tuple[int, int]:
    import socket

    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def measure(nodes: int, folder: Path, idle_s: float) -> dict[str, Any]:
    floor = asyncio.run(floor_seconds(nodes))
    coordinator, files = prepared(folder / "home", nodes, free_ports())
    coordinator.start()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        coordinator.until(0)
        time.sleep(2)
        alone = coordinator.resident()
        processes = [subprocess.Popen([sys.executable, __file__, "--process", str(file)]) for file in files]
        worked_before = coordinator.worked()
        connect_s = coordinator.until(nodes)
        connect_cpu = coordinator.worked() - worked_before
        time.sleep(5)
        together = coordinator.resident()
        time.sleep(max(0.0, coordinator.heartbeat_s() - 5))  # a node's first heartbeat comes within one interval
        before = coordinator.worked()
        time.sleep(idle_s)
        idle = (coordinator.worked() - before) / idle_s
        each, worked = round_seconds(coordinator, nodes)
        began, worked_before = time.perf_counter(), coordinator.worked()
        with connect(coordinator.url, coordinator.token) as federation:
            found = federation.analytics().mean("age")
        statistic, statistic_cpu = time.perf_counter() - began, coordinator.worked() - worked_before
        assert "age" in repr(found)
        time.sleep(35)  # it tidies up every half a minute, where nothing is computed
        later = coordinator.resident()
        coordinator.popen.send_signal(signal.SIGKILL)
        coordinator.popen.wait()
        began = time.perf_counter()
        coordinator.start()
        coordinator.until(nodes)
        restart, restart_cpu = time.perf_counter() - began, coordinator.worked()
    finally:
        for process in (*processes, coordinator.popen):
            process.kill()
            process.wait()
    return {
        "nodes": nodes,
        "connect_seconds": connect_s,
        "connect_cpu_seconds": connect_cpu,
        "restart_seconds": restart,
        "restart_cpu_seconds": restart_cpu,
        "kb_per_node": (together - alone) / 1000 / nodes,
        "kb_per_node_after": (later - alone) / 1000 / nodes,
        "idle_share": idle,
        "round_seconds": each,
        "round_cpu_seconds": worked,
        "floor_seconds": floor,
        "ratio": each / floor,
        "statistic_seconds": statistic,
        "statistic_cpu_seconds": statistic_cpu,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds over which idle processor time is taken")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--process", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.process:
        nodes_process(given.process)
        return
    with tempfile.TemporaryDirectory() as folder:
        row = measure(given.nodes, Path(folder), given.idle)
    if given.json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:20} {value:.4g}")


if __name__ == "__main__":
    main()
