"""The sum of contributions that nobody has seen by themselves (:mod:`hanse.gathering.secure`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hanse.errors import RunFailed
from hanse.kinds import Answer, Gathered
from hanse.large_arrays import empty
from hanse.messages import Array, Json, Record
from hanse.privacy.fixed_point import Code, decode
from hanse.spans import BLOCK, over

UNCHECKED = ("counts", "weights")  # that numbers are finite, and as asked for, follows from their words
SOUND = "sound"  # nor this, where an ask says what cannot be true


def nothing(failures: Mapping[str, str], told: Mapping[str, Json] | None = None) -> Gathered:
    """No sum, and why not."""
    return Total((), failures, told=told or {})


@dataclass(frozen=True, slots=True)
class Total:
    """:class:`hanse.kinds.Gathered` of which only the sum is known.

    Of weights too, so those of the answers are the same for all that count for something, and add up to the whole.
    """

    answers: tuple[Answer, ...]
    failures: Mapping[str, str]
    total: Mapping[str, Array] = field(default_factory=dict)  # a.*, s.* and w
    dtypes: Mapping[str, np.dtype[np.generic]] = field(default_factory=dict)
    weight: float = 0.0
    nbytes: int = 0
    told: Mapping[str, Json] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    step: int = 0
    unchecked: tuple[str, ...] = UNCHECKED

    @staticmethod
    def of(
        nodes: Sequence[tuple[str, int, Mapping[str, Json], bool]],
        failures: Mapping[str, str],
        words: Mapping[str, tuple[Code, Array]],
        told: Mapping[str, Json],
        unchecked: tuple[str, ...] = UNCHECKED,
    ) -> Total:
        """
        Args:
            nodes: name, the step it was asked in, what it said beside its arrays, and whether it counts.
            words: how each array is written, and the words of its sum, which are changed.
        """
        total = {name: decode(array, how) for name, (how, array) in words.items()}
        weight = float(total.pop("w").reshape(()))
        counting = sum(weighs for *_, weighs in nodes)
        each = weight / counting if counting else 0.0
        answers = tuple(
            Answer(node, each if weighs else 0.0, data, {}, asked, claimed=each if weighs else 0.0)
            for node, asked, data, weighs in nodes
        )
        errors = [how.error(len(nodes)) for name, (how, _) in words.items() if name != "w"]
        told = {**told, "error": max(errors, default=0.0)}
        if weight > 0:
            told["error_of_mean"] = max(errors, default=0.0) / weight
        return Total(
            answers,
            failures,
            total,
            {name: how.dtype for name, (how, _) in words.items()},
            weight,
            sum(array.nbytes for array in total.values()),
            told,
            unchecked=unchecked,
        )

    def among(self, nodes: Sequence[str], step: int) -> Total:
        return replace(self, nodes=tuple(nodes), step=step)

    def without(self, nodes: Mapping[str, str]) -> Total:
        """Nobody can be taken out of a sum: it is used whole, or not at all."""
        why = "; ".join(sorted(set(nodes.values())))
        said = f"the sum that it is part of cannot be used: {why}"
        return replace(self, answers=(), failures={**self.failures, **{a.node: said for a in self.answers}, **nodes})

    def weighted(self, weights: Sequence[float]) -> Gathered:
        raise RunFailed("the weights in a secure sum cannot be changed; leave max_weight_share at 1, or gather plainly")

    def beyond(self, counts: Mapping[str, int | None], rows: Mapping[str, float]) -> dict[str, str]:
        """Of the sum, all of whose nodes are to blame: more rows than they declared together."""
        most = math.fsum(rows.get(answer.node, math.inf) for answer in self.answers)
        for name in (f"{prefix}{name}" for name in counts for prefix in ("a.", "s.")):
            if name in self.total:
                said = self.total[name].reshape(-1)[: counts[name[2:]]]
                if not np.all((said >= 0) & (said <= most)):
                    why = f"{name[2:]!r} counts rows, and its sum is not from 0 to the {most:g} that were declared"
                    return {answer.node: why for answer in self.answers}
        return {}

    def sum(self) -> dict[str, Array]:
        ones = self.weight == len(self.answers)
        return {n[2:]: self._given(n, whole=ones) for n in self.total if n.startswith("a.")}

    def sums(self) -> dict[str, Array]:
        return {n[2:]: self._given(n, whole=True) for n in self.total if n.startswith("s.")}

    def mean(self) -> dict[str, Array]:
        if not self.weight > 0:
            raise RunFailed(
                "the weights of all contributions are zero, so there is no mean; are there training rows at any site?"
            )
        found = {}
        for name in (name for name in self.total if name.startswith("a.")):
            kept = np.dtype(np.float64) if self.dtypes[name].kind in "iub" else self.dtypes[name]
            found[name[2:]] = _divided(self.total[name], self.weight, kept)
        return found

    def products(self, whole: Mapping[str, Array]) -> list[tuple[float, float]]:
        raise RunFailed("nobody sees the single contributions of a secure sum")

    def each(self) -> Iterator[tuple[Answer, Record]]:
        raise RunFailed("nobody sees the single contributions of a secure sum")

    def _given(self, name: str, whole: bool) -> Array:
        array = self.total[name]
        return array.copy() if whole or array.dtype.kind == "f" else array.astype(np.float64)


def _divided(total: Array, weight: float, dtype: np.dtype[np.generic]) -> Array:
    """In float64, given in this type; in memory that is used again."""
    flat, out = total.reshape(-1), empty(total.size, dtype)

    def part(start: int, stop: int) -> bool:
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            np.divide(flat[low:high], weight, out=out[low:high], dtype=np.float64, casting="same_kind")
        return True

    over(part, flat.size)
    return out.reshape(total.shape)
