"""Ledgers: what answering uses up. One file each; the folder is the registry.

A file has ``LEDGER``, a class that is made with the owner's policy (a mapping) and is a
:class:`hanse.ledger.Ledger`. ``SETTINGS`` of a file are the owner's settings that it brings along. What was
spent is kept by :mod:`hanse.node.spending`, on disk before an answer leaves.
"""

from __future__ import annotations

from collections.abc import Mapping

from hanse.ledger import Ledger
from hanse.messages import Json
from hanse.registry import find, names


def ledgers(policy: Mapping[str, Json]) -> tuple[Ledger, ...]:
    """All ledgers of the folder, made with the owner's policy. Raises what a broken ledger raises."""
    return tuple(find("ledgers", name).LEDGER(policy) for name in names("ledgers"))


__all__ = ["ledgers"]
