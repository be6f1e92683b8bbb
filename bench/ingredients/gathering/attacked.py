"""Plain gathering of sites of which some lie: what ``bench/strategies.py`` attacks strategies with.

The liars are the last sites by name. ``sign flips`` and ``scaling`` change what they send; ``a little is enough`` sends
the mean of the honest changes less so many standard deviations that enough honest sites are as far off (Baruch, Baruch
and Goldberg 2019, "A little is enough: circumventing defenses for distributed learning", algorithm 3). ``labels`` lies
in the rows, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np

from hanse.gather import Exchange
from hanse.gathering.plain import COMBINES, HIDES, Contributions, Plain
from hanse.kinds import Ask
from hanse.messages import Record
from hanse.settings import Setting, one_of, whole

SETTINGS = {
    "attack": Setting(
        "none",
        "what liars send",
        one_of("none", "sign flips", "scaling", "labels", "a little is enough"),
    ),
    "liars": Setting(0, "so many of the last sites lie", whole(0)),
}


class Attacked(Plain):
    """Plain gathering, and what liars make of it."""

    def __init__(self, attack: str, liars: int) -> None:
        self.attack, self.liars = attack, liars

    async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Contributions:
        found = await super().collect(ask, asks, exchange)
        assert isinstance(found, Contributions)
        if ask.round is None or not self.liars or self.attack in ("none", "labels"):
            return found
        honest, lying = found.found[: -self.liars], found.found[-self.liars :]
        lied = tuple((answer, self._lie(record, [r for _, r in honest])) for answer, record in lying)
        return replace(found, found=(*honest, *lied))

    def _lie(self, record: Record, honest: list[Record]) -> Record:
        arrays = {n: self._of(n, a, honest) if n.startswith("a.") else a for n, a in record.arrays.items()}
        return Record(record.data, arrays)

    def _of(self, name: str, array: Any, honest: list[Record]) -> Any:
        if self.attack == "sign flips":
            return -5 * array
        if self.attack == "scaling":
            return 1000 * array
        said = np.stack([record.arrays[name] for record in honest])
        company = (len(honest) + self.liars) // 2 + 1 - self.liars
        z = NormalDist().inv_cdf((len(honest) - company) / len(honest))
        return said.mean(axis=0) - z * said.std(axis=0)


GATHER = Attacked

__all__ = ["COMBINES", "GATHER", "HIDES", "SETTINGS"]
