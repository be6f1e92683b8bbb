"""Comparing groups: which labels of the grouping column are compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.queries import Item, take

ARGUMENTS = {"group": "the column whose labels make the groups", "groups": "the two of them to compare"}
FEW = "a label makes a group where it stands in as many rows of some site as its owner's minimum"


def check(options: Mapping[str, Json], **defaults: Json) -> dict[str, Json]:
    """``group``: the column whose labels make the groups; ``groups``: the two to compare."""
    found = take(options, group=None, groups=None, **defaults)
    if not isinstance(found["group"], str) or not found["group"]:
        raise ConfigError(
            "group is missing: the column whose labels make the groups (group='arm'; on a command line --group arm)"
        )
    pair = found["groups"]
    if pair is not None:
        if not isinstance(pair, (list, tuple)) or len({str(p) for p in pair}) != 2:
            raise ConfigError(f"groups is {pair!r}; expected two different labels")
        found["groups"] = [str(p) for p in pair]
    return found


def by_group(item: Item) -> Item:
    """The item with its group as ``by``. Raises ``ConfigError`` where it has a ``by`` already."""
    if item.by:
        raise ConfigError(f"{item.stat} compares groups itself; leave by out, and name the column as group")
    if item.options["group"] in item.columns:
        raise ConfigError("group is the column itself; name another one")
    return Item(item.stat, item.columns, item.args, (item.options["group"],))


def two(options: Mapping[str, Json], labels: tuple[str, ...], n: Array, least: int = 1) -> tuple[int, int]:
    """Places of the two groups. Raises ``ConfigError`` where it is not clear which are meant."""
    if options["groups"] is not None:
        lacking = [label for label in options["groups"] if label not in labels]
        if lacking:
            raise ConfigError(f"there is no group {lacking[0]!r}; there are {', '.join(labels) or 'none'}")
        a, b = (labels.index(label) for label in options["groups"])
        return a, b
    full = [int(i) for i in np.flatnonzero(n >= least)]
    if len(full) != 2:
        found = ", ".join(labels[i] for i in full) or "none"
        more = "name two with groups=[a, b]" if len(full) > 2 else FEW
        raise ConfigError(f"two groups are compared; there are {len(full)} ({found}); {more}")
    return full[0], full[1]
