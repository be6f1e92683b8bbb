"""Differentially private stochastic gradient descent at each site, averaged: any model of bounded gradients, by rows.

From the common parameters θ a site takes S steps. Each takes every row with a probability q, by coins that nobody sees,
and of the gradients g_i of these rows ::

    G = Σ_{i in the sample} g_i min(1, C / ‖g_i‖₂),      w ← w - η ((G + noise) / (q n) + ∇penalty(w))

with ‖g_i‖₂ over all parameters together, C the ``clip`` of ``privacy``, and n the rows that the site declared in the
proposal: how many it took is nobody's business. What the sites' parameters changed by is averaged, all sites alike.

Only noised sums are used, so all that a site tells is private for each of its **rows**, whoever sees it, over
T = rounds · S sampled steps; the noise follows from ε, δ, T and q (:mod:`hanse.privacy.sampled`). Few rows in a step
(q small) let the noise be small in a sum, and large beside it: q n of some tens of rows, and η C near 1, are a start.

References: Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1; Mironov, Talwar and Zhang 2019,
"Rényi differential privacy of the sampled Gaussian mechanism".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.config import RunConfig
from hanse.errors import NodeFailed, NotAllowed
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.learning import rows as preparation
from hanse.learning.aggregation import weighted_mean
from hanse.learning.averaging import Averaging, Question, State, model_at, targets
from hanse.learning.local import training
from hanse.learning.local_training import CHANGE
from hanse.learning.server import RATE, plain
from hanse.messages import Json, Record
from hanse.privacy.guarantee import LOCAL, ROW, settled
from hanse.settings import Setting, number, whole
from hanse.typed import Typed

TAKES = "row_gradients"
DEFAULT = True
UNIT = ROW
SETTINGS = {
    "local_steps": Setting(10, "S, noised steps of a site in a round", whole(1, 100_000)),
    "sampling_rate": Setting(0.1, "q, by which each row of a site is in a step", number(0, 1, above=True)),
    "server_learning_rate": RATE,
    "private_step_size": Setting(0.25, "η, of noised steps", number(0, 1000, above=True)),
}


def noised_steps(config: RunConfig) -> tuple[int, float]:
    """S and q."""
    settings = config.ingredient_settings
    return int(settings["local_steps"]), float(settings["sampling_rate"])


def unfit(config: RunConfig) -> str:
    """Without noise there is no reason for it; and each site's noise is enough by itself."""
    if config.privacy is None:
        return "dp_sgd is for runs with differential privacy; set privacy, or leave federated_strategy out"
    if settled(config.privacy)["mode"] != LOCAL:
        return "dp_sgd has its noise in each step at a site, which nobody else can add: leave mode of privacy at local"
    if config.model_options.get("class_weight") is not None:
        return "class_weight follows from the rows of a site, of which dp_sgd tells nothing; leave it out"
    return ""


@dataclass(frozen=True)
class DpSgd:
    """A :class:`hanse.typed.Computation`: averaging, of which the local training is another."""

    averaging: Averaging

    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """As of averaging."""
        return self.averaging.init(config, previous)

    def ask(self, state: State) -> Ask | Done:
        """As of averaging."""
        return self.averaging.ask(state)

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half: noised steps. A site without rows takes them too, so that nobody sees that it has none."""
        if ask.phase == "initialise":
            return self.averaging.answer(site, ask)
        if ask.phase != "train" or site.noise is None:
            raise NotAllowed("dp_sgd answers with noised steps alone, and none are promised here")
        if site.shares is not None:
            raise NotAllowed(
                "dp_sgd draws rows one by one, and the owner of this data set says that several are of one person; "
                "use noisy_gradients, which counts persons"
            )
        rows, model = preparation.rows(site, ask.prepared), _model(site, ask)
        X, y = rows.X[rows.train], targets(rows, ask.prepared)
        settings, bound = site.config, float(site.config["privacy"]["clip"])
        declared = max(1.0, site.declared)
        expected, w = settings["sampling_rate"] * declared, dict(ask.model)
        for _ in range(settings["local_steps"]):
            taken = np.flatnonzero(site.noise.sample(len(y)))
            with np.errstate(over="ignore", invalid="ignore"):  # of a row that is no number nothing is in the sum
                total = model.clipped(w, X[taken], y[taken], bound)
            noised = site.noise.noised(total, bound)
            penalty = model.penalty_gradient(w, declared)
            step = {n: noised[n] / expected + penalty.get(n, 0.0) for n in noised}
            w = {n: (a - settings["private_step_size"] * step[n]).astype(a.dtype) for n, a in w.items()}
            site.progress()
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


ALGORITHM = Typed(DpSgd(Averaging("dp_sgd", SETTINGS, training, weighted_mean, plain)), State, Question)
