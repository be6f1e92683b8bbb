"""Readable twins of the strategies of averaging: the papers' algorithms in NumPy, on the rows of the sites.

Sites are weighted by rows, where a paper does not count them alike on purpose. Local training is in them too: for
logistic regression SciPy's L-BFGS on the objective written out, for a PyTorch module its gradient steps written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from drive import Drive
from scipy.optimize import minimize

from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.messages import Record

Vector = Any
ROUNDS, EPOCHS, BATCH, RATE = 4, 2, 16, 0.1
PLAN = """
import torch

class Logistic(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x.double())

def build(task, options):
    module = Logistic(len(task.features), 1).double()
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    return module

def loss(output, y):
    return torch.nn.functional.binary_cross_entropy_with_logits(output, y.double())
"""
SIZES = (120, 60, 40, 20, 1)
SEVEN = (120, 60, 40, 30, 20, 10, 1)


class Rows:
    """A site's training rows, and its local training of w = (coef, intercept)."""

    def __init__(self, drive: Drive, node: str, prepared: Record, torch: bool) -> None:
        self.site = Site(node, drive.tables[node], drive.config.to_json())
        rows = preparation.rows(self.site, prepared)
        self.X, self.y, self.torch = rows.X[rows.train], rows.y[rows.train], torch
        self.n, self.steps = len(self.y), 0
        if torch:
            self.X = self.X.astype(np.float32).astype(np.float64)

    def gradient(self, w: Vector, rows: Any = slice(None)) -> Vector:
        """Of the mean log loss (of logistic regression with C = 1: + |coef|² / 2n)."""
        X, y = self.X[rows], self.y[rows]
        slope = (1 / (1 + np.exp(-(X @ w[:-1] + w[-1]))) - y) / len(y)
        return np.append(slope @ X + (0 if self.torch else w[:-1] / self.n), slope.sum())

    def value(self, w: Vector) -> float:
        z = self.X @ w[:-1] + w[-1]
        return float((np.logaddexp(0, z) - self.y * z).mean() + (w[:-1] ** 2).sum() / (2 * self.n))

    def train(self, w: Vector, round: int, mu: float = 0.0, linear: Vector = 0.0) -> tuple[Vector, Vector]:
        """w after training with μ/2 |w - w₀|² + ⟨linear, w⟩ in the objective, and the site's own gradient: at w₀, or
        the mean over the steps, whose number is ``steps`` then."""
        start, linear = w, np.zeros_like(w) + linear
        if not self.torch:

            def whole(v: Vector) -> tuple[float, Vector]:
                added = mu / 2 * ((v - start) ** 2).sum() + linear @ v
                return self.value(v) + added, self.gradient(v) + mu * (v - start) + linear

            found = minimize(whole, w, jac=True, method="L-BFGS-B", options={"maxiter": EPOCHS})
            self.steps = int(found.nit)
            return found.x, self.gradient(start)
        rng, gradients = self.site.rng("train", round), []
        rng.integers(2**31 - 1)  # the seed of the library
        for _ in range(EPOCHS):
            order = rng.permutation(self.n)
            for low in range(0, self.n, BATCH):
                gradients.append(self.gradient(w, order[low : low + BATCH]))
                w = w - RATE * (gradients[-1] + mu * (w - start) + linear)
        self.steps = len(gradients)
        return w, np.mean(gradients, axis=0)


Twin = Callable[[list[Rows], int, dict[str, Any]], Vector]


def averaged(sites: list[Rows], changes: list[Vector]) -> Vector:
    return np.average(changes, axis=0, weights=[s.n for s in sites])


