"""Many records as one, for a way on which each message costs more than its bytes.

Arrays of records that have the same names, dtypes and shapes lie in one array, whose first axis counts the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hanse.messages import Json, Record


def stacked(records: Sequence[Record]) -> Record:
    """One record of all. Data ``{each, groups}``: the data of each, and the places of those that are alike; arrays
    ``g/name`` of group g.

    >>> import numpy as np
    >>> found = stacked([Record({"n": n}, {"a": np.full(2, n), "b": np.array(0.5)}) for n in range(3)])
    >>> found.data, found.arrays["0/a"].tolist(), found.arrays["0/b"].shape
    ({'each': [{'n': 0}, {'n': 1}, {'n': 2}], 'groups': [[0, 1, 2]]}, [[0, 0], [1, 1], [2, 2]], (3,))
    >>> [(record.data, record.arrays["a"].tolist()) for record in apart(found)]
    [({'n': 0}, [0, 0]), ({'n': 1}, [1, 1]), ({'n': 2}, [2, 2])]
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, record in enumerate(records):
        layout = tuple((name, array.dtype.str, array.shape) for name, array in record.arrays.items())
        alike.setdefault(layout, []).append(place)
    arrays = {
        f"{number}/{name}": np.stack([records[place].arrays[name] for place in places])
        for number, (layout, places) in enumerate(alike.items())
        for name, _, _ in layout
    }
    groups: list[Json] = [list(places) for places in alike.values()]
    return Record({"each": [dict(record.data) for record in records], "groups": groups}, arrays)


def apart(record: Record) -> list[Record]:
    """The records of which :func:`stacked` made one; their arrays are views of it."""
    said: Any = record.data
    arrays: list[dict[str, Any]] = [{} for _ in said["each"]]
    for key, stack in record.arrays.items():
        number, _, name = key.partition("/")
        for row, place in enumerate(said["groups"][int(number)]):
            arrays[place][name] = stack[row, ...]  # with the dots what has no axis stays an array
    return [Record(data, found) for data, found in zip(said["each"], arrays, strict=True)]
