"""``flower://HOST:PORT``: everything goes over Flower, a SuperLink at the coordinator and a SuperNode at each node.

Coordinator and nodes start Flower themselves. What it carries are sealed files (``_folder_papers.py``); a node's
ClientApp hands them to the node that runs anyway, so gate, approvals and the warm worker are where they are on every
way. Flower asks for news every three seconds and starts a process for each message: it is the way for sites that have
Flower, not a quick one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hanse.errors import ConfigError
from hanse.transports import Caller, Hub, Patience
from hanse.transports._grpc_channel import host_of

if TYPE_CHECKING:
    from hanse.transports._flower_node import FlowerNode

PATIENCE = Patience(heartbeat_s=60.0, missed=3, gone=30, relay_s=120.0, run={"reconnect_timeout_s": 300.0})
_SCHEME = "flower://"


def listener(address: str, hub: Hub) -> FlowerListener:
    return FlowerListener(_where(address), hub)


def line(address: str, caller: Caller) -> FlowerNode:
    from hanse.transports._flower_node import FlowerNode

    return FlowerNode(_where(address), caller)


class FlowerListener:
    """A :class:`hanse.transports.Listener`."""

    def __init__(self, where: str, hub: Hub) -> None:
        from hanse.transports._flower_coordinator import FlowerCoordinator

        self._inner = FlowerCoordinator(where, hub)
        self.online, self.changed, self.disconnect = self._inner.online, self._inner.changed, self._inner.disconnect
        self.request, self.stop, self.answers = self._inner.request, self._inner.stop, self._inner.answers

    async def start(self) -> str:
        """Listens; the address by which nodes reach it. Raises ``ConfigError`` where it cannot."""
        return f"{_SCHEME}{await self._inner.start()}"


def _where(address: str) -> str:
    where = address.removeprefix(_SCHEME)
    if not address.startswith(_SCHEME):
        raise ConfigError(f"{address[:200]!r} is no address of Flower; expected {_SCHEME}HOST:PORT")
    host_of(where)
    return where
