"""Differentially private learning where rows are not sampled: each is in one step of a round; noise adds up in a tree.

From the common parameters θ a site takes S steps. Its rows are in S parts, one for each step, and G_t is the sum of the
gradients of part t at w_t, each cut to the length C. A step starts from θ again, with all sums so far ::

    w_{t+1} = θ - η Σ_{s ≤ t} ((G_s) / (n/S) + ∇penalty(w_s)),      Σ_{s ≤ t} G_s = Σ of O(log t) noised sums

Sums are noised over dyadic intervals of steps, (t - lowbit(t), t], and those of all steps so far are sums of as many of
these as t has ones. A row is in one step, so it is in at most ⌊log₂ S⌋ + 1 noised sums of a round: this is what is
counted, by **rows**, and the noise in what all steps have added up to grows with log S and not with S. With S a power
of two, the default, one noise is in all that a site tells.

``dp_sgd`` pays for the same by samples that nobody may see or foretell. Here nothing is gained by a secret sample:
which part a row is in may be known. All else is as there.

References: Kairouz et al. 2021, "Practical and private (deep) learning without sampling or shuffling", algorithms 1
and 2; Dwork et al. 2010, "Differential privacy under continual observation"; Denisov et al. 2022, "Improved
differential privacy for SGD via optimal private linear operators on adaptive streams", theorem 2.1 (that a step sees
the noised sums before it changes nothing for Gaussian noise).
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
from hanse.messages import Array
from hanse.privacy.guarantee import ROW
from hanse.settings import Setting, number, whole
from hanse.training import Arrays
from hanse.typed import Typed

TAKES = "row_gradients"
UNIT = ROW
SETTINGS = {
    "parts": Setting(8, "S, parts of a site's rows, of which each is one step of a round", whole(1, 100_000)),
    "server_learning_rate": RATE,
    "private_step_size": Setting(0.25, "η, of noised steps", number(0, 1000, above=True)),
}


def noised_steps(config: RunConfig) -> tuple[int, float]:
    """⌊log₂ S⌋ + 1 sums that a row is in; it is in them for certain."""
    return int(config.ingredient_settings["parts"]).bit_length(), 1.0


def unfit(config: RunConfig) -> str:
    """As of all noised steps."""
    return steps.unfit("dp_ftrl", config)


def tree(walk: Walk, start: Arrays) -> Arrays:
    """S steps, each of another part of the rows, from noised sums of dyadic intervals of steps."""
    settings, w, count = walk.settings, dict(start), int(walk.settings["parts"])
    part, expected = walk.noise.parts(walk.rows, count), walk.declared / count
    penalties = {n: np.zeros(a.shape) for n, a in w.items()}
    stack: list[tuple[int, Array, dict[str, Array], dict[str, Array]]] = []  # steps, rows, their sum, with noise
    for t in range(1, count + 1):
        rows = np.flatnonzero(part == t - 1)
        total, length = walk.clipped(w, rows), 1
        while length < t & -t:  # the intervals that end one step before, each twice as long as the last
            length, rows, total = _joined(stack.pop(), length, rows, total)
        stack.append((length, rows, total, walk.noise.noised(total, walk.bound, rows)))
        for n, gradient in walk.penalty(w).items():
            penalties[n] += gradient
        whole_sum = {n: sum(noised[n] for *_, noised in stack) for n in total}
        step = {n: whole_sum[n] / expected + penalties[n] for n in w}
        w = {n: (a - settings["private_step_size"] * step[n]).astype(a.dtype) for n, a in start.items()}
        walk.step()
    return w


def _joined(
    last: tuple[int, Array, dict[str, Array], dict[str, Array]], length: int, rows: Array, total: dict[str, Array]
) -> tuple[int, Array, dict[str, Array]]:
    size, others, sums, _ = last
    return length + size, np.concatenate([others, rows]), {n: total[n] + sums[n] for n in total}


ALGORITHM = Typed(NoisedSteps(Averaging("dp_ftrl", SETTINGS, training, weighted_mean, plain), tree), State, Question)
