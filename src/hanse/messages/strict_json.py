"""JSON that reads back as it was written: canonical when written, strict when read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from json import encoder
from typing import Any

import numpy as np

from hanse.errors import WireError

MAX_DEPTH = 64
_MAX_DIGITS = 40

Json = Any


class Written(dict[str, Json]):
    """A JSON object that goes to many and is written once. It must not change any more.

    >>> dumps(Written({"b": 1, "a": 2}))
    '{"a":2,"b":1}'
    """

    __slots__ = ("_text",)

    @property
    def text(self) -> str:
        """Its canonical JSON."""
        if not hasattr(self, "_text"):
            self._text = dumps(dict(self))
        return self._text


def dumps(value: Json) -> str:
    """Canonical JSON: sorted keys, no spaces, finite numbers only."""
    if type(value) is Written:
        return value.text
    try:
        return _canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"this value is not JSON: {error}") from None


def _plain(value: object) -> Json:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON; use numbers, strings, lists and objects")


def _writer(sort_keys: bool) -> Callable[[Json], str]:
    """``json.dumps`` without what it prepares anew for each call; that takes longer than a small object does."""
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # another Python
        return json.JSONEncoder(
            sort_keys=sort_keys, separators=(",", ":"), allow_nan=False, ensure_ascii=False, default=_plain
        ).encode
    # markers (None: what contains itself ends in a RecursionError), default, strings, indent, separators, keys, NaN
    parts = make(None, _plain, encoder.encode_basestring, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(parts(value, 0))


_canonical = _writer(sort_keys=True)
in_order = _writer(sort_keys=False)  # keys as they come; raises as json.dumps


def loads(text: str | bytes | memoryview) -> Json:
    """Strict JSON: a repeated key, NaN, Infinity, a number out of range, half a character (a lone
    surrogate) or nesting deeper than ``MAX_DEPTH`` is an error, so whatever is read can be written again."""
    try:
        plain = text if isinstance(text, str) else bytes(text).decode()
        value = DECODER.decode(plain)
        if "\\u" in plain:  # only an escape can smuggle in what UTF-8 cannot say
            json.dumps(value, ensure_ascii=False).encode()
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError(f"this is not JSON: {error}") from None
    if plain.count("[") + plain.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Json) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = (part.values() if isinstance(part, dict) else part for part in level)
        level = [v for values in inside for v in values if isinstance(v, (dict, list))]
        if not level:
            return
    raise WireError(f"this JSON is nested more than {MAX_DEPTH} deep")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = next(name for name, count in names.items() if count > 1)
        raise WireError(f"the name {twice!r} stands twice in one JSON object")
    return found


def _constant(name: str) -> float:
    raise WireError(f"{name} is not a JSON number; send null instead")


def _real(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise WireError(f"the number {text[:20]} is out of range; send null instead")
    return value


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise WireError(f"a whole number of {len(text)} digits is out of range")
    return int(text)


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_real, parse_int=_whole)
