"""Memory of large arrays that are made anew in every round, used again instead of zeroed again.

The sum of a step is as large as the model. As the system gives it, it is zeroed page by page, and first asked
of the host where this is a virtual machine; that costs more than filling it. What a C library keeps warm by
itself is smaller (``hanse.allocator``).

Where a process has named a folder (:func:`spill`), a value of over :data:`MEMORY_BYTES` lies in a file there without a
name. Its pages are the system's: it writes them out where memory is short, so what a process needs by itself does not
grow with the model. A smaller one would be slower there, as its file is written out every round. What is put there goes
through the file (:func:`puts`).

Where a process says that it hands arrays on (:func:`share`), one of over :data:`SHARED_BYTES` lies in memory that
another process can map (:func:`handed`), and needs not be copied for it: there would be no room for both. What the
other process does not need any more it lends for the next one (:func:`lend`); and what it sent, for what is sent back
(:func:`in_place_of`).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hanse.messages import Array, Layout, Spool

LARGE_BYTES = 32 << 20  # of smaller ones what a transfer holds beside them counts more than the time
MEMORY_BYTES = 512 << 20  # of one value, such as a model; a larger one lies in a file where there is a folder for it
SHARED_BYTES = 1 << 30  # of one array; a smaller one is copied, and its memory stays this process's own
_ALIGNED = 64

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """Memory, who was lent it last, and its descriptor where it can be shared; ``loan``: it is another process's.
    ``file``: what it lies in, where that is one."""

    lent: Callable[[], _Bytes | None]
    memory: _Bytes
    fd: int = -1
    loan: bool = False
    file: Spool | None = None

    def close(self) -> None:
        if self.fd >= 0 and not self.loan:
            os.close(self.fd)


def _nobody() -> None:
    return None


_kept: list[_Kept] = []
_gone: list[Callable[[], _Bytes | None]] = []  # who looks at what was handed on
_lock = threading.Lock()
_folder: str | os.PathLike[str] | None = None
_shares = False


def spill(folder: str | os.PathLike[str] | None) -> None:
    """From here on what is too much for memory lies in files of ``folder``; None: it is memory all the same."""
    global _folder
    _folder = folder


def share() -> None:
    """From here on what is over :data:`SHARED_BYTES` lies in memory that can be handed to another process."""
    global _shares
    _shares = True


def handed(arrays: Mapping[str, Array]) -> int | None:
    """The descriptor of the memory in which these arrays lie as they travel, from its first byte on; None where they
    lie otherwise. It is the caller's to close, and no array lies in this memory again."""
    with _lock:
        kept = _whole(arrays)
        if kept is None or kept.loan:
            return None
        _kept.remove(kept)
        _gone.append(kept.lent)
        return kept.fd


def lend(memory: _Bytes, fd: int, look: Callable[[], _Bytes | None] = _nobody) -> None:
    """Another process lends this for an array of its size, until :func:`settle`; ``fd`` is its descriptor, ``look``
    gives a look at the same memory as long as anybody needs what it holds."""
    with _lock:
        _kept.append(_Kept(look, memory, fd, loan=True))


def in_place_of(array: Array) -> Array:
    """An array of this one's shape and type, to be written to, for who does not need what this one holds any more: it
    lies in the same place where that was lent, and elsewhere otherwise."""
    with _lock:
        for kept in _kept:
            window = kept.lent() if kept.loan else None
            if window is None or not array.size:
                continue
            place = _address(array) - _address(window)
            if 0 <= place <= window.nbytes - array.nbytes and array.flags.c_contiguous:
                return np.frombuffer(window.data, array.dtype, array.size, place).reshape(array.shape)
    return empty(array.size, array.dtype).reshape(array.shape)


def on_loan(arrays: Mapping[str, Array]) -> int | None:
    """The descriptor of the memory that was lent, where these arrays lie in it as they travel."""
    with _lock:
        kept = _whole(arrays)
        return kept.fd if kept is not None and kept.loan else None


def loan_seen(fd: int) -> bool:
    """Whether anybody looks at what was lent with this descriptor."""
    with _lock:
        return any(kept.loan and kept.fd == fd and kept.lent() is not None for kept in _kept)


