"""The audit log: one line of JSON per entry, each holding the hash of the one before.

Whoever edits, removes, moves or inserts a line breaks the chain, and :meth:`AuditLog.verify` says
where. Removing the *last* lines leaves a valid chain, so a small file next to the log remembers
its head (sequence number and hash). Somebody who can rewrite both files can still forge the whole
log; publish :attr:`AuditLog.head` elsewhere where that matters.

Old lines may be removed from the beginning (:meth:`AuditLog.cut`): a line at the end says how many, and which hash the
last of them had, so the rest is checked as before, and lines that went without such a line are found.

Only the standard library: a node's gate writes here before it answers.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from hanse.errors import ConfigError, Tampered
from hanse.json_writer import flat, quoted, writer
from hanse.whole_files import write_whole

log = logging.getLogger(__name__)
Json = Any
GENESIS = "0" * 64
CUT = "audit.cut"
_PIECE = 1 << 20
_HEAD_BYTES = 86  # 20 digits, a space, 64 hex digits, a line end
_TAIL_BYTES = 64 << 10
_KEYS = {"seq", "time", "actor", "action", "subject", "detail", "previous", "hash"}


class Entry(NamedTuple):
    """One line: who (``actor``) did what (``action``) to what (``subject``), when (UTC)."""

    seq: int
    time: str
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Json]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``verify`` found. ``first_bad`` is the sequence number expected at the first line that
    does not fit (None if all do); ``entries`` counts the good ones before it."""

    ok: bool
    entries: int
    first_bad: int | None = None
    reason: str = ""


