"""Records by their SHA-256, as safetensors files: models, states, whatever is large and fixed.

A file is written under another name, synced, and then renamed, so what has a name is whole; and
it is checked against its name before it is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import re
import secrets
import threading
import time
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

from hanse.errors import NotFound, Tampered, WireError
from hanse.messages import Record, load, pieces
from hanse.store.past_cache import past_cache

_SHA = re.compile(r"[0-9a-f]{64}")
_SUFFIX = ".safetensors"
_BUFFER_BYTES = 1 << 20
_LARGE_BYTES = 256 << 20  # of a record: its pages in memory are worth more to what comes next, as nobody reads it soon


class Blobs:
    """A folder of records, named by their content; threads and processes may share it.

    Args:
        folder: made if it is not there. Half-written files of killed processes are removed.
        fsync: ``put`` returns only when the disk has the bytes and the name.

    >>> import tempfile, numpy as np
    >>> blobs = Blobs(tempfile.mkdtemp(), fsync=False)
    >>> sha = blobs.put(Record({"n": 2}, {"w": np.ones(2)}))
    >>> blobs.get(sha).arrays["w"].tolist()
    [1.0, 1.0]
    """

    def __init__(self, folder: str | os.PathLike[str], fsync: bool = True) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fsync = fsync
        self._lock = threading.Lock()
        self._verified: dict[str, tuple[int, int, int]] = {}
        for leftover in self.folder.glob(".put-*"):
            _remove_if_abandoned(leftover)

    def put(self, record: Record) -> str:
        """Stores the record, returns its SHA-256 (``messages.digest``). Storing it again is fine,
        and mends a file that was damaged."""
        temporary, fd = self._temporary()
        try:
            sha = hashlib.sha256()
            with os.fdopen(fd, "wb", buffering=_BUFFER_BYTES) as file:
                large = self._fsync and record.nbytes >= _LARGE_BYTES
                with past_cache(file.fileno()) if large else nullcontext(file.write) as write:
                    for piece in pieces(record):
                        sha.update(piece)
                        write(piece)
                file.flush()
                os.fchmod(file.fileno(), 0o400)
                if self._fsync:
                    os.fsync(file.fileno())
                    if large:  # where its pages are in memory all the same
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                name = sha.hexdigest()
                os.rename(temporary, self.folder / (name + _SUFFIX))
                status = os.fstat(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if self._fsync:
            self._sync_folder()
        with self._lock:  # hashed a moment ago: no need to read it all again
            self._verified[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
        return name

    def get(self, sha: str) -> Record:
        """The record; its arrays are read-only and mapped from the file, not read into memory.

        Raises ``NotFound``, or ``Tampered`` if the bytes do not fit the name.
        """
        try:
            with open(self.path(sha), "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size == 0:
                    raise Tampered(f"the stored record {sha[:12]} is empty; restore it from a backup")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise NotFound(f"there is no stored record {sha[:12]}; it may have been pruned") from None
        print_ = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._verified.get(sha) == print_
        if not known:
            if hashlib.sha256(mapped).hexdigest() != sha:
                raise Tampered(f"the stored record {sha[:12]} does not fit its hash; restore it from a backup")
            with self._lock:
                self._verified[sha] = print_
        try:
            return load(memoryview(mapped))
        except WireError as error:
            raise Tampered(f"the stored record {sha[:12]} cannot be read: {error.message}") from None

    def check(self, sha: str) -> None:
        """Reads the bytes that are on disk now, whatever was known of them. Raises as :meth:`get`."""
        with self._lock:
            self._verified.pop(sha, None)
        self.get(sha)

    def path(self, sha: str) -> Path:
        """Where the record lies or would lie. Raises ``NotFound`` if ``sha`` is not a SHA-256."""
        if not isinstance(sha, str) or not _SHA.fullmatch(sha):
            raise NotFound(f"{sha!r} does not name a record; expected 64 hexadecimal digits")
        return self.folder / (sha + _SUFFIX)

    def has(self, sha: str) -> bool:
        """Whether a blob of this SHA-256 is stored; not whether it is whole (:meth:`check`)."""
        return isinstance(sha, str) and _SHA.fullmatch(sha) is not None and self.path(sha).exists()

    def delete(self, sha: str) -> bool:
        """Removes the record; whether there was one. Records in use stay readable."""
        with self._lock:
            self._verified.pop(sha, None)
        try:
            self.path(sha).unlink()
        except FileNotFoundError:
            return False
        return True

    def sizes(self) -> dict[str, int]:
        """Bytes on disk per SHA-256."""
        found: dict[str, int] = {}
        with os.scandir(self.folder) as listing:
            for item in listing:
                sha = item.name.removesuffix(_SUFFIX)
                if item.name.endswith(_SUFFIX) and _SHA.fullmatch(sha):
                    try:
                        found[sha] = item.stat().st_size
                    except FileNotFoundError:  # pruned by somebody else meanwhile
                        continue
        return found

    def prune(self, keep: Collection[str], grace_s: float = 0.0) -> tuple[str, ...]:
        """Removes all records but ``keep`` and those younger than ``grace_s`` seconds (put, but
        perhaps not yet referred to); returns what it removed."""
        kept, before, gone = frozenset(keep), time.time() - grace_s, []
        for sha in sorted(self.sizes()):
            if sha in kept:
                continue
            try:
                young = grace_s > 0 and self.path(sha).stat().st_mtime > before
            except FileNotFoundError:
                continue
            if not young and self.delete(sha):
                gone.append(sha)
        return tuple(gone)

    def _temporary(self) -> tuple[Path, int]:
        """A new file, locked for as long as it is open, so that nobody takes it for a leftover."""
        while True:
            path = self.folder / f".put-{secrets.token_hex(8)}"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:  # else it was removed between open and lock
                return path, fd
            os.close(fd)

    def _sync_folder(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _remove_if_abandoned(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        pass  # somebody is writing it now
    finally:
        os.close(fd)
