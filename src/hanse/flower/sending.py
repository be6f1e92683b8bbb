"""What goes between a ServerApp and the nodes, as values that travel: messages, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from hanse.codec import ArrayOf
from hanse.messages import Array

Parcel = Annotated[Array, ArrayOf("uint8", None)]  # what a message holds (:mod:`hanse.flower.parcels`)


@dataclass(frozen=True, slots=True)
class FlowerMessage:
    """A message of a ServerApp to a node: its type (``train``, ``evaluate.mine``), its group and what it holds."""

    kind: str
    group: str
    content: Parcel


@dataclass(frozen=True, slots=True)
class Sending:
    """What a ServerApp sends at a time.

    Args:
        over: it has ended and sends nothing more.
        round: its training round, where it says one.
        to: each node to the place of its message in ``messages``, which are those that differ.
        messages: what is sent.
    """

    over: bool
    round: int | None
    to: Mapping[str, int]
    messages: tuple[FlowerMessage, ...]


@dataclass(frozen=True, slots=True)
class FlowerReplies:
    """What came back: by node what its reply holds, or why there is none."""

    replies: Mapping[str, Parcel]
    failures: Mapping[str, str]
