"""What Krum and Bulyan have in common: how near the changes of the sites are to each other.

With d_ij the distance of the changes of sites i and j, over all parameters, the score of site i among m sites of which
f may lie is the sum of the m - f - 2 least d_ij² (at least one of them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.config import RunConfig
from hanse.errors import Unusable
from hanse.kinds import Gathered
from hanse.learning.aggregation import blocks, sizes, trained
from hanse.messages import Array, Json
from hanse.settings import Setting, whole
from hanse.training import Arrays

LIARS = Setting(1, "so many of the sites that answer a round may lie", whole(0, 100_000))


def honest_enough(gathered: Gathered, each: int, rule: str, settings: Mapping[str, Json]) -> tuple[list[Arrays], int]:
    """The changes of the m sites that trained, and f, how many of them may lie: m ≥ ``each`` · f + 3.

    A site that gave nothing usable is one of the ``byzantine_sites``, so where m is too small for all of them, f is as
    many as m allows, and at least those that are left. Raises ``Unusable`` for all sites where not even this holds: the
    round has failed and is tried again.
    """
    found, said = trained(gathered), settings["byzantine_sites"]
    left, liars = said - len(gathered.failures), min(said, (len(found) - 3) // each)
    if liars < max(0, left):
        why = (
            f"{rule} with byzantine_sites = {said} needs {each * said + 3} sites with training rows, and {len(found)} "
            "gave something usable; lower byzantine_sites, or ask more sites"
        )
        raise Unusable({answer.node: why for answer in gathered.answers})
    return [record.arrays for _, record in found], liars


def too_few(config: RunConfig, sites: int, each: int, rule: str) -> str:
    """Why so many sites are too few even if all of them answer; "" where they are enough."""
    said = config.ingredient_settings.get("byzantine_sites")
    liars = int(LIARS.default if said is None else said)
    if sites >= each * liars + 3:
        return ""
    return (
        f"{rule} with byzantine_sites = {liars} needs {each * liars + 3} sites, and there are {sites}; lower "
        "byzantine_sites, or ask more sites"
    )


def distances(sites: Sequence[Arrays]) -> Array:
    """(m, m) squared Euclidean distances; infinite where they are too large for a number."""
    count = len(sites)
    found = np.zeros((count, count))
    with np.errstate(over="ignore"):
        for stack in blocks(sites, sizes(sites)):
            for i in range(count - 1):
                found[i, i + 1 :] += np.square(stack[i + 1 :] - stack[i]).sum(axis=1)
    return found + found.T


def scores(squared: Array, liars: int) -> Array:
    """(m,) scores from (m, m) squared distances.

    >>> scores(np.array([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]]), 0)
    array([1., 1., 4.])
    """
    count = len(squared)
    nearest = np.sort(squared, axis=1)[:, 1:]  # the first is the distance to itself
    return np.asarray(nearest[:, : max(1, count - liars - 2)].sum(axis=1))
