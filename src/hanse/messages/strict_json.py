"""JSON that reads back as it was written: canonical when written, strict when read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from hanse.errors import WireError
from hanse.json_writer import writer

MAX_DEPTH = 64
_MAX_DIGITS = 40

Json = Any


class Written(dict[str, Json]):
    """A JSON object that goes to many and is written once. It must not change any more.

    >>> dumps(Written({"b": 1, "a": 2}))
    '{"a":2,"b":1}'
    """

    __slots__ = ("_first", "_quoted", "_rest", "_text")
    _first: str  # of one that is headed: what stands before the others
    _rest: Written

    @property
    def text(self) -> str:
        """Its canonical JSON."""
        if hasattr(self, "_rest"):
            return self._first + self._rest.text[1:]
        if not hasattr(self, "_text"):
            self._text = dumps(dict(self))
        return self._text

    @property
    def quoted(self) -> str:
        """This text as a string of JSON."""
        if hasattr(self, "_rest"):
            return text_of(self._first)[:-1] + self._rest.quoted[2:]
        if not hasattr(self, "_quoted"):
            self._quoted = text_of(self.text)
        return self._quoted

    def headed(self, name: str, value: Json) -> Written:
        """The same with one more name, which stands before all others: what they say is not written anew. It is put
        together when it is looked at and not kept: there is one for each of those it goes to.

        >>> dumps(Written({"b": 1, "c": 2}).headed("a", 3))
        '{"a":3,"b":1,"c":2}'
        """
        if not self or name >= min(self):
            raise ValueError(f"{name!r} does not stand before {', '.join(self) or 'nothing'}")
        found = Written({name: value, **self})
        found._first, found._rest = f"{dumps({name: value})[:-1]},", self
        return found


class Received(dict[str, Json]):
    """A JSON object that came in, with the text that it was read from. It must not change any more.

    Whoever passes it on as it is need not write it again (:func:`as_it_travels`); what it is hashed by is still
    its canonical JSON (:func:`dumps`).
    """

    __slots__ = ("text",)

    def __init__(self, value: Mapping[str, Json], text: str) -> None:
        super().__init__(value)
        self.text = text


def as_it_travels(value: Mapping[str, Json]) -> str:
    """JSON of an object for a message: of what came in, the text that came.

    >>> as_it_travels({"b": 1, "a": 2}), as_it_travels(Received({"b": 1, "a": 2}, '{"b": 1, "a": 2}'))
    ('{"a":2,"b":1}', '{"b": 1, "a": 2}')
    """
    return value.text if type(value) is Received else dumps(value)


def quoted(value: Mapping[str, Json]) -> str:
    """:func:`as_it_travels` as a string of JSON."""
    return value.quoted if type(value) is Written else text_of(as_it_travels(value))


def dumps(value: Json) -> str:
    """Canonical JSON: sorted keys, no spaces, finite numbers only."""
    if type(value) is Written:
        return value.text
    try:
        return _canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"this value is not JSON: {error}") from None


def in_pieces(value: Mapping[str, Json], depth: int = 2) -> Iterator[str]:
    """:func:`dumps` of an object whose names are strings, a value at a time of it and of the objects in it, so deep:
    what it says of each of many nodes need not be in memory at once.

    >>> list(in_pieces({"b": {"y": [2], "x": 1}, "a": 0}))
    ['{"a":', '0', ',"b":', '{"x":', '1', ',"y":', '[2]', '}', '}']
    """
    if not value:
        yield "{}"
        return
    for place, name in enumerate(sorted(value)):
        yield f"{',' if place else '{'}{dumps(name)}:"
        inner = value[name]
        if depth > 1 and isinstance(inner, Mapping):
            yield from in_pieces(inner, depth - 1)
        else:
            yield dumps(inner)
    yield "}"


def _plain(value: object) -> Json:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON; use numbers, strings, lists and objects")


_canonical = writer(sort_keys=True, default=_plain)
in_order = writer(sort_keys=False, default=_plain)  # keys as they come; raises as json.dumps
text_of: Callable[[str], str] = json.encoder.encode_basestring  # as these write a text


def loads(text: str | bytes | memoryview) -> Json:
    """Strict JSON: a repeated key, NaN, Infinity, a number out of range, half a character (a lone
    surrogate) or nesting deeper than ``MAX_DEPTH`` is an error, so whatever is read can be written again."""
    try:
        plain = text if isinstance(text, str) else bytes(text).decode()
        value = _decoded(plain)
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


scan: Callable[[str, int], tuple[Json, int]] = cast(Any, DECODER).scan_once  # raises StopIteration where nothing begins


def _decoded(text: str) -> Json:
    try:
        value, end = scan(text, 0)
    except StopIteration:
        end = -1
    # what has spaces around it, or is no JSON, is for ``decode``
    return value if end == len(text) else DECODER.decode(text)
