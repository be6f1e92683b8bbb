"""One payload for many nodes: its chunks are copied and checked once, not once for each.

The frames of a chunk differ between nodes only in the number of the stream, so all nodes get the same
number. Nodes that go along together (over slow lines: ``_turns``) share frames; two are kept, so whoever
falls behind makes its own again and holds nobody's memory. Nodes that want as much compressed share those frames.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from hanse.messages import (
    Array,
    Layout,
    Message,
    Packer,
    Widths,
    begin,
    checksum_of,
    chunk_frame,
    edition_by,
    packed_frame,
    parts,
)

KEPT_FRAMES = 2
_AT_ONCE_BYTES = 16 << 20  # of a payload: a pass over it takes no longer than a thread to begin where others work
FIRST_STREAM = 1 << 31  # streams of payloads that are shared; a connection's own are below


class Shared:
    """A payload on its way to any number of nodes."""

    def __init__(self, arrays: Mapping[str, Array], stream: int, chunk: int) -> None:
        self.arrays, self.stream, self.made = arrays, stream, 0
        self._chunk = chunk
        self._packers = dict[float, Packer]()
        self._edition: asyncio.Task[int] | None = None
        self._kept: OrderedDict[tuple[int, float | None], bytes] = OrderedDict()
        self._checksums: dict[int, int] = {}  # of the chunks, by where they begin

    @property
    def kept_bytes(self) -> int:
        return sum(map(len, self._kept.values()))

    async def edition(self) -> int:
        """Of the payload (:func:`hanse.messages.edition_by`), found once for all nodes; of a large one in a thread."""
        if self._edition is None and Layout.of(self.arrays).nbytes <= _AT_ONCE_BYTES:
            return self._sum_up()
        if self._edition is None:
            self._edition = asyncio.ensure_future(asyncio.to_thread(self._sum_up))
        return await asyncio.shield(self._edition)

    def _sum_up(self) -> int:
        if not self._checksums:
            self._checksums = {offset: checksum_of(found) for offset, found in parts(self.arrays, self._chunk)}
        return edition_by(self._checksums.values())

    def frames(self, message: Message, edition: int = 0) -> Iterator[bytes]:
        yield begin(message, self.stream, edition)
        yield from self.rest()

    def rest(self, start: int = 0, saving: float | None = None) -> Iterator[bytes]:
        """The frames of the payload, from the byte ``start`` on.

        Args:
            saving: the least share that compressing a chunk has to save; None: it goes as it is.
        """
        known = self._checksums if start % self._chunk == 0 else {}
        pack = None if saving is None else self._packers.setdefault(saving, Packer(saving))
        widths = None if pack is None else Widths(Layout.of(self.arrays))
        for offset, found in parts(self.arrays, self._chunk, start):
            frame = self._kept.get((offset, saving))
            if frame is None:
                if pack is None or widths is None:
                    frame = chunk_frame(self.stream, offset, found, known.get(offset))
                else:
                    frame = packed_frame(self.stream, offset, found, pack, widths.at(offset))
                self._kept[offset, saving] = frame
                self.made += 1
                if len(self._kept) > KEPT_FRAMES:
                    self._kept.popitem(last=False)
            yield frame


class Broadcast:
    """The payloads that are under way, by the identity of their arrays. An entry lives as long as
    somebody still sends it."""

    def __init__(self, chunk: int) -> None:
        self._chunk, self._count = chunk, 0
        self._open: weakref.WeakValueDictionary[int, Shared] = weakref.WeakValueDictionary()

    def share(self, arrays: Mapping[str, Array]) -> Shared:
        """The payload of these very arrays, which must not change while it is sent."""
        shared = self._open.get(id(arrays))
        if shared is None:
            self._count = (self._count + 2) % FIRST_STREAM
            shared = self._open[id(arrays)] = Shared(arrays, FIRST_STREAM | self._count, self._chunk)
        return shared
