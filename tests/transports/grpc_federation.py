"""A certificate authority, and coordinators and nodes that use it, for the tests of gRPC."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import grpc
from calling import caller, parted
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hanse.identity import Authority, NodeIdentity, csr
from hanse.messages import Message
from hanse.transport import Handler, Progress
from hanse.transports._grpc_channel import channel_credentials, server_credentials
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports._grpc_node import GrpcNode


def new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def identity(authority: Authority, node: str, address: str = "localhost:1", days: float = 30) -> NodeIdentity:
    key = new_key()
    return NodeIdentity(node, key, authority.issue_node(csr(key, node), node, days), authority.pem, address)


def credentials_of(authority: Authority) -> Any:
    return server_credentials(*authority.issue_server(["localhost", "127.0.0.1"]), authority.pem)


def grpc_credentials(identity: NodeIdentity) -> grpc.ChannelCredentials:
    """For the grpcio library, which stands for whatever else speaks gRPC."""
    return grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.cert_pem)


@functools.cache
def _authority(folder: str) -> Authority:
    return Authority.open(folder)


def authority(folder: Path) -> Authority:
    return _authority(str(folder))


async def echo(peer: str, request: Message, alive: Progress) -> Message:
    return Message("reply", request.id, body=request.body)


class Federation:
    """A coordinator and its nodes in this event loop, over real TLS."""

    def __init__(self, folder: Path, handler: Handler = echo, **options: Any) -> None:
        self.authority = authority(folder)
        self.recorded: list[tuple[str, str, str]] = []
        options.setdefault("refused", lambda *what: self.recorded.append(what))
        self.options, self.handler = options, handler
        self.coordinator = GrpcCoordinator(handler, **options)
        self.nodes: list[GrpcNode] = []
        self.address = ""

    async def __aenter__(self) -> Federation:
        self.address = await self.coordinator.start("localhost:0", credentials_of(self.authority))
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.close()
        await self.coordinator.stop()

    async def node(self, name: str, handler: Handler = echo, *, wait: bool = True, **options: Any) -> GrpcNode:
        options.setdefault("credentials", functools.partial(channel_credentials, identity(self.authority, name)))
        lent, own = parted(options)
        node = GrpcNode(caller(name, handler, **lent), self.address, **own)
        self.nodes.append(node)
        node.start()
        if wait:
            await node.connected()
        return node

    def kinds(self) -> list[str]:
        """What has been recorded as refused, in order."""
        return [what for _, what, _ in self.recorded]
