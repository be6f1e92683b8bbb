"""One site's training in one round: how it is to train, what is added to its objective, what it learned.

What strategies of averaging add to the objective f_k of a site has one form (:class:`ProximalTerm`)::

    f_k(w) + μ/2 · |w - anchor|² + ⟨linear, w⟩

FedProx draws towards the common parameters (μ), SCAFFOLD corrects the direction by control variates (linear), FedDyn
does both, Ditto draws a model of the site's own towards the common one. Every model's ``train`` honours it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hanse.messages import Array

Arrays = Mapping[str, Array]  # by the name of a parameter


@dataclass(frozen=True, slots=True)
class ProximalTerm:
    """μ/2 · |w - anchor|² + ⟨linear, w⟩, over the parameters that are learned (not over running means or counters).

    Args:
        mu: at least 0.
        anchor: an array for every parameter, where ``mu`` is not 0.
        linear: an array for every parameter, or none at all.

    >>> term = ProximalTerm(2.0, {"w": np.array([1.0])}, {"w": np.array([0.5])})
    >>> w = {"w": np.array([3.0])}
    >>> term.value(w), term.gradient("w", w["w"]), term.proximal("w", w["w"], 0.25)
    (5.5, array([4.5]), array([2.25]))
    """

    mu: float = 0.0
    anchor: Arrays = field(default_factory=dict)
    linear: Arrays = field(default_factory=dict)

    def value(self, parameters: Arrays) -> float:
        """The term at ``parameters``."""
        found = 0.0
        for name, w in parameters.items():
            if self.mu:
                found += self.mu / 2 * float(np.square(w - self.anchor[name]).sum())
            if self.linear:
                found += float((self.linear[name] * w).sum())
        return found

    def gradient(self, name: str, w: Array) -> Array:
        """Its gradient for one parameter: μ (w - anchor) + linear."""
        drawn = self.mu * (w - self.anchor[name]) if self.mu else np.zeros_like(w)
        return drawn + self.linear[name] if self.linear else drawn

    def proximal(self, name: str, w: Array, step: float) -> Array:
        """One proximal step of size ``step``, argmin_v |v - w|²/(2·step) + term(v): exact for any size, where a
        gradient step would diverge for step · μ > 2.

        (w + step (μ anchor - linear)) / (1 + step μ)
        """
        pull = self.mu * self.anchor[name] if self.mu else np.zeros_like(w)
        pull = pull - self.linear[name] if self.linear else pull
        return np.asarray((w + step * pull) / (1.0 + step * self.mu), w.dtype)


class Training(NamedTuple):
    """How a site trains in one round.

    Args:
        epochs: passes over the rows, or iterations of a solver that takes all rows at once.
        batch_size: rows per step, where the model takes steps of several rows.
        learning_rate: of the steps, where the model has one.
        term: what is added to the site's objective; None: nothing.
        gradient: whether :attr:`Learned.gradient` is wanted.
        progress: to be called now and then.
        frozen: parameters that stay as they are. A model that cannot hold a single one fast refuses.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 0.01
    term: ProximalTerm | None = None
    gradient: bool = False
    progress: Callable[[], None] = lambda: None
    frozen: frozenset[str] = frozenset()


class Learned(NamedTuple):
    """What a site's training came to.

    Args:
        parameters: after it.
        losses: the mean training loss of each epoch, of the site's own objective or loss, without the term.
        gradient: of the site's own objective, without the term: at the parameters that training began from, or the mean
            over the steps that were taken. The model says which. Zeros for arrays that are not learned.
        steps: how many the training took from its start: of gradients, or of its solver.
        together: of how many sites the training was computed as one.
        elsewhere: whether it was computed on the processor since the device that was asked for is not there.
        moved, length: how far the parameters moved from where training began, and the L2 norm of it over all of them,
            infinite or NaN where one is; None where who trained did not look.
    """

    parameters: Arrays
    losses: Sequence[float] = ()
    gradient: dict[str, Array] | None = None
    steps: int = 0
    together: int = 1
    elsewhere: bool = False
    moved: Arrays | None = None
    length: float | None = None
