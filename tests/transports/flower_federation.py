"""A coordinator and nodes that speak over a real Flower, for tests: ``HANSE_FLOWER`` says where it is (make flower)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grpc_federation import authority, echo, identity

from hanse import transports
from hanse.messages import Memory
from hanse.transport import Handler


class FlowerFederation:
    """In one event loop, with a SuperLink and a SuperNode for each node as processes."""

    def __init__(self, home: Path, handler: Handler = echo) -> None:
        self.authority = authority(home / "authority")
        self.recorded: list[tuple[str, str, str]] = []
        self.said: list[tuple[str, str, str]] = []
        self.revoked: set[str] = set()
        own = (self.authority.pem,)
        hub = transports.Hub(
            handler,
            self._accept,
            lambda *what: self.recorded.append(what),
            lambda hosts: (*self.authority.issue_server([*hosts, "localhost"]), *own),
            home,
        )
        self.coordinator = transports.listener("flower://localhost:0", hub)
        self.nodes: list[Any] = []
        self.address = ""

    def _accept(self, node: str, fingerprint: str) -> None:
        from hanse.errors import NotAuthenticated

        if node in self.revoked:
            raise NotAuthenticated(f"{node} was revoked")

    async def __aenter__(self) -> FlowerFederation:
        self.address = await self.coordinator.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.close()
        await self.coordinator.stop()

    async def node(self, name: str, handler: Handler = echo, *, wait: bool = True, **_: Any) -> Any:
        known = identity(self.authority, name)
        caller = transports.Caller(
            name,
            lambda: known,
            handler,
            Memory,
            lambda what, detail: self.said.append((name, what, detail)),
            lambda *what: self.recorded.append(what),
            1 << 30,
        )
        node = transports.line(self.address, caller)
        self.nodes.append(node)
        node.start()
        if wait:
            await node.connected()
        return node
