"""The folder of a coordinator or a node: who holds it, and which release wrote it.

All files in it (database, approvals, audit, catalogue, what was shown, models, keys) have one version together, in
``home.json``: they are backed up and restored together too. What 0.1 left has no such file, and is version 1.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

import hanse
from hanse.errors import ConfigError, Conflict
from hanse.messages import Json
from hanse.whole_files import write_whole

FILE = "home.json"
FORMATS: Mapping[str, int] = {"coordinator": 1, "node": 1}  # what this release reads and writes
_LOCKS: Mapping[str, str] = {"coordinator": "coordinator.lock", "node": "agent.lock"}


def check(folder: Path, kind: str) -> dict[str, Json]:
    """What ``home.json`` says ({} where there is none yet).

    Raises ``ConfigError`` where the folder is of another kind, or a newer release wrote it.

    >>> import tempfile
    >>> check(Path(tempfile.mkdtemp()), "node")
    {}
    """
    try:
        said = json.loads((folder / FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        said = None
    if not (isinstance(said, dict) and isinstance(said.get("format"), int) and isinstance(said.get("release"), str)):
        raise ConfigError(f"{FILE} of this home is damaged; restore it from a backup")
    if said.get("kind") != kind:
        raise ConfigError(
            f"this folder is the home of a {said.get('kind')}, not of a {kind}; choose another with --home"
        )
    if said["format"] > FORMATS[kind]:
        raise ConfigError(
            f"this home was written by hanse {said['release']}, format {said['format']}; this is hanse "
            f"{hanse.__version__}, format {FORMATS[kind]}; install hanse {said['release']} or newer"
        )
    return said


def hold(folder: Path, kind: str) -> int:
    """Locks the folder for this process, as long as the file descriptor that is returned is open (the system lets go
    of it when the process dies), and notes this release in it.

    Raises ``Conflict`` where another process holds it, ``ConfigError`` as :func:`check`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / _LOCKS[kind], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            who = f"a {kind} is running in this folder already" + (f" (process {pid})" if pid.isdigit() else "")
            raise Conflict(f"{who}; stop it first, or choose another folder with --home") from None
        said = check(folder, kind)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        now: dict[str, Json] = {"kind": kind, "format": FORMATS[kind], "release": hanse.__version__}
        if said != now:
            write_whole(folder / FILE, json.dumps(now) + "\n")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
