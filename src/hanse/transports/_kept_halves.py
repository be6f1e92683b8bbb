"""Halves of large messages that outlive the process that receives them: who was killed goes on at the chunk that was
cut.

Each is a folder of three files: ``begin``, the frame with which the message began; ``payload``; and ``chunks``, the
length and the XXH3 of each chunk, added when the chunk is written. A process that is killed leaves what the system has
of them; when the message begins again, in the same edition, what the chunks say and the payload bears out is there. So
nothing is synced: where the whole machine went down, less of it is there, and no less is true.

A coordinator has large answers land in such files (:class:`AnswerHalves`). At a node a task lands in memory that it
shares with its worker, and is copied to disk only where it comes slowly (:class:`TaskHalves`): what came in seconds
comes again in seconds, and to write the model to disk at every node and every step would wear it for nothing.

A message that is in needs no files any more. A coordinator uses them again for a moment when nobody reads them
(:mod:`hanse.transports._spools`), under a name that the next start removes; so does what nobody takes up in a day.
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
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import xxhash

from hanse.errors import HanseError, TooLarge
from hanse.messages import Allocate, Buffer, Half, Keeper, Spool, half_of
from hanse.transport import COORDINATOR
from hanse.transports._halves import Halves
from hanse.transports._spools import KEPT_FILES, Idle, check_room

LEAST_BYTES = 256 << 20  # of an answer: a smaller one lands in files that are used again, which is quicker
OLD_SECONDS = 86_400.0
SLOW_SECONDS = 30.0  # a task that took longer to come is worth a copy
_AT_ONCE = 2  # chunks that are copied with each that comes: so it catches up, and holds nobody up
_READ_BYTES = 8 << 20
SPARE_SECONDS = 60.0  # in which the next step's answers come
_SPARE = "spare"
_CHUNK = struct.Struct("<IQ")


class KeptHalves:
    """Those of one process: of a coordinator with all of its nodes, or of a node.

    Args:
        folder: where they lie; made when there is one.
        again: their files are used again.
    """

    def __init__(self, folder: str | os.PathLike[str], again: bool = False) -> None:
        self.again = again
        self.folder = Path(folder) / "halves"
        self.leaving = False  # the process ends: what is half in stays
        self.left = set[str]()  # names of what earlier processes left
        self._spares: Idle[Path] = Idle(_remove_all, lambda: (SPARE_SECONDS, KEPT_FILES, _memory_bytes() // 2))
        if self.folder.is_dir():
            for one in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    if one.name.startswith(_SPARE) or time.time() - one.stat().st_mtime > OLD_SECONDS:
                        _remove(one)
                    else:
                        self.left.add(one.name.partition(".")[0])

    def begin(self, peer: str, id: str, frame: bytes, nbytes: int) -> OnDisk:
        """Room for a message that begins so. Raises ``TooLarge`` where the disk has none."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for other in self._of(peer, id):
            _remove(other)
        place = self.folder / f"{_name(peer, id)}.{secrets.token_hex(4)}"
        if (spare := self._spares.take(nbytes)) is None:
            place.mkdir(mode=0o700)
        else:
            spare.rename(place)
        try:
            self._check_room(nbytes, 0 if spare is None else (place / "payload").stat().st_size)
            (place / "begin").write_bytes(frame)
            return OnDisk(self, place, nbytes)
        except BaseException:
            _remove(place)
            raise

    def _check_room(self, nbytes: int, own: int) -> None:
        try:
            check_room(nbytes, os.statvfs(self.folder), own)
        except TooLarge:
            if not self._spares.kept_bytes:
                raise
            self._spares.clear()
            check_room(nbytes, os.statvfs(self.folder), own)

    def nameless(self, place: Path) -> Path:
        """Where the payload lies from here on, if anywhere: nobody takes it for a half."""
        if not self.again:
            _remove(place)
            return place
        spare = self.folder / f"{_SPARE}.{secrets.token_hex(8)}"
        place.rename(spare)
        for name in ("begin", "chunks"):
            (spare / name).unlink(missing_ok=True)
        return spare

    def unread(self, place: Path) -> None:
        """Nobody reads the payload that lies there any more."""
        try:
            size = (place / "payload").stat().st_size
        except OSError:
            return
        if self.leaving:
            _remove(place)
        else:
            self._spares.give(place, size)

    def leave(self) -> None:
        """The process ends: what is half in stays, and nothing else."""
        self.leaving = True
        self._spares.clear()

    def found(self, peer: str, id: str) -> Half | None:
        """What an earlier process left of this message: it is taken once. Reads all of it."""
        if (name := _name(peer, id)) not in self.left:
            return None
        self.left.discard(name)
        for place in self._of(peer, id):
            try:
                frame = (place / "begin").read_bytes()
                chunks = (place / "chunks").read_bytes()
                half = half_of(frame, functools.partial(OnDisk, self, place))
            except (OSError, HanseError):
                _remove(place)
                continue
            believed = 0
            for length, digest in _CHUNK.iter_unpack(chunks[: len(chunks) - len(chunks) % _CHUNK.size]):
                if length == 0 or half.filled + length >= half.layout.nbytes:  # the last is sent again: it ends it
                    break
                try:
                    lies = half.buffer.read(half.filled, length)
                except (OSError, HanseError):  # it is shorter than its chunks say, or the disk is damaged there
                    break
                if xxhash.xxh3_64_intdigest(lies) != digest:
                    break
                half.add(lies, digest)
                believed += 1
            assert isinstance(half.buffer, OnDisk)
            half.buffer.cut(believed)
            half.keeper = half.buffer
            return half
        return None

    def _of(self, peer: str, id: str) -> list[Path]:
        return sorted(self.folder.glob(f"{_name(peer, id)}.*"))


