"""Whether histograms can be true, looked at by the compiled loop as by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hanse.boosting import compiled, packed, sound
from hanse.boosting.packed import Sums

Matrix = np.ndarray[Any, Any]
LARGEST = 1 << 10, 1 << 9


class Site:
    """What a site says of 200 rows in three nodes and three columns; ``one``: each bin's sums as one number, but for
    some bins that are told apart."""

    def __init__(self, seed: int, one: bool) -> None:
        rng = np.random.default_rng(seed)
        self.starts = np.array([0, 5, 7, 19])
        self.rows = np.array([60, 0, 140])
        self.sums = np.zeros((3, 19, 2), np.int64)
        for node, rows in enumerate(self.rows):
            pairs = np.column_stack([rng.integers(-LARGEST[0], LARGEST[0], rows), rng.integers(0, LARGEST[1], rows)])
            for low, high in zip(self.starts[:-1], self.starts[1:], strict=True):
                np.add.at(self.sums[node], low + rng.integers(0, high - low, rows), pairs)
        self.one, some = one, rng.choice(19, int(rng.integers(0, 4)), replace=False)
        self.apart = np.sort(some).astype(np.int32) if one else np.zeros(0, np.int32)

    def fault(self, fullest: tuple[int, int] = (140, 140)) -> str:
        sums = packed.packed(self.sums) if self.one else self.sums.copy()
        own = np.ascontiguousarray(self.sums[:, self.apart])
        if self.one:
            sums[:, self.apart] = -1  # nobody looks at what stands there
        return sound.fault(Sums.of(sums, own, self.apart), self.rows, self.starts, LARGEST, fullest)


@pytest.fixture(params=[False, True], ids=["numpy", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "worthwhile", lambda: request.param)


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_sums_of_rows_are_sound_and_others_are_not(seed: int, one: bool, way: None) -> None:
    rng, site = np.random.default_rng(seed), Site(seed, one)
    assert site.fault() == ""
    place = int(rng.integers(19))
    site.sums[2, place, seed % 2] += 1
    assert "do not add up" in site.fault()
    site.sums[2, place, seed % 2] -= 1
    site.rows[2] = 1
    assert "cannot have at this scale" in site.fault()
    site.rows[2] = -1
    assert "cannot have at this scale" in site.fault()
    site.rows[2] = 140
    assert "cannot have at this scale" in site.fault((1, 140) if one else (140, 1))
    assert bool(site.fault((140, 1) if one else (1, 140))) == bool(len(site.apart))


@pytest.mark.parametrize("seed", range(10))
def test_a_hessian_is_not_below_0(seed: int, way: None) -> None:
    """One number cannot say such a one; those that are told apart can, and so can two numbers a bin."""
    site = Site(seed, one=False)
    site.sums[0, seed, 1] = -1
    assert "Hessians below 0" in site.fault()
    site = Site(seed, one=True)
    site.apart = np.int32([3, 9])
    site.sums[0, 9, 1] = -1
    assert "Hessians below 0" in site.fault()


@pytest.mark.parametrize("seed", range(60))
def test_the_compiled_loop_says_what_numpy_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is wrong in several ways, the same one."""
    rng, site, said = np.random.default_rng(seed), Site(seed, bool(seed % 2)), []
    for _ in range(int(rng.integers(0, 3))):
        change = int(rng.choice([-(1 << 40), -5000, -1, 1, 5000, 1 << 40]))
        site.sums[int(rng.integers(3)), int(rng.integers(19)), int(rng.integers(2))] += change
    if seed % 3 == 0:
        site.rows[int(rng.integers(3))] = int(rng.choice([-(1 << 62), -1, 0, 3, 1 << 62]))
    fullest = (int(rng.choice([10, 140])), int(rng.choice([30, 1 << 62])))
    for quick in (False, True):
        monkeypatch.setattr(sound, "worthwhile", lambda quick=quick: quick)
        said.append(site.fault(fullest))
    assert said[0] == said[1]


def test_the_loop_is_compiled_once_and_before_it_is_needed() -> None:
    """Whether sums came in, and may not be written to, or were made here, and whether some are told apart."""
    for call in compiled._first:
        call()
    loop: Any = sound._looked._made
    known = len(loop.signatures)
    for one in (False, True):
        site = Site(3, one)
        assert site.fault() == ""
        site.sums.flags.writeable = False
        assert site.fault() == ""
    assert len(loop.signatures) == known
