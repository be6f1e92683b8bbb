"""A real nginx between nodes and coordinator: TLS passed through, and TLS ended there."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_federation import Federation, authority, echo, identity

sys.path.insert(0, str(Path(__file__).parents[2]))
from demo.federation import free_port
from hanse.messages import Message, Record
from hanse.transports._grpc_channel import channel_credentials
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports._grpc_node import GrpcNode
from tests.waiting import PATIENCE

_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (apt install nginx-light)"),
]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def body() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(body())


@asynccontextmanager
async def nginx(home: Path, port: int, servers: str, modules: str = "") -> AsyncIterator[None]:
    """With this configuration, until the end."""
    home.mkdir(exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"{modules}\n{user}\ndaemon off;\nworker_processes 1;\npid {home}/pid;\nerror_log {home}/error.log;\n"
        f"events {{}}\n{servers}\n"
    )
    command = ["nginx", "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        while True:
            assert process.returncode is None, (home / "error.log").read_text()
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


@pytest.mark.skipif(not _STREAM.exists(), reason="nginx has no stream module (apt install libnginx-mod-stream)")
def test_tls_passed_through(tmp_path: Path) -> None:
    """Nobody in between sees or vouches for anything: both ends are the ones of every other test."""

    async def test() -> None:
        port = free_port()
        async with Federation(tmp_path / "authority") as federation:
            behind = federation.address.rpartition(":")[2]
            servers = f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{behind}; }} }}"
            async with nginx(tmp_path / "nginx", port, servers, f"load_module {_STREAM};"):
                federation.address = f"localhost:{port}"
                await federation.node("a")
                await both_ways(federation.coordinator)
                assert federation.recorded == []
                await federation.nodes[0].close()

    run(test())


ENDED = """
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {home}/server.crt;
    ssl_certificate_key {home}/server.key;
    ssl_client_certificate {home}/authority.crt;
    ssl_verify_client on;
    http2_max_concurrent_streams 8;
    client_header_timeout 1d;
    client_max_body_size 0;
    client_body_timeout 1d;
    location /hanse.v1.Link/ {{
      grpc_pass grpc://127.0.0.1:{behind};
      grpc_set_header hanse-node $node;
      grpc_read_timeout 1d;
      grpc_send_timeout 1d;
      grpc_socket_keepalive on;
    }}
  }}
  map $ssl_client_s_dn $node {{ "~^CN=(?<cn>[^,+]+)$" $cn; default ""; }}
}}
"""


def test_tls_ended_at_nginx_which_asks_for_the_nodes_certificate(tmp_path: Path) -> None:
    """As docs/transports.md says: a node shows its certificate to nginx, and the coordinator listens to nginx alone."""

    async def test() -> None:
        port, home, signer = free_port(), tmp_path / "nginx", authority(tmp_path / "authority")
        home.mkdir()
        key, certificate = signer.issue_server(["localhost"])
        for name, pem in (("server.key", key), ("server.crt", certificate), ("authority.crt", signer.pem)):
            (home / name).write_bytes(pem)
        came: list[tuple[str, str]] = []
        coordinator = GrpcCoordinator(echo, accept=lambda node, mark: came.append((node, mark)))
        behind = (await coordinator.start("127.0.0.1:0", insecure=True)).rpartition(":")[2]
        async with nginx(home, port, ENDED.format(port=port, home=home, behind=behind)):
            known = identity(signer, "a")
            node = GrpcNode("a", f"localhost:{port}", echo, credentials=lambda: channel_credentials(known))
            node.start()
            await node.connected()
            await both_ways(coordinator)
            assert came == [("a", "")]
            # who claims another name is who the certificate says, and who has none of this authority nobody
            liar = GrpcNode("b", f"localhost:{port}", echo, credentials=lambda: channel_credentials(known))
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

            third = GrpcNode("c", f"localhost:{port}", echo, credentials=wrong, report=lambda *what: said.append(what))
            third.start()
            while not said:
                await asyncio.sleep(0.05)
            assert set(came) == {("a", "")}
            assert "connected" not in {what for what, _ in said}
            await third.close()
            await node.close()
        await coordinator.stop()

    run(test())


def test_nginx_that_is_started_anew_is_called_again(tmp_path: Path) -> None:
    async def test() -> None:
        port, home, signer = free_port(), tmp_path / "nginx", authority(tmp_path / "authority")
        home.mkdir()
        key, certificate = signer.issue_server(["localhost"])
        for name, pem in (("server.key", key), ("server.crt", certificate), ("authority.crt", signer.pem)):
            (home / name).write_bytes(pem)
        coordinator = GrpcCoordinator(echo)
        behind = (await coordinator.start("127.0.0.1:0", insecure=True)).rpartition(":")[2]
        known = identity(signer, "a")
        node = GrpcNode("a", f"localhost:{port}", echo, credentials=lambda: channel_credentials(known))
        for number in range(2):
            async with nginx(home, port, ENDED.format(port=port, home=home, behind=behind)):
                node.start()
                assert (await coordinator.request("a", Message("task", f"{number}"))).id == f"{number}"
            while coordinator.online():
                await coordinator.changed()
        await node.close()
        await coordinator.stop()

    run(test())
