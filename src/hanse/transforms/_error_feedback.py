"""What transforms that make an update smaller on its way have in common: what one leaves out of a round is not lost,
but added to the next.

With x_t the update of round t, C the compression and e_t what was left out so far::

    s_t = C(x_t + e_t)        e_{t+1} = x_t + e_t - s_t

so that s_1 + ... + s_T = x_1 + ... + x_T - e_{T+1}: what has arrived after any number of rounds is off by what is left
out now. A step tells its length, ‖e‖₂ over all arrays (``left_out``), beside that of what was sent (``sent``). Without
error feedback what is left out is lost, and the same numbers say so of one round.

References: Seide et al. 2014, "1-bit stochastic gradient descent"; Karimireddy et al. 2019, "Error feedback fixes
SignSGD and other gradient compression schemes", algorithm 2.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.gather import Party
from hanse.kinds import Contribution
from hanse.messages import Array, Json, Record
from hanse.privacy.clipping import length
from hanse.settings import Setting, boolean

FEEDBACK = Setting(True, "add what was left out of a round to the next; a node keeps an array for each", boolean)
LEAST = 64  # numbers of an array: of a smaller one nothing is saved


class ErrorFeedback(ABC):
    """A transform that compresses updates (:class:`hanse.gather.Transform`).

    Args:
        error_feedback: what was left out of an update is added to the next.
    """

    def __init__(self, error_feedback: bool) -> None:
        self._feedback = error_feedback

    @abstractmethod
    def compress(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """C: arrays of the same names, shapes and types."""

    def init(self) -> dict[str, Any]:
        return {}

    def apply(
        self, contribution: Contribution, state: dict[str, Any], party: Party
    ) -> tuple[Contribution, dict[str, Any]]:
        """The contribution with its update compressed, and what was left out of it."""
        arrays = contribution.record.arrays
        large = [name for name in arrays if arrays[name].dtype.kind == "f" and arrays[name].size >= LEAST]
        if not contribution.update or not large:
            return contribution, state
        kept = state.get("left_out", {})
        wanted = {name: _plus(arrays[name], kept.get(name)) for name in large}
        if not all(bool(np.isfinite(array).all()) for array in wanted.values()):
            return contribution, {}  # the coordinator names it
        sent = self.compress(wanted)
        left = {name: wanted[name] - sent[name] for name in large}
        told = {"left_out": length(left), "sent": length(sent)}
        together = {name: sent.get(name, arrays[name]) for name in arrays}
        contribution = dataclasses.replace(
            contribution,
            record=Record(contribution.record.data, together),
            metrics={**contribution.metrics, **told},
        )
        return contribution, {"left_out": left} if self._feedback else {}

    @staticmethod
    def report(metrics: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """``left_out``: the largest ‖e‖₂ of a node; ``left_out_share``: the largest ‖e‖₂ / ‖s‖₂ of a node."""
        said = [m for m in metrics if m.get("left_out") is not None and m.get("sent") is not None]
        if not said:
            return {}
        shares = [float(m["left_out"] / m["sent"]) for m in said if m["sent"] > 0]
        most = max(float(m["left_out"]) for m in said)
        return {"left_out": most, **({"left_out_share": max(shares)} if shares and math.isfinite(max(shares)) else {})}


def _plus(array: Array, kept: Array | None) -> Array:
    return array if kept is None or kept.shape != array.shape else (array + kept).astype(array.dtype, copy=False)
