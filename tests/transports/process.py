"""A node or a coordinator in a process of its own, to be killed by a test. Not a test itself.

Usage: process.py node FOLDER slow|fast ADDRESS [CHUNKS]  or  process.py coordinator FOLDER ADDRESS REQUEST_ID [SPOOL]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from calling import caller
from grpc_federation import credentials_of

from hanse.identity import Authority, load_identity
from hanse.messages import Message, Record, digest
from hanse.transport import Progress
from hanse.transports import _kept_halves
from hanse.transports._grpc_channel import channel_credentials
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports._grpc_node import GrpcNode


def say(*words: str) -> None:
    print(*words, flush=True)


def die_after(chunks: int) -> None:
    """Kills this process when so many chunks of a task have come."""
    real, came = _kept_halves._Copy.came, [0]

    def noted(self: _kept_halves._Copy, nbytes: int, checksum: int) -> None:
        real(self, nbytes, checksum)
        came[0] += 1
        if came[0] == chunks:
            os.kill(os.getpid(), signal.SIGKILL)

    _kept_halves._Copy.came = noted  # type: ignore[method-assign]


async def node(folder: str, pace: str, address: str, chunks: str = "") -> None:
    _kept_halves.SLOW_SECONDS = 0.0
    if chunks:
        die_after(int(chunks))

    async def work(peer: str, request: Message, alive: Progress) -> Message:
        say("began", request.id)
        if pace == "slow":
            await asyncio.Event().wait()
        return Message("reply", request.id, body=Record({"pace": pace}, dict(request.body.arrays)))

    identity = load_identity(folder)
    credentials = lambda: channel_credentials(identity)  # noqa: E731
    lent = caller(identity.node_id, work, spool=Path(folder))
    GrpcNode(lent, address, credentials=credentials).start()
    await asyncio.Event().wait()


async def coordinator(folder: str, address: str, id: str, spool: str | None = None) -> None:
    _kept_halves.LEAST_BYTES = 1 << 20

    async def none(peer: str, request: Message, alive: Progress) -> Message:
        raise AssertionError("no node asks anything here")

    transport = GrpcCoordinator(none, spool=spool, refused=lambda *what: say("refused", *what))
    say("listening", await transport.start(address, credentials_of(Authority.open(folder))))
    reply = await transport.request("a", Message("task", id))
    say("reply", reply.id, str(reply.body.data["n"]), *([] if spool is None else [digest(reply.body)]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run({"node": node, "coordinator": coordinator}[sys.argv[1]](*sys.argv[2:]))
