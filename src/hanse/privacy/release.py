"""One differentially private answer of a node: bounded, on a grid, with noise that nobody can predict or average away.

Of the arrays x of a contribution, taken together as one vector of d numbers, and the most Δ that one unit changes it
by (an update is clipped to it, of anything else the algorithm says it)::

    γ = 2^k near σ / 2¹⁹,    Δ' = Δ + γ √d,    σ = Δ' / √(2ρ),    y = γ (round(x/γ) + N_Z(0, (σ/γ)²))

Rounding to multiples of γ moves two neighbouring vectors apart by at most γ √d; Δ' pays for it. The grid is a power of
two, so y is exact in float32 and float64, sums of it are exact in a secure sum, and no digit of y tells x.

The noise is drawn from a key that follows from a secret of the node, the place in the run, what was asked, **and the
numbers themselves**. So the same answer, asked for again, is the same to the last bit and there is nothing to average;
and an answer that differs in anything (a node that has lost its memory, another order of additions) has noise that has
nothing to do with the first. The latter is another release, and is booked as one.

References: Canonne, Kamath and Steinke 2020, "The discrete Gaussian for differential privacy"; Kairouz, Liu and
Steinke 2021, "The distributed discrete Gaussian mechanism for federated learning with secure aggregation": sums of the
noises of several nodes are as good as one of them with the variance of all, but for less than exp(-10⁹) at this σ/γ.
Their random rotation is not needed: words of a secure sum are 64 bits wide here, so nothing wraps around.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping

import numpy as np

from hanse.errors import DataError, NotAllowed
from hanse.kinds import Combine, Contribution
from hanse.messages import Array, Record
from hanse.privacy import clipping
from hanse.privacy.discrete_gaussian import sample
from hanse.privacy.drawing import Draws
from hanse.privacy.guarantee import CENTRAL, SITE, Guarantee

_FINE = 19  # σ/γ is from 2¹⁹ to 2²⁰: sixteen deviations are whole numbers of float32
_LARGEST = 2.0**61  # beyond it nothing is bounded that was said to be, and noise still fits

BOUND = "bound"  # beside the numbers of a contribution to a sum that the coordinator adds noise to
Key = Callable[[bytes], bytes]  # a secret key for this place in the run, what was asked, and what is given


def released(
    contribution: Contribution,
    combine: Combine,
    guarantee: Guarantee,
    key: Key,
    steps: Callable[[], str] = lambda: "",
) -> tuple[Contribution, str]:
    """The contribution as it may leave, and a name of the release; "" where nothing of the rows is in it.

    A number that is none counts as zero: an error would tell of the rows what noise is to hide.

    Args:
        steps: names the release where the noise is in its steps already (:mod:`hanse.privacy.steps`).

    Raises:
        NotAllowed: nobody knows what one unit can change it by.
        DataError: it holds whole numbers, which no noise is made for.
    """
    if combine is Combine.AGREE:
        return contribution, ""
    silent = dataclasses.replace(
        contribution, metrics={}, sums={name: np.zeros_like(array) for name, array in contribution.sums.items()}
    )
    if contribution.sensitivity == 0.0:
        if guarantee.mode == CENTRAL:
            said = {**contribution.record.data, BOUND: 0.0}
            silent = dataclasses.replace(silent, record=Record(said, contribution.record.arrays))
        return silent, ""
    arrays = contribution.record.arrays
    lost = {"lost": True} if contribution.record.data.get("lost") is True else {}  # of memory, not of rows
    if guarantee.stepwise:
        if not contribution.noised:
            raise NotAllowed("in this run all that is told of rows has its noise in each step, and this has none")
        return dataclasses.replace(silent, record=Record(lost, arrays), weight=1.0), steps()
    vector = _flat({name: np.asarray(arrays[name]) for name in sorted(arrays)})
    if contribution.update and guarantee.unit == SITE:
        bound, size = guarantee.clip, clipping.length({"": vector})
        vector = vector * (bound / size) if size > bound else vector
    elif contribution.sensitivity is not None and guarantee.unit != SITE:
        bound = contribution.sensitivity
    else:
        raise NotAllowed(
            f"nobody knows what one {guarantee.unit} can change this contribution by, so no noise is enough for it"
        )
    named = dict(zip(sorted(arrays), _shaped(vector, arrays), strict=True))
    if guarantee.mode == CENTRAL:  # on the grid, for the coordinator to add the noise
        grid, _ = _grid(bound, len(vector), guarantee)
        on_grid = {n: (_steps(a, grid) * grid).astype(np.asarray(arrays[n]).dtype) for n, a in named.items()}
        secret = key(_digest(on_grid))
        return dataclasses.replace(silent, record=Record({**lost, BOUND: bound}, on_grid), weight=1.0), name_of(secret)
    found, secret = noised(named, bound, guarantee, key)
    given = {n: a.astype(np.asarray(arrays[n]).dtype) for n, a in found.items()}
    return dataclasses.replace(silent, record=Record(lost, given), weight=1.0), name_of(secret)


def noised(arrays: Mapping[str, Array], bound: float, guarantee: Guarantee, key: Key) -> tuple[dict[str, Array], bytes]:
    """The arrays (float64) on their grid with noise, and the key that it was drawn from.

    Args:
        bound: Δ, the most that one unit changes all of them together by.
        key: gives the key, from a digest of the numbers.
    """
    size = sum(array.size for array in arrays.values())
    grid, deviation = _grid(bound, size, guarantee)
    whole = {name: _steps(arrays[name], grid) for name in sorted(arrays)}
    secret = key(_digest(whole))
    noise, at, found = sample(size, deviation, Draws(secret)), 0, {}
    for name, steps in whole.items():
        part = noise[at : at + steps.size].reshape(steps.shape)
        at += steps.size
        found[name] = (steps + part) * grid
    return found, secret


def _steps(array: Array, grid: float) -> Array:
    return np.asarray(np.rint(np.clip(array / grid, -_LARGEST, _LARGEST)).astype(np.int64))


def _digest(arrays: Mapping[str, Array]) -> bytes:
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.digest()


def name_of(secret: bytes) -> str:
    """The name of a release that was drawn from this key: the same one, made again, has the same."""
    return hashlib.sha256(b"name of a release" + secret).hexdigest()[:32]


def _shaped(vector: Array, arrays: Mapping[str, Array]) -> list[Array]:
    """The parts of a vector in the shapes of the arrays, in the order of their names."""
    found, at = [], 0
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        found.append(vector[at : at + array.size].reshape(array.shape))
        at += array.size
    return found


def _flat(arrays: dict[str, Array]) -> Array:
    if any(array.dtype.kind != "f" for array in arrays.values()):
        raise DataError(
            "this contribution has whole numbers, such as the counters of batch normalisation, which differ by more "
            "than noise can hide; take a model without them"
        )
    vector = np.concatenate([np.zeros(0), *(array.reshape(-1).astype(np.float64) for array in arrays.values())])
    return np.where(np.isfinite(vector), vector, 0.0)


def _grid(bound: float, size: int, guarantee: Guarantee) -> tuple[float, int]:
    """γ, and σ/γ as a whole number that is not below it."""
    grid = 2.0 ** (math.floor(math.log2(guarantee.deviation(bound))) - _FINE)
    deviation = guarantee.deviation(bound + grid * math.sqrt(size))
    return grid, math.ceil(deviation / grid)


def deviation_of(guarantee: Guarantee, bound: float, size: int) -> float:
    """The standard deviation of the noise in each of ``size`` numbers that one node releases."""
    grid, steps = _grid(bound, size, guarantee)
    return grid * steps


def grid_of(guarantee: Guarantee, bound: float) -> float:
    """γ of releases that one unit changes by at most ``bound``: a power of two.

    >>> from hanse.privacy.guarantee import of, settled
    >>> grid_of(of(settled("local"), "site", 1, 1), 1.0) == 2.0**-17
    True
    """
    return _grid(bound, 0, guarantee)[0]
