"""Files in a folder that something else keeps in step: their names, how they are read and how they are placed.

Every directory has one writer, so no two sides ever write one file::

    coordinator/announcement.json            of the coordinator: who it is since when
    to-coordinator/NODE/hello.json           of the node: a session begins
    to-coordinator/NODE/SESSION.N.sealed     of the node: its Nth file
    to-nodes/NODE/SESSION.welcome.json       of the coordinator, and so on
    joining/SESSION.request.json             of a node that is not enrolled yet
    joined/SESSION.answer.json               of the coordinator

What has any other name is never opened. What synchronises makes such files: halves, and copies where it believes that
two have written (:func:`conflicted`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from hanse.errors import ConfigError
from hanse.identity import check_node_id
from hanse.whole_files import write_whole

ANNOUNCEMENT, HELLO = "announcement.json", "hello.json"
_SESSION = re.compile(r"[0-9a-f]{32}")
_OURS = re.compile(r"([0-9a-f]{32})\.(?:(\d{10})\.sealed|seen|bye|(?:welcome|request|answer)\.json)", re.ASCII)
_BEGINS = re.compile(r"(?:[0-9a-f]{32}|hello|announcement)(?![A-Za-z0-9])", re.ASCII | re.IGNORECASE)
_UNFINISHED = re.compile(r"\.(?:tmp|part|partial|filepart|crdownload)$|\.~\w+$", re.IGNORECASE)
_HALF_WRITTEN_S = 3600.0


def sealed(session: str, number: int) -> str:
    """The name of a session's file with this number.

    >>> sealed("ab" * 16, 7)[-18:]
    '.0000000007.sealed'
    """
    return f"{session}.{number:010d}.sealed"


def session_of(name: str) -> str:
    """The session whose file this is; "" where it is none of ours.

    >>> session_of("ab" * 16 + ".request.json") == "ab" * 16, session_of("notes.txt")
    (True, '')
    """
    found = _OURS.fullmatch(name)
    return found[1] if found is not None else ""


def is_session(text: object) -> bool:
    """Whether it is the name of a session: 32 hexadecimal digits."""
    return isinstance(text, str) and _SESSION.fullmatch(text) is not None


def conflicted(name: str) -> bool:
    """Whether a tool that synchronises gave this name to a copy, because it saw two versions of one file. As nobody
    else writes in this directory, that means: two machines use one name. Each tool has its own way to name them, and
    all keep how the name begins.

    >>> conflicted("hello.sync-conflict-20261129-120000-ABCDEFG.json")  # Syncthing
    True
    >>> conflicted("hello (Ada's conflicted copy 2026-11-29).json"), conflicted("hello-LAPTOP.json")
    (True, True)
    >>> conflicted("hello.json"), conflicted(".syncthing.hello.json.tmp")
    (False, False)
    """
    return not named(name) and _BEGINS.match(name) is not None and _UNFINISHED.search(name) is None


def named(name: str) -> bool:
    """Whether a file of this name is one of ours."""
    return name in (ANNOUNCEMENT, HELLO) or _OURS.fullmatch(name) is not None


def place(path: Path, content: bytes, *, sync: bool = True) -> None:
    """The file, whole or not at all, whoever looks. Who may read the folder may read it: nothing in it is in the clear.

    Its new name is not waited for on disk: after a crash of the machine its session is gone with it.
    """
    write_whole(path, content, 0o644, sync=sync, sync_folder=False)


def read(path: Path, limit: int) -> bytes | None:
    """What is in the file; None where there is none that can be read now. Opens no link, pipe or device.

    More than ``limit`` bytes are read as one byte more than that, which nothing accepts.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return file.read(limit + 1)
    except OSError:
        return None


def listed(folder: Path) -> list[str]:
    """The names in a folder; none where there is no folder."""
    try:
        with os.scandir(folder) as found:
            return [entry.name for entry in found]
    except OSError:
        return []


def nodes(folder: Path) -> Iterator[str]:
    """The directories in a folder whose names are node ids."""
    for name in listed(folder):
        with contextlib.suppress(ConfigError):
            yield check_node_id(name)


def clean(folder: Path, keep: str = "") -> None:
    """Removes from a directory of ours all files of other sessions than ``keep``, and what a crash left half
    written."""
    for name in listed(folder):
        session = session_of(name)
        half = name.startswith(".") and _OURS.match(name[1:]) is not None
        if (session and session != keep) or (half and _older(folder / name, _HALF_WRITTEN_S)):
            remove(folder / name)


def trim(folder: Path, session: str, read_until: int) -> set[int]:
    """Removes from a directory of ours the files of one session that were read. Returns the numbers of those that stay.
    What is of another session is not touched: the next one may have begun already."""
    left = set()
    for name in listed(folder):
        ours = _OURS.fullmatch(name)
        if ours is None or ours[1] != session or ours[2] is None:
            continue
        if int(ours[2]) < read_until:
            remove(folder / name)
        else:
            left.add(int(ours[2]))
    return left


def remove(*paths: Path) -> None:
    """They are gone, also where they were before."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _older(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return False
