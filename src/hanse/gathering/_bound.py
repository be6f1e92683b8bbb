"""What a node lets be known of a step: one sum, once and for good.

Two sums of one step, of which one lacks a node, differ by this node's numbers. So before a node tells anything that
takes masks off, it writes down what the sum is of: what was asked, which nodes are in it, and (as a hash) what it
contributed itself. From then on it masks nothing for this step among others, in other words or of other numbers, and
unmasks no other sum of it; whatever happened in between, a restart or fresh keys. The very same sum may be made again,
as a coordinator that was killed has to. Of a step that the run can leave behind (:attr:`Party.passing`) a node that has
lost its memory may know only that something was told, and then it tells nothing of it any more.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from hanse.errors import NodeFailed, NotAllowed, WireError
from hanse.gather import UNKNOWN, Party
from hanse.messages import Array, Json

TOLD = "the sum of this step was told before"
_OTHERS = (  # no attempt can make the sum any more
    "this node has contributed other numbers to this very sum before, and has lost what it remembered then; the "
    "difference would show them, so it contributes to it no more. The last step of which it has told a sum is {}"
)
_NOT_KNOWN = (
    "this node may have contributed to a sum of this step before, and has lost what it remembered then; a second one "
    "could show its numbers, so it contributes to none. The last step of which it may have told a sum is {}"
)
_ANOTHER = (
    f"{TOLD}, and of one step a node is asked one thing; what was asked now is another. The last step of which it has "
    "told a sum is {}"
)
_SAID = re.compile(
    "|".join(re.escape(said).replace(re.escape("{}"), "([0-9]{1,9})") for said in (_OTHERS, _NOT_KNOWN, _ANOTHER))
)


@dataclass(frozen=True, slots=True)
class Bound:
    """What the sum of one step is of, as one node knows it.

    Args:
        asked: a hash of what was asked, and in what form.
        survivors: the nodes in the sum; () while nobody knows.
        seed: of the hash; drawn by the node, which tells it to nobody.
        contributed: a hash of this node's own numbers, before they were masked.
    """

    asked: str
    survivors: tuple[str, ...] = ()
    seed: int = 0
    contributed: str = ""

    @staticmethod
    def of(party: Party) -> Bound | None:
        """What this node has told of the step before; None where nothing. Raises where nobody knows what."""
        said = party.promises.get(_place(party))
        return None if said is None else Bound._read(said, party)

    @staticmethod
    def _read(said: Json, party: Party) -> Bound:
        if said == UNKNOWN:
            raise NodeFailed(_NOT_KNOWN.format(last_told(party)))
        if not isinstance(said, Mapping):
            raise WireError("what this node has told of secure sums cannot be read")
        return Bound(str(said["asked"]), tuple(said["survivors"]), int(said["seed"]), str(said["contributed"]))

    def check(self, asked: str, among: Sequence[str], party: Party, passing: bool) -> None:
        """Raises unless a sum of the step that is asked for now may still be this one. One that the run can leave
        behind (``passing``) it leaves behind then: a coordinator that was killed does not know what it had asked."""
        if asked != self.asked and passing:
            raise NodeFailed(_ANOTHER.format(last_told(party)))
        if asked != self.asked:
            raise NotAllowed(f"{TOLD}, and of one step a node is asked one thing; what was asked now is another")
        if not {*self.survivors} <= {*among}:
            raise NodeFailed(
                f"{TOLD}, of {', '.join(self.survivors)}, and is told of no others: two "
                "sums that differ by one node would show its numbers. It can be made again when these are all there"
            )

    def check_own(self, contributed: str, party: Party) -> None:
        """Raises unless this node contributes what it did."""
        if contributed != self.contributed:
            raise NodeFailed(_OTHERS.format(last_told(party)))

    def leave(self, party: Party, passing: bool) -> None:
        """Has it written down before the reply leaves, as the reply is part of this sum and needs no other secret;
        ``passing``: of a step that the run can leave behind."""
        (party.passing if passing else party.leaving)[_place(party)] = self._written()

    def _written(self) -> dict[str, Json]:
        return {
            "asked": self.asked,
            "survivors": list(self.survivors),
            "seed": self.seed,
            "contributed": self.contributed,
        }

    def promise(self, party: Party) -> None:
        """Writes it down, unless it is; on disk when this returns. Raises where another sum of this step was told."""
        said = Bound._read(party.promises.setdefault(_place(party), self._written()), party)
        if said != self:
            raise NotAllowed(
                f"a sum of this step was told before, of {', '.join(said.survivors)}; two sums of one step may differ "
                "by what single nodes contributed"
            )


def told_until(failures: Iterable[str]) -> int | None:
    """The last step of which a sum was told, where one of these says that its own can be made no more (a coordinator
    that was killed does not know how far it had come); None where none does."""
    return max((int(said[said.lastindex or 0]) for why in failures if (said := _SAID.fullmatch(why))), default=None)


def fresh_seed() -> int:
    """Of the hash of one's own numbers."""
    return secrets.randbits(63)


def hashed(arrays: Mapping[str, Array], weight: float, names: str, seed: int) -> str:
    """XXH3 of one's own numbers and what they weigh, and of what they are, under a seed that nobody else knows. Not of
    the words that they become: these follow from who else is asked as well, and the same nodes may make their sum again
    whoever is there beside them."""
    state = xxhash.xxh3_128(f"{weight!r} {names}".encode(), seed=seed)
    for name in sorted(arrays):
        state.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def _place(party: Party) -> str:
    return f"{party.run} {party.bundle} {party.step}"


def last_told(party: Party) -> int:
    """The last step of the run of which this node has told a sum."""
    run = _place(party).removesuffix(str(party.step))
    told = (int(place.removeprefix(run)) for place in party.promises if place.startswith(run))
    return max(told, default=party.step)  # none, where this is only masked under the masks of before
