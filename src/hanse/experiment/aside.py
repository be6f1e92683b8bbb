"""Answers of a simulation that wait for those of many other sites: their arrays lie in one file meanwhile, and what
many of them say in the same words is kept once.

They are added in the order of sites when the last is in, block by block, so that memory does not grow with the sites.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import numpy as np

from hanse.messages import Buffered, Json, Layout, Record, Spool, dumps

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
        self._said: dict[str, Json] = {}  # what some of the latest answers say, by its text

    def put(self, record: Record) -> Record:
        """The same record, whose arrays are read from the file."""
        return Record(record.data, self._put(record))

    def once(self, record: Record) -> Record:
        """The same contribution; its metrics and what its algorithm says are the same objects as where another says
        the same."""
        data, more = record.data, record.data.get("data")
        if isinstance(more, dict):
            data = {**data, "data": {name: self._once(value) for name, value in more.items()}}
        if "metrics" in data:
            data = {**data, "metrics": self._once(data["metrics"])}
        return Record(data, record.arrays)

    def _once(self, value: Json) -> Json:
        if not isinstance(value, (list, dict)):
            return value
        with self._lock:
            if len(self._said) >= _SAYINGS:
                self._said.clear()
            return self._said.setdefault(dumps(value), value)

    def _put(self, record: Record) -> Buffered:
        layout = Layout.of(record.arrays)
        with self._lock:
            if self._file is None:
                self._file = Spool(sys.maxsize)
            if not self._used:
                self.nbytes = 0
            room = _Room(self._file, self.nbytes, self._freed)
            self._used, self.nbytes = self._used + 1, self.nbytes + layout.nbytes
        for name, place in layout.places.items():
            room.write(
                place.offset, np.ascontiguousarray(record.arrays[name], place.dtype).reshape(-1).view(np.uint8).data
            )
        return Buffered(layout, room)

    def _freed(self) -> None:
        with self._lock:
            self._used -= 1


class _Room:
    """A :class:`hanse.messages.Buffer`: a part of the file, which is closed when nobody needs one."""

    __slots__ = ("_file", "_freed", "_start")

    def __init__(self, file: Spool, start: int, freed: Callable[[], None]) -> None:
        self._file, self._start, self._freed = file, start, freed

    def __del__(self) -> None:
        self._freed()

    def write(self, offset: int, chunk: memoryview) -> None:
        self._file.write(self._start + offset, chunk)

    def seal(self) -> None:
        pass

    def read(self, offset: int, nbytes: int) -> memoryview:
        return self._file.read(self._start + offset, nbytes)
