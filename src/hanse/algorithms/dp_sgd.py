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

import numpy as np

from hanse.algorithms import _noised_steps as steps
from hanse.algorithms._noised_steps import NoisedSteps, Walk
from hanse.config import RunConfig
from hanse.learning.aggregation import weighted_mean
from hanse.learning.averaging import Averaging, Question, State
from hanse.learning.local import training
from hanse.learning.server import RATE, plain
from hanse.privacy.guarantee import ROW
from hanse.settings import Setting, number, whole
from hanse.training import Arrays
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
    """As of all noised steps."""
    return steps.unfit("dp_sgd", config)


def sampled(walk: Walk, start: Arrays) -> Arrays:
    """S steps, each of a sample of its own."""
    settings, w = walk.settings, dict(start)
    expected = settings["sampling_rate"] * walk.declared
    for _ in range(settings["local_steps"]):
        taken = np.flatnonzero(walk.noise.sample(walk.rows))
        noised = walk.noise.noised(walk.clipped(w, taken), walk.bound)
        penalty = walk.penalty(w)
        step = {n: noised[n] / expected + penalty.get(n, 0.0) for n in noised}
        w = {n: (a - settings["private_step_size"] * step[n]).astype(a.dtype) for n, a in w.items()}
        walk.step()
    return w


ALGORITHM = Typed(NoisedSteps(Averaging("dp_sgd", SETTINGS, training, weighted_mean, plain), sampled), State, Question)