class AuditLog:
    """An append-only, hash-chained log that threads and processes may share.

    Args:
        path: the log; ``<path>.head`` is its companion. Both are made with mode 0600.
        sync: wait until the disk has each entry. With False the operating system has it: it
            outlives this process (also SIGKILL), but not a loss of power.

    >>> import tempfile
    >>> log = AuditLog(tempfile.mkdtemp() + "/audit.jsonl", sync=False)
    >>> log.append("alice", "run.approved", "run-1", {"hash": "ab"}).seq
    1
    >>> log.verify().ok
    True
    """

    def __init__(self, path: str | os.PathLike[str], sync: bool = True) -> None:
        self.path = Path(path)
        self._at = str(self.path)  # of a Path, the text would be made anew for each entry
        self._head_path = self.path.with_name(self.path.name + ".head")
        self._sync = sync
        self._lock = threading.Lock()
        self._pid, self._fd, self._head_fd, self._inode = -1, -1, -1, -1
        self._end, self._seq, self._hash = 0, 0, GENESIS
        self._minute, self._begins = (-1, 0, 0, 0, 0), ""
        with self._lock:
            self._open()

    # ------------------------------------------------------------ writing

    def append(
        self,
        actor: str,
        action: str,
        subject: str,
        detail: Mapping[str, Json] | None = None,
        *,
        sync: bool | None = None,
    ) -> Entry:
        """Adds an entry; when this returns, it is written.

        What a killed process left of a half-written line is cut off first, and an entry
        ``audit.recovered`` says so. Raises ``ConfigError`` if ``detail`` is not JSON, ``Tampered``
        if the log became shorter or its last line is not an entry.
        """
        written = _written(detail)
        if not (isinstance(actor, str) and isinstance(action, str) and isinstance(subject, str)):
            raise ConfigError("actor, action and subject of an audit entry must be text")
        with self._lock:
            if self._pid != os.getpid():  # after a fork: a lock of one's own needs a file of one's own
                self._open()
            size = self._hold()
            try:
                if size != self._end or not size:
                    self._catch_up(size)
                entry = self._write(actor, action, subject, written)
                if self._sync if sync is None else sync:
                    os.fdatasync(self._fd)
                # After the log and never before it: a head that is ahead means lost entries.
                os.pwrite(self._head_fd, _head_text(entry.seq, entry.hash), 0)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        return entry

    def last(self) -> Entry | None:
        """The last entry; None where there is none. Raises as :meth:`append`."""
        with self._lock:
            size = self._hold()
            try:
                self._catch_up(size)
                return parse(self._last_line(self._end, 0)[1])
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def cut(self, days: float, actor: str) -> int:
        """Removes lines from the beginning that are more than ``days`` older than both now and the last line (a clock
        that is ahead removes nothing), once an entry ``audit.cut`` at the end says so. How many went; none, with a
        warning, where the disk is full or the log is damaged."""
        try:
            return self._cut(days, actor)
        except (OSError, Tampered, ValueError) as error:
            log.warning("no old lines were removed from %s: %s", self.path.name, error)
            return 0

    def _cut(self, days: float, actor: str) -> int:
        with self._lock:
            size = self._hold()
            try:
                self._catch_up(size)
                last = parse(self._last_line(self._end, 0)[1])
                if last is None:
                    return 0
                limit = min(datetime.now(UTC), datetime.fromisoformat(last.time)) - timedelta(days=days)
                first, upto, offset = 0, None, 0
                for line, _ in self._lines(self._end):
                    entry, end = parse(line), offset + len(line) + 1
                    if entry is None or end >= self._end or datetime.fromisoformat(entry.time) >= limit:
                        break  # also where the log is damaged: whoever looks into it needs all of it
                    first, upto, offset = first or entry.seq, entry, end
                if upto is None:
                    return 0
                detail: dict[str, Json] = {"first": first, "last": upto.seq, "hash": upto.hash, "days": days}
                entry = self._write(actor, CUT, self.path.name, _written(detail))
                os.fdatasync(self._fd)
                os.pwrite(self._head_fd, _head_text(entry.seq, entry.hash), 0)
                write_whole(self.path, self._pieces(offset))
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._open()
        return upto.seq - first + 1

    def _pieces(self, start: int) -> Iterator[bytes]:
        while piece := os.pread(self._fd, min(_PIECE, self._end - start), start):
            start += len(piece)
            yield piece

    def _hold(self) -> int:
        """Locks the file that is at the path now: another process may have put a shorter one there (:meth:`cut`). Its
        bytes."""
        while True:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                found = os.stat(self._at)
            except FileNotFoundError:  # taken away: what is written goes where it is; verify says what is missing
                return os.fstat(self._fd).st_size
            if found.st_ino == self._inode:  # which no other file has while this one is open
                return found.st_size
            self._open()

    def close(self) -> None:
        """Closes the files; a later ``append`` opens them again."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        self._close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._head_fd = os.open(self._head_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid, self._inode = os.getpid(), os.fstat(self._fd).st_ino
        self._end, self._seq, self._hash = 0, 0, GENESIS
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            if os.fstat(self._fd).st_size == 0 and os.fstat(self._head_fd).st_size == 0:
                os.pwrite(self._head_fd, _head_text(0, GENESIS), 0)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _close(self, close: Callable[[int], None] = os.close) -> None:  # modules are gone where the process ends
        for fd in (self._fd, self._head_fd):
            if fd >= 0:
                close(fd)
        self._pid, self._fd, self._head_fd = -1, -1, -1

    def __del__(self) -> None:
        if hasattr(self, "_head_fd"):
            self._close()

    def _catch_up(self, size: int) -> None:
        """Makes ``_seq`` and ``_hash`` those of the last line of the file, which has so many bytes."""
        if size == self._end and size > 0:
            return
        if size < self._end:
            raise Tampered(
                f"the audit log had {self._end} bytes and now has {size}: entries were removed; "
                "keep both files and compare them with a backup"
            )
        first, known = self._end == 0, (self._seq, self._hash)
        end, line = self._last_line(size, self._end)
        if line:
            entry = parse(line)
            if entry is None:
                raise Tampered("the last line of the audit log is not an entry; run verify on it")
            self._seq, self._hash = entry.seq, entry.hash
        torn = os.pread(self._fd, size - end, end) if end < size else b""
        if torn:
            os.ftruncate(self._fd, end)
        self._end = end
        head = _parse_head(os.pread(self._head_fd, _HEAD_BYTES, 0)) if first else known
        lost = max(0, head[0] - self._seq) if head else 0
        if torn or lost:
            detail: dict[str, Json] = {"torn_bytes": len(torn), "lost_entries": lost}
            if torn:
                detail["torn_sha256"] = hashlib.sha256(torn).hexdigest()
                detail["torn_text"] = torn[:1000].decode("utf-8", "replace")
            self._write("hanse", "audit.recovered", self.path.name, _written(detail))

    def _last_line(self, size: int, since: int) -> tuple[int, bytes]:
        """Where the last whole line ends, and that line; (``since``, b"") if there is none after that."""
        window = _TAIL_BYTES
        while True:
            start = max(since, size - window)
            tail = os.pread(self._fd, size - start, start)
            last = tail.rfind(b"\n")
            before = tail.rfind(b"\n", 0, last) if last > 0 else -1
            if last >= 0 and (before >= 0 or start == since):
                return start + last + 1, tail[before + 1 : last]
            if start == since:
                return since, b""
            window *= 4

    def _write(self, actor: str, action: str, subject: str, detail: _Detail) -> Entry:
        seq, previous, now, (plain, said) = self._seq + 1, self._hash, self._now(), detail
        # As line_of has it. A gate waits for each line, with caches that others have filled, so what counts is how much
        # different code runs for it
        text = (
            f'{{"action":{quoted(action)},"actor":{quoted(actor)},"detail":{said},'
            f'"previous":"{previous}","seq":{seq},"subject":{quoted(subject)},"time":"{now}"'
        )
        hashed = _SHA256.copy()
        hashed.update(f"{text}}}".encode())
        digest = hashed.hexdigest()
        line = f'{text},"hash":"{digest}"}}\n'.encode()
        done = os.write(self._fd, line)
        if done != len(line):
            os.ftruncate(self._fd, self._end)
            said = f"only {done} of {len(line)} bytes fitted into the audit log; is the disk full?"
            raise OSError(errno.ENOSPC, said, str(self.path))
        self._end, self._seq, self._hash = self._end + done, seq, digest
        return Entry(seq, now, actor, action, subject, plain, previous, digest)

    def _now(self) -> str:
        """The time, as ``isoformat`` has it, of which all but the seconds is written once a minute."""
        now = datetime.now(UTC)
        minute = (now.minute, now.hour, now.day, now.month, now.year)
        if minute != self._minute:
            self._minute, self._begins = minute, now.isoformat(timespec="minutes")[:-6]
        return f"{self._begins}:{now.second:02}.{now.microsecond:06}+00:00"

    # ------------------------------------------------------------ reading

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last entry: publish it, and the past is fixed."""
        last = (0, GENESIS)
        for line, _ in self._lines():
            entry = parse(line)
            if entry is not None:
                last = (entry.seq, entry.hash)
        return last

    def entries(self, since: int = 0, limit: int | None = None) -> list[Entry]:
        """Entries with a sequence number over ``since``, oldest first, at most ``limit``.

        Lines that are no entries are left out here; ``verify`` is what reports them.
        """
        return list(itertools.islice((entry for entry in self.each() if entry.seq > since), limit))

    def each(self) -> Iterator[Entry]:
        """The entries, oldest first, one in memory at a time."""
        for line, _ in self._lines():
            entry = parse(line)
            if entry is not None:
                yield entry

    def verify(self, head: tuple[int, str] | None = None) -> Verdict:
        """Checks every line, the chain, and that nothing is missing at the end.

        Args:
            head: a head that was published earlier; it must still be in the log.
        """
        heads = {h[0]: h[1] for h in (head,) if h}
        seq, previous, lost = 0, GENESIS, 0
        size, recorded = self._snapshot()
        if recorded is not None:
            if recorded[0] in heads and heads[recorded[0]] != recorded[1]:
                return Verdict(False, 0, recorded[0], "the published head is not the recorded one")
            heads[recorded[0]] = recorded[1]
        heads.pop(0, None)
        lost_at: int | None = None
        gone: tuple[int, str] | None = None  # the last line that is not here any more; an entry has to say so
        for line, whole in self._lines(size):
            if not seq and (begins := parse(line)) is not None and begins.seq > 1:
                seq, previous = gone = begins.seq - 1, begins.previous
                for old in [at for at in heads if at <= seq]:
                    if (old, heads.pop(old)) != gone:
                        return Verdict(False, 0, seq + 1, f"the published head {old} is of a line that was removed")
            expected = seq + 1
            if not whole:  # half a line of a killed process: never acknowledged, mended by append
                break
            reason = ""
            entry = parse(line)
            if entry is None:
                reason = "this line is not an entry"
            elif entry.seq != expected:
                reason = f"entry {entry.seq} stands where {expected} belongs"
            elif entry.previous != previous:
                reason = "the entry does not follow from the one before it"
            elif line_of(entry) != line:
                reason = "the entry does not fit its hash"
            elif heads.pop(expected, entry.hash) != entry.hash:
                reason = "the entry is not the one that was recorded as head"
            if reason or entry is None:
                return Verdict(False, seq, expected, reason)
            if entry.action == "audit.recovered" and entry.detail.get("lost_entries"):
                lost, lost_at = lost + int(entry.detail["lost_entries"]), lost_at or entry.seq
            if gone is not None and entry.action == CUT and (entry.detail["last"], entry.detail["hash"]) == gone:
                gone = None
            seq, previous = expected, entry.hash
        if gone is not None:
            return Verdict(False, 0, 1, f"entries 1 to {gone[0]} are missing, and no entry says who removed them")
        if recorded is None and seq:
            return Verdict(False, seq, seq + 1, "the head file is missing or damaged, so entries may be too")
        if lost_at is not None:
            return Verdict(False, seq, lost_at, f"{lost} entries were lost before this one")
        if heads:
            return Verdict(False, seq, seq + 1, f"the log ends at {seq}, but {max(heads)} had been written")
        return Verdict(True, seq)

    def _snapshot(self) -> tuple[int, tuple[int, str] | None]:
        """Size of the log and the recorded head, read together."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0, self._recorded_head()
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            return os.fstat(fd).st_size, self._recorded_head()
        finally:
            os.close(fd)

    def _recorded_head(self) -> tuple[int, str] | None:
        try:
            return _parse_head(self._head_path.read_bytes())
        except FileNotFoundError:
            return None

    def _lines(self, size: int | None = None) -> Iterator[tuple[bytes, bool]]:
        """Lines without their end, and whether they have one."""
        size = self._snapshot()[0] if size is None else size
        if not size:
            return
        read = 0
        with open(self.path, "rb") as file:
            for line in file:
                read += len(line)
                if read > size:
                    return
                yield line.removesuffix(b"\n"), line.endswith(b"\n")


_Detail = tuple[dict[str, Json], str]


def _written(detail: Mapping[str, Json] | None) -> _Detail:
    """As it will be read back, so that the hash fits later (keys are text, tuples are lists), and as it is written."""
    if not detail:
        return {}, "{}"
    try:
        text = flat(detail)
    except (TypeError, ValueError):  # names that are no text; a number that JSON does not have
        text = None
    if text is not None:
        return dict(detail), text
    try:
        plain = json.loads(json.dumps(dict(detail), allow_nan=False))
        assert isinstance(plain, dict)
        return plain, _canonical(plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"the detail of an audit entry must be JSON: {error}") from None


_canonical = writer(sort_keys=True, ensure_ascii=True)
_SHA256 = hashlib.sha256()  # to be copied: to find it among those of OpenSSL takes longer than a line


def line_of(entry: Entry) -> bytes:
    """The only bytes that this entry may be written as."""
    try:
        text = _canonical({key: getattr(entry, key) for key in _KEYS if key != "hash"})
    except (TypeError, ValueError, RecursionError):
        return b""
    return f'{text[:-1]},"hash":"{hashlib.sha256(text.encode()).hexdigest()}"}}'.encode()


def parse(line: bytes) -> Entry | None:
    """The entry in a line; None where it is none. Whether it fits its hash, :func:`line_of` tells."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != _KEYS:
        return None
    seq, detail = value["seq"], value["detail"]
    if type(seq) is not int or not isinstance(detail, dict):
        return None
    if not all(isinstance(value[key], str) for key in _KEYS - {"seq", "detail"}):
        return None
    return Entry(**value)


def _head_text(seq: int, digest: str) -> bytes:
    return b"%020d %s\n" % (seq, digest.encode())


def _parse_head(raw: bytes) -> tuple[int, str] | None:
    if len(raw) != _HEAD_BYTES or not raw[:20].isdigit():
        return None
    return int(raw[:20]), raw[21:85].decode("ascii", "replace")
