"""``folder:///path``: coordinator and nodes share nothing but a directory that something else keeps in step.

Syncthing, Nextcloud, a network drive, a stick that somebody carries: each side has the folder under a path of its
own. What lies in it is sealed for its receiver and comes from whom it says (``_folder_papers.py``), so whoever
carries it sees who talks, when and how much, and no more. It may come late, twice, in any order and in halves
(``_folder_wire.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hanse.errors import ConfigError
from hanse.transports import Caller, Hub, Patience

if TYPE_CHECKING:
    from hanse.transports._folder_node import FolderNode

_DAYS = 3 * 86_400.0  # a weekend
PATIENCE = Patience(
    heartbeat_s=60.0,
    missed=10,
    gone=3 * 1440,
    relay_s=3600.0,
    run={"round_timeout_s": _DAYS, "reconnect_timeout_s": _DAYS, "wait_timeout_s": _DAYS},
)
_SCHEME = "folder://"


def listener(address: str, hub: Hub) -> FolderListener:
    return FolderListener(_path(address), hub)


def line(address: str, caller: Caller) -> FolderNode:
    from hanse.transports._folder_node import FolderNode

    return FolderNode(caller, _path(address))


def enrol(address: str, asked: Mapping[str, str], ca_sha256: str, say: Callable[[str], None]) -> dict[str, Any]:
    from hanse.transports._folder_joining import join

    return join(_path(address), asked, ca_sha256, say)


class FolderListener:
    """A :class:`hanse.transports.Listener`."""

    def __init__(self, root: Path, hub: Hub) -> None:
        from hanse.transports._folder_coordinator import FolderCoordinator

        self._root = root
        self._inner = FolderCoordinator(
            root,
            lambda: hub.identity(("localhost",)),  # no machine is called; the name stands for none
            hub.handler,
            accept=hub.accept,
            refused=hub.refused,
            enrol=hub.enrol,
            spool=hub.spool,
        )
        self.online, self.changed, self.disconnect = self._inner.online, self._inner.changed, self._inner.disconnect
        self.request, self.stop = self._inner.request, self._inner.stop

    async def start(self) -> str:
        """Announces itself in the folder; the address, as this machine calls it."""
        await self._inner.start()
        return f"{_SCHEME}{self._root}"

    async def answers(self) -> bool:
        """Whether the announcement is there and this coordinator's."""
        return await asyncio.to_thread(self._inner.announced)


def _path(address: str) -> Path:
    path = Path(address.removeprefix(_SCHEME))
    if not address.startswith(_SCHEME) or not path.is_absolute():
        raise ConfigError(f"{address[:200]!r} is no address of a folder; expected {_SCHEME}/ABSOLUTE/PATH")
    return path
