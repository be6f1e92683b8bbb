"""Shares of a secret: by hand, for all sizes, and that too few of them say nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.errors import NodeFailed
from hanse.privacy.shamir import PRIME, SHARE_BYTES, drawn, join, split

SECRET = (1234).to_bytes(16, "big")


def number(share: bytes) -> int:
    return int.from_bytes(share, "big")


def test_shares_by_hand() -> None:
    """f(x) = 1234 + 166 x + 94 x², the example of the textbooks, is below the prime for these points."""
    coefficients: Iterator[int] = iter([166, 94])

    def draw(count: int) -> np.ndarray:
        return np.frombuffer(next(coefficients).to_bytes(17, "little"), np.uint8).reshape(count, 17)

    shares = split([SECRET], 3, [1, 2, 3, 4, 5, 6], draw)
    assert [number(share) for share in shares] == [1494, 1942, 2578, 3402, 4414, 5614]
    for three in itertools.combinations(range(6), 3):
        assert join({i + 1: shares[i] for i in three}) == SECRET


def test_the_prime_is_one() -> None:
    assert PRIME == 2**130 - 5
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37))
    assert (PRIME.bit_length() + 7) // 8 == SHARE_BYTES


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.integers(1, 12), st.integers(0, 8), st.randoms())
def test_any_threshold_of_the_shares_give_the_secret(secret: bytes, threshold: int, more: int, random: object) -> None:
    points = list(range(1, threshold + more + 1))
    shares = dict(zip(points, split([secret], threshold, points), strict=True))
    some = random.sample(points, threshold)  # type: ignore[attr-defined]
    assert join({point: shares[point] for point in some}) == secret
    assert join(shares) == secret


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.integers(2, 8))
def test_with_fewer_every_secret_is_as_likely(other: bytes, threshold: int) -> None:
    """For any other secret there is a polynomial through the shares that somebody has, of the same degree."""
    points = list(range(1, threshold))
    shares = split([SECRET], threshold, [*points, threshold])
    through = {0: number(other), **{p: number(shares[p - 1]) for p in points}}
    last = 0
    for x, y in through.items():
        above = below = 1
        for z in through:
            if z != x:
                above, below = above * (threshold - z) % PRIME, below * (x - z) % PRIME
        last = (last + y * above * pow(below, -1, PRIME)) % PRIME
    forged = {**{p: shares[p - 1] for p in points}, threshold: last.to_bytes(SHARE_BYTES, "big")}
    assert join(forged) == other


def test_shares_are_drawn_anew_and_spread_over_the_whole_field() -> None:
    drawn = [number(split([SECRET], 2, [1, 2])[0]) for _ in range(400)]
    assert len(set(drawn)) == 400
    quarters = [sum(q * PRIME // 4 <= x < (q + 1) * PRIME // 4 for x in drawn) for q in range(4)]
    assert min(quarters) > 60  # 100 each; the documents' "shares" lie within 0.1 of the secret


def test_many_secrets_are_shared_at_once_as_each_by_itself() -> None:
    """Also where coefficients and secrets are as large as they can be, so that lanes do not run into each other."""
    values = [bytes([255]) * 16, bytes(16), bytes(range(16)), bytes([255]) * 16]
    largest = np.frombuffer((PRIME - 1).to_bytes(17, "little") * 4, np.uint8).reshape(4, 17)
    points = [1, 2, 500, 16384]
    for threshold in (1, 2, 4):
        for shares in (split(values, threshold, points), split(values, threshold, points, lambda count: largest)):
            for place, value in enumerate(values):
                own = {p: share[17 * place : 17 * place + 17] for p, share in zip(points, shares, strict=True)}
                assert join({p: own[p] for p in points[-threshold:]}) == value
    assert split([], 2, [1, 2]) == [b"", b""]


def test_what_is_drawn_is_below_the_prime() -> None:
    numbers = [int.from_bytes(row.tobytes(), "little") for row in drawn(500)]
    assert max(numbers) < PRIME
    assert max(numbers) > PRIME * 0.97
    assert min(numbers) < PRIME * 0.03


def test_too_few_and_wrong_shares_give_something_else() -> None:
    shares = split([SECRET], 3, [1, 2, 3])
    assert join({1: shares[0], 2: shares[1]}) != SECRET
    wrong = (number(shares[1]) + 1).to_bytes(SHARE_BYTES, "big")
    assert join({1: shares[0], 2: wrong, 3: shares[2]}) != SECRET


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [(b"short", 1, [1]), (SECRET, 0, [1]), (SECRET, 3, [1, 2]), (SECRET, 1, [0, 1]), (SECRET, 2, [1, 1])],
)
def test_what_would_share_nothing_or_show_it_is_refused(secret: bytes, threshold: int, points: list[int]) -> None:
    with pytest.raises(NodeFailed):
        split([secret], threshold, points)
