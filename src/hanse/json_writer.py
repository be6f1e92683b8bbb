"""Compact JSON as ``json.dumps`` writes it, without what that prepares anew for each call: this takes longer than a
small object does. Only the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any

Json = Any


def _refuse(value: object) -> Json:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


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
