"""One session in a shared folder, as a connection (:class:`hanse.transports._conduit.Wire`): numbered files each way.

Files may come late, out of order, twice or in halves: they are read in the order of their numbers, each once. Who wrote
a file removes it, when the other side has said that it read it: in its next file, or where it has none to write in
one of its own (``SESSION.seen``). So what lies in the folder is bounded, and nobody removes what is another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path

from hanse.errors import Tampered, WireError
from hanse.messages import MAX_HEADER_BYTES
from hanse.transports import _folder_files as files
from hanse.transports._conduit import CHUNK_BYTES
from hanse.transports._folder_seal import MORE_BYTES, FileKind, HalfThere, Seal

log = logging.getLogger(__name__)

FILE_BYTES = 1 << 20  # writes that are ready together share a file up to this size
_WRITE_BYTES = MAX_HEADER_BYTES + CHUNK_BYTES + (2 << 20)  # the largest write that there is
_MOST_BYTES = _WRITE_BYTES + FILE_BYTES + MORE_BYTES
_UNREAD_BYTES = 128 << 20  # that may lie in the folder for the other side
_ASIDE_BYTES = 4 << 20  # that wait to be written
_AT_ONCE_BYTES = 8 << 20  # that are read in one go
_SAY_BYTES = _UNREAD_BYTES // 4  # so much was read: the other side is told without waiting
_SAY_S = 0.5  # else it rides with the next file, if there is one so soon
_LONGEST_S = 60.0  # between two attempts to write a last file
_TAMPERED_S = 10.0  # a file that is written in place looks like it for a moment
_HALF_S = 600.0  # after so long without a change the other half does not come; all is sent again in a new session
_SEEN = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")


@dataclass(slots=True)
class _Found:
    """What one look into the folder brought."""

    writes: list[tuple[int, list[bytes]]] = field(default_factory=list)  # number, and what the file holds
    seen: int = 0
    bye: str | None = None
    more: bool = False
    wrong: str = ""


class FolderWire:
    """One side's end of a session.

    Args:
        session: its name.
        mine, theirs: the directories that this side and the other one write.
        closes, opens: the seals of what goes out and of what comes in.
        desk: where files are read and written, beside the event loop.
        refuse: told what of the other side's cannot be accepted.
    """

    def __init__(
        self,
        session: str,
        mine: Path,
        theirs: Path,
        closes: Seal,
        opens: Seal,
        desk: Executor,
        refuse: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.session, self._mine, self._theirs = session, mine, theirs
        self._closes, self._opens, self._desk, self._refuse = closes, opens, desk, refuse
        self._loop = asyncio.get_running_loop()
        self._received: Callable[[bytes], None] | None = None
        self._ready: Callable[[], None] = lambda: None
        self._over: Callable[[str], None] = lambda why: None
        self._ended, self._bye_s = "", _SAY_S
        # out
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes, self._full = 0, False
        self._written = 0  # number of the next file
        self._unread: deque[tuple[int, int]] = deque()  # number and bytes of the files that the other side has not read
        self._unread_bytes = 0
        self._putting = False
        # in
        self._next = 0  # number of the next file to read
        self._inbox: deque[bytes] = deque()
        self._held = False
        self._unsaid_bytes = 0  # that were read, and the other side does not know it
        self._saying: asyncio.TimerHandle | None = None
        self._looking = self._again = False
        self._doubt: tuple[int, tuple[int, int], float] | None = None  # number, size and time of a file, since when

    # ------------------------------------------------------------ a wire

    def listen(
        self, received: Callable[[bytes], None], ready: Callable[[], None], ended: Callable[[str], None]
    ) -> None:
        """See :class:`hanse.transports._conduit.Wire`."""
        self._received, self._ready, self._over = received, ready, ended
        if self._ended:
            ended(self._ended)
        self._deliver()
        self.look()

    def write(self, data: bytes, more: bool = False) -> bool:
        """Takes a write; it is in a file soon."""
        if self._ended:
            return False
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._put()
        self._full = self._waiting_bytes > _ASIDE_BYTES or self._unread_bytes > _UNREAD_BYTES
        return not self._full

    def hold(self) -> None:
        """Nothing is told until :meth:`go_on`."""
        self._held = True

    def go_on(self) -> None:
        """What waits is told."""
        self._held = False
        self._deliver()
        self.look()

    # ------------------------------------------------------------ its life

    def look(self) -> None:
        """Something may lie in the folder."""
        if self._ended or self._received is None:
            return
        if self._looking:
            self._again = True
        elif not (self._held or self._inbox):
            self._looking = True
            self._work(self._collect, self._collected)

    @property
    def heard(self) -> bool:
        """Whether anything of the other side was read."""
        return self._next > 0

    def tidy(self) -> None:
        """Removes what was read, and looks whether what was not is still there."""
        if not self._ended and not self._putting:
            first = self._unread[0][0] if self._unread else self._written
            known = {number for number, _ in self._unread}

            def work() -> set[int]:
                return known - files.trim(self._mine, self.session, first)

            def done(missing: set[int]) -> None:
                if missing & {number for number, _ in self._unread}:
                    self.end("somebody removed from the folder what was not read yet")

            self._work(work, done)

    def end(self, reason: str, say: bool = True) -> None:
        """The session is over; ``say``: the other side is told, in a last file. Nothing else of it stays."""
        if self._ended:
            return
        self._ended = reason or "it ended"
        if self._saying is not None:
            self._saying.cancel()
        if say:
            self._goodbye(self._closes.close(FileKind.BYE, 0, reason.encode()[:1000]))
        self._waiting.clear()
        self._inbox.clear()
        self._over(self._ended)

    def _goodbye(self, bye: bytes) -> None:
        """Writes the last file, again and again where the disk is full: or the other side would wait for ever."""

        def work() -> None:
            files.place(self._mine / f"{self.session}.bye", bye)
            files.trim(self._mine, self.session, self._written + 1)

        def done(writing: Future[None]) -> None:
            if writing.cancelled() or writing.exception() is None:
                return
            self._bye_s = min(2 * self._bye_s, _LONGEST_S)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._loop.call_later, self._bye_s, self._goodbye, bye)

        with contextlib.suppress(RuntimeError):  # the desk is closed
            self._desk.submit(work).add_done_callback(done)

    def _work(self, work: Callable[[], object], done: Callable[..., None]) -> None:
        """Does ``work`` at the desk, and ``done`` with its result here."""

        async def both() -> None:
            try:
                result = await self._loop.run_in_executor(self._desk, work)
            except Exception as error:
                if not isinstance(error, OSError):
                    log.exception("in a shared folder")
                self.end(f"the folder cannot be used: {getattr(error, 'strerror', None) or type(error).__name__}")
                return
            if not self._ended:
                done(result)

        task = self._loop.create_task(both())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    # ------------------------------------------------------------ out

    def _put(self) -> None:
        """Writes what waits, a file at a time: what comes meanwhile shares the next one."""
        if self._putting or not self._waiting or self._unread_bytes > _UNREAD_BYTES:
            return
        parts, size = [_SEEN.pack(self._next)], 0
        while self._waiting and (not size or size + len(self._waiting[0]) <= FILE_BYTES):
            data = self._waiting.popleft()
            parts += (_LENGTH.pack(len(data)), data)
            size += len(data)
        number, self._written = self._written, self._written + 1
        self._waiting_bytes -= size
        self._unread.append((number, size))
        self._unread_bytes += size
        self._was_said()
        self._putting = True

        def work() -> None:
            content = self._closes.close(FileKind.WRITES, number, b"".join(parts))
            files.place(self._mine / files.sealed(self.session, number), content)

        self._work(work, lambda _: self._was_put())

    def _was_put(self) -> None:
        self._putting = False
        self._put()
        self._may_go_on()

    def _may_go_on(self) -> None:
        if self._full and self._waiting_bytes <= _ASIDE_BYTES // 2 and self._unread_bytes <= _UNREAD_BYTES // 2:
            self._full = False
            self._ready()

    def _was_read(self, seen: int) -> None:
        """The other side read all files below this number."""
        if seen > self._written:
            raise WireError(f"file {seen} was read, says the other side, and it is not written yet")
        gone = []
        while self._unread and self._unread[0][0] < seen:
            number, size = self._unread.popleft()
            self._unread_bytes -= size
            gone.append(self._mine / files.sealed(self.session, number))
        if gone:
            self._work(lambda: files.remove(*gone), lambda _: None)
            self._put()
            self._may_go_on()

    # ------------------------------------------------------------ in

    def _collect(self) -> _Found:
        """At the desk: the next files in order, as far as they are there."""
        found, number, size = _Found(), self._next, 0
        while size < _AT_ONCE_BYTES:
            path = self._theirs / files.sealed(self.session, number)
            raw = files.read(path, _MOST_BYTES)
            if raw is None:
                break
            try:
                content = self._opens.open(FileKind.WRITES, number, raw)
                found.writes.append((number, _unpacked(content)))
            except HalfThere:
                found.wrong = self._doubted(path, number, f"half of file {number} is missing", _HALF_S)
                break
            except Tampered as error:
                found.wrong = self._doubted(path, number, f"tampered: {error.message}", _TAMPERED_S)
                break
            found.seen = max(found.seen, _SEEN.unpack_from(content)[0])
            size += len(raw)
            number += 1
        found.more = size >= _AT_ONCE_BYTES
        if self._unread:
            found.seen = max(found.seen, self._seen())
        if not found.writes:
            found.bye = self._bye()
        return found

    def _doubted(self, path: Path, number: int, why: str, patience_s: float) -> str:
        """Why the file cannot be right, once it has not changed for so long that nobody is still writing it."""
        try:
            about = path.stat()
        except OSError:
            return ""
        looks = (about.st_size, about.st_mtime_ns)
        if self._doubt is None or self._doubt[:2] != (number, looks):
            self._doubt = (number, looks, time.monotonic())
        return why if time.monotonic() - self._doubt[2] >= patience_s else ""

    def _seen(self) -> int:
        raw = files.read(self._theirs / f"{self.session}.seen", 100)
        if raw is None or len(raw) < _SEEN.size:
            return 0
        (seen,) = _SEEN.unpack_from(raw)
        try:
            self._opens.open(FileKind.SEEN, seen, raw[_SEEN.size :])
        except (HalfThere, Tampered):
            return 0
        return int(seen)

    def _bye(self) -> str | None:
        raw = files.read(self._theirs / f"{self.session}.bye", 2000)
        try:
            return None if raw is None else self._opens.open(FileKind.BYE, 0, raw).decode(errors="replace")
        except (HalfThere, Tampered):
            return None

    def _collected(self, found: _Found) -> None:
        self._looking = False
        try:
            self._was_read(found.seen)
        except WireError as error:
            self.end(error.message)
            return
        for number, writes in found.writes:
            self._next = number + 1
            self._inbox.extend(writes)
            self._unsaid_bytes += sum(map(len, writes))
        if found.writes:
            self._say()
        self._deliver()
        if found.bye is not None:
            self.end(found.bye, say=False)
        elif found.wrong:
            self._refuse(found.wrong)
            self.end(found.wrong)
        elif self._again or found.more:
            self._again = False
            self.look()

    def _deliver(self) -> None:
        while self._inbox and not self._held and not self._ended and self._received is not None:
            self._received(self._inbox.popleft())

    def _say(self) -> None:
        """Sees to it that the other side learns what was read."""
        if self._unsaid_bytes >= _SAY_BYTES:
            self._say_now()
        elif self._saying is None:
            self._saying = self._loop.call_later(_SAY_S, self._say_now)

    def _say_now(self) -> None:
        self._was_said()
        number = self._next

        def work() -> None:
            content = _SEEN.pack(number) + self._closes.close(FileKind.SEEN, number, b"")
            files.place(self._mine / f"{self.session}.seen", content, sync=False)

        self._work(work, lambda _: None)

    def _was_said(self) -> None:
        self._unsaid_bytes = 0
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None


_tasks: set[asyncio.Task[None]] = set()  # the event loop keeps none


def _unpacked(content: bytes) -> list[bytes]:
    """The writes in a file. Raises ``Tampered`` for what no other side of this release writes."""
    writes, place = [], _SEEN.size
    while place + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, place)
        place += _LENGTH.size
        writes.append(content[place : place + length])
        place += length
    if place != len(content) or not writes:
        raise Tampered("a file of a session does not hold what its beginning says")
    return writes
