"""What a node lends to the end that it calls with, where a test does not say otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

from hanse.messages import MAX_MESSAGE_BYTES, Memory
from hanse.transport import Handler
from hanse.transports import Caller

_FIELDS = {one.name for one in dataclasses.fields(Caller)}


def caller(node: str, handler: Handler, **options: Any) -> Caller:
    """Of this name, which answers so; ``options`` are fields of :class:`Caller`."""
    plain: dict[str, Any] = {
        "identity": lambda: None,
        "allocate": Memory,
        "report": lambda what, detail: None,
        "refused": lambda peer, what, detail: None,
        "limit": MAX_MESSAGE_BYTES,
    }
    return Caller(node=node, handler=handler, **(plain | options))


def parted(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of them is a caller's, and what its end's."""
    return {k: v for k, v in options.items() if k in _FIELDS}, {k: v for k, v in options.items() if k not in _FIELDS}
