"""The physical limit of a round: a bare gRPC stream that moves and sums the same bytes.

Each of N processes holds one stream; a round sends ``nbytes`` to each and adds what comes back, as it
comes. Nothing else is done: no checkpoint, no record, no identity. Without TLS, unless it is asked for.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import queue
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from hanse.identity import Authority
from hanse.messages import Array

CHUNK = 2 << 20
_AHEAD = 8  # chunks that wait for the line
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def _node(port: int, nbytes: int, rounds: int, root: bytes) -> None:
    import grpc

    where = f"localhost:{port}"
    credentials = grpc.ssl_channel_credentials(root) if root else None
    channel = grpc.secure_channel(where, credentials, OPTIONS) if root else grpc.insecure_channel(where, OPTIONS)
    outgoing: queue.Queue[bytes | None] = queue.Queue(_AHEAD)  # else it would hold the model twice
    call = channel.stream_stream("/floor/round")(iter(outgoing.get, None))
    model = bytearray(nbytes)
    for _ in range(rounds):
        filled = 0
        while filled < nbytes:
            chunk = next(call)
            model[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        view = memoryview(model)
        for start in range(0, nbytes, CHUNK):
            outgoing.put(bytes(view[start : start + CHUNK]))
    outgoing.put(None)
    for _ in call:
        pass


async def _rounds(nodes: int, nbytes: int, rounds: int, tls: bool, folder: Path | None) -> list[float]:
    import grpc
    from grpc import aio

    model, total = np.empty(nbytes // 4, np.float32), np.zeros(nbytes // 4, np.float32)
    model[:] = 0  # written, so that its pages are there; the sum of sums of anything else has no end
    streams: list[Any] = []
    everyone, over = asyncio.Event(), asyncio.Event()

    async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
        streams.append(context)
        if len(streams) == nodes:
            everyone.set()
        await over.wait()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(handle)

    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Handler(),))
    key, certificate, root = _identity() if tls else (b"", b"", b"")
    if tls:
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port("localhost:0")
    await server.start()
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_node, args=(port, nbytes, rounds, root), daemon=True) for _ in range(nodes)]
    for process in processes:
        process.start()
    await everyone.wait()

    async def one(context: Any, model: Array, total: Array, begun: set[int]) -> None:
        view = memoryview(model).cast("B")
        for start in range(0, nbytes, CHUNK):
            await context.write(bytes(view[start : start + CHUNK]))
        filled = 0
        while filled < nbytes:
            chunk = await context.read()
            came, place = np.frombuffer(chunk, np.float32), total[filled // 4 : (filled + len(chunk)) // 4]
            if filled in begun:
                place += came
            else:
                begun.add(filled)
                place[:] = came
            filled += len(chunk)

    times, kept = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        begun = set[int]()
        await asyncio.gather(*(one(context, model, total, begun) for context in streams))
        model, total = total, model  # the sum is what the next round sends
        if kept is not None:
            await kept
        if folder is not None:  # beside the next round, as a checkpoint is
            kept = asyncio.ensure_future(asyncio.to_thread(_keep, model, folder))
        times.append(time.perf_counter() - began)
    if kept is not None:
        await kept
    over.set()
    await server.stop(1)
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
    return times


def _keep(total: Array, folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(total.data)
        os.fsync(file.fileno())


def _identity() -> tuple[bytes, bytes, bytes]:
    """Key and certificate of ``localhost``, and what signed it."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.open(Path(folder))
        key, certificate = authority.issue_server(["localhost"])
        return key, certificate, authority.pem


def seconds_per_round(nodes: int, nbytes: int, rounds: int, tls: bool = False, folder: Path | None = None) -> float:
    """Median seconds of a round; the first is not counted.

    Args:
        tls: encrypted, as nothing that leaves a hospital goes otherwise.
        folder: the sum of each round is written there, and synced.
    """
    times = asyncio.run(_rounds(nodes, nbytes, rounds + 1, tls, folder))
    return statistics.median(times[1:])
