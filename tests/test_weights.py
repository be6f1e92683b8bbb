"""What one node may count for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.weights import capped

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e12)), max_size=30)


@given(WEIGHTS, st.floats(0.01, 1.0))
def test_nobody_has_more_than_the_share_and_nobody_gains_weight(weights: list[float], share: float) -> None:
    found = capped(weights, share)
    assert all(0 <= after <= before for after, before in zip(found, weights, strict=True))
    positive = [w for w in found if w > 0]
    assert len(positive) == sum(w > 0 for w in weights)
    if share * len(positive) > 1:
        assert max(found) <= share * math.fsum(found) * (1 + 1e-9)
    elif positive:
        assert max(found) == pytest.approx(min(positive))


@given(WEIGHTS, st.floats(0.01, 1.0))
def test_it_lowers_the_largest_only_and_no_more_than_it_must(weights: list[float], share: float) -> None:
    found = capped(weights, share)
    lowered = [w for w, after in zip(weights, found, strict=True) if after < w]
    kept = [w for w, after in zip(weights, found, strict=True) if after == w and w > 0]
    if lowered and kept and share * sum(w > 0 for w in weights) > 1.001:
        assert min(lowered) >= max(kept)
        assert max(found) == pytest.approx(share * math.fsum(found))
    if not weights or max(weights) <= share * math.fsum(weights):
        assert found == weights


def test_alike_stay_alike() -> None:
    assert capped([1.0, 1.0], 0.1) == [1.0, 1.0]
    assert capped([0.0, 0.0], 0.5) == [0.0, 0.0]
    assert capped([], 0.5) == []