def fedprox(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        w = averaged(sites, [s.train(w, r, mu=chosen["proximal_mu"])[0] for s in sites])
    return w


def fedavgm(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w, v = np.zeros(size), np.zeros(size)
    for r in range(1, ROUNDS + 1):
        v = chosen["server_momentum"] * v + averaged(sites, [s.train(w, r)[0] - w for s in sites])
        w = w + chosen["server_learning_rate"] * v
    return w


def adaptive(second: Callable[[Vector, Vector, float], Vector]) -> Twin:
    def twin(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
        beta, tau = chosen["server_beta_1"], chosen["server_tau"]
        w, m, v = np.zeros(size), np.zeros(size), np.full(size, tau**2)
        for r in range(1, ROUNDS + 1):
            delta = averaged(sites, [s.train(w, r)[0] - w for s in sites])
            m = beta * m + (1 - beta) * delta
            v = second(v, delta, chosen.get("server_beta_2", 0.0))
            w = w + chosen["server_learning_rate"] * m / (np.sqrt(v) + tau)
        return w

    return twin


def scaffold(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w, c, own = np.zeros(size), np.zeros(size), [np.zeros(size) for _ in sites]
    for r in range(1, ROUNDS + 1):
        found = [s.train(w, r, linear=c - c_k) for s, c_k in zip(sites, own, strict=True)]
        c = c + averaged(sites, [g - c_k for (_, g), c_k in zip(found, own, strict=True)])
        own = [g for _, g in found]
        w = w + chosen["server_learning_rate"] * averaged(sites, [y - w for y, _ in found])
    return w


def median(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        w = w + np.median([s.train(w, r)[0] - w for s in sites], axis=0)
    return w


def trimmed_mean(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        changes = np.sort([s.train(w, r)[0] - w for s in sites], axis=0)
        w = w + changes[1:-1].mean(axis=0)  # one of five at each end
    return w


def norm_bound(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        changes = [s.train(w, r)[0] - w for s in sites]
        bound = chosen["norm_bound"] or np.median([np.linalg.norm(d) for d in changes])
        w = w + averaged(sites, [d * min(1, bound / np.linalg.norm(d)) for d in changes])
    return w


def fedavg(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        changes = [s.train(w, r)[0] - w for s in sites]
        w = w + np.average(changes, axis=0, weights=[chosen["site_weights"][s.site.node] for s in sites])
    return w


def fednova(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        ends = [s.train(w, r)[0] for s in sites]
        each = [(end - w) / s.steps for end, s in zip(ends, sites, strict=True)]
        effective = np.average([s.steps for s in sites], weights=[s.n for s in sites])
        w = w + chosen["server_learning_rate"] * effective * averaged(sites, each)
    return w


def feddyn(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    alpha = chosen["feddyn_alpha"]
    w, h, own = np.zeros(size), np.zeros(size), [np.zeros(size) for _ in sites]
    for r in range(1, ROUNDS + 1):
        ends = [s.train(w, r, mu=alpha, linear=-g)[0] for s, g in zip(sites, own, strict=True)]
        own = [g - alpha * (end - w) for g, end in zip(own, ends, strict=True)]
        h = h - alpha * averaged(sites, [end - w for end in ends])
        w = averaged(sites, ends) - h / alpha
    return w


def krum_score(changes: list[Vector], i: int, liars: int) -> float:
    off = sorted(float(((changes[i] - other) ** 2).sum()) for j, other in enumerate(changes) if j != i)
    return sum(off[: max(1, len(changes) - liars - 2)])


def krum(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        changes = [s.train(w, r)[0] - w for s in sites]
        order = sorted(range(len(sites)), key=lambda i, c=changes: krum_score(c, i, chosen["byzantine_sites"]))
        w = w + np.mean([changes[i] for i in order[: chosen["krum_kept"]]], axis=0)
    return w


def bulyan(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w, f = np.zeros(size), chosen["byzantine_sites"]
    for r in range(1, ROUNDS + 1):
        left, picked = [s.train(w, r)[0] - w for s in sites], []
        while len(picked) < len(sites) - 2 * f:
            best = min(range(len(left)), key=lambda i, c=left: krum_score(c, i, f))
            picked.append(left.pop(best))
        step = []
        for values in np.array(picked).T:
            middle = np.median(values)
            step.append(np.mean(sorted(values, key=lambda v, m=middle: abs(v - m))[: len(sites) - 4 * f]))
        w = w + step
    return w


def geometric_median(sites: list[Rows], size: int, chosen: dict[str, Any]) -> Vector:
    w = np.zeros(size)
    for r in range(1, ROUNDS + 1):
        changes = [s.train(w, r)[0] - w for s in sites]
        each = np.repeat(changes, [s.n for s in sites], axis=0)  # the change of each row
        v = np.quantile(each, 0.5, axis=0, method="averaged_inverted_cdf")
        for _ in range(chosen["weiszfeld_steps"]):
            beta = [s.n / max(1e-6, np.linalg.norm(v - d)) for s, d in zip(sites, changes, strict=True)]
            v = np.average(changes, axis=0, weights=beta)
        w = w + v
    return w


ADAM = {"server_learning_rate": 0.2, "server_beta_1": 0.8, "server_tau": 0.01}
TWINS: dict[str, tuple[Twin, dict[str, Any]]] = {
    "fedprox": (fedprox, {"proximal_mu": 0.5}),
    "fedavgm": (fedavgm, {"server_momentum": 0.7, "server_learning_rate": 0.8}),
    "fedadam": (adaptive(lambda v, d, b: b * v + (1 - b) * d**2), {**ADAM, "server_beta_2": 0.9}),
    "fedyogi": (adaptive(lambda v, d, b: v - (1 - b) * d**2 * np.sign(v - d**2)), {**ADAM, "server_beta_2": 0.9}),
    "fedadagrad": (adaptive(lambda v, d, b: v + d**2), {**ADAM, "server_beta_1": 0.0}),
    "scaffold": (scaffold, {"server_learning_rate": 0.9}),
    "median": (median, {}),
    "trimmed_mean": (trimmed_mean, {"trimmed_share": 0.2}),
    "norm_bound": (norm_bound, {"norm_bound": None}),
    "fedavg": (fedavg, {"site_weights": {f"site-{i}": w for i, w in enumerate((0.2, 1.0, 0.5, 0.0, 0.7))}}),
    "fednova": (fednova, {"server_learning_rate": 0.9}),
    "feddyn": (feddyn, {"feddyn_alpha": 0.3}),
    "krum": (krum, {"byzantine_sites": 1, "krum_kept": 1}),
    "krum, three": (krum, {"byzantine_sites": 1, "krum_kept": 3}),
    "bulyan": (bulyan, {"byzantine_sites": 1}),
    "geometric_median": (geometric_median, {"weiszfeld_steps": 7}),
}
