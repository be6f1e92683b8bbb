"""What is learned: a model whose parameters average (:mod:`hanse.models`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hanse.messages import Array
from hanse.training import Learned, Training


class Model(Protocol):
    """An adapter to a library's models, for parameters that average (FedAvg and family).

    Made by the ``build(task, options)`` of its file, which validates ``options`` (hyper-parameters
    by the library's own names) and raises ``ConfigError`` naming what is wrong.
    """

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        """Initial parameters; names and shapes are the same for every later call."""
        ...

    def train(
        self, parameters: Mapping[str, Array], X: Array, y: Array, rng: np.random.Generator, training: Training
    ) -> Learned:
        """Local training on (n, f) ``X`` and (n,) ``y`` (class indices, or targets for regression), from
        ``parameters``, with the term of ``training`` in the objective. Must not keep anything between calls."""
        ...

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        """(n,) probability of class 1 for binary; (n, k) probabilities for multiclass; (n,)
        values for regression. float64."""
        ...

    def native(self, parameters: Mapping[str, Array]) -> Any:
        """A normal, fitted model of the library."""
        ...
