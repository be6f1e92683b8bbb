"""What a coordinator commits to of each step: a Merkle tree over the replies that it counted.

The root of each step stands in the signed evidence of the run. A node is shown the way
from its own reply up to that root, so it can tell, by the digest of what it sent in its own audit log, that just this
was counted. The way is made of hashes of other leaves, and each leaf is salted: without the salt of a node nobody can
try which numbers it may have sent.

It is a commitment to what went into the sum, not a proof that it was added rightly: who has all replies can add them
again.

References: Merkle 1987, "A digital signature based on a conventional encryption function"; leaves and inner nodes are
told apart as in RFC 6962, section 2.1.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Collection, Mapping, Sequence

from hanse.messages import Buffered, Json, Record, dumps, receipt

LARGE = 1 << 20  # bytes of a record; a larger one is hashed in a thread, as others would wait for it


def hashed(record: Record) -> str | Awaitable[str]:
    """Its digest (:func:`hanse.messages.receipt`), by whoever sends it and by whoever receives it; nothing of it may be
    changed until then."""
    if record.nbytes <= LARGE:
        return receipt(record)
    made = isinstance(record.arrays, Buffered) and record.arrays.receipt  # as it came in
    return made or asyncio.to_thread(receipt, record)


class Receipts:
    """Collects the replies of a step as they arrive."""

    def __init__(self) -> None:
        self._sent: dict[str, list[Json]] = {}

    def begin(self) -> None:
        """What arrives from now on is of another attempt at a step."""
        self._sent = {}

    def so_far(self) -> Receipts:
        """What has come of the step, whatever begins next."""
        found = Receipts()
        found._sent = self._sent
        return found

    async def add(self, node: str, step: int, exchange: int, op: str, body: Record) -> None:
        """A reply, to what was asked in ``step``. Whoever adds replies up may write into their arrays afterwards."""
        found = hashed(body)
        digest = found if isinstance(found, str) else await found
        self._sent.setdefault(node, []).append([step, exchange, op, digest])

    def of(self, nodes: Collection[str]) -> dict[str, Json]:
        """What these nodes sent, from which :func:`commitment` and :func:`proof` are made when somebody asks: ``{salt,
        sent}``; {} where there is nothing."""
        counted = {node: self._sent[node] for node in sorted(nodes) if node in self._sent}
        return {"salt": secrets.token_bytes(16).hex(), "sent": counted} if counted else {}


def commitment(kept: Mapping[str, Json]) -> dict[str, Json]:
    """What all may read of :meth:`Receipts.of`: ``{root, of}``; {} where nothing was counted."""
    leaves = _leaves(kept)
    return {"root": root(leaves), "of": len(leaves)} if leaves else {}


def salted(salt: str, node: str) -> str:
    """The salt of a node's own leaf, from that of the step: a node that is told its own learns none of the others."""
    return hmac.new(bytes.fromhex(salt), node.encode(), hashlib.sha256).hexdigest()


def leaf(salt: str, node: str, sent: Sequence[Json]) -> bytes:
    """The hash of what a node sent: ``[step, exchange, op, digest]`` each, in the order in which it arrived."""
    return hashlib.sha256(b"\0" + dumps([salt, node, list(sent)]).encode()).digest()


def root(leaves: Sequence[bytes]) -> str:
    """The root of the tree, in hex.

    >>> root([b"a"]) == b"a".hex()
    True
    """
    return _above(leaves).hex()


def way(leaves: Sequence[bytes], place: int) -> list[str]:
    """What the leaf at ``place`` is hashed with, from below, in hex."""
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if place < middle:
        return [*way(leaves[:middle], place), _above(leaves[middle:]).hex()]
    return [*way(leaves[middle:], place - middle), _above(leaves[:middle]).hex()]


def climbed(found: bytes, place: int, of: int, steps: Sequence[str]) -> str:
    """The root that a leaf and its way lead to, in hex; "" where the way is not one of a tree of ``of`` leaves.

    >>> leaves = [bytes([i]) * 32 for i in range(5)]
    >>> all(climbed(leaves[i], i, 5, way(leaves, i)) == root(leaves) for i in range(5))
    True
    """
    if not 0 <= place < of:
        return ""
    if of == 1:
        return found.hex() if not steps else ""
    if not steps:
        return ""
    middle = _split(of)
    if place < middle:
        below = climbed(found, place, middle, steps[:-1])
        return _joined(bytes.fromhex(below), bytes.fromhex(steps[-1])).hex() if below else ""
    below = climbed(found, place - middle, of - middle, steps[:-1])
    return _joined(bytes.fromhex(steps[-1]), bytes.fromhex(below)).hex() if below else ""


def proof(kept: Mapping[str, Json], node: str) -> dict[str, Json] | None:
    """What a node is shown of a step (:meth:`Receipts.of`): ``{root, of, place, salt, sent, way}``; None where nothing
    of it was counted."""
    counted = kept.get("sent") or {}
    if node not in counted:
        return None
    leaves, place = _leaves(kept), sorted(counted).index(node)
    return {
        **commitment(kept),
        "place": place,
        "salt": salted(kept["salt"], node),
        "sent": counted[node],
        "way": list(way(leaves, place)),
    }


def _leaves(kept: Mapping[str, Json]) -> list[bytes]:
    counted = kept.get("sent") or {}
    return [leaf(salted(kept["salt"], node), node, counted[node]) for node in sorted(counted)]


def _split(count: int) -> int:
    """The largest power of two under ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _joined(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _above(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    middle = _split(len(leaves))
    return _joined(_above(leaves[:middle]), _above(leaves[middle:]))
