"""What lies at a path of the owner's: its hash, and a cheap mark that tells whether to hash again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hanse.errors import DataError


def version_of(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, of each relative name and content hash, sorted."""
    if not path.is_dir():
        return _hash(path)
    whole = hashlib.sha256()
    for file in _files(path):
        name = os.fsencode(file.relative_to(path).as_posix())
        whole.update(len(name).to_bytes(8, "big") + name + bytes.fromhex(_hash(file)))
    return whole.hexdigest()


@contextlib.contextmanager
def hashing(path: Path) -> Iterator[Callable[[], str]]:
    """The hash of a file, made beside what the block does; given up when the block raises."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        version = beside.submit(_hash, path, stop)
        try:
            yield version.result
        finally:
            stop.set()


def _files(path: Path) -> list[Path]:
    """All files below ``path`` but hidden ones, sorted by relative name; links to folders are not
    followed (no reader follows them)."""
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [f for f in folders if f[0] != "."]
        found += [Path(folder) / name for name in names if name[0] != "."]
    return sorted(found, key=lambda file: file.relative_to(path).as_posix())


def stamp_of(path: Path) -> str:
    """Names, sizes and times of what is at ``path``, as one hash. The change time is in it, which
    (unlike the modification time) no program can set back."""
    marks = hashlib.sha256()
    try:
        for file in _files(path) if path.is_dir() else [path]:
            status = file.stat()
            marks.update(os.fsencode(file.relative_to(path).as_posix()) + b"\0")
            marks.update(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0".encode())
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__}); is it still there?") from None
    return marks.hexdigest()


def _hash(path: Path, stop: threading.Event | None = None) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while (more := file.read(1 << 20)) and not (stop and stop.is_set()):
                found.update(more)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__}); is it still there?") from None
    return found.hexdigest()
