"""Which row was it? Of a linear layer, a gradient of one row holds the row itself.

With scores z = W x + b and any loss ℓ, one row's gradient is ∂ℓ/∂W = e xᵀ and ∂ℓ/∂b = e, so x = (e_k x) / e_k of any
output k. It holds of the change of the weights too, after any number of steps from one row: a sum of such e. Whoever
sees what a site of one row sends tries every pair of arrays that may be a layer with its intercepts, and every array
whose last number may be one. The number is the share of a row's numbers that one of them gives back to 1 %.

A site of many rows sends a sum over them, from which this attack takes none of them; others may (Geiping et al. 2020).

References: Phong, Aono, Hayashi, Wang and Moriai 2018, "Privacy-preserving deep learning via additively homomorphic
encryption", section 3; Zhu, Liu and Han 2019, "Deep leakage from gradients".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hanse.attack import Finding, Scene
from hanse.errors import DataError
from hanse.messages import Array

_NEAR = 0.01  # of a number, or of one deviation where it is smaller


def attack(scene: Scene) -> Finding:
    """The mean share of numbers that are recovered, over sites of one row."""
    seen = scene.updates()
    if not seen:
        raise DataError("no site of one row sent anything")
    shares = [max((_alike(x, found) for found in _guesses(told, len(x))), default=0.0) for x, told in seen]
    return Finding(
        number=float(np.mean(shares)),
        chance=0.0,
        measure="share of the numbers of a site's only row that what it sends gives back to 1 %",
    )


def _alike(x: Array, found: Array) -> float:
    return float(np.mean(np.abs(found - x) <= _NEAR * np.maximum(1.0, np.abs(x))))


def _guesses(told: Sequence[Mapping[str, Array]], size: int) -> Iterator[Array]:
    """All that may be the row: (size,) each."""
    for arrays in told:
        for numerators, below in _layers(arrays, size):
            with np.errstate(all="ignore"):
                for row in numerators / below[:, None]:
                    yield np.nan_to_num(row, posinf=0.0, neginf=0.0)


def _layers(arrays: Mapping[str, Array], size: int) -> Iterator[tuple[Array, Array]]:
    """(k, size) of e x and (k,) of e."""
    floats = [np.asarray(array, np.float64) for array in arrays.values()]
    for array in floats:
        if array.ndim and array.shape[-1] == size + 1:
            rows = array.reshape(-1, size + 1)
            yield rows[:, :-1], rows[:, -1]
    for weights in floats:
        for intercepts in floats:
            if weights.ndim != 2 or intercepts.ndim != 1:
                continue
            if weights.shape == (len(intercepts), size):
                yield weights, intercepts
            if weights.shape == (size, len(intercepts)):
                yield weights.T, intercepts


ATTACK = attack
