"""Every strategy of averaging against a readable twin: the paper's algorithm in NumPy, on the rows of the sites.

The twins stand in ``twins.py``; strategies whose sites do not wait for each other, or keep a model of their own, have
theirs beside their own tests.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drive import Drive, same, shares, toy
from scipy.optimize import minimize
from twins import BATCH, EPOCHS, PLAN, RATE, ROUNDS, SEVEN, SIZES, TWINS, Rows, Vector

from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.messages import Record
from hanse.models import sgd_classifier
from hanse.registry import find, names
from hanse.table import Table

HERE = Path(__file__).parent
OWN = ("test_fedbuff.py", "test_personal.py", "test_adaptive_clipping.py")
ALL = sorted({case.partition(",")[0] for case in TWINS})


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
@pytest.mark.parametrize("case", TWINS)
def test_a_strategy_is_its_papers_algorithm(case: str, torch: bool) -> None:
    if torch:
        pytest.importorskip("torch")
    (twin, chosen), sizes = TWINS[case], SEVEN if case == "bulyan" else SIZES
    strategy = case.partition(",")[0]
    drive = driven(strategy, shares(toy(sum(sizes)), *sizes), torch, **chosen)
    result = drive.run()
    prepared = preparation.unpack(result)
    sites = [Rows(drive, node, prepared, torch) for node in sorted(drive.tables)]
    expected = twin([s for s in sites if s.n], len(flat(result, torch)), chosen)
    np.testing.assert_allclose(flat(result, torch), expected, rtol=0, atol=1e-12)
    assert result.data["algorithm"] == strategy


@pytest.mark.parametrize(("decay", "rates"), [(1.0, [0.3] * 3), (0.5, [0.3, 0.15, 0.075])])
def test_the_rate_falls_from_round_to_round_as_was_agreed(
    decay: float, rates: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    real = sgd_classifier.SGDClassifier.train

    def noted(*given: Any) -> Any:
        seen.append(given[-1].learning_rate)
        return real(*given)

    monkeypatch.setattr(sgd_classifier.SGDClassifier, "train", noted)
    settings = {"num_rounds": 3, "learning_rate": 0.3, "learning_rate_decay": decay, "model_name": "sgd_classifier"}
    Drive(shares(toy(60), 40, 20), federated_strategy="fedavg", **settings).run()
    assert seen == [rate for rate in rates for _ in range(2)]


def test_every_strategy_has_a_twin() -> None:
    averaged = {n for n in names("algorithms") if getattr(find("algorithms", n), "TAKES", "") == "parameters"}
    elsewhere = {name for name in averaged for file in OWN if f"def {name}(" in (HERE / file).read_text()}
    assert averaged == {*ALL, *elsewhere}


@pytest.mark.parametrize("strategy", ALL)
def test_a_run_has_the_same_bytes_for_every_order_of_arrival(strategy: str) -> None:
    tables = shares(toy(200), 60, 50, 30, 20, 15, 15, 10, 0)
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
    settings = {"local_epochs": 5, "num_rounds": 60, "test_fraction": 0.0, **more}
    drive = driven(strategy, tables, **settings)
    result = drive.run()
    sites = [Rows(drive, node, preparation.unpack(result), False) for node in tables]

    def whole(w: Vector) -> tuple[float, Vector]:
        return sum(s.n * s.value(w) for s in sites), sum(s.n * s.gradient(w) for s in sites)

    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    best = minimize(whole, np.zeros(len(flat(result, False))), jac=True, method="L-BFGS-B", options=options)
    return float(np.linalg.norm(flat(result, False) - best.x))


def test_fedprox_comes_nearer_to_the_common_optimum_than_fedavg() -> None:
    assert distance("fedprox", proximal_mu=0.3) < 0.7 * distance("fedavg")


def test_scaffold_ends_at_the_common_optimum_where_fedavg_does_not() -> None:
    assert distance("fedavg") > 0.1
    assert distance("scaffold") < 1e-3


def test_fednova_is_near_the_common_optimum_where_a_large_site_wins_fedavg_by_its_steps() -> None:
    """100 rows, nine of ten of them ill, and 300, nine of ten well: three times the rows, and three times the steps."""

    def excess(strategy: str) -> float:
        chosen = {"model_name": "sgd_classifier", "num_rounds": 120, "local_epochs": 2, "batch_size": 10}
        drive = driven(strategy, unequal(), learning_rate=0.02, test_fraction=0.0, **chosen)
        result = drive.run()
        parts = [preparation.rows(site, preparation.unpack(result)) for site in drive.sites.values()]
        X, y = (np.concatenate([getattr(part, name) for part in parts]) for name in ("X", "y"))

        def whole(w: Vector) -> float:
            z = X @ w[:-1] + w[-1]
            return float((np.logaddexp(0, z) - y * z).mean())

        return whole(flat(result, False)) - minimize(whole, np.zeros(X.shape[1] + 1)).fun

    assert excess("fednova") < 0.3 * excess("fedavg")


def unequal() -> dict[str, Table]:
    table = toy(1200)
    ill = np.array([label == "ill" for label in table["y"].labels()])
    sick, well = np.flatnonzero(ill), np.flatnonzero(~ill)
    small, large = [sick[:90], well[:10]], [sick[90:120], well[10:280]]
    return {"a": table.take(np.concatenate(small)), "b": table.take(np.concatenate(large))}


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
