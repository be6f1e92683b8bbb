"""The kind of a known attack on privacy: what it works on, and what it found (:mod:`hanse.attacks`).

An attack is a function of a :class:`Scene` to a :class:`Finding`. The scene is a run over rows that the auditor knows
and the attacker does not, so what the attacker says can be held against the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hanse.messages import Array


@dataclass(frozen=True, slots=True)
class Finding:
    """What an attack got.

    Args:
        number: how much, between ``chance`` (what who sees nothing has) and 1 (everything).
        chance: the number of who guesses.
        measure: what the number is, in words.
        epsilon: with 95 % confidence, no (ε, δ) below it can be true of what was attacked; None: not measured.
    """

    number: float
    chance: float
    measure: str
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class MeanTold:
    """What a statistic said of one column: over how many rows, and their mean."""

    rows: float
    mean: float


class Scene(Protocol):
    """A run, and what others than the sites see of it. Each method raises a ``HanseError`` where there is nothing to
    see: a run without a model, a refusal of the rules."""

    @property
    def by_coins(self) -> bool:
        """Whether each row was learned from or not by a fair coin of its own, as what :meth:`losses` tell an ε by
        needs."""

    def losses(self) -> tuple[Array, Array]:
        """The losses of the told model on rows that it learned from, (n,), and on rows that it did not, (m,)."""

    def updates(self) -> Sequence[tuple[Array, Sequence[Mapping[str, Array]]]]:
        """Of several sites that have a single row each: the row as the model takes it, (f,), and the arrays that the
        site sends to the coordinator, one mapping for each exchange."""

    def persons(self) -> Sequence[tuple[str, float, str, float, tuple[float, float]]]:
        """Somebody to single out: a column and a value of it that only this person reaches, a second column, the
        person's value of it, and the lowest and highest of anybody."""

    def ask(self, column: str, below: tuple[str, float] | None) -> MeanTold:
        """A statistic of a column over all rows, or those in which another one is below a value."""


Attack = Callable[[Scene], Finding]
"""What ``ATTACK`` of a file is."""