def settle() -> bool:
    """What was lent is lent no more. Returns whether anybody still looks at any of it, or at what was handed on: then
    that must not be written to."""
    with _lock:
        if not _kept and not _gone:  # as after each small task
            return False
        loans = [kept for kept in _kept if kept.loan]
        seen = any(look() is not None for look in [*_gone, *(kept.lent for kept in loans)])
        for kept in loans:
            _kept.remove(kept)
        _gone.clear()
    return seen


def _whole(arrays: Mapping[str, Array]) -> _Kept | None:
    """The memory in which these arrays lie as they travel, from its first byte on."""
    layout = Layout.of(arrays)
    if not _shares or layout.nbytes <= SHARED_BYTES:
        return None
    begin = min(_address(arrays[name]) for name, place in layout.places.items() if place.nbytes)
    for kept in _kept:
        if kept.fd >= 0 and kept.memory.ctypes.data == begin and kept.memory.nbytes >= layout.nbytes:
            lies = all(_lies(arrays[n], p.dtype, begin + p.offset) for n, p in layout.places.items() if p.nbytes)
            return kept if lies else None
    return None


def _address(array: Array) -> int:
    return int(array.ctypes.data)


def _lies(array: Array, dtype: np.dtype[Any], address: int) -> bool:
    return bool(array.flags.c_contiguous) and array.dtype == dtype and _address(array) == address


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
        gone = [kept for kept in _kept if kept.lent() is None]
        found = next((kept for kept in gone if kept.memory.nbytes == nbytes), None)
        if found is None:  # sizes have changed: what was kept for others would only pile up
            for kept in gone:
                if not kept.loan:
                    _kept.remove(kept)
                    kept.close()
            found = _new(nbytes)
        else:
            _kept.remove(found)
        window = found.memory[:]
        _kept.append(replace(found, lent=weakref.ref(window)))
        del gone, found
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


def puts(array: Array) -> Callable[[int, Array], None]:
    """What puts numbers at an element of a flattened contiguous array, as ``array.reshape(-1)[start:stop] = numbers``
    does. It goes through the file of one that lies in a file: through its mapping, what the system has written out
    meanwhile costs faults, twice the time, and is read from disk first where it is no longer in memory.
    """
    flat, begin = array.reshape(-1), _address(array)

    def here(start: int, numbers: Array) -> None:
        flat[start : start + numbers.size] = numbers

    with _lock:
        for kept in _kept:
            place = begin - _address(kept.memory)
            if kept.file is not None and 0 <= place <= kept.memory.nbytes - array.nbytes:
                break
        else:
            return here
    file, dtype = kept.file, array.dtype

    def there(start: int, numbers: Array) -> None:
        if start < 0 or start + numbers.size > array.size:
            raise ValueError(f"{numbers.size} numbers at {start} of {array.size}")
        file.write(place + start * dtype.itemsize, np.ascontiguousarray(numbers, dtype).view(np.uint8).data)

    return there


def _new(nbytes: int) -> _Kept:
    """Memory that was not lent before."""
    if _shares and nbytes > SHARED_BYTES:
        fd = os.memfd_create("hanse-array", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, nbytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            mapping = mmap.mmap(fd, nbytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)
            return _Kept(_nobody, np.frombuffer(mapping, np.uint8), fd)
        except OSError:
            os.close(fd)
    elif _folder is not None and nbytes > MEMORY_BYTES:
        try:
            file = Spool(nbytes, _folder)
            os.posix_fallocate(file.fileno(), 0, nbytes)  # now, as a disk that is full later would end the process
            return _Kept(_nobody, np.frombuffer(mmap.mmap(file.fileno(), nbytes), np.uint8), file=file)
        except OSError:  # no room there: then it has to be memory
            pass
    return _Kept(_nobody, np.empty(nbytes, np.uint8))


def release() -> None:
    """Gives memory that is not in use back to the system; what is in use goes with its last array."""
    with _lock:
        for kept in _kept:
            kept.close()
        _kept.clear()
