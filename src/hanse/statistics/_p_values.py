"""Whether a p-value is told where only a range of it is known."""

from __future__ import annotations

from collections.abc import Mapping

from hanse.messages import Json

CLEAR = 0.1  # a range no wider says enough
LEVEL = 0.05  # what nearly everybody decides by


def why(found: Mapping[str, Json]) -> str:
    """Why there is no p beside its ``p_range``, and what would help.

    >>> why({"p": None, "p_range": [0.012, 0.81]}).partition(",")[0]
    'p is not told: it lies between 0.012 and 0.81'
    """
    ends = found.get("p_range")
    if not isinstance(ends, list):
        return "there is no test of groups that do not vary, or of which one has no rows"
    least, most = (float(end) for end in ends)
    return (
        f"p is not told: it lies between {least:.3g} and {most:.3g}, as rows are told in runs of the owners' minimum "
        "and may stand anywhere inside; more rows at each site, or a smaller minimum_cell, narrow it"
    )


def lacking(found: Mapping[str, Json]) -> str:
    """The same where rows that sites keep back may be of any of the groups."""
    least, most = (float(end) for end in found["p_range"])
    return (
        f"p is not told: it lies between {least:.3g} and {most:.3g}, as rows that sites keep back may be of either "
        "group; nodes=[...] asks those sites alone that tell both, and p is that of their rows"
    )


def tell(least: float, most: float) -> bool:
    """Whether one p may stand for all of [least, most]: they are close, or all decide alike.

    >>> tell(0.31, 0.38), tell(1e-9, 0.004), tell(0.2, 1.0), tell(0.001, 0.5)
    (True, True, True, False)
    """
    return most - least <= CLEAR or most < LEVEL or least >= LEVEL
