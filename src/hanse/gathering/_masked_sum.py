"""The sum of the masked words that have come."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hanse.gathering._came import Came
from hanse.messages import Array, Record
from hanse.privacy.fixed_point import come, word
from hanse.spans import BLOCK

_MEANWHILE = 1 << 19  # words; those of one contribution are then added in less than 1 ms


def add(total: Array, records: Sequence[Record], bits: int, low: int, high: int, anew: bool = True) -> None:
    """Adds the words of all ``records`` from ``low`` to before ``high`` to those of ``total``, or puts their sum there
    (``anew``); modulo 2 to their width."""
    into = total[low:high]
    for record in records:
        words = come(record.arrays, bits, low, high)
        if anew:
            into[:], anew = words, False
        else:
            np.add(into, words, out=into)


@dataclass(slots=True)
class Running:
    """The sum of masked words, as they come: each is added while others are waited for, so that little is left to do
    when the last one is in. Nobody's turn changes it, since they add exactly.

    Args:
        total: by width; None before the first, and once something was odd, as then all are added when all are in.
        kind: what is the same at all that are in it.
        entered: whose they are.
    """

    total: dict[int, Array] | None = None
    kind: Any = None
    entered: set[str] = field(default_factory=set)
    odd: bool = False

    def enter(self, found: Came) -> None:
        """One that has come. Those of which others would wait while one is added are left for later."""
        if self.odd:
            return
        fits = not self.entered or (found.kind == self.kind and found.node not in self.entered)
        if not fits or sum(found.how.sizes.values()) > _MEANWHILE:
            self.odd, self.total = True, None
            return
        anew = self.total is None
        total = {bits: np.empty(size, word(bits)) for bits, size in found.how.sizes.items()} if anew else self.total
        assert total is not None
        self.total, self.odd = None, True  # until it is whole again
        for bits, words in total.items():
            for low in range(0, words.size, BLOCK):
                add(words, [found.record], bits, low, min(low + BLOCK, words.size), anew)
        self.total, self.odd, self.kind = total, False, found.kind
        self.entered.add(found.node)

    def taken(self, nodes: Collection[str]) -> dict[int, Array] | None:
        """The sum, if it is that of just these nodes; once, as it may be written to."""
        total = self.total if self.entered == {*nodes} else None
        self.odd, self.total = True, None
        return total
