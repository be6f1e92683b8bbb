"""Values as TOML writes them; Python reads TOML (``tomllib``), and does not write it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from hanse.messages import Json

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def pairs(values: Mapping[str, Json]) -> list[str]:
    """``name = value`` of each.

    >>> pairs({"rows": 50, "of the year": "2026"})
    ['rows = 50', '"of the year" = "2026"']
    """
    return [f"{name if _BARE.fullmatch(name) else text(name)} = {text(value)}" for name, value in values.items()]


def text(value: Json) -> str:
    """A value; what is None in a table is left out, as TOML has no word for it.

    >>> text({"a": [1, 2.5, True], "b c": 'say "hi"', "d": None})
    '{ a = [1, 2.5, true], "b c" = "say \\\\"hi\\\\"" }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for halves of a character, and TOML escapes DEL too
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(pairs({name: one for name, one in value.items() if one is not None}))
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(text(one) for one in value) + "]"
    return repr(value)
