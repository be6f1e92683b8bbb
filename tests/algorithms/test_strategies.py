"""Every strategy of averaging against a readable twin: the paper's algorithm in NumPy, on the rows of the sites.

The twins are written from the papers' equations with sites weighted by rows. Local training is in them too: for
logistic regression SciPy's L-BFGS on the objective written out, for a PyTorch module its gradient steps written out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from drive import Drive, same, shares, toy
from scipy.optimize import minimize

from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine, Site
from hanse.learning import rows as preparation
from hanse.messages import Buffered, Layout, Memory, Record
from hanse.registry import find, names
from hanse.table import Table

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


class Rows:
    """A site's training rows, and its local training of w = (coef, intercept)."""

    def __init__(self, drive: Drive, node: str, prepared: Record, torch: bool) -> None:
        self.site = Site(node, drive.tables[node], drive.config.to_json())
        rows = preparation.rows(self.site, prepared)
        self.X, self.y, self.torch = rows.X[rows.train], rows.y[rows.train], torch
        self.n = len(self.y)
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
        the mean over the steps."""
        start, linear = w, np.zeros_like(w) + linear
        if not self.torch:

            def whole(v: Vector) -> tuple[float, Vector]:
                added = mu / 2 * ((v - start) ** 2).sum() + linear @ v
                return self.value(v) + added, self.gradient(v) + mu * (v - start) + linear

            found = minimize(whole, w, jac=True, method="L-BFGS-B", options={"maxiter": EPOCHS}).x
            return found, self.gradient(start)
        rng, gradients = self.site.rng("train", round), []
        rng.integers(2**31 - 1)  # the seed of the library
        for _ in range(EPOCHS):
            order = rng.permutation(self.n)
            for low in range(0, self.n, BATCH):
                gradients.append(self.gradient(w, order[low : low + BATCH]))
                w = w - RATE * (gradients[-1] + mu * (w - start) + linear)
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
}


def driven(strategy: str, tables: dict[str, Table], torch: bool = False, **more: Any) -> Drive:
    settings = {"num_rounds": ROUNDS, "local_epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE}
    model: dict[str, Any] = {"model_name": "logistic_regression"}
    if torch:
        model = {"model_name": "torch_module", "plan": {"source": PLAN, "name": "logistic"}}
    return Drive(tables, federated_strategy=strategy, **{**settings, **model, **more})


def flat(result: Record, torch: bool) -> Vector:
    names = ("weight", "bias") if torch else ("coef", "intercept")
    return np.concatenate([np.ravel(result.arrays[f"model.{name}"]) for name in names])


@pytest.mark.parametrize("torch", [False, pytest.param(True, marks=pytest.mark.torch)], ids=["logistic", "torch"])
@pytest.mark.parametrize("strategy", TWINS)
def test_a_strategy_is_its_papers_algorithm(strategy: str, torch: bool) -> None:
    if torch:
        pytest.importorskip("torch")
    twin, chosen = TWINS[strategy]
    drive = driven(strategy, shares(toy(sum(SIZES)), *SIZES), torch, **chosen)
    result = drive.run()
    prepared = preparation.unpack(result)
    sites = [Rows(drive, node, prepared, torch) for node in sorted(drive.tables)]
    expected = twin([s for s in sites if s.n], len(flat(result, torch)), chosen)
    np.testing.assert_allclose(flat(result, torch), expected, rtol=0, atol=1e-12)
    assert result.data["algorithm"] == strategy


def test_every_strategy_has_a_twin() -> None:
    assert {n for n in names("algorithms") if getattr(find("algorithms", n), "TAKES", "") == "parameters"} == {
        *TWINS,
        "fedavg",
    }


@pytest.mark.parametrize("strategy", [*TWINS, "fedavg"])
def test_a_run_has_the_same_bytes_for_every_order_of_arrival(strategy: str) -> None:
    tables = shares(toy(200), 120, 60, 20, 0)
    first = driven(strategy, tables).run()
    assert same(first, driven(strategy, tables).run(reverse=True))


# ---------------------------------------------------------------- what strategies are for


def skewed() -> dict[str, Table]:
    """Two sites whose labels differ, so that each one's optimum is far from the common one."""
    table = toy(400)
    ill = np.array([label == "ill" for label in table["y"].labels()])
    order = np.argsort(~ill, kind="stable")
    return {"a": table.take(np.sort(order[:220])), "b": table.take(np.sort(order[180:]))}


