"""Who masks with whom: both ends agree, and what is stated of those who collude is so."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from hanse.privacy.neighbours import COLLUDING, COMPLETE, degree, of, order, threshold


def names(n: int) -> list[str]:
    return [f"n{k:04}" for k in range(n)]


@pytest.mark.parametrize("n", [2, 3, 10, COMPLETE, COMPLETE + 1, 200, 333])
def test_both_ends_of_a_pair_know_it(n: int) -> None:
    ring = order(names(n), b"seed")
    beside = {node: of(node, ring) for node in ring}
    for node, others in beside.items():
        assert node not in others
        assert others == sorted(set(others))
        assert all(node in beside[other] for other in others)
        assert len(others) == (degree(n)[0] or n - 1)


def test_the_ring_follows_from_the_seed_alone() -> None:
    assert order(names(200), b"1") == order(names(200)[::-1], b"1") != order(names(200), b"2")


@pytest.mark.parametrize("n", [101, 200, 1000])
def test_the_stated_probabilities_by_sampling_their_logarithms(n: int) -> None:
    """By the tails as SciPy has them, which are computed in another way."""
    from scipy.stats import hypergeom

    k, t = degree(n)
    bad = math.ceil(COLLUDING * n)
    assert n * hypergeom.sf(t - 1, n - 1, bad, k) < 2.0**-40
    assert n * hypergeom.sf(t - k // 2 - 1, n - 1, bad, k // 2) < 2.0**-40
    assert (
        n * hypergeom.sf(3 * (k - 2) // 4 - (k - 2) // 2 - 1, n - 1, bad, k // 2 - 1) > 2.0**-42
    )  # k is not larger than it must be


@pytest.mark.parametrize("n", [101, 200])
def test_survivors_that_each_see_enough_neighbours_are_connected_without_those_who_collude(n: int) -> None:
    """Whatever the coordinator drops, in long gaps, at random, or every second."""
    k, t = degree(n)
    rng = np.random.default_rng(n)
    for trial in range(60):
        ring = order(names(n), trial.to_bytes(4, "big"))
        bad = set(rng.choice(names(n), math.ceil(COLLUDING * n), replace=False))
        for gone in dropped(ring, rng):
            left = [node for node in ring if node not in gone]
            if not left or any(len({*of(node, ring)} & {*left}) < t for node in left if node not in bad):
                continue  # an honest node says no
            honest = [node for node in left if node not in bad]
            seen, fresh = {honest[0]}, [honest[0]]
            while fresh:
                near = {other for node in fresh for other in of(node, ring)} & {*honest}
                fresh = list(near - seen)
                seen |= near
            assert seen == {*honest}


def dropped(ring: list[str], rng: np.random.Generator) -> Iterator[set[str]]:
    n = len(ring)
    for share in (0.05, 0.1, 0.2):
        yield set(rng.choice(ring, int(share * n), replace=False))
        length = int(share * n)
        yield {*ring[:length]}
        yield {*ring[: length // 2], *ring[n // 2 : n // 2 + length // 2]}
    yield {*ring[::4]}


def test_thresholds_of_shares() -> None:
    assert threshold(10, 6) == 6
    assert threshold(6, 6) == threshold(2, 2) == 0  # who is lost after that leaves too few for a sum
    assert threshold(3, 2) == 2
    assert threshold(200, 101) == degree(200)[1]