class AnswerHalves(Halves):
    """A coordinator's, with one node: in memory what this process received, on disk what an earlier one did."""

    def __init__(self, kept: KeptHalves, node: str) -> None:
        super().__init__()
        self._kept, self._node = kept, node

    @property
    def left(self) -> bool:
        return bool(self._kept.left)

    def look(self, id: str, reply: bool) -> Half | None:
        return self._kept.found(self._node, id) if reply else None

    def land(self, id: str, frame: bytes, nbytes: int) -> Buffer | None:
        return self._kept.begin(self._node, id, frame, nbytes) if _of_reply(frame) and nbytes >= LEAST_BYTES else None

    def watch(self, half: Half, frame: bytes) -> Keeper | None:
        return half.buffer if isinstance(half.buffer, OnDisk) else None


class TaskHalves(Halves):
    """A node's: in memory, and on disk a copy of what comes slowly.

    Args:
        allocate: where payloads land.
    """

    def __init__(self, kept: KeptHalves, allocate: Allocate) -> None:
        super().__init__()
        self._kept, self._allocate = kept, allocate

    @property
    def left(self) -> bool:
        return bool(self._kept.left)

    def look(self, id: str, reply: bool) -> Half | None:
        if reply or (half := self._kept.found(COORDINATOR, id)) is None:
            return None
        disk = half.buffer
        assert isinstance(disk, OnDisk)
        try:
            half.buffer = self._allocate(half.layout.nbytes)
            for place in range(0, half.filled, _READ_BYTES):
                half.buffer.write(place, disk.read(place, min(_READ_BYTES, half.filled - place)))
        except (OSError, MemoryError, HanseError):  # no room for it, or it is gone: the task begins anew
            disk.over()
            return None
        half.keeper = _Copy(half.buffer, lambda: disk, half.filled, slow_s=0.0)
        return half

    def watch(self, half: Half, frame: bytes) -> Keeper | None:
        if _of_reply(frame):
            return None
        begin = functools.partial(self._kept.begin, COORDINATOR, half.id, frame, half.layout.nbytes)
        return _Copy(half.buffer, begin, 0, SLOW_SECONDS)


class OnDisk:
    """A payload that has a name until it is all there (:class:`hanse.messages.Buffer`, and its own keeper)."""

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

    def seal(self) -> None:
        pass

    def read(self, offset: int, nbytes: int) -> memoryview:
        return self._spool.read(offset, nbytes)

    def came(self, nbytes: int, checksum: int) -> None:
        os.write(self._chunks, _CHUNK.pack(nbytes, checksum))

    def over(self) -> None:
        if self._named:
            self._named = False
            os.close(self._chunks)
            with contextlib.suppress(OSError):  # somebody has removed it: what is open can be read all the same
                self._place = self._kept.nameless(self._place)

    def __del__(self) -> None:
        if getattr(self, "_chunks", None) is None:
            return
        if self._kept.leaving and self._named:
            os.close(self._chunks)
            return
        self.over()
        if not self._named:
            self._kept.unread(self._place)


class _Copy:
    """Keeps what lies in a node's memory, once it has taken ``slow_s`` to come (:class:`hanse.messages.Keeper`).

    Args:
        begin: makes the place on disk.
        place: up to this byte it is there already.
    """

    def __init__(self, buffer: Buffer, begin: Callable[[], OnDisk], place: int, slow_s: float) -> None:
        self._buffer: Buffer | None = buffer
        self._begin, self._place = begin, place
        self._due = time.monotonic() + slow_s
        self._disk: OnDisk | None = None
        self._waiting = deque[tuple[int, int]]()  # bytes and XXH3 of the chunks that are not copied

    def came(self, nbytes: int, checksum: int) -> None:
        if self._buffer is None:
            return
        self._waiting.append((nbytes, checksum))
        if time.monotonic() < self._due:
            return
        try:
            if self._disk is None:
                self._disk = self._begin()
            for _ in range(min(_AT_ONCE, len(self._waiting))):
                length, found = self._waiting.popleft()
                self._disk.write(self._place, _read(self._buffer, self._place, length))
                self._disk.came(length, found)
                self._place += length
        except (OSError, TooLarge):  # it comes all the same, and again from its beginning if it must
            self.over()

    def over(self) -> None:
        if self._disk is not None:
            self._disk.over()
        self._buffer = self._disk = None
        self._waiting.clear()


def _read(buffer: Buffer, offset: int, nbytes: int) -> memoryview:
    """Of a buffer that is not full yet; of shared memory by its descriptor, as a mapping would be made whole."""
    descriptor: Callable[[], int] | None = getattr(buffer, "fileno", None)
    return buffer.read(offset, nbytes) if descriptor is None else memoryview(os.pread(descriptor(), nbytes, offset))


def _of_reply(frame: bytes) -> bool:
    return bool(frame[1] & 1)


def _name(peer: str, id: str) -> str:
    return hashlib.sha256(f"{peer}\0{id}".encode()).hexdigest()[:32]


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)


def _remove_all(places: Sequence[Path]) -> None:
    for place in places:
        _remove(place)


def _memory_bytes() -> int:
    """Of this machine: what is more has no pages there that could be used again."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
