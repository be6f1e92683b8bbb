"""What scikit-learn's two linear models by stochastic gradient descent have in common: local training.

One pass of ``partial_fit`` per epoch, one row per step, at the constant rate ``learning_rate``. A term of the objective
takes hold between mini-batches (:mod:`hanse.models._proximal`), whose rows are drawn anew for each epoch. The gradient
that is told is the mean over the steps: how far they moved the weights, by their number and rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hanse.errors import NodeFailed
from hanse.learning.results import in_range
from hanse.messages import Array
from hanse.models._proximal import proximal_pass
from hanse.training import Learned, Training


def penalty_gradient(options: Mapping[str, Any], parameters: Mapping[str, Array]) -> dict[str, Array]:
    """Of the penalty on the coefficients; of L1 that of sign(0) = 0."""
    share = {"l2": 0.0, "l1": 1.0, "elasticnet": options["l1_ratio"], None: 0.0}[options["penalty"]]
    strength, coef = options["alpha"] if options["penalty"] else 0.0, parameters["coef"]
    return {"coef": strength * ((1 - share) * coef + share * np.sign(coef))}


def fit(model: Any, X: Array, y: Array, training: Training, loss: Callable[[], float]) -> Learned:
    """Trains an estimator further; ``loss`` gives its mean loss after each epoch."""

    if training.frozen:
        raise NodeFailed(
            "scikit-learn's SGD models step every parameter with every row, so that none can stay as it is; choose "
            "another model for this strategy"
        )

    def weights() -> dict[str, Array]:
        return {"coef": model.coef_, "intercept": model.intercept_}

    def steps(rows: Array) -> float:
        with in_range():
            model.partial_fit(X[rows], y[rows])
        return training.learning_rate * len(rows)

    moved = {name: np.zeros_like(w) for name, w in weights().items()}
    losses: list[float] = []
    for _ in range(training.epochs):
        if training.term is None:
            before = {name: w.copy() for name, w in weights().items()}
            with in_range():
                model.partial_fit(X, y)
            pass_moved = {name: w - before[name] for name, w in weights().items()}
        else:
            order = model.random_state.permutation(len(y)) if model.shuffle else np.arange(len(y))
            pass_moved = proximal_pass(steps, weights, order, training, training.term)
        moved = {name: moved[name] + pass_moved[name] for name in moved}
        with np.errstate(over="ignore"):
            losses.append(loss())
        training.progress()
    total = training.epochs * len(y) * training.learning_rate
    return Learned(
        {name: np.array(w) for name, w in weights().items()},
        losses,
        {name: -m / total for name, m in moved.items()},
        training.epochs * len(y),
    )
