"""Answers of a simulation that wait for those of many other sites: their arrays lie in one file meanwhile, and what
many of them say in the same words is kept once.

They are added in the order of sites when the last is in, block by block, so that memory does not grow with the sites.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Hashable

import numpy as np

from hanse.messages import Array, Json, Layout, Placed, Record, Spool, dumps

_SAYINGS = 256


class Aside:
    """A file without a name, which is there as soon as something is put into it. Room that nobody reads any more is
    written over when all of it is free: a step's answers go together.

    >>> import numpy as np
    >>> aside = Aside()
    >>> kept = aside.put(Record({"n": 2}, {"a": np.arange(4.0), "b": np.ones((2, 2), np.float32)}))
    >>> kept.data, kept.arrays["a"], kept.arrays["b"].shape, aside.nbytes
    ({'n': 2}, array([0., 1., 2., 3.]), (2, 2), 48)
    >>> del kept
    >>> aside.put(Record({}, {"a": np.arange(2)})).arrays["a"], aside.nbytes
    (array([0, 1]), 16)
    """

    def __init__(self) -> None:
        self._file: Spool | None = None
        self._lock = threading.RLock()  # a room may be freed inside these methods
        self._used, self.nbytes = 0, 0
        self._said: dict[Hashable, Json] = {}  # what some of the latest answers say, by its text

    def put(self, record: Record) -> Record:
        """The same record, whose arrays are read from the file."""
        return Record(record.data, self._put(record))

    def once(self, record: Record) -> Record:
        """The same contribution; what its algorithm says is the same object as where another says the same, and so is
        each part of it."""
        more = record.data.get("data")
        if not isinstance(more, dict):
            return record
        parts = {name: dumps(value) for name, value in more.items()}
        with self._lock:
            if len(self._said) >= _SAYINGS:
                self._said.clear()
            own = {name: self._said.setdefault(text, more[name]) for name, text in parts.items()}
            return Record({**record.data, "data": self._said.setdefault(tuple(parts.items()), own)}, record.arrays)

    def _put(self, record: Record) -> _Lying:
        layout = Layout.of(record.arrays)
        with self._lock:
            if self._file is None:
                self._file = Spool(sys.maxsize)
            if not self._used:
                self.nbytes = 0
            start = self.nbytes
            self._used, self.nbytes = self._used + 1, start + layout.nbytes
        lying = _Lying(layout, self, start)  # which frees its part also where that cannot be written
        for name, place in layout.places.items():
            raw = np.ascontiguousarray(record.arrays[name], place.dtype).reshape(-1).view(np.uint8).data
            self._file.write(start + place.offset, raw)
        return lying

    def read(self, start: int, nbytes: int) -> memoryview:
        """So many bytes of the file."""
        assert self._file is not None
        return self._file.read(start, nbytes)

    def freed(self) -> None:
        """A part of the file that nobody needs any more."""
        with self._lock:
            self._used -= 1


class _Lying(Placed):
    """The arrays of a record, which lie in the file; their part of it is free when nobody needs them. There is one for
    each of many answers, so it says little."""

    __slots__ = ("_aside", "_start")

    def __init__(self, layout: Layout, aside: Aside, start: int) -> None:
        super().__init__(layout)
        self._aside, self._start = aside, start

    def __del__(self) -> None:
        self._aside.freed()

    def block(self, name: str, start: int, stop: int) -> Array:
        place = self.layout.places[name]
        item = place.dtype.itemsize
        return np.frombuffer(
            self._aside.read(self._start + place.offset + start * item, (stop - start) * item), place.dtype
        )
