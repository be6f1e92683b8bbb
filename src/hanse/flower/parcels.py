"""What a message of Flower holds, as bytes: a record of Hanse (named arrays and JSON), never a pickle.

A message holds records by name, each a mapping: an ``ArrayRecord`` of arrays, a ``MetricRecord`` of numbers and lists
of numbers, a ``ConfigRecord`` also of truth values, text and bytes. Order, types and every bit of a number are kept.
Only Flower's public classes are used.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.errors import NodeFailed, WireError
from hanse.flower.installed import flower
from hanse.messages import Array, Json, Record, dump, load

_KINDS = {"ArrayRecord": "arrays", "MetricRecord": "metrics", "ConfigRecord": "config"}
_NUMPY = "numpy.ndarray"


def packed(content: Any) -> Array:
    """A ``RecordDict`` as bytes, (n,) uint8. Raises ``NodeFailed`` where it holds what does not travel."""
    arrays: dict[str, Array] = {}

    def kept(value: Array) -> str:
        name = str(len(arrays))
        arrays[name] = np.require(value, requirements="C")
        return name

    records: list[Json] = []
    for name, record in content.items():
        kind = _KINDS.get(type(record).__name__)
        if kind is None:
            raise NodeFailed(f"{name!r} is a {type(record).__name__}; expected one of {', '.join(_KINDS)}")
        one = (lambda value: kept(_plain(value))) if kind == "arrays" else (lambda value: _value(value, kept))
        records.append([str(name), kind, [[key, one(value)] for key, value in record.items()]])
    return np.frombuffer(dump(Record({"records": records}, arrays)), np.uint8)


def unpacked(parcel: Array) -> Any:
    """The ``RecordDict`` in ``parcel``. Raises ``WireError`` where it is none."""
    app = flower()
    of = {"arrays": app.ArrayRecord, "metrics": app.MetricRecord, "config": app.ConfigRecord}
    record = load(np.require(parcel, np.uint8, "C").data)
    try:
        found = app.RecordDict()
        for name, kind, items in record.data["records"]:
            if kind == "arrays":
                named = ((str(key), app.Array(np.array(record.arrays[place]))) for key, place in items)
                found[str(name)] = app.ArrayRecord(OrderedDict(named))
            else:
                found[str(name)] = of[kind]({str(key): _read(value, record.arrays) for key, value in items})
        return found
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"this is no message of a Flower app ({type(error).__name__})") from None


def numbers(content: Any) -> dict[str, float]:
    """The finite single numbers of all ``MetricRecord`` of a ``RecordDict``, for people."""
    found: dict[str, float] = {}
    for record in content.values():
        if type(record).__name__ == "MetricRecord":
            for name, value in record.items():
                if isinstance(value, (int, float)) and math.isfinite(value) and str(name).isprintable():
                    found[str(name)[:200]] = value
    return found


def _plain(value: Any) -> Array:
    """The array in Flower's ``Array``; it is read without unpickling anything."""
    if value.stype != _NUMPY:
        raise NodeFailed(f"an array of the kind {value.stype!r} does not travel; expected {_NUMPY!r}")
    try:
        found: Array = value.numpy()
    except ValueError:
        raise NodeFailed(f"an array of {value.dtype!r} cannot be read; expected numbers") from None
    if found.dtype.kind not in "biuf" or found.dtype.itemsize > 8:
        raise NodeFailed(
            f"an array of {found.dtype} does not travel; expected truth values or numbers of up to 64 bits"
        )
    return found.astype(found.dtype.newbyteorder("<"), copy=False)


def _value(value: Any, kept: Any) -> Json:
    if isinstance(value, bytes):
        return {"bytes": kept(np.frombuffer(value, np.uint8))}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list):
        return [_value(one, kept) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
        raise NodeFailed("a whole number of more than 64 bits does not travel")
    return value if isinstance(value, (bool, str)) else int(value)


def _read(value: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(value, Mapping):
        ((kind, held),) = value.items()
        return (
            arrays[held].tobytes() if kind == "bytes" else {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[held]
        )
    return [_read(one, arrays) for one in value] if isinstance(value, (list, tuple)) else value