@functools.cache
def distance(strategy: str, **more: Any) -> float:
    """Of the result from the optimum of all sites' objectives together."""
    tables = skewed()
    settings = {"local_epochs": 5, "num_rounds": 150, "test_fraction": 0.0, **more}
    drive = driven(strategy, tables, **settings)
    result = drive.run()
    sites = [Rows(drive, node, preparation.unpack(result), False) for node in tables]

    def whole(w: Vector) -> tuple[float, Vector]:
        return sum(s.n * s.value(w) for s in sites), sum(s.n * s.gradient(w) for s in sites)

    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    best = minimize(whole, np.zeros(len(flat(result, False))), jac=True, method="L-BFGS-B", options=options)
    return float(np.linalg.norm(flat(result, False) - best.x))


def test_fedprox_comes_nearer_to_the_common_optimum_than_fedavg() -> None:
    assert distance("fedprox", proximal_mu=1.0) < 0.7 * distance("fedavg")


def test_scaffold_ends_at_the_common_optimum_where_fedavg_does_not() -> None:
    assert distance("fedavg") > 0.1
    assert distance("scaffold") < 1e-3


# ---------------------------------------------------------------- SCAFFOLD's memory


def test_scaffolds_control_variate_is_the_mean_of_the_sites() -> None:
    drive = driven("scaffold", shares(toy(200), 120, 60, 20))
    drive.run()
    state = drive.states[-2]  # before the last evaluation
    kept = {n: site.memory["local step"][ROUNDS]["control"] for n, site in drive.sites.items()}
    rows = [90, 45, 15]
    for name in ("coef", "intercept"):
        mean = np.average([kept[n][name] for n in sorted(kept)], axis=0, weights=rows)
        np.testing.assert_allclose(state.arrays[f"server.control.{name}"], mean, atol=1e-12)


def test_scaffold_of_a_sample_counts_those_that_answered_by_their_share() -> None:
    """c ← c + S/N · mean of (c_k⁺ - c_k); who was not asked keeps its c_k, and w is the mean over those asked."""
    tables = shares(toy(200), 120, 60, 20)
    asked = {0: ["site-0", "site-2"], 1: ["site-1"], 2: ["site-0", "site-1", "site-2"], 3: ["site-2"]}
    drive = driven("scaffold", tables, fraction=0.5, test_fraction=0.0)
    drive.draw = lambda step: asked[len([label for label in drive.labels if label == "train"])]
    result = drive.run()
    prepared = preparation.unpack(result)
    sites = {node: Rows(drive, node, prepared, False) for node in tables}
    w, c = np.zeros(len(flat(result, False))), 0.0
    own = {node: np.zeros_like(w) for node in tables}
    for r in range(1, ROUNDS + 1):
        found = {n: sites[n].train(w, r, linear=c - own[n]) for n in asked[r - 1]}
        weights = {n: sites[n].n for n in found}
        c = c + sum(weights[n] * (g - own[n]) for n, (_, g) in found.items()) / 200
        own |= {n: g for n, (_, g) in found.items()}
        w = w + sum(weights[n] * (y - w) for n, (y, _) in found.items()) / sum(weights.values())
    np.testing.assert_allclose(flat(result, False), w, rtol=0, atol=1e-12)


def test_a_site_that_lost_its_memory_says_so_and_all_begin_anew() -> None:
    """After the loss the run is one that begins with FedAvg's step: nothing of the lost variate stays in c."""
    tables = shares(toy(200), 120, 60, 20)

    drive = driven("scaffold", tables, num_rounds=6)
    answer = drive.algorithm.answer

    def losing(site: Site, ask: Record) -> Any:
        if ask.data["of"].get("phase") == "train" and ask.data["of"]["round"] == 3 and site.node == "site-1":
            site.memory.clear()
        return answer(site, ask)

    drive.algorithm.answer = losing  # type: ignore[method-assign]
    drive.run()
    assert [r.get("lost") for r in drive.records if "evaluated_round" in r or r.get("lost")][2] == ["site-1"]
    assert sum("lost" in r for r in drive.records) == 1
    after = drive.states[5]  # three of the preparation, then rounds 1, 2, 3
    assert not after.arrays["server.control.coef"].any()
    state = drive.states[-2]
    kept = [drive.sites[n].memory["local step"][6]["control"]["coef"] for n in sorted(drive.sites)]
    np.testing.assert_allclose(state.arrays["server.control.coef"], np.average(kept, axis=0, weights=[90, 45, 15]))


