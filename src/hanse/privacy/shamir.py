"""Secrets in shares, of which ``threshold`` give them back and fewer tell nothing about them.

A secret is f(0) of a polynomial f of degree threshold - 1 whose other coefficients are drawn uniformly from the field
of the integers modulo the prime p = 2¹³⁰ - 5; the share of point x is f(x). Any ``threshold`` of them fix f, so
Lagrange's interpolation gives f(0)::

    f(0) = Σ_i y_i Π_{j≠i} x_j / (x_j - x_i)   (mod p)

With fewer shares, every secret is equally likely: for each there is exactly one polynomial through them per choice of
the shares that are missing.

References: Shamir 1979, "How to share a secret".
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hanse.errors import NodeFailed
from hanse.messages import Array

PRIME = (1 << 130) - 5
SECRET_BYTES = 16
SHARE_BYTES = 17  # the prime has 130 bits
_LANE = 36  # bytes: a coefficient times a power of a point, of up to 2^28 of them the sum


def drawn(count: int) -> Array:
    """So many numbers below the prime, uniform, that nobody can guess: (count, 17) uint8, least byte first."""
    while True:
        found = np.frombuffer(secrets.token_bytes(SHARE_BYTES * count), np.uint8).reshape(count, SHARE_BYTES).copy()
        found[:, -1] &= 3  # 130 bits
        if not ((found[:, -1] == 3) & (found[:, 1:-1] == 255).all(1) & (found[:, 0] >= 251)).any():
            return found


def split(
    values: Sequence[bytes], threshold: int, points: Sequence[int], draw: Callable[[int], Array] = drawn
) -> list[bytes]:
    """For each point the shares of all ``values``, 17 bytes each, in their order.

    Args:
        values: secrets of 16 bytes.
        threshold: so many shares give a secret back, 1 to ``len(points)``.
        points: different whole numbers from 1, one for each who gets shares.
        draw: the coefficients of all polynomials at one power.

    Raises:
        NodeFailed: for a threshold or points that would share nothing, or show it.

    >>> shares = split([bytes(range(16))], 2, [1, 2, 3])
    >>> join({1: shares[0], 3: shares[2]}) == bytes(range(16))
    True
    """
    if any(len(value) != SECRET_BYTES for value in values):
        raise NodeFailed(f"a secret to be shared has {SECRET_BYTES} bytes, not {[len(value) for value in values]}")
    if not 1 <= threshold <= len(points):
        raise NodeFailed(f"{threshold} of {len(points)} shares cannot be a threshold")
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise NodeFailed("shares have different points, from 1; that of 0 is the secret itself")
    known = np.frombuffer(b"".join(value[::-1] + b"\0" for value in values), np.uint8).reshape(-1, SHARE_BYTES)
    # all polynomials are evaluated at once: a coefficient of each is a lane of one large number
    coefficients = [_packed(known), *(_packed(draw(len(values))) for _ in range(threshold - 1))]
    shares = []
    for point in points:
        total, power = 0, 1
        for coefficient in coefficients:
            total += coefficient * power
            power = power * point % PRIME
        lanes = total.to_bytes(_LANE * len(values), "little")
        each = (int.from_bytes(lanes[low : low + _LANE], "little") % PRIME for low in range(0, len(lanes), _LANE))
        shares.append(b"".join(value.to_bytes(SHARE_BYTES, "big") for value in each))
    return shares


def _packed(numbers: Array) -> int:
    lanes = np.zeros((len(numbers), _LANE), np.uint8)
    lanes[:, :SHARE_BYTES] = numbers
    return int.from_bytes(lanes.tobytes(), "little")


def join(shares: Mapping[int, bytes]) -> bytes | None:
    """The secret of these shares, by point; None where they are not those of one secret (of 16 bytes).

    It cannot tell that a share is wrong: it takes all that it is given, so give ``threshold`` of them, and compare.
    """
    points = tuple(shares)
    total = sum(
        int.from_bytes(shares[point], "big") * part for point, part in zip(points, _at_zero(points), strict=True)
    )
    total %= PRIME
    return total.to_bytes(SHARE_BYTES, "big")[1:] if total < 1 << 8 * SECRET_BYTES else None


@functools.lru_cache(64)  # the secrets of one sum are mostly joined from shares of the same points
def _at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's factors Π_{j≠i} x_j / (x_j - x_i)."""
    found = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(found)
