"""A tree of exact boosting over Hanse's transport, and nothing else of a federation.

As the floor whose nodes are two processes (``_boosting_floor.py``), but what passes between coordinator and nodes are
Hanse's messages: gRPC with mutual TLS, headers in JSON, checksums, receipts, acknowledgements, exchanges that go on
where a connection breaks. A node's connection takes an ask and passes it on to the process with the rows; the
coordinator asks, adds up what comes and finds the splits. There is no gate, no rule, no ledger, no audit log, no worker
of Hanse's, no check of what nodes say, no record and no run.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _boosting_floor import ASK, HEAD, Prepared, Spent, add_reply, following, read, rows_of
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hanse.allocator import keep_warm
from hanse.event_loop import run
from hanse.identity import Authority, NodeIdentity, csr
from hanse.messages import MAX_MESSAGE_BYTES, Array, Memory, Message, Record
from hanse.transport import Progress
from hanse.transports import Caller
from hanse.transports._grpc_channel import channel_credentials, server_credentials
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports._grpc_node import GrpcNode


def _nothing(*_: Any) -> None:
    pass


def _connection(address: str, identity: NodeIdentity, inner: socket.socket) -> None:
    """The process of a node that has the connection."""
    keep_warm()  # as a node does
    run(_passes_on(address, identity, inner))


async def _passes_on(address: str, identity: NodeIdentity, inner: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waits: list[asyncio.Future[tuple[Array, float, int]]] = []

    def came() -> None:
        try:
            head = read(inner, HEAD.size)
        except ConnectionError:  # the other process was ended before this one
            loop.remove_reader(inner.fileno())
            return
        nbytes, spent, each = HEAD.unpack(head)
        sums = np.frombuffer(read(inner, nbytes), np.uint8)
        waits.pop().set_result((sums, spent + time.process_time(), each))

    async def handler(peer: str, request: Message, alive: Progress) -> Message:
        told = request.body.arrays["told"].tobytes()
        waits.append(loop.create_future())
        inner.sendall(ASK.pack(len(told), *request.body.data["counts"]) + told)  # type: ignore[misc]
        sums, spent, each = await waits[-1]
        return Message("reply", request.id, body=Record({"spent": spent, "each": each}, {"sums": sums}))

    loop.add_reader(inner.fileno(), came)
    inner.setblocking(True)
    lent = Caller(identity.node_id, lambda: identity, handler, Memory, _nothing, _nothing, MAX_MESSAGE_BYTES)
    node = GrpcNode(lent, address, credentials=functools.partial(channel_credentials, identity))
    node.start()
    await asyncio.Event().wait()  # it is killed


def _identity(authority: Authority, node: str) -> NodeIdentity:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return NodeIdentity(node, key, authority.issue_node(csr(key, node), node, 1.0), authority.pem, "localhost:1")


def per_tree(X: Array, y: Array, nodes: int, trees: int, depth: int, warm: int = 2) -> dict[str, float]:
    """As :func:`_boosting_floor.per_tree`."""
    return run(_per_tree(X, y, nodes, trees, depth, warm))


async def _per_tree(X: Array, y: Array, nodes: int, trees: int, depth: int, warm: int) -> dict[str, float]:
    spawn, started, names = multiprocessing.get_context("spawn"), [], [f"node-{k}" for k in range(nodes)]
    with tempfile.TemporaryDirectory(prefix="hanse-floor-") as folder:
        prepared, authority = Prepared.of(X, y, nodes, Path(folder)), Authority.open(Path(folder, "authority"))
        coordinator = GrpcCoordinator(_refuses)
        served = server_credentials(*authority.issue_server(["localhost"]), authority.pem)
        address = await coordinator.start("localhost:0", served)
        try:
            for k, name in enumerate(names):
                outer, inner = socket.socketpair()
                file, told = Path(folder, f"{k}.npz"), (address, _identity(authority, name), outer)
                started.append(spawn.Process(target=_connection, args=told, daemon=True))
                started.append(spawn.Process(target=rows_of, args=(0, b"", file, inner), daemon=True))
                for process in started[-2:]:
                    process.start()
                outer.close()
                inner.close()
            while len(coordinator.online()) < nodes:
                await coordinator.changed()
            spent, growth, found, began = Spent(nodes), prepared.levels(warm + trees, depth), None, False
            while (level := following(growth, found)) is not None:
                if level.tree == warm and not began:
                    began = True
                    spent.begin()
                found = np.zeros(level.numbers, np.int64)
                body = Record({"counts": [*level.counts()]}, {"told": np.frombuffer(level.told(), np.uint8)})
                await asyncio.gather(*(_ask(coordinator, k, body, found, spent) for k in range(nodes)))
            return spent.per_tree(trees)
        finally:
            for process in reversed(started):  # who waits for another one ends before it
                process.kill()
                process.join()
            await coordinator.stop()


async def _refuses(peer: str, request: Message, alive: Progress) -> Message:
    raise NotImplementedError("no node asks for anything")


async def _ask(coordinator: GrpcCoordinator, number: int, body: Record, total: Array, spent: Spent) -> None:
    reply = await coordinator.request(f"node-{number}", Message("task", os.urandom(16).hex(), body=body))
    sums, said = reply.body.arrays["sums"], reply.body.data
    add_reply(total, sums, said["each"])  # type: ignore[arg-type]
    spent.of_nodes[number] = said["spent"]  # type: ignore[assignment]
    spent.bytes += sums.nbytes
