"""A coordinator and nodes that share a folder, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calling import caller, parted
from grpc_federation import authority, echo, identity

from hanse.transport import Handler
from hanse.transports._folder_coordinator import FolderCoordinator
from hanse.transports._folder_node import FolderNode


class FolderFederation:
    """In one event loop. ``of_coordinator``, ``of_nodes``: the folder as each side sees it (one, unless told
    otherwise)."""

    def __init__(self, home: Path, handler: Handler = echo, *, of_nodes: Path | None = None, **options: Any) -> None:
        self.authority = authority(home / "authority")
        self.of_coordinator = home / "shared"
        self.of_nodes = of_nodes or self.of_coordinator
        self.recorded: list[tuple[str, str, str]] = []
        self.options = {"refused": lambda *what: self.recorded.append(what), "spool": home, **options}
        self.handler = handler
        self.coordinator = self.make()
        self.nodes: list[FolderNode] = []

    def make(self) -> FolderCoordinator:
        """Another start of the coordinator."""

        def own() -> tuple[bytes, bytes, bytes]:
            return (*self.authority.issue_server(["localhost"]), self.authority.pem)

        return FolderCoordinator(self.of_coordinator, own, self.handler, **self.options)

    async def __aenter__(self) -> FolderFederation:
        await self.coordinator.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.close()
        await self.coordinator.stop()

    async def node(self, name: str, handler: Handler = echo, *, wait: bool = True, **options: Any) -> FolderNode:
        known = options.pop("known", None) or identity(self.authority, name)
        options.setdefault("refused", lambda *what: self.recorded.append(what))
        lent, own = parted({"identity": lambda: known} | options)
        node = FolderNode(caller(name, handler, **lent), self.of_nodes, **own)
        self.nodes.append(node)
        node.start()
        if wait:
            await node.connected()
        return node

    def kinds(self) -> list[str]:
        """What has been recorded as refused, in order."""
        return [what for _, what, _ in self.recorded]
