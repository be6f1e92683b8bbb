"""Small files that are there whole or not at all, also after a crash: settings, registers, keys, what was shown."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_whole(
    path: Path,
    content: bytes | str | Iterable[bytes],
    mode: int = 0o600,
    *,
    replace: bool = True,
    sync: bool = True,
    sync_folder: bool = True,
) -> None:
    """Writes the file; when this returns, it is on disk. If it does not, what was there before stays.

    Args:
        content: text is written as UTF-8; a file that is larger than memory comes in pieces.
        mode: its rights; nobody else can read it before it has them.
        replace: False lets a file that is there stand.
        sync: False leaves it to the system when the content is on disk; whoever looks still sees all of it or nothing.
        sync_folder: False leaves that to the system for the name alone.

    >>> folder = Path(tempfile.mkdtemp())
    >>> write_whole(folder / "a", "new")
    >>> write_whole(folder / "a", "newer", replace=False)
    >>> (folder / "a").read_text()
    'new'
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(content, (bytes, str)):
                file.write(content.encode() if isinstance(content, str) else content)
            else:
                file.writelines(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    if sync_folder:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A new name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
