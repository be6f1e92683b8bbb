"""What sites of a simulation remember, as records that can be written to a file and sent to another process.

Without pickle: numbers, texts, arrays, and lists, tuples and mappings of them. Of what else an algorithm keeps at a
site (the learner of boosted trees, say) nothing is said, and who asks is told that it cannot be kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.experiment import stacked as stacking
from hanse.memories import NodeMemory
from hanse.messages import Array, Json, Record
from hanse.messages.buffers import CODES


class Unkept(Exception):
    """Something that is remembered is of a kind that no file holds; says which."""


def packed(memory: NodeMemory) -> Record:
    """The same as a record. Raises ``Unkept``.

    >>> memory = NodeMemory({"rounds": {3: (np.arange(2), math.inf, None)}})
    >>> unpacked(packed(memory)).algorithm
    {'rounds': {3: (array([0, 1]), inf, None)}}
    """
    arrays: dict[str, Array] = {}
    parts = {"algorithm": memory.algorithm, "gather": memory.gather, "transforms": memory.transforms}
    return Record({name: _said(part, arrays) for name, part in parts.items()}, arrays)


def unpacked(record: Record) -> NodeMemory:
    """What :func:`packed` made a record of."""
    parts = (_heard(record.data[name], record.arrays) for name in ("algorithm", "gather", "transforms"))
    return NodeMemory(*parts)


def together(sites: Mapping[str, Record]) -> Record:
    """The records of several sites in one."""
    found = stacking.stacked([*sites.values()])
    return Record({"sites": [*sites], "memories": found.data}, found.arrays)


def apart(record: Record) -> dict[str, Record]:
    """What :func:`together` put together."""
    return dict(zip(record.data["sites"], stacking.apart(Record(record.data["memories"], record.arrays)), strict=True))


def _said(value: Any, arrays: dict[str, Array]) -> Json:
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value) is int:
        return {"int": str(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.newbyteorder("<") in CODES:
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        return {"array" if isinstance(value, np.ndarray) else "number": name}
    if type(value) is list or type(value) is tuple:
        return {type(value).__name__: [_said(v, arrays) for v in value]}
    if type(value) is dict:
        return {"dict": [[_said(k, arrays), _said(v, arrays)] for k, v in value.items()]}
    raise Unkept(f"a {type(value).__name__} is remembered at a site, which no file holds")


def _heard(said: Any, arrays: Mapping[str, Array]) -> Any:
    if not isinstance(said, dict):
        return said
    ((kind, value),) = said.items()
    if kind in ("int", "float"):
        return int(value) if kind == "int" else float(value)
    if kind in ("array", "number"):
        return np.array(arrays[value]) if kind == "array" else arrays[value][()]
    if kind == "dict":
        return {_heard(k, arrays): _heard(v, arrays) for k, v in value}
    found = (_heard(v, arrays) for v in value)
    return tuple(found) if kind == "tuple" else list(found)
