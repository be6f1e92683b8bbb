"""Training by a library's own steps, with what the library does not know: a term in the objective, frozen parameters.

Both take hold between mini-batches of ``batch_size`` rows: after each, one proximal step of the term
(:meth:`hanse.training.ProximalTerm.proximal`) as large as the gradient steps that the batch took together, and what is
frozen is as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hanse.messages import Array
from hanse.training import Arrays, ProximalTerm, Training


def proximal_pass(
    steps: Callable[[Array], float],
    weights: Callable[[], Arrays],
    order: Array,
    training: Training,
    term: ProximalTerm | None,
) -> dict[str, Array]:
    """One epoch. Returns how far the library's own steps moved each weight.

    Args:
        steps: takes the library's steps over some rows, and says how large they were together.
        weights: the weights now, as arrays that can be written into.
        order: of the rows.
    """
    moved = {name: np.zeros_like(w) for name, w in weights().items()}
    for start in range(0, len(order), training.batch_size):
        before = {name: w.copy() for name, w in weights().items()}
        size = steps(order[start : start + training.batch_size])
        for name, w in weights().items():
            moved[name] += w - before[name]
            if name in training.frozen:
                w[...] = before[name]
            elif term is not None:
                w[...] = term.proximal(name, w, size)
        training.progress()
    return moved
