"""Convex models learned with differential privacy for each row, by gradients of which a row has a bounded part.

With parameters θ, rows x̃ = (x, 1) and the gradient e x̃ of a row's loss (:mod:`hanse.convex`), each site sends ::

    G = Σ_i g_i min(1, C / ‖g_i‖₂),    g_i = e_i x̃_iᵀ

Where the owner of a data set says whose each row is, each row counts 1/n_p of its person's n_p rows, so G changes by at
most C with a person (:mod:`hanse.subjects`); steps are shorter then, as n is the number of rows.

One row more or less changes G by at most C, whatever it holds, so the noise of the run's promise (``privacy``,
:mod:`hanse.privacy.release`) hides rows, and not only sites. The coordinator goes down the noised sum, with the penalty
Λ of the model and the number of rows n that sites declared in the proposal ::

    v ← μ v + (G + noise) / n + Λ θ / n        θ ← θ - η v

Noise grows with the square root of the rounds and falls with the rows: ten to forty rounds are enough for features that
``ranges`` bring near [-1, 1]. There are no standard errors; those of an exact fit would tell its curvature.

References: Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1, with all rows in each step; Song,
Chaudhuri and Sarwate 2013, "Stochastic gradient descent with differentially private updates".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np

from hanse.codec import ArrayOf, encode
from hanse.config import RunConfig
from hanse.convex import Convex
from hanse.errors import ConfigError, RunFailed
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.learning import rows as preparation
from hanse.learning.results import result_of
from hanse.messages import Array, Json, Record
from hanse.privacy import clipping
from hanse.privacy.guarantee import ROW
from hanse.registry import find
from hanse.settings import Setting, maybe, number
from hanse.task import Task
from hanse.typed import Typed

TAKES = "sums"
UNIT = ROW
SETTINGS = {
    "step_size": Setting(
        None,
        "η of noisy gradients; null: 1 / (w (1 + f/9)) with f features and w the curvature of the loss at zero",
        maybe(number(0, 1e6, above=True)),
    ),
    "momentum": Setting(0.5, "μ of noisy gradients", number(0, 1, below=True)),
}
_BLOCK = 4096  # rows


def ingredients(options: Mapping[str, Json]) -> list[str]:
    """Modules of the node's half beside the model's, for the bundle."""
    return ["hanse.convex"]


def unfit(config: RunConfig) -> str:
    """Without noise there is no reason for it."""
    if config.privacy is None:
        return "noisy_gradients is for runs with differential privacy; set privacy, or leave federated_strategy out"
    if getattr(find("models", config.model_name), "JOINTLY", False):
        return f"the loss of {config.model_name} is no sum over rows, so no noise hides one; leave privacy out"
    return ""


def most_steps(config: RunConfig) -> int:
    """One in which sites say how many rows they declared, and the rounds."""
    return 1 + config.num_rounds


Theta = Annotated[Array, ArrayOf("float64", "outputs", "width")]


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        rounds: to be done; ``round``: so many are.
        step_size, momentum: η and μ.
        theta, velocity: θ and v.
        rows: n.
    """

    prepared: Record
    model_name: str
    options: Mapping[str, Json]
    rounds: int
    step_size: float
    momentum: float
    theta: Theta
    velocity: Theta
    phase: Literal["count", "train", "done"] = "count"
    round: int = 0
    rows: float = 0.0
    model: Mapping[str, Array] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What is learned."""
        return preparation.task(self.prepared)

    @property
    def adapter(self) -> Any:
        """The model's adapter."""
        return find("models", self.model_name).build(self.task, self.options)


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: how many rows it declared (no ``round``), or its clipped gradients at ``theta``."""

    prepared: Record
    theta: Theta
    round: int | None


class NoisyGradients:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """All parameters zero."""
        if previous is None:
            raise ConfigError("noisy gradients follow the preparation; build the run with hanse.algorithms.build")
        zero = np.zeros((0, 0))
        names = (config["model_name"], config["model_options"], config["num_rounds"])
        state = State(previous, *names, 1.0, config["momentum"], theta=zero, velocity=zero)
        convex: Convex = state.adapter.convex
        zero = np.zeros((convex.outputs, convex.features + 1))
        return _at(replace(state, step_size=config["step_size"] or _step_size(convex), velocity=zero), zero)

    def ask(self, state: State) -> Ask | Done:
        """How many rows there are, then gradients at θ."""
        if state.phase == "done":
            return Done(f"{state.round} rounds")
        counts = state.phase == "count"
        round = None if counts else state.round + 1
        return Ask(
            encode(Question(state.prepared, state.theta, round)),
            Combine.SUM,
            "prepare" if counts else "train",
            round,
            counts={"rows": None} if counts else {},
            arrays={"rows": ("float64", (1,))} if counts else {"gradient": ("float64", (state.theta.size,))},
            sums={},
        )

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half. Of a row whose gradient is no number nothing is in the sum."""
        if ask.round is None:
            declared = np.array([max(1.0, site.declared)])
            return Contribution(Record({}, {"rows": declared}), combine=Combine.SUM, sensitivity=0.0)
        task = preparation.task(ask.prepared)
        model = find("models", site.config["model_name"]).build(task, site.config["model_options"])
        convex: Convex = model.convex
        rows = preparation.rows(site, ask.prepared)
        y = np.asarray(rows.y[rows.train])
        if y.dtype.kind == "f":
            y = np.maximum(y, convex.lowest)
        if convex.scaled:
            y = (y - ask.prepared.arrays["target_mean"]) / ask.prepared.arrays["target_scale"]
        bound = float(site.config["privacy"]["clip"])
        own = preparation.targets(site, ask.prepared)
        shares = None if site.shares is None else site.shares[own.at(own.train)]
        gradient = clipped_gradient(convex, ask.theta, rows.X[rows.train], y, bound, shares)
        site.progress()
        found = Record({}, {"gradient": gradient.ravel()})
        return Contribution(found, combine=Combine.SUM, sensitivity=bound)

    def tell(self, state: State, gathered: Gathered) -> State:
        """The number of rows, or the next θ."""
        found = gathered.sum()
        if state.phase == "count":
            return replace(state, phase="train", rows=float(found["rows"][0]))
        convex: Convex = state.adapter.convex
        strength = convex.penalty * (state.rows if convex.per_row else 1.0)
        penalty = strength * state.theta
        penalty[:, -1] = 0.0
        gradient = (found["gradient"].reshape(state.theta.shape) + penalty) / state.rows
        gradient = np.where(convex.learned(), gradient, 0.0)
        velocity = state.momentum * state.velocity + gradient
        theta = state.theta - state.step_size * velocity
        if not np.isfinite(theta).all():
            raise RunFailed("the parameters have left the range of numbers; use a smaller step_size")
        done = state.round + 1
        state = replace(state, round=done, velocity=velocity, phase="done" if done >= state.rounds else "train")
        return _at(state, theta)

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, history, best, round}``; arrays ``model.*`` and
        ``prepared.*``."""
        name, about = __name__.rpartition(".")[2], (state.prepared, state.model_name, state.options)
        return result_of(name, *about, state.model, history=[], best=None, round=state.round)

    def metrics(self, state: State) -> Mapping[str, Json]:
        """How far the last step went: of noised sums, so it tells nothing more."""
        return {"step_norm": float(state.step_size * np.linalg.norm(state.velocity))} if state.round else {}


ALGORITHM = Typed(NoisyGradients(), State, Question)


def clipped_gradient(
    convex: Convex, theta: Array, X: Array, y: Array, bound: float, shares: Array | None = None
) -> Array:
    """Σ_i s_i g_i min(1, bound / ‖g_i‖₂) over rows, (k, f + 1), in the shape of ``theta``.

    Args:
        shares: s, (n,) what each row counts for; None: 1.
    """
    total = np.zeros(theta.shape)
    for start in range(0, len(y), _BLOCK):
        part = X[start : start + _BLOCK]
        extended = np.column_stack([part, np.ones(len(part))])
        with np.errstate(over="ignore", invalid="ignore"):
            _, error, _ = convex.family(extended @ theta.T, y[start : start + _BLOCK])
            size = np.linalg.norm(error, axis=1) * np.linalg.norm(extended, axis=1)  # of e xᵀ
        fine, scale = np.isfinite(size)[:, None], clipping.factors(size, bound)
        if shares is not None:
            scale = scale * shares[start : start + _BLOCK]
        total += (scale[:, None] * np.where(fine, error, 0.0)).T @ np.where(fine, extended, 0.0)
    return total


def _step_size(convex: Convex) -> float:
    _, _, curvature = convex.family(np.zeros((1, convex.outputs)), np.zeros(1, np.int64))
    return float(1.0 / (curvature.max() * (1.0 + convex.features / 9.0)))


def _at(state: State, theta: Array) -> State:
    return replace(state, theta=theta, model=state.adapter.parameters(theta))