def test_an_answer_that_was_not_counted_is_not_in_a_sites_memory_either() -> None:
    """site-1's contribution of round 2 is refused: it goes on from what it kept in round 1."""

    def spoil(node: str, label: str, body: Record) -> Record:
        if label != "train" or node != "site-1" or len(drive.records) != 4:
            return body
        return Record(body.data, {n: np.full_like(a, np.nan) if n[:2] == "a." else a for n, a in body.arrays.items()})

    tables = shares(toy(200), 120, 60, 20)
    drive = driven("scaffold", tables, num_rounds=4)
    drive.spoil = spoil
    drive.run()
    assert "NaN" in drive.failures[4]["site-1"]
    assert not any("lost" in r for r in drive.records)
    state, kept = drive.states[-2], [s.memory["local step"][4]["control"]["coef"] for s in drive.sites.values()]
    np.testing.assert_allclose(state.arrays["server.control.coef"], np.average(kept, axis=0, weights=[90, 45, 15]))


def test_forgetful_sites_train_as_fedavg_does_and_say_so() -> None:
    tables = shares(toy(200), 120, 60, 20)
    drive = driven("scaffold", tables)
    drive.forgetful = True
    result = drive.run()
    assert np.isfinite(result.arrays["model.coef"]).all()
    assert [r["lost"] for r in drive.records if "lost" in r] == [["site-0", "site-1", "site-2"]] * 2


# ---------------------------------------------------------------- attacks on robust aggregation

ATTACKS: dict[str, Callable[[Any], Any]] = {
    "sign flips": lambda a: -5 * a,
    "scaling": lambda a: 1000 * a,
    "NaN": lambda a: np.full_like(a, np.nan),
    "largest": lambda a: np.full_like(a, 1e300),
}


def attacked(strategy: str, attack: str, **more: Any) -> float:
    """The loss with two of ten sites lying, over that of the honest ones."""

    def spoil(node: str, label: str, body: Record) -> Record:
        if label != "train" or node not in ("site-3", "site-7"):
            return body
        return Record(body.data, {n: ATTACKS[attack](a) if n[:2] == "a." else a for n, a in body.arrays.items()})

    tables = shares(toy(800, seed=3), *[80] * 10)
    losses = []
    for lie in (None, spoil):
        drive = driven(strategy, tables, num_rounds=8, **more)
        drive.spoil = lie
        losses.append(drive.run().data["history"][-1]["loss"])
    return float(losses[1] / losses[0])


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("strategy", ["median", "trimmed_mean", "norm_bound"])
def test_two_lying_sites_of_ten_change_little(strategy: str, attack: str) -> None:
    assert attacked(strategy, attack) < 1.1


@pytest.mark.parametrize("attack", ["sign flips", "scaling"])
def test_the_attacks_do_break_an_average(attack: str) -> None:
    assert attacked("fedavg", attack) > 1.2


def test_a_weight_does_not_count_where_sites_count_once() -> None:
    def heavy(node: str, label: str, body: Record) -> Record:
        return Record({**body.data, "weight": 1e9} if label == "train" and node == "site-0" else body.data, body.arrays)

    tables = shares(toy(200), 50, 50, 50, 50)
    for strategy in ("median", "trimmed_mean"):
        plain, lied = driven(strategy, tables), driven(strategy, tables)
        lied.spoil = heavy
        np.testing.assert_array_equal(flat(plain.run(), False), flat(lied.run(), False))


def test_robust_strategies_read_spooled_contributions_block_by_block() -> None:
    """Of twenty changes of 8 MB no more than a block each is in memory at a time."""
    size, sites, whole = 1_000_000, 20, [0]

    class Counted(Memory):
        def read(self, offset: int, nbytes: int) -> memoryview:
            whole[0] += nbytes > 1 << 20
            return super().read(offset, nbytes)

    found = []
    for number in range(sites):
        record = Record({}, {"a.change.w": np.full(size, float(number))})
        memory = Counted(size * 8)
        memory.write(0, record.arrays["a.change.w"].view(np.uint8).data)
        found.append((Answer(f"n{number}", 1.0, {}, {}, 0), Record({}, Buffered(Layout.of(record.arrays), memory))))
    gathered = Contributions(tuple(found), {}, Combine.EACH)
    for name in ("median", "trimmed_mean"):
        whole[0] = 0
        inner: Any = find("algorithms", name).ALGORITHM.inner
        together = inner.aggregation.together(gathered, {"trimmed_share": 0.2})
        assert (together["change.w"] == 9.5).all()
        assert whole[0] <= 1  # of the first, for its shape
