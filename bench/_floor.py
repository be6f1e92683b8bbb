"""The physical limit of a round: a bare gRPC stream that moves and sums the same bytes, without TLS.

Each of N processes holds one stream; a round sends ``nbytes`` to each and adds what comes back, as it
comes. Nothing else is done: no checkpoint, no record, no identity.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

CHUNK = 2 << 20
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def _node(port: int, nbytes: int, rounds: int) -> None:
    import grpc

    channel = grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS)
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
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


async def _rounds(nodes: int, nbytes: int, rounds: int) -> list[float]:
    import grpc
    from grpc import aio

    model = np.ones(nbytes // 4, np.float32)
    total = np.zeros(nbytes // 4, np.float32)
    view = memoryview(model).cast("B")
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
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_node, args=(port, nbytes, rounds), daemon=True) for _ in range(nodes)]
    for process in processes:
        process.start()
    await everyone.wait()

    async def one(context: Any) -> None:
        for start in range(0, nbytes, CHUNK):
            await context.write(bytes(view[start : start + CHUNK]))
        filled = 0
        while filled < nbytes:
            chunk = await context.read()
            low = filled // 4
            total[low : low + len(chunk) // 4] += np.frombuffer(chunk, np.float32)
            filled += len(chunk)

    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await asyncio.gather(*(one(context) for context in streams))
        times.append(time.perf_counter() - begun)
    over.set()
    await server.stop(1)
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
    return times


def seconds_per_round(nodes: int, nbytes: int, rounds: int) -> float:
    """Median seconds of a round; the first is not counted."""
    times = asyncio.run(_rounds(nodes, nbytes, rounds + 1))
    return statistics.median(times[1:])
