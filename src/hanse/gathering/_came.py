"""What one node has told in a secure sum, as the coordinator holds it: words under masks, and secrets under seals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.gather import Reply
from hanse.gathering._session import commitment
from hanse.gathering._wording import Wording, dtype_name, wording
from hanse.messages import Array, Json, Layout, Record
from hanse.privacy import neighbours, shamir


@dataclass(frozen=True, slots=True)
class Came:
    """A masked contribution.

    Args:
        how: its arrays are written.
        rows: declared by all nodes of the sum.
        session, among, beside: its name; the nodes that were asked; this one's neighbours.
        commitments: (1 + neighbours, 16) hashes of its seeds; of a sum of which none is told (0, 16).
        shares: (neighbours, bytes) sealed for each of them.
        weighs: whether it counts for anything.
        bound: the nodes of whom a sum of this step was told before; () where none was. last: the last step of which
            this node has told a sum then, else 0.
        group: those that are in sums together with it, or not at all.
    """

    node: str
    asked: int
    record: Record
    data: Mapping[str, Json]
    how: Wording
    rows: float
    session: str
    among: tuple[str, ...]
    beside: tuple[str, ...]
    commitments: Array
    shares: Array
    weighs: bool
    bound: tuple[str, ...]
    last: int
    group: tuple[str, ...]

    @property
    def kind(self) -> Any:
        """What must be the same at all nodes of a sum."""
        return self.session, self.how.names, self.rows, self.among

    def share_for(self, node: str) -> Array:
        """What it has sealed for a neighbour."""
        return np.asarray(self.shares[self.beside.index(node)]) if len(self.shares) else np.zeros(0, np.uint8)

    def gone(self, survivors: Collection[str]) -> list[str]:
        """Its neighbours that are not in the sum."""
        return [node for node in self.beside if node not in survivors]

    def fits(self, seed: bytes | None, of: str) -> bool:
        """Whether a seed is the one that it has committed itself to: its own, or of its pair with ``of``."""
        place = 0 if of == self.node else 1 + self.beside.index(of)
        committed = bytes(np.asarray(self.commitments[place]))
        return seed is not None and commitment(bytes.fromhex(self.session), seed) == committed

    def own(self, shown: Record | None, gone: Sequence[str]) -> list[bytes] | None:
        """Its seeds as it tells them itself: its own, and of the pairs with those that are gone."""
        if shown is None or "own" not in shown.arrays:
            return None
        told = [bytes(row) for row in np.asarray(shown.arrays["own"])]
        names = [self.node, *gone]
        return told if len(told) == len(names) and all(map(self.fits, told, names)) else None


def came(
    node: str, asked: int, record: Record, how: Mapping[str, Any], most: Mapping[str, int], whole: bool = False
) -> Came:
    """What a reply says. Raises where it is none of a secure sum.

    Args:
        node, asked: whose it is, and the step it was asked in.
        how, most: arrays are written (:func:`hanse.gathering._wording.wording`).
        whole: the sum is of all who were asked or none, so nothing is said of the secrets of its masks.
    """
    said = record.data
    names = tuple([(str(n), str(dtype), tuple(map(int, shape))) for n, dtype, shape in said["layout"]])
    among, beside = (tuple(str(n) for n in said[name]) for name in ("among", "beside"))
    arrays = record.arrays
    commitments = np.zeros((0, 16), np.uint8) if whole else np.array(arrays["commitments"])
    shares = np.array(arrays["shares"]) if "shares" in arrays else np.zeros((0, 0), np.uint8)
    if commitments.shape != (0 if whole else 1 + len(beside), 16) or len(shares) not in (0, len(beside)):
        raise ValueError("it has other secrets than neighbours")
    if not isinstance(said["data"], dict) or not isinstance(said["weighs"], bool):
        raise ValueError("what it says beside its arrays is no object")
    rows = float(said["rows"])
    known, places = wording(names, len(among), 1.0, rows, most, how), Layout.of(arrays).places
    if known.sent != {n: (dtype_name(p.dtype), p.shape) for n, p in places.items() if n[0].isdigit()}:
        raise ValueError("it has other words than its arrays need")
    return Came(
        node=node,
        asked=asked,
        record=record,
        data=said["data"],
        how=known,
        rows=rows,
        session=str(said["session"]),
        among=among,
        beside=beside,
        commitments=commitments,
        shares=shares,
        weighs=said["weighs"],
        bound=tuple(str(n) for n in said["bound"]),
        last=int(said["last"]),
        group=tuple(str(n) for n in said["group"]),
    )


class Shares:
    """The shares that those who are still there have told of the others' seeds, and of their own."""

    def __init__(self, came: Mapping[str, Came], survivors: Sequence[str], shown: Mapping[str, Record]) -> None:
        self._came, left = came, frozenset(survivors)
        absent = {node: len(came[node].gone(left)) for node in survivors}
        self._of: dict[str, dict[int, list[bytes]]] = {node: {} for node in survivors}
        for holder, record in shown.items():
            kept = [bytes(row) for row in np.asarray(record.arrays.get("kept", ()))]
            if not absent[holder] and len(kept) == 1 and len(kept[0]) == shamir.SHARE_BYTES:
                self._of[holder][len(came[holder].beside) + 1] = kept
            rows = (
                iter(bytes(row) for row in np.asarray(record.arrays["shares"]))
                if "shares" in record.arrays
                else iter(())
            )
            missing = record.data.get("missing", ())
            for node in came[holder].beside:
                if node not in self._of or node in missing:
                    continue
                point = came[node].beside.index(holder) + 1
                took = [next(rows, b"") for _ in range(1 + absent[node])]
                if all(len(share) == shamir.SHARE_BYTES for share in took):
                    self._of[node][point] = took

    def joined(self, node: str, gone: Sequence[str], least: int) -> list[bytes] | None:
        """The seeds of a node that is lost; None where too few shares are left. A wrong share (of a node that lies)
        is left out, where there are others."""
        came, told = self._came[node], self._of[node]
        needed = neighbours.threshold(len(came.among), least)
        points = sorted(told)
        if not needed or len(points) < needed:
            return None
        seeds = []
        for place, of in enumerate((node, *gone)):
            tried = (
                shamir.join({p: told[p][place] for p in _turned(points, turn)[:needed]}) for turn in range(len(points))
            )
            seed = next((seed for seed in tried if came.fits(seed, of)), None)
            if seed is None:
                return None
            seeds.append(seed)
        return seeds


def _turned(points: Sequence[int], by: int) -> list[int]:
    return [*points[by:], *points[:by]]


class Blame:
    """What is wrong with one reply, or why there is none, is that node's failure."""

    def __init__(self, reply: Reply, failures: dict[str, str]) -> None:
        self._reply, self._failures = reply, failures

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, _NoReply):
            self._failures[self._reply.node] = self._reply.error
            return True
        if isinstance(error, (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)):
            self._failures[self._reply.node] = f"its reply is not one of a secure sum: {error}"
            return True
        return False


class _NoReply(Exception):
    pass


def body(reply: Reply) -> Record:
    """What it says. Raises what :class:`Blame` takes where there is nothing."""
    if reply.body is None:
        raise _NoReply
    return reply.body
