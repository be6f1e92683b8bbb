"""What holds behind every proxy: TLS passed through, TLS ended there, and a proxy that is started anew.

A proxy is given as a function of its folder, its port and the coordinator's: what it is started with, once the files
that it reads are written. ``server.crt``, ``server.key``, ``server.pem`` (both) and ``authority.crt`` lie in its folder
where it ends TLS.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from calling import caller
from grpc_federation import Federation, authority, echo, identity

sys.path.insert(0, str(Path(__file__).parents[2]))
from demo.federation import free_port
from hanse.identity import Authority
from hanse.messages import Message, Record
from hanse.transports._grpc_channel import channel_credentials
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports._grpc_node import GrpcNode
from tests.waiting import PATIENCE

Proxy = Callable[[Path, int, int], list[str]]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def body() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(body())


@asynccontextmanager
async def proxying(proxy: Proxy, home: Path, port: int, behind: int) -> AsyncIterator[None]:
    """With this proxy in front of the coordinator, until the end."""
    home.mkdir(exist_ok=True)
    command, said = proxy(home, port, behind), home / "said.txt"
    with said.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        while True:
            assert process.returncode is None, said.read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            await writer.wait_closed()
            break
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def both_ways(transport: Any) -> None:
    """Small and large messages, many at once."""
    for size in (0, 1000, 1 << 20):
        body = Record({"size": size}, {"w": np.arange(size, dtype="f8")})
        reply = await transport.request("a", Message("task", f"{size}", body=body))
        np.testing.assert_array_equal(reply.body.arrays["w"], body.arrays["w"])
    asked = [transport.request("a", Message("task", f"many {i}")) for i in range(50)]
    assert [reply.id for reply in await asyncio.gather(*asked)] == [f"many {i}" for i in range(50)]


async def passed_through(proxy: Proxy, tmp_path: Path) -> None:
    """Nobody in between sees or vouches for anything: both ends are the ones of every other test."""
    port = free_port()
    async with Federation(tmp_path / "authority") as federation:
        behind = int(federation.address.rpartition(":")[2])
        async with proxying(proxy, tmp_path / "proxy", port, behind):
            federation.address = f"localhost:{port}"
            await federation.node("a")
            await both_ways(federation.coordinator)
            assert federation.recorded == []
            await federation.nodes[0].close()


def with_certificates(home: Path, signer: Authority) -> None:
    """What a proxy that ends TLS has to show, and whom it has to believe."""
    home.mkdir()
    key, certificate = signer.issue_server(["localhost"])
    files = {"server.key": key, "server.crt": certificate, "server.pem": certificate + key, "authority.crt": signer.pem}
    for name, pem in files.items():
        (home / name).write_bytes(pem)


async def ended(proxy: Proxy, tmp_path: Path) -> None:
    """As docs/transports.md says: a node shows its certificate to the proxy, the coordinator listens to it alone."""
    port, home, signer = free_port(), tmp_path / "proxy", authority(tmp_path / "authority")
    with_certificates(home, signer)
    came: list[tuple[str, str]] = []
    coordinator = GrpcCoordinator(echo, accept=lambda node, mark: came.append((node, mark)))
    behind = int((await coordinator.start("127.0.0.1:0", insecure=True)).rpartition(":")[2])
    async with proxying(proxy, home, port, behind):
        known = identity(signer, "a")
        node = GrpcNode(caller("a", echo), f"localhost:{port}", credentials=lambda: channel_credentials(known))
        node.start()
        await node.connected()
        await both_ways(coordinator)
        assert came == [("a", "")]
        # who claims another name is who the certificate says, and who has none of this authority nobody
        liar = GrpcNode(caller("b", echo), f"localhost:{port}", credentials=lambda: channel_credentials(known))
        liar.start()
        await liar.connected()
        assert len(came) > 1
        assert set(came) == {("a", "")}
        await liar.close()
        said: list[tuple[str, str]] = []
        stranger = identity(authority(tmp_path / "other"), "c")

        def wrong() -> Any:
            context = channel_credentials(stranger)
            context.load_verify_locations(cadata=signer.pem.decode())
            return context

        third = GrpcNode(
            caller("c", echo, report=lambda *what: said.append(what)), f"localhost:{port}", credentials=wrong
        )
        third.start()
        while not said:
            await asyncio.sleep(0.05)
        assert set(came) == {("a", "")}
        assert "connected" not in {what for what, _ in said}
        await third.close()
        await node.close()
    await coordinator.stop()


async def started_anew(proxy: Proxy, tmp_path: Path) -> None:
    """A node calls again, and is asked again."""
    port, home, signer = free_port(), tmp_path / "proxy", authority(tmp_path / "authority")
    with_certificates(home, signer)
    coordinator = GrpcCoordinator(echo)
    behind = int((await coordinator.start("127.0.0.1:0", insecure=True)).rpartition(":")[2])
    known = identity(signer, "a")
    node = GrpcNode(caller("a", echo), f"localhost:{port}", credentials=lambda: channel_credentials(known))
    for number in range(2):
        async with proxying(proxy, home, port, behind):
            node.start()
            assert (await coordinator.request("a", Message("task", f"{number}"))).id == f"{number}"
        while coordinator.online():
            await coordinator.changed()
    await node.close()
    await coordinator.stop()
