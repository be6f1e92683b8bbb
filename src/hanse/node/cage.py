"""The cage: from here on this process, and whatever it starts, sees the files that are named and no others.

It is Landlock, of the Linux kernel (5.13 and later), which any process may ask for and none can leave. Nothing can be
written but in a folder for scraps; files that are open already stay so. From kernel 6.12 on (ABI 6) signals and
abstract sockets of other processes are out of reach too.
The network is shut by a namespace (:mod:`hanse.node.worker_main`); sockets that lie in the file system, other processes
and what root may ask of a kernel, by refusing the system calls for it (:mod:`hanse.node.system_calls`).
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from hanse.node.system_calls import refuse

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, of all architectures
_VERSION = 1
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14  # files and folders: write, remove, make, truncate
# what each ABI can forbid of files: execute, write, read, ... ; moving between folders (2), truncating (3), ioctl (5)
_FORBIDDEN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_NEWEST = 5
_TCP, _TCP_ABI = 3, 4  # bind, connect
_SCOPES, _SCOPES_ABI = 3, 6  # abstract sockets, signals
SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",  # not those of other processes: Landlock lets their environments be read
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
)


@functools.cache  # what ctypes makes for a call costs more than all else at a task
def abi() -> int:
    """The version of Landlock that this kernel has; 0 where it has none, or does not allow it."""
    version: int = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))
    return max(0, version)


def python() -> tuple[Path, ...]:
    """Where this Python and its packages are."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent}
    found |= {Path(entry) for entry in sys.path if entry and Path(entry).is_absolute()}
    return tuple(sorted({path.resolve() for path in found if path.exists()}))


def covers(seen: Iterable[Path], other: Path) -> Path | None:
    """The path of ``seen`` in which ``other`` is; None where it is in none.

    >>> covers([Path("/usr"), Path("/srv/a.csv")], Path("/srv/b.csv")) is None
    True
    """
    other = other.resolve()
    return next((path for path in seen if other == path.resolve() or path.resolve() in other.parents), None)


def shut(seen: Iterable[Path], scraps: Path | None = None) -> int:
    """Shuts this process in: it can read ``seen`` (files, or folders with all that is in them), write in ``scraps``,
    and nothing else; it reaches no other program and starts none. To be called before threads are started. The ABI that
    did it; 0 where the kernel cannot.

    Raises ``OSError`` where it can and did not: the process is not to go on.
    """
    version = abi()
    if version < 1:
        return 0
    libc = _libc()
    files = _FORBIDDEN[min(version, _NEWEST)]
    attributes = struct.pack("QQQ", files, _TCP if version >= _TCP_ABI else 0, _SCOPES if version >= _SCOPES_ABI else 0)
    size = 24 if version >= _SCOPES_ABI else 16 if version >= _TCP_ABI else 8
    ruleset = libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "no rules could be made")
    try:
        for path in seen:
            _allow(libc, ruleset, path)
        if scraps is not None:
            _allow(libc, ruleset, scraps, _WRITE & files)
        _done(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "privileges could not be given up")
        _done(libc.syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0)), "the rules were not taken")
    finally:
        os.close(ruleset)
    refuse()
    return version


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, more: int = 0) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # nothing to see
    try:
        rights = more | _READ_FILE | (_EXECUTE | _READ_DIR if path.is_dir() else 0)
        rule = struct.pack("=Qi", rights, place)
        done = libc.syscall(_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0))
        _done(done, f"{path.name} could not be allowed")
    finally:
        os.close(place)


def _done(result: int, otherwise: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), otherwise)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
