"""What nodes are told about a run beside its asks: a proposal, a decision of their owner, its end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from hanse.coordinator.presence import Presence
from hanse.errors import NodeFailed
from hanse.messages import Json, Message, Record


class Notices:
    """Short messages to nodes that are on line.

    Args:
        presence: reaches the nodes.
        timeout_s: how long a node may take to take note.
    """

    def __init__(self, presence: Presence, timeout_s: float) -> None:
        self._presence, self._timeout_s = presence, timeout_s

    async def send(self, node: str, kind: str, run_id: str, data: Mapping[str, Json]) -> Message:
        """The node's reply. Raises ``NodeFailed`` when none comes in time, and what the node refuses."""
        message = Message(kind, f"{run_id}/{kind}/{secrets.token_hex(6)}", "", Record(data))
        try:
            return await asyncio.wait_for(self._presence.request(node, message), self._timeout_s)
        except TimeoutError:
            raise NodeFailed(f"node {node} did not answer within {self._timeout_s:g} s") from None
