"""Whole numbers on the wire in as few bytes as they need: sums over a site's rows seldom need all 64 bits.

A large array of int64 travels as int32 where that holds all its numbers. Else each is cut in two: its lower 32 bits
(uint32, in the place of the array), and what is above them with the sign (int8 or int16, under a name of its own), five
or six bytes together. The reply says which arrays it did that to, and they are made whole where they are looked at, so
nothing else knows of it. Numbers that need more travel as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.messages import Array, Layout, Placed, Record, block

LEAST = 1 << 14  # numbers of an array; below, a message is mostly something else
_FIRST = 1 << 10  # numbers that are looked at before all
NARROW = "narrow"  # in a reply: the names of the arrays that were made narrow
_ABOVE = "n."  # before the name of an array: what is above the lower 32 bits
_WIDE, _LOW, _SIGNED = np.dtype("<i8"), np.dtype("<u4"), np.dtype("<i4")
_PARTS = (np.dtype(np.int8), np.dtype("<i2"))


def narrowed(arrays: Mapping[str, Array]) -> tuple[Mapping[str, Array], list[str]]:
    """The same arrays, of which those are narrow that can be, and the names of these.

    >>> arrays = {"small": np.arange(LEAST), "large": np.arange(LEAST) << 24, "huge": np.arange(LEAST) << 40}
    >>> made, names = narrowed(arrays)
    >>> names, {name: str(array.dtype) for name, array in made.items()}
    (['small', 'large'], {'small': 'int32', 'large': 'uint32', 'huge': 'int64', 'n.large': 'int8'})
    """
    forms: Mapping[str, Any] = arrays if type(arrays) is dict else Layout.of(arrays).places
    wide = [name for name, form in forms.items() if form.size >= LEAST and form.dtype == _WIDE]
    if not wide:
        return arrays, []
    found, arrays = list[str](), dict(arrays)
    for name in wide:
        array = arrays[name]
        whole = np.ascontiguousarray(array, _WIDE).reshape(-1)
        first = whole[:_FIRST]  # two sums in one number, as boosting has them, are large from the first on
        if first.min() < -(1 << 47) or first.max() >= 1 << 47:
            continue
        least, most = int(whole.min()), int(whole.max())
        if least >= -(1 << 31) and most < 1 << 31:
            arrays[name] = whole.astype(_SIGNED).reshape(array.shape)
        elif least >= -(1 << 47) and most < 1 << 47:
            part = _PARTS[0] if least >= -(1 << 39) and most < 1 << 39 else _PARTS[1]
            arrays[name] = whole.astype(_LOW).reshape(array.shape)  # what is above is cut off
            arrays[_ABOVE + name] = whole.view(part).reshape(len(whole), -1)[:, 4 // part.itemsize].copy()
        else:
            continue
        found.append(name)
    return arrays, found


def widened(body: Record) -> Record:
    """A reply whose narrow arrays are int64 to whoever looks at them. Raises ``ValueError`` where they are none."""
    names = body.data.get(NARROW)
    if names is None:
        return body
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("narrow arrays are a list of names")
    data = {key: value for key, value in body.data.items() if key != NARROW}
    return Record(data, _Widened(body.arrays, names))


class _Widened(Placed):
    """The arrays of a reply. They may lie in a file, so each is made whole where it is looked at, or a block of it."""

    __slots__ = ("_arrays", "_narrow")

    def __init__(self, arrays: Mapping[str, Array], narrow: Sequence[str]) -> None:
        places = Layout.of(arrays).places
        hidden = {_ABOVE + name for name in narrow}
        self._arrays, self._narrow = arrays, frozenset(narrow)
        for name in narrow:
            low, above = places.get(name), places.get(_ABOVE + name)
            cut = above is not None and above.dtype in _PARTS and low is not None and above.shape == (low.size,)
            if low is None or low.dtype != (_LOW if cut else _SIGNED):
                raise ValueError(f"{name[2:][:100]!r} is said to be narrow, and its parts do not fit each other")
        forms = {n: (_WIDE if n in self._narrow else p.dtype, p.shape) for n, p in places.items() if n not in hidden}
        super().__init__(Layout.of({n: np.broadcast_to(np.zeros((), d), shape) for n, (d, shape) in forms.items()}))

    def block(self, name: str, start: int, stop: int) -> Array:
        low = block(self._arrays, name, start, stop)
        if name not in self._narrow:
            return low
        if low.dtype == _SIGNED:
            return low.astype(_WIDE)
        whole = block(self._arrays, _ABOVE + name, start, stop).astype(_WIDE)
        whole <<= 32
        whole |= low
        return whole
