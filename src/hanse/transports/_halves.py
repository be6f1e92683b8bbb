"""What lost connections left of large messages, for the next connection to go on with.

A half lies where its whole was going to lie, so it costs what the message would. It goes when nobody waits for the
message any more, and after an hour without a connection that takes it up.
"""

from __future__ import annotations

import asyncio

from hanse.messages import Buffer, Half, HalfKey, Keeper

KEPT_SECONDS = 3600.0
KEPT_REQUESTS = 2  # the newest; a peer that asks more than it can send begins the others anew


class Halves(dict[HalfKey, Half]):
    """By id, and whether it is a reply. :class:`hanse.messages.Assembler` takes out what goes on."""

    @property
    def left(self) -> bool:
        """Whether an earlier process left some, which :meth:`look` finds."""
        return False

    def look(self, id: str, reply: bool) -> Half | None:
        """What an earlier process left of this message, if anything; told once. It reads all of that, so it is called
        beside the event loop."""
        return None

    def land(self, id: str, frame: bytes, nbytes: int) -> Buffer | None:
        """Where what begins with ``frame`` lands, if not where all do."""
        return None

    def watch(self, half: Half, frame: bytes) -> Keeper | None:
        """What keeps a half that begins with ``frame`` beyond this process, if anything."""
        return None

    def drop(self, key: HalfKey) -> None:
        """Nobody waits for its whole."""
        dict.pop(self, key, None)

    def keep(self, halves: dict[HalfKey, Half]) -> None:
        """From here on these are kept."""
        for key, half in halves.items():
            self[key] = half
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._old, key, half.edition, half.filled)
        for key in [key for key in self if not key[1]][:-KEPT_REQUESTS]:
            del self[key]

    def _old(self, key: HalfKey, edition: int, filled: int) -> None:
        half = self.get(key)
        if half is not None and (half.edition, half.filled) == (edition, filled):  # else more of it has come since
            del self[key]
