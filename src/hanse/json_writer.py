"""Compact JSON as ``json.dumps`` writes it, without what that prepares anew for each call: this takes longer than a
small object does. Only the standard library.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from json import encoder
from typing import Any

Json = Any


def _refuse(value: object) -> Json:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


quoted: Callable[[str], str] = encoder.encode_basestring_ascii  # a text as JSON, of ASCII alone


def _real(value: float) -> str:
    if value - value != 0.0:
        raise ValueError(f"Out of range float values are not JSON compliant: {value!r}")
    return float.__repr__(value)


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: quoted,
    int: int.__repr__,
    float: _real,
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
}


@functools.lru_cache(64)
def _form(names: tuple[str, ...]) -> tuple[list[str], str]:
    """These names in their order, and an object of them as a pattern for ``%``."""
    order = sorted(names)
    return order, "{" + ",".join(quoted(name).replace("%", "%%") + ":%s" for name in order) + "}"


def flat(value: Mapping[str, Json]) -> str | None:
    """An object as ``writer(sort_keys=True, ensure_ascii=True)`` writes it, of one that holds plain values alone; else
    None. For objects that have the same names again and again: their order, and all that stands around their values,
    is found once.

    >>> flat({"b": "é", "a": 2.0}), flat({"a": []})
    ('{"a":2.0,"b":"\\\\u00e9"}', None)
    """
    order, pattern = _form(tuple(value))
    try:
        return pattern % tuple([_WRITERS[type(found)](found) for found in map(value.__getitem__, order)])
    except KeyError:
        return None


def writer(
    *, sort_keys: bool, ensure_ascii: bool = False, default: Callable[[Any], Json] = _refuse
) -> Callable[[Json], str]:
    """A function that writes finite values, without spaces. It raises as ``json.dumps``; of what contains itself, a
    ``RecursionError``.

    Args:
        sort_keys: whether keys are written in their order or as they come.
        ensure_ascii: whether other characters are escaped.
        default: makes JSON of what is none, or raises ``TypeError``.

    >>> writer(sort_keys=True)({"b": "é", "a": [1, 2.0]})
    '{"a":[1,2.0],"b":"é"}'
    """
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # another Python
        return json.JSONEncoder(
            sort_keys=sort_keys, separators=(",", ":"), allow_nan=False, ensure_ascii=ensure_ascii, default=default
        ).encode
    text = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    # markers (None: see above), default, strings, indent, separators, keys, whether to leave keys out, NaN
    parts = make(None, default, text, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(parts(value, 0))
