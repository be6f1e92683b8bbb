"""Universal Binary JSON, as much of it as XGBoost reads (https://ubjson.org): written only.

Numbers in arrays keep their exact bits, which text would not promise.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_TYPES = {"float32": b"d", "int32": b"l", "int64": b"L", "int8": b"i", "uint8": b"U"}


def dumps(value: Any) -> bytes:
    """``value`` of mappings with text keys, lists, text, integers and one-dimensional arrays.

    >>> dumps({"a": [1, "b"]})
    b'{L\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01a[#L\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02L\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01SL\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01b}'
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: Any, out: list[bytes]) -> None:
    if isinstance(value, Mapping):
        out.append(b"{")
        for key, item in value.items():
            out.append(_text(key))
            _write(item, out)
        out.append(b"}")
    elif isinstance(value, np.ndarray):
        code = _TYPES[value.dtype.name]
        out.append(b"[$" + code + b"#" + _integer(len(value)))
        out.append(np.ascontiguousarray(value, value.dtype.newbyteorder(">")).tobytes())
    elif isinstance(value, list):
        out.append(b"[#" + _integer(len(value)))
        for item in value:
            _write(item, out)
    elif isinstance(value, str):
        out.append(b"S" + _text(value))
    elif isinstance(value, int):
        out.append(_integer(value))
    else:
        raise TypeError(f"{type(value).__name__} is not written here")


def _integer(value: int) -> bytes:
    return b"L" + struct.pack(">q", value)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _integer(len(raw)) + raw
