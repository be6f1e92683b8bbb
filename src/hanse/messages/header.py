"""The header of a record, as safetensors has it: each array's dtype, shape and place, and our own strings.

What is read here came over the wire or from a disk. Everything about it is checked before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hanse.errors import TooLarge, WireError
from hanse.messages.buffers import CODES, DTYPES, KEPT_LAYOUTS, ArrayPlace, Layout
from hanse.messages.strict_json import Json, in_order, loads, scan

MAX_HEADER_BYTES = 16 << 20
_MAX_DIMENSIONS = 32
_TEXTS = {str}
_START = '{"__metadata__":'
_KNOWN_CHARACTERS, _KNOWN_TOGETHER = 64 << 10, 4 << 20  # of one of these, and of all
_known: dict[str, Layout] = {}  # what followed the metadata of a header that was found good


def header(layout: Layout, metadata: Mapping[str, str], data: str) -> bytes:
    """The header as bytes, filled up to a multiple of eight; ``data`` is a string of JSON already, and stands behind
    the other ``metadata``. Raises ``TooLarge``."""
    text = f'{_START}{in_order(metadata)[:-1]},"data":{data}}}{placed(layout)}}}'.encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise TooLarge(
            f"a header of {len(text)} bytes is over the limit of {MAX_HEADER_BYTES}; put long lists into arrays"
        )
    return text


def placed(layout: Layout) -> str:
    """JSON of all places, as it follows the metadata in a header; written once for a layout."""
    if not layout.text:
        layout.text.append(
            "".join(
                f",{in_order(name)}:"
                + in_order(
                    {
                        "dtype": CODES[place.dtype],
                        "shape": list(place.shape),
                        "data_offsets": [place.offset, place.offset + place.nbytes],
                    }
                )
                for name, place in layout.places.items()
            )
        )
    return layout.text[0]


def read_header(text: bytes | memoryview) -> tuple[Layout, dict[str, str]]:
    """Places and strings of a header: places without gaps, aligned, of sizes that fit. Raises ``WireError``.

    Of a header as we write it, only the metadata are read if what follows them was read before: they come
    first, so what follows means the same whatever they are.
    """
    try:
        plain = str(text, "utf-8")
    except ValueError as error:
        raise WireError(f"this is not JSON: {error}") from None
    after = ""
    if plain.startswith(_START + "{") and "\\u" not in plain:  # escapes are for ``loads`` to judge
        try:
            metadata, end = scan(plain, len(_START))
        except (ValueError, RecursionError, StopIteration) as error:
            raise WireError(f"this is not JSON: {error}") from None
        after = plain[end:].rstrip(" ")
        known = _known.get(after)
        if known is not None and set(map(type, metadata.values())) == _TEXTS:
            return known, metadata
    layout, metadata = _read_all(plain.rstrip(" "))
    if 0 < len(after) <= _KNOWN_CHARACTERS:
        if len(_known) >= KEPT_LAYOUTS or sum(map(len, list(_known))) + len(after) > _KNOWN_TOGETHER:
            _known.clear()
        _known[after] = layout
    return layout, metadata


def _read_all(text: str) -> tuple[Layout, dict[str, str]]:
    table = loads(text)
    if not isinstance(table, dict):
        raise WireError("the header is not a JSON object")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise WireError("__metadata__ in the header is not an object of strings")
    found: dict[str, ArrayPlace] = {}
    for name, entry in table.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise WireError(f"array {name!r}: expected dtype, shape and data_offsets")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
            raise WireError(f"array {name!r} has unknown dtype {entry['dtype']!r}; known are {', '.join(DTYPES)}")
        shape, span = entry["shape"], entry["data_offsets"]
        if not _naturals(shape) or not _naturals(span) or len(span) != 2:
            raise WireError(f"array {name!r}: shape and data_offsets must be lists of whole numbers")
        place = ArrayPlace(DTYPES[entry["dtype"]], tuple(shape), span[0])
        if place.nbytes != span[1] - span[0]:
            raise WireError(f"array {name!r}: {span[1] - span[0]} bytes, but dtype and shape need {place.nbytes}")
        if len(shape) > _MAX_DIMENSIONS or math.prod(max(1, n) for n in shape) >= 1 << 59:
            raise WireError(f"array {name!r} has a shape that no array has here")  # nor an empty one
        found[name] = place
    end = 0
    for name, place in sorted(found.items(), key=lambda pair: (pair[1].offset, pair[1].nbytes)):
        if place.offset != end:
            raise WireError(f"array {name!r} starts at byte {place.offset}, expected {end}")
        if place.offset % place.dtype.itemsize:
            raise WireError(f"array {name!r} is not aligned to its item size")
        end += place.nbytes
    return Layout(found, end), metadata


def _naturals(value: Json) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 62 for v in value
    )
