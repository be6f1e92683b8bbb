"""Noised steps at each site, averaged: strategies whose sites learn from noised sums of gradients.

A walk takes a site's parameters through its steps (:class:`Walk`). It sees the rows in sums alone, of which one row
more or less changes each by at most C, the ``clip`` of ``privacy``, and uses them with noise
(:class:`hanse.kinds.RowNoise`). So all that a site tells is private for each of its rows, whoever sees it. What
the sites' parameters changed by is averaged, all sites alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.config import RunConfig
from hanse.errors import NodeFailed, NotAllowed
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, RowNoise, Site
from hanse.learning import rows as preparation
from hanse.learning.averaging import Averaging, Question, State, model_at, targets
from hanse.learning.local_training import CHANGE
from hanse.messages import Array, Json, Record
from hanse.privacy.guarantee import LOCAL, settled
from hanse.training import Arrays


@dataclass(frozen=True, slots=True)
class Walk:
    """What a site's steps are made of.

    Args:
        rows: how many it has; they are numbered from 0.
        declared: how many it declared in the proposal, which is no secret.
        bound: C.
        noise: of this answer.
        clipped: (parameters, numbers of rows) to Σ of these rows' gradients, each no longer than C.
        penalty: parameters to the gradient of the model's penalty, which follows from no row.
        settings: of the run.
        step: to be called after each.
    """

    rows: int
    declared: float
    bound: float
    noise: RowNoise
    clipped: Callable[[Arrays, Array], dict[str, Array]]
    penalty: Callable[[Arrays], Mapping[str, Array]]
    settings: Mapping[str, Json]
    step: Callable[[], None]


def unfit(name: str, config: RunConfig) -> str:
    """Without noise there is no reason for it; and each site's noise is enough by itself."""
    if config.privacy is None:
        return f"{name} is for runs with differential privacy; set privacy, or leave federated_strategy out"
    if settled(config.privacy)["mode"] != LOCAL:
        return f"{name} has its noise in each step at a site, which nobody else can add: leave mode of privacy at local"
    if config.model_options.get("class_weight") is not None:
        return f"class_weight follows from the rows of a site, of which {name} tells nothing; leave it out"
    return ""


@dataclass(frozen=True)
class NoisedSteps:
    """A :class:`hanse.typed.Computation`: averaging, of which the local training is a walk."""

    averaging: Averaging
    walk: Callable[[Walk, Arrays], Arrays]

    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """As of averaging."""
        return self.averaging.init(config, previous)

    def ask(self, state: State) -> Ask | Done:
        """As of averaging."""
        return self.averaging.ask(state)

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half: noised steps. A site without rows takes them too, so that nobody sees that it has none."""
        name = self.averaging.name
        if ask.phase == "initialise":
            return self.averaging.answer(site, ask)
        if ask.phase != "train" or site.noise is None:
            raise NotAllowed(f"{name} answers with noised steps alone, and none are promised here")
        if site.shares is not None:
            raise NotAllowed(
                f"{name} draws rows one by one, and the owner of this data set says that several are of one person; "
                "use noisy_gradients, which counts persons"
            )
        rows, model = preparation.rows(site, ask.prepared), _model(site, ask)
        X, y = rows.X[rows.train], targets(rows, ask.prepared)
        bound, declared = float(site.config["privacy"]["clip"]), max(1.0, site.declared)

        def clipped(w: Arrays, taken: Array) -> dict[str, Array]:
            with np.errstate(over="ignore", invalid="ignore"):  # of a row that is no number nothing is in the sum
                found: dict[str, Array] = model.clipped(w, X[taken], y[taken], bound)
            return found

        walk = Walk(
            rows=len(y),
            declared=declared,
            bound=bound,
            noise=site.noise,
            clipped=clipped,
            penalty=lambda w: model.penalty_gradient(w, declared),
            settings=site.config,
            step=site.progress,
        )
        w = self.walk(walk, dict(ask.model))
        if not all(np.isfinite(a).all() for a in w.values()):
            raise NodeFailed("noised steps left the range of numbers; use a smaller private_step_size")
        change = {f"{CHANGE}.{n}": w[n] - a for n, a in ask.model.items()}
        return Contribution(Record({}, change), combine=Combine.SUM, noised=True)

    def tell(self, state: State, gathered: Gathered) -> State:
        """As of averaging."""
        return self.averaging.tell(state, gathered)

    def begun(self, state: State, start: Record) -> State:
        """As of averaging."""
        return self.averaging.begun(state, start)

    def result(self, state: State) -> Record:
        """As of averaging."""
        return self.averaging.result(state)

    def metrics(self, state: State) -> Mapping[str, Json]:
        """As of averaging."""
        return self.averaging.metrics(state)


def _model(site: Site, ask: Question) -> Any:  # of the capability row_gradients
    return model_at(site, preparation.task(ask.prepared))
