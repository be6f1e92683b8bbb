"""Memory of large arrays that are made anew in every round, used again instead of zeroed again.

The sum of a step is as large as the model. As the system gives it, it is zeroed page by page, and first asked
of the host where this is a virtual machine; that costs more than filling it. What a C library keeps warm by
itself is smaller (``hanse.allocator``).
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from hanse.messages import Array

LARGE_BYTES = 32 << 20  # of smaller ones what a transfer holds beside them counts more than the time

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_kept: list[tuple[weakref.ref[_Bytes], _Bytes]] = []
_lock = threading.Lock()


def empty(size: int, dtype: np.dtype[Any], large: int = LARGE_BYTES) -> Array:
    """As ``numpy.empty``. A large one lies where one of the same bytes lay that is gone, with all its views,
    if there is such a place.

    Args:
        large: so many bytes are large.
    """
    nbytes = size * dtype.itemsize
    if nbytes < large:
        return np.empty(size, dtype)
    with _lock:
        gone = [memory for lent, memory in _kept if lent() is None]
        memory = next((memory for memory in gone if memory.nbytes == nbytes), None)
        if memory is None:  # sizes have changed: what was kept for others would only pile up
            _kept[:] = [(lent, other) for lent, other in _kept if lent() is not None]
            memory = np.empty(nbytes, np.uint8)
        else:
            _kept[:] = [(lent, other) for lent, other in _kept if other is not memory]
        del gone
        window = memory[:]
        _kept.append((weakref.ref(window), memory))
    # Its buffer, not a view of it: numpy would let a view refer to ``memory``, a buffer refers to who exports it
    return np.frombuffer(window.data, dtype)


def release() -> None:
    """Gives memory that is not in use back to the system; what is in use goes with its last array."""
    with _lock:
        _kept.clear()
