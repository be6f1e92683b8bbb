"""Clipping: no node moves the common parameters further than ``norm``.

With the arrays x of a contribution, taken together as one vector::

    x ← x · min(1, C / ‖x‖₂)

Only a change of what all hold in common is clipped (``Contribution.update``): sums, counts and sketches mean
something else when they are scaled. The norm is that of the numbers as they leave, in float64. An update that
is not finite is left as it is: the coordinator names it.

References: Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1 (there for each example,
here for each node: McMahan et al. 2018, "Learning differentially private recurrent language models").
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hanse.gather import Party
from hanse.kinds import Contribution
from hanse.messages import Json, Record
from hanse.privacy import clipping
from hanse.settings import Setting, number

SETTINGS = {"norm": Setting(1.0, "largest L2 norm of a node's update, over all its arrays together", number(0, 1e300))}
UPDATES_ONLY = True


class Clip:
    """
    Args:
        norm: C, at least 0.
    """

    def __init__(self, norm: float) -> None:
        self.norm = float(norm)

    def init(self) -> dict[str, Any]:
        return {"updates": 0, "clipped": 0}

    def apply(
        self, contribution: Contribution, state: dict[str, Any], party: Party
    ) -> tuple[Contribution, dict[str, Any]]:
        if not contribution.update:
            return contribution, state
        arrays = contribution.record.arrays
        length = clipping.length(arrays)
        clipped = math.isfinite(length) and length > self.norm
        state = {"updates": state["updates"] + 1, "clipped": state["clipped"] + clipped}
        told = {"clip_norm": length, "clipped": float(clipped)}
        if clipped:
            shorter = clipping.scaled(arrays, self.norm / length)
            contribution = dataclasses.replace(contribution, record=Record(contribution.record.data, shorter))
        return dataclasses.replace(contribution, metrics={**contribution.metrics, **told}), state

    @staticmethod
    def report(metrics: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """``clipped_share``: of the nodes that sent an update, those whose update was clipped."""
        said = [m["clipped"] for m in metrics if m.get("clipped") is not None]
        return {"clipped_share": math.fsum(said) / len(said)} if said else {}


TRANSFORM = Clip
