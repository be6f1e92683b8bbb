"""A few iterations of L-BFGS from given parameters: local training of the smooth linear models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hanse.kinds import Progress
from hanse.messages import Array

Objective = Callable[[Array], tuple[float, Array]]  # flat parameters to loss and gradient


def minimise(
    objective: Objective, start: Array, iterations: int, progress: Progress, losses: list[float] | None
) -> Array:
    """Flat parameters after at most ``iterations`` steps; each step's loss goes to ``losses``."""
    from scipy.optimize import minimize

    def step(x: Array) -> None:
        progress()
        if losses is not None:
            losses.append(objective(x)[0])

    found = minimize(objective, start, jac=True, method="L-BFGS-B", callback=step, options={"maxiter": iterations})
    return np.asarray(found.x)
