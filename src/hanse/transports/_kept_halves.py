"""Halves of large answers that outlive the process that receives them: a coordinator that was killed goes on at the
chunk that was cut.

Each is a folder of three files: ``begin``, the frame with which the answer began; ``payload``; and ``chunks``, the
length and the XXH3 of each chunk, added when the chunk is written. A process that is killed leaves what the system has
of them; when the answer begins again, in the same edition, what the chunks say and the payload bears out is there. So
nothing is synced: where the whole machine went down, less of it is there, and no less is true.

An answer that is in needs no name any more; what nobody takes up in a day goes at the next start.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import xxhash

from hanse.errors import HanseError
from hanse.messages import Buffer, Half, HalfKey, Spool, half_of
from hanse.transports._halves import Halves
from hanse.transports._spools import check_room

LEAST_BYTES = 256 << 20  # of an answer: a smaller one lands in files that are used again, which is quicker
OLD_SECONDS = 86_400.0
_CHUNK = struct.Struct("<IQ")


class KeptHalves:
    """Those of all nodes of a coordinator.

    Args:
        folder: where they lie; made when there is one.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder) / "halves"
        self.leaving = False  # the process ends: what is half in stays
        if self.folder.is_dir():
            for one in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    if time.time() - one.stat().st_mtime > OLD_SECONDS:
                        _remove(one)

    def begin(self, peer: str, id: str, frame: bytes, nbytes: int) -> Buffer:
        """Room for an answer that begins so. Raises ``TooLarge`` where the disk has none."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_room(nbytes, os.statvfs(self.folder))
        for other in self._of(peer, id):
            _remove(other)
        place = self.folder / f"{_name(peer, id)}.{secrets.token_hex(4)}"
        place.mkdir(mode=0o700)
        (place / "begin").write_bytes(frame)
        return _OnDisk(self, place, nbytes)

    def found(self, peer: str, id: str) -> Half | None:
        """What an earlier process left of this answer."""
        for place in self._of(peer, id):
            try:
                frame = (place / "begin").read_bytes()
                chunks = (place / "chunks").read_bytes()
                half = half_of(frame, functools.partial(_OnDisk, self, place))
            except (OSError, HanseError):
                _remove(place)
                continue
            believed = 0
            for length, digest in _CHUNK.iter_unpack(chunks[: len(chunks) - len(chunks) % _CHUNK.size]):
                if length == 0 or half.filled + length > half.layout.nbytes:
                    break
                try:
                    lies = half.buffer.read(half.filled, length)
                except HanseError:  # it is shorter than its chunks say
                    break
                if xxhash.xxh3_64_intdigest(lies) != digest:
                    break
                half.add(lies, digest)
                believed += 1
            assert isinstance(half.buffer, _OnDisk)
            half.buffer.cut(believed)
            return half
        return None

    def _of(self, peer: str, id: str) -> list[Path]:
        return sorted(self.folder.glob(f"{_name(peer, id)}.*"))


class NodeHalves(Halves):
    """A node's: in memory what this process received, on disk what an earlier one did."""

    def __init__(self, kept: KeptHalves, peer: str) -> None:
        super().__init__()
        self._on_disk, self._peer = kept, peer

    def land(self, id: str, frame: bytes, nbytes: int) -> Buffer | None:
        return self._on_disk.begin(self._peer, id, frame, nbytes) if nbytes >= LEAST_BYTES else None

    def pop(self, key: HalfKey, default: Any = None) -> Any:
        if key in self or not key[1]:
            return super().pop(key, default)
        return self._on_disk.found(self._peer, key[0]) or default


class _OnDisk:
    """A payload that has a name until it is all there (:class:`hanse.messages.Buffer`)."""

    def __init__(self, kept: KeptHalves, place: Path, nbytes: int) -> None:
        self._kept, self._place, self._named = kept, place, True
        payload = os.open(place / "payload", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._spool = Spool(nbytes, fd=payload)
        self._chunks = os.open(place / "chunks", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def cut(self, believed: int) -> None:
        """So many chunks are believed; what is written goes on behind them."""
        os.ftruncate(self._chunks, believed * _CHUNK.size)
        os.lseek(self._chunks, 0, os.SEEK_END)

    def write(self, offset: int, chunk: memoryview) -> None:
        self._spool.write(offset, chunk)
        os.write(self._chunks, _CHUNK.pack(len(chunk), xxhash.xxh3_64_intdigest(chunk)))

    def seal(self) -> None:
        self._forget()

    def read(self, offset: int, nbytes: int) -> memoryview:
        return self._spool.read(offset, nbytes)

    def _forget(self) -> None:
        if self._named:
            self._named = False
            os.close(self._chunks)
            _remove(self._place)

    def __del__(self) -> None:
        if getattr(self, "_chunks", None) is None:
            return
        if self._kept.leaving and self._named:
            self._named = False
            os.close(self._chunks)
        self._forget()


def _name(peer: str, id: str) -> str:
    return hashlib.sha256(f"{peer}\0{id}".encode()).hexdigest()[:32]


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
