"""Many records whose arrays lie in one: of each name one array, whose first axis counts the records.

What is computed for many at once need not be taken apart to be checked, sent and added: a :class:`Row` is the arrays of
one record, each of which is made when it is looked at, and who looks at many of them finds them lying together
(:class:`Together`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.messages.buffers import Array, Layout, Placed, Under, block


class Stack:
    """The arrays of several records, in memory.

    Args:
        arrays: name to (records, ...) array; of at least one record.

    >>> rows = Stack({"a": np.arange(6.0).reshape(2, 3), "n": np.arange(2)}).rows()
    >>> rows[1]["a"], rows[1]["n"].shape, prefixed(rows[0], "x.")["x.a"]
    (array([3., 4., 5.]), (), array([0., 1., 2.]))
    """

    __slots__ = ("_named", "arrays", "layout")

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = arrays
        self.layout = Layout.of({name: array[0, ...] for name, array in arrays.items()})
        self._named: dict[tuple[str, bool], Stack] = {}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), ()))

    def prefixed(self, prefix: str) -> Stack:
        """The same, with ``prefix`` before each name; made once."""
        found = self._named.get((prefix, True))
        if found is None:
            named = {prefix + name: array for name, array in self.arrays.items()}
            found = self._named[prefix, True] = Stack(named)
        return found

    def under(self, prefix: str) -> Stack:
        """The arrays whose names begin with ``prefix``, without it; made once."""
        found = self._named.get((prefix, False))
        if found is None:
            size = len(prefix)
            named = {name[size:]: array for name, array in self.arrays.items() if name.startswith(prefix)}
            found = self._named[prefix, False] = Stack(named)
        return found

    def rows(self) -> list[Row]:
        """The arrays of each record."""
        return [Row(self, place) for place in range(len(self))]


class Row(Placed):
    """The arrays of one record of a stack."""

    __slots__ = ("place", "stack")

    def __init__(self, stack: Stack, place: int) -> None:
        self.layout, self.stack, self.place = stack.layout, stack, place

    def __getitem__(self, name: str) -> Array:
        return self.stack.arrays[name][self.place, ...]  # with the dots what has no axis stays an array

    def block(self, name: str, start: int, stop: int) -> Array:
        """Elements ``start:stop`` of the flattened array."""
        return np.ascontiguousarray(self[name]).reshape(-1)[start:stop]


def prefixed(arrays: Mapping[str, Array], prefix: str) -> Mapping[str, Array]:
    """The same arrays, with ``prefix`` before their names."""
    if type(arrays) is Row:
        return Row(arrays.stack.prefixed(prefix), arrays.place)
    return {prefix + name: array for name, array in arrays.items()}


def each_prefixed(records: Sequence[Mapping[str, Array]], prefix: str) -> list[Mapping[str, Array]]:
    """:func:`prefixed` of each; of a stack of many records the names are looked up once."""
    found, stack, named = list[Mapping[str, Array]](), None, None
    for arrays in records:
        if type(arrays) is not Row:
            found.append(prefixed(arrays, prefix))
            continue
        if arrays.stack is not stack or named is None:
            stack, named = arrays.stack, arrays.stack.prefixed(prefix)
        found.append(Row(named, arrays.place))
    return found


def under(arrays: Mapping[str, Array], prefix: str) -> Mapping[str, Array]:
    """The arrays whose names begin with ``prefix``, without it; read only when asked for."""
    return Row(arrays.stack.under(prefix), arrays.place) if type(arrays) is Row else Under(arrays, prefix)


class Together:
    """The arrays of many records, of which those that lie in one are found together.

    Args:
        records: of which arrays are looked at; at least one.
    """

    __slots__ = ("_parts", "_size")

    def __init__(self, records: Sequence[Mapping[str, Array]]) -> None:
        self._size = len(records)
        self._parts: list[tuple[Stack, list[int]] | Mapping[str, Array]] = []
        last, places = None, list[int]()
        for arrays in records:
            if type(arrays) is not Row:
                last = None
                self._parts.append(arrays)
            elif arrays.stack is last:
                places.append(arrays.place)
            else:
                last, places = arrays.stack, [arrays.place]
                self._parts.append((last, places))

    def block(self, name: str, start: int, stop: int) -> Array:
        """(records, stop - start) float64: elements ``start:stop`` of the flattened array of each."""
        return self.put(name, start, np.empty((self._size, stop - start)))

    def put(self, name: str, start: int, into: Array) -> Array:
        """The same of as many elements as ``into`` has columns, which are put there."""
        low, stop = 0, start + into.shape[1]
        for part in self._parts:
            if isinstance(part, tuple):
                stack, places = part
                first, high = places[0], low + len(places)
                whole = stack.arrays[name].reshape(len(stack), -1)
                if places == list(range(first, first + len(places))):  # nearly always, and read in half the time
                    into[low:high] = whole[first : first + len(places), start:stop]
                else:
                    into[low:high] = whole[:, start:stop][places]
            else:
                high = low + 1
                into[low] = block(part, name, start, stop)
            low = high
        return into
