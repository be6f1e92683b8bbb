"""Who masks with whom, and how many shares give a secret back.

Up to :data:`COMPLETE` nodes, everybody masks with everybody, and the threshold of shares is that of the sum. Of more
nodes each masks with k others: its neighbours on a ring in an order that nobody chose, k/2 on each side. What k must
be, and how many shares of k are needed, follow from exact (hypergeometric) tails, where a share γ of all nodes colludes
with the coordinator, drawn without knowing the ring. With t the threshold of shares, and but for a probability of 2⁻⁴⁰:

- fewer than t of the k neighbours of any node collude, so no secret of an honest node is put together by them;
- fewer than t - k/2 of any k/2 that follow each other on the ring collude. A node takes part in no sum to which fewer
  than t of its neighbours belong, so those that belong to it are connected by masks that the coordinator does not
  know, and it learns of them nothing but the sum of all.

A quarter of the neighbours may be lost, in any stage.

References: Bell, Bonawitz, Gascón, Lepoint and Raykova 2020, "Secure single-server aggregation with (poly)logarithmic
overhead", section 3 (there with bounds in closed form, here with the tails themselves).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

COMPLETE = 100
COLLUDING = 0.1  # γ
FAILURE_BITS = 40


def order(nodes: Sequence[str], seed: bytes) -> list[str]:
    """The nodes on their ring: by the SHA-256 of ``seed`` and their names."""
    return sorted(nodes, key=lambda node: hashlib.sha256(seed + node.encode()).digest())


def of(node: str, ring: Sequence[str]) -> list[str]:
    """The neighbours of ``node``, by name.

    >>> of("b", ["a", "b", "c"])
    ['a', 'c']
    """
    half = degree(len(ring))[0] // 2
    if half == 0:
        return sorted(other for other in ring if other != node)
    place, size = ring.index(node), len(ring)
    return sorted(ring[(place + step) % size] for step in range(-half, half + 1) if step)


def threshold(nodes: int, least: int) -> int:
    """So many shares of a node's secret give it back; 0 where it is not shared, because a sum in which it was lost
    would be of fewer than ``least`` nodes.

    >>> threshold(10, 6), threshold(6, 6)
    (6, 0)
    """
    sparse = degree(nodes)[1]
    return sparse or (least if nodes - 1 >= least else 0)


@lru_cache(64)
def degree(nodes: int) -> tuple[int, int]:
    """(k, t) of so many nodes; (0, 0) where everybody masks with everybody.

    >>> degree(100), degree(200), degree(1000)
    ((0, 0), (74, 56), (114, 86))
    """
    if nodes <= COMPLETE:
        return 0, 0
    bad = math.ceil(COLLUDING * nodes)
    for half in range(2, (nodes - 1) // 2):
        k = 2 * half
        t = -(-3 * k // 4)
        if _tail(nodes - 1, bad, k, t) * nodes <= 2.0**-FAILURE_BITS / 2 and (
            _tail(nodes - 1, bad, half, t - half) * nodes <= 2.0**-FAILURE_BITS / 2
        ):
            return k, t
    return 0, 0


def _tail(total: int, bad: int, drawn: int, least: int) -> float:
    """The probability that of ``drawn`` out of ``total`` at least ``least`` are among the ``bad`` ones."""
    ways = sum(math.comb(bad, x) * math.comb(total - bad, drawn - x) for x in range(least, min(bad, drawn) + 1))
    return ways / math.comb(total, drawn)
