"""Memory of large arrays that are made anew in every round, used again instead of zeroed again.

The sum of a step is as large as the model. As the system gives it, it is zeroed page by page, and first asked
of the host where this is a virtual machine; that costs more than filling it. What a C library keeps warm by
itself is smaller (``hanse.allocator``).

Where a process has named a folder (:func:`spill`), a value of over :data:`MEMORY_BYTES` lies in a file there without a
name. Its pages are the system's: it writes them out where memory is short, so what a process needs by itself does not
grow with the model. A smaller one would be slower there, as its file is written out every round.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.messages import Array

LARGE_BYTES = 32 << 20  # of smaller ones what a transfer holds beside them counts more than the time
MEMORY_BYTES = 512 << 20  # of one value, such as a model; a larger one lies in a file where there is a folder for it
_ALIGNED = 64

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_kept: list[tuple[weakref.ref[_Bytes], _Bytes]] = []
_lock = threading.Lock()
_folder: str | os.PathLike[str] | None = None


def spill(folder: str | os.PathLike[str] | None) -> None:
    """From here on what is too much for memory lies in files of ``folder``; None: it is memory all the same."""
    global _folder
    _folder = folder


def empty(size: int, dtype: np.dtype[Any], large: int | None = None) -> Array:
    """As ``numpy.empty``. A large one lies where one of the same bytes lay that is gone, with all its views,
    if there is such a place.

    Args:
        large: so many bytes are large; None: :data:`LARGE_BYTES`.
    """
    nbytes = size * dtype.itemsize
    if nbytes < (LARGE_BYTES if large is None else large):
        return np.empty(size, dtype)
    with _lock:
        gone = [memory for lent, memory in _kept if lent() is None]
        memory = next((memory for memory in gone if memory.nbytes == nbytes), None)
        if memory is None:  # sizes have changed: what was kept for others would only pile up
            _kept[:] = [(lent, other) for lent, other in _kept if lent() is not None]
            memory = _new(nbytes)
        else:
            _kept[:] = [(lent, other) for lent, other in _kept if other is not memory]
        del gone
        window = memory[:]
        _kept.append((weakref.ref(window), memory))
    # Its buffer, not a view of it: numpy would let a view refer to ``memory``, a buffer refers to who exports it
    return np.frombuffer(window.data, dtype)


def several(wanted: Mapping[str, tuple[int, np.dtype[Any]]]) -> dict[str, Array]:
    """Size and type of arrays of one value, such as a model, to these arrays. Where they are too much for memory only
    together, they lie in one piece that is not, and goes with the last of them."""
    total = sum(size * dtype.itemsize for size, dtype in wanted.values())
    if _folder is None or total <= MEMORY_BYTES:
        return {name: empty(size, dtype) for name, (size, dtype) in wanted.items()}
    whole = empty(total + _ALIGNED * len(wanted), np.dtype(np.uint8))
    made, place = dict[str, Array](), 0
    for name, (size, dtype) in wanted.items():
        made[name] = whole[place : place + size * dtype.itemsize].view(dtype)
        place += -(-size * dtype.itemsize // _ALIGNED) * _ALIGNED
    return made


def _new(nbytes: int) -> _Bytes:
    """Memory that was not lent before."""
    if _folder is None or nbytes <= MEMORY_BYTES:
        return np.empty(nbytes, np.uint8)
    try:
        fd, path = tempfile.mkstemp(prefix="hanse-", suffix=".array", dir=_folder)
        try:
            os.unlink(path)
            os.posix_fallocate(fd, 0, nbytes)  # now, as a disk that is full later would end the process
            return np.frombuffer(mmap.mmap(fd, nbytes), np.uint8)
        finally:
            os.close(fd)
    except OSError:  # no room there: then it has to be memory
        return np.empty(nbytes, np.uint8)


def release() -> None:
    """Gives memory that is not in use back to the system; what is in use goes with its last array."""
    with _lock:
        _kept.clear()
