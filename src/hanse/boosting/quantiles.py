"""Quantiles of float32 numbers in groups, exactly, by counting: for leaves that are quantiles of residuals.

A float32 number is one of 2^32 keys that are ordered as the numbers are. Four exchanges find the numbers of two ranks
in every group, eight bits of their keys at a time: sites count the rows of a group whose keys begin as those that are
looked for, by the next eight bits. What leaves a site are counts, which add. With n rows, x = α (n + 1) and k = ⌊x⌋,
the quantile lies between the k-th and the next number, v_k + (x - k) (v_{k+1} - v_k), or is the first or the last one.
Where rows have weights, whole numbers in units that all sites share, these are summed up instead, and the quantile is
the first number up to which they come to α of all.

References: Hyndman and Fan 1996, "Sample quantiles in statistical packages", definition 6; XGBoost 3.2,
``src/common/stats.h``, ``Quantile`` and ``WeightedQuantile``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from hanse.boosting.scales import binned
from hanse.codec import ArrayOf
from hanse.errors import WireError
from hanse.messages import Array

BITS, WIDTH = 8, 256
EXCHANGES = 32 // BITS
_Whole = Annotated[Array, ArrayOf("int64", "sought")]


@dataclass(frozen=True, slots=True)
class Sought:
    """Numbers that are looked for.

    Args:
        group: theirs.
        prefix: the leading bits of their keys, as far as they are known.
        rank: how many numbers with this prefix come before (how much they weigh); -1 where no row of the group is
            counted yet.
        known: bits of the prefix.
    """

    group: _Whole
    prefix: _Whole
    rank: _Whole
    known: int


def begin(groups: Array) -> Sought:
    """Nothing is known of these ``groups`` (g,), which are numbers from 0."""
    zero = np.zeros(len(groups), np.int64)
    return Sought(np.asarray(groups, np.int64), zero, zero - 1, 0)


def keys(values: Array) -> Array:
    """(n,) int64 keys of float32 numbers, from 0 to 2^32 - 1; of 0 and -0 the same.

    >>> bool(np.all(np.diff(keys(np.float32([-np.inf, -1.5, 0.0, 1e-30, 2.0]))) > 0))
    True
    """
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits) + (1 << 31)


def numbers(found: Array) -> Array:
    """The float32 numbers of keys."""
    signed = found - (1 << 31)
    bits = np.where(signed < 0, (-1 - signed) | (1 << 31), signed)
    return bits.astype(np.uint32).view(np.float32)


def counts(own: Array, group: Array, sought: Sought, weight: Array | None = None) -> Array:
    """(sought, WIDTH) int64: a site's rows with each prefix, by the next bits of their keys.

    Args:
        own: (n,) keys.
        group: (n,) the group of each row; -1 of none.
        weight: (n,) int64 below 2^31, what each row counts for; None: 1.
    """
    found = np.zeros((len(sought.group), WIDTH), np.int64)
    if not 0 <= sought.known <= 32 - BITS:
        raise WireError(f"of keys of 32 bits, {sought.known} are said to be known")
    rest = 32 - sought.known
    prefix, digit = own >> rest, (own >> (rest - BITS)) & (WIDTH - 1)
    order = np.argsort(group, kind="stable")
    begins, ends = (np.searchsorted(group[order], sought.group, side) for side in ("left", "right"))
    for i, (begin, end, wanted) in enumerate(zip(begins, ends, sought.prefix, strict=True)):
        rows = order[begin:end]
        rows = rows[prefix[rows] == wanted]
        found[i] = binned(digit[rows], WIDTH, None if weight is None else weight[rows])
    return found


def narrowed(sought: Sought, found: Array, alpha: float, weighted: bool = False) -> Sought:
    """With the next bits, from the :func:`counts` of all sites; after the first of them also with the ranks."""
    if not sought.known and weighted:
        whole = np.ceil(found.sum(1) * float(np.float32(alpha))).astype(np.int64)
        sought = Sought(sought.group, sought.prefix, np.maximum(whole, 1) - 1, 0)
    elif not sought.known:
        total = found.sum(1)
        first, last, place = _place(alpha, total)
        below = np.where(first, 0, np.where(last, total - 1, np.floor(place).astype(np.int64) - 1))
        low = np.clip(below, 0, np.maximum(total - 1, 0))
        high = np.minimum(low + 1, np.maximum(total - 1, 0))
        twice = np.repeat(np.arange(len(total)), 2)
        sought = Sought(sought.group[twice], sought.prefix[twice], np.stack([low, high], 1).ravel(), 0)
        found = found[twice]
    before = np.cumsum(found, axis=1)
    digit = np.minimum((before <= sought.rank[:, None]).sum(1), WIDTH - 1)
    passed = np.where(digit > 0, np.take_along_axis(before, np.maximum(digit - 1, 0)[:, None], 1)[:, 0], 0)
    return Sought(sought.group, (sought.prefix << BITS) + digit, sought.rank - passed, sought.known + BITS)


def quantiles(sought: Sought, rows: Array, alpha: float, weighted: bool = False) -> Array:
    """(groups,) float32, once all bits are known; 0 of a group without rows.

    Args:
        rows: (groups,) of all sites, or what they weigh.
    """
    if weighted:
        return np.where(rows > 0, numbers(sought.prefix), np.float32(0)).astype(np.float32)
    low, high = numbers(sought.prefix).reshape(-1, 2).T
    first, last, place = _place(alpha, rows)
    part = np.where(first | last, 0.0, (place - 1) - (np.floor(place) - 1))
    between = (low + part * np.where(first | last, 0, high - low).astype(np.float64)).astype(np.float32)
    return np.where(rows > 0, between, np.float32(0)).astype(np.float32)


def _place(alpha: float, rows: Array) -> tuple[Array, Array, Array]:
    """Whether the quantile is the first number, or the last one, and else x = α (n + 1)."""
    share, n = float(np.float32(alpha)), rows.astype(np.float64)
    return share <= 1 / (n + 1), share >= n / (n + 1), share * (n + 1)
