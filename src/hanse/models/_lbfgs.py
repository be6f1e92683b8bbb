"""A few iterations of L-BFGS from given parameters: local training of the smooth linear models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hanse.messages import Array
from hanse.models._one_thread import one_thread
from hanse.training import Arrays, Learned, Training

Objective = Callable[[Array], tuple[float, Array]]  # flat parameters to loss and gradient


def minimise(objective: Objective, start: Arrays, names: Sequence[str], training: Training) -> Learned:
    """Parameters after at most ``training.epochs`` iterations on ``objective``, plus the term, in value and gradient.

    What is frozen has no gradient, and so stays as it is. The gradient, if wanted, is the objective's own at ``start``.

    Args:
        objective: of the parameters in the order of ``names``, flattened and joined.
    """
    from scipy.optimize import minimize

    shapes = {name: np.shape(start[name]) for name in names}
    cuts = np.cumsum([start[name].size for name in names])[:-1]
    losses: list[float] = []

    def named(flat: Array) -> dict[str, Array]:
        parts = np.split(flat, cuts)
        return {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}

    def whole(flat: Array) -> tuple[float, Array]:
        value, gradient = objective(flat)
        if training.term is not None:
            parameters = named(flat)
            added = [np.ravel(training.term.gradient(name, parameters[name])) for name in names]
            value, gradient = value + training.term.value(parameters), gradient + np.concatenate(added)
        if training.frozen:
            gradient = np.where(still, 0.0, gradient)
        return value, gradient

    def step(flat: Array) -> None:
        training.progress()
        losses.append(objective(flat)[0])

    still = np.concatenate([np.full(start[name].size, name in training.frozen) for name in names])
    first = np.concatenate([np.ravel(start[name]) for name in names])
    options = {"maxiter": training.epochs}
    with one_thread():
        found = minimize(whole, first, jac=True, method="L-BFGS-B", callback=step, options=options)
    own = named(objective(first)[1]) if training.gradient else None
    return Learned(named(np.asarray(found.x)), losses, own, int(found.nit))
