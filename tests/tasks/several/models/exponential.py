"""Exponential survival, λ = exp(θ x̃), fitted exactly by its sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.convex import Convex
from hanse.errors import ConfigError
from hanse.messages import Array, Json, Record
from hanse.task import Task

NEEDS = "standardised"
LEARNS_BY = ("sums",)
PREDICTS = ("rate",)
SETTINGS: Mapping[str, Any] = {}


def exponential(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """ℓ = t exp z - d z, of a time t and an event d."""
    (time, event), score = y.T, z[:, 0]
    expected = time * np.exp(score)
    return expected - event * score, (expected - event)[:, None], expected[:, None, None]


class Exponential:
    def __init__(self, task: Task) -> None:
        self.convex = Convex(exponential, 1, len(task.features))

    def parameters(self, theta: Array) -> dict[str, Array]:
        return {"coef": theta[0, :-1].copy(), "intercept": theta[0, -1:].copy()}

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return np.asarray(np.exp(X @ parameters["coef"] + parameters["intercept"][0]))


def build(task: Task, options: Mapping[str, Json]) -> Exponential:
    if task.predicts not in PREDICTS:
        raise ConfigError(f"exponential predicts a rate; a {task.kind} task needs {task.predicts}")
    return Exponential(task)


def predict(result: Record, X: Array) -> Array:
    return np.asarray(np.exp(X @ result.arrays["model.coef"] + result.arrays["model.intercept"][0]))
