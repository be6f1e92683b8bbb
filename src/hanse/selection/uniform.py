"""Uniform client sampling: every eligible node is as likely as any other (McMahan et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.messages import Json


def choose(
    eligible: Sequence[str], count: int, rng: np.random.Generator, facts: Mapping[str, Mapping[str, Json]]
) -> list[str]:
    """``count`` of the ``eligible`` nodes without replacement, sorted.

    >>> choose(["a", "b", "c"], 2, np.random.default_rng(0), {})
    ['b', 'c']
    >>> choose([], 2, np.random.default_rng(0), {})
    []
    """
    ordered = sorted(eligible)
    if count >= len(ordered):
        return ordered
    return sorted(ordered[i] for i in rng.choice(len(ordered), count, replace=False))
