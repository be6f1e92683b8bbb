"""Strategies that keep a model, or a part of one, at each site: FedPer, FedRep, Ditto, against twins in NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drive import Drive, shares, toy
from scipy.optimize import minimize
from test_strategies import driven, flat
from twins import EPOCHS, ROUNDS, Rows, Vector, averaged

import hanse
from hanse.algorithms import nearness
from hanse.errors import ConfigError, NodeFailed, NotFound
from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.learning.averaging import Question, State
from hanse.learning.local import Said, Visit
from hanse.messages import Record
from hanse.prediction import Predictor, native_model
from hanse.registry import find, names
from hanse.table import Table
from hanse.training import Learned
from hanse.typed import Typed

SIZES = (120, 60, 40)
OWN = {"own_layers": ["intercept"]}


def free(site: Rows, w: Vector, moves: Vector, epochs: int = EPOCHS, mu: float = 0.0, anchor: Vector = 0.0) -> Vector:
    """w after L-BFGS over the coordinates that move, with μ/2 |w - anchor|² in the objective."""

    def whole(v: Vector) -> tuple[float, Vector]:
        off = v - anchor
        return site.value(v) + mu / 2 * (off**2).sum(), np.where(moves, site.gradient(v) + mu * off, 0.0)

    return minimize(whole, w, jac=True, method="L-BFGS-B", options={"maxiter": epochs}).x


def masks(size: int) -> tuple[Vector, Vector]:
    own = np.arange(size) == size - 1  # the intercept
    return own, ~own


def fedper(sites: list[Rows], size: int, chosen: dict[str, Any]) -> tuple[Vector, list[Vector]]:
    own, shared = masks(size)
    w, heads = np.zeros(size), [np.zeros(size) for _ in sites]
    for _ in range(ROUNDS):
        ends = [free(s, np.where(own, v, w), own | shared) for s, v in zip(sites, heads, strict=True)]
        w = np.where(shared, averaged(sites, ends), 0.0)
        heads = ends
    return w, [np.where(own, v, w) for v in heads]


def fedrep(sites: list[Rows], size: int, chosen: dict[str, Any]) -> tuple[Vector, list[Vector]]:
    own, shared = masks(size)
    w, heads = np.zeros(size), [np.zeros(size) for _ in sites]
    for _ in range(ROUNDS):
        first = [free(s, np.where(own, v, w), own, chosen["own_epochs"]) for s, v in zip(sites, heads, strict=True)]
        ends = [free(s, v, shared) for s, v in zip(sites, first, strict=True)]
        w = np.where(shared, averaged(sites, ends), 0.0)
        heads = first
    return w, [np.where(own, v, w) for v in heads]


def ditto(sites: list[Rows], size: int, chosen: dict[str, Any]) -> tuple[Vector, list[Vector]]:
    every, strength = np.ones(size, bool), chosen["ditto_lambda"]
    w, own = np.zeros(size), [np.zeros(size) for _ in sites]
    for _ in range(ROUNDS):
        own = [free(s, v, every, mu=strength, anchor=w) for s, v in zip(sites, own, strict=True)]
        w = averaged(sites, [free(s, w, every) for s in sites])
    return w, own


TWINS: dict[str, tuple[Any, dict[str, Any]]] = {
    "fedper": (fedper, OWN),
    "fedrep": (fedrep, {**OWN, "own_epochs": 3}),
    "ditto": (ditto, {"ditto_lambda": 0.7}),
}


def at_site(drive: Drive, node: str, result: Record) -> Vector:
    """The model that a site has in the end."""
    own = drive.sites[node].memory["local step"][ROUNDS]["own"]
    return np.concatenate([np.ravel(own.get(n, result.arrays[f"model.{n}"])) for n in ("coef", "intercept")])


@pytest.mark.parametrize("strategy", TWINS)
def test_a_personal_strategy_is_its_papers_algorithm(strategy: str) -> None:
    twin, chosen = TWINS[strategy]
    drive = driven(strategy, shares(toy(sum(SIZES)), *SIZES), **chosen)
    result = drive.run()
    prepared = preparation.unpack(result)
    sites = [Rows(drive, node, prepared, False) for node in sorted(drive.tables)]
    common, own = twin(sites, len(flat(result, False)), chosen)
    np.testing.assert_allclose(flat(result, False), common, rtol=0, atol=1e-12)
    for site, expected in zip(sites, own, strict=True):
        found = at_site(drive, site.site.node, result)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        # what was measured in the end is the site's own model on the rows that it held out
        rows = preparation.rows(site.site, prepared)
        z = rows.X[rows.test] @ expected[:-1] + expected[-1]
        loss = (np.logaddexp(0, z) - rows.y[rows.test] * z).mean()
        told = drive.contributions[-1][site.site.node].data["metrics"]["loss"]
        assert told == pytest.approx(loss, abs=1e-9)
    assert nearness(strategy).startswith("personal: ")


@pytest.mark.parametrize("strategy", ["fedper", "fedrep"])
def test_own_layers_never_leave_a_site(strategy: str) -> None:
    drive = driven(strategy, shares(toy(sum(SIZES)), *SIZES), **OWN)
    result = drive.run()
    sent = [body for step in drive.contributions for body in step.values() if "a.change.intercept" in body.arrays]
    assert len(sent) == ROUNDS * len(SIZES)
    assert not any(body.arrays["a.change.intercept"].any() for body in sent)
    for body in sent:  # nor does a number that is made of them
        left = float(np.linalg.norm(body.arrays["a.change.coef"]))
        assert body.data["metrics"]["update_norm"] == pytest.approx(left, rel=1e-12)
    assert len({float(at_site(drive, node, result)[-1]) for node in drive.tables}) == len(SIZES)
    for use in (Predictor, native_model):
        with pytest.raises(NotFound, match="intercept of this model stand at each site"):
            use(result)


def test_a_site_that_lost_its_own_layers_begins_them_anew_and_no_other_does() -> None:
    drive = driven("fedper", shares(toy(sum(SIZES)), *SIZES), num_rounds=6, **OWN)
    answer, seen = drive.algorithm.answer, []

    def losing(site: Site, ask: Record) -> Any:
        asked = ask.data["of"]
        if asked.get("phase") == "train" and asked["round"] == 4:
            if site.node == "site-1":
                site.memory.clear()
            seen.append((site.node, dict(site.memory.get("local step", {}))))
        return answer(site, ask)

    drive.algorithm.answer = losing  # type: ignore[method-assign]
    drive.run()
    assert [r["lost"] for r in drive.records if "lost" in r] == [["site-1"]]
    assert {node: sorted(kept) for node, kept in seen} == {"site-0": [2, 3], "site-1": [], "site-2": [2, 3]}
    assert all(sorted(site.memory["local step"]) == [5, 6] for site in drive.sites.values())


def test_a_site_that_lost_its_own_layers_before_the_last_measurement_is_named() -> None:
    drive = driven("fedper", shares(toy(sum(SIZES)), *SIZES), **OWN)
    answer = drive.algorithm.answer

    def losing(site: Site, ask: Record) -> Any:
        if ask.data["of"].get("phase") == "evaluate" and site.node == "site-1":
            site.memory.clear()
        return answer(site, ask)

    drive.algorithm.answer = losing  # type: ignore[method-assign]
    drive.run()
    assert [r.get("lost") for r in drive.records if "lost" in r or "evaluated_round" in r][-1] == ["site-1"]


def test_a_model_of_ones_own_that_leaves_the_range_of_numbers_is_not_kept() -> None:
    def diverging(visit: Visit, learned: Learned) -> Said:
        return Said(kept={"own": {name: np.full_like(a, np.nan) for name, a in learned.parameters.items()}})

    drive = driven("ditto", shares(toy(sum(SIZES)), *SIZES), num_rounds=2)
    inner = find("algorithms", "ditto").ALGORITHM.inner
    own = replace(inner, local=replace(inner.local, told=diverging))
    site = Site("site-0", drive.tables["site-0"], drive.config.to_json())
    ask = None
    answer = drive.algorithm.answer

    def seen(at: Site, asked: Record) -> Any:
        nonlocal ask
        ask = asked if asked.data["of"].get("phase") == "train" else ask
        return answer(at, asked)

    drive.algorithm.answer = seen  # type: ignore[method-assign]
    drive.run()
    assert ask is not None
    with pytest.raises(NodeFailed, match="left the range of numbers"):
        Typed(own, State, Question).answer(site, Record(ask.data["of"], ask.arrays))
    assert "local step" not in site.memory


def test_only_what_nothing_else_is_made_of_may_be_clipped() -> None:
    """What FedDyn's sites keep is made of their whole change: of clipped ones, the coordinator's sum is another."""
    may = {name: bool(getattr(find("algorithms", name).ALGORITHM, "updates", False)) for name in names("algorithms")}
    assert [n for n in ("fedavg", "fedbuff", "fedper", "fedrep", "ditto", "krum") if not may[n]] == []
    assert [n for n in ("scaffold", "fednova", "feddyn") if may[n]] == []


def opposed() -> dict[str, Table]:
    """Four sites; in two of them the same column means the opposite."""
    found = {}
    for number in range(4):
        rng = np.random.default_rng(number)
        a, b = rng.normal(size=(2, 200))
        z = (2.0 if number % 2 else -2.0) * a + b
        y = np.where(z + rng.logistic(size=200) * 0.3 > 0, "ill", "well").tolist()
        found[f"site-{number}"] = Table.of({"a": a, "b": b, "y": y})
    return found


def accuracy(strategy: str, **more: Any) -> float:
    result = driven(strategy, opposed(), num_rounds=10, **more).run()
    return float(result.data["history"][-1]["accuracy"])


def test_personal_models_serve_sites_that_contradict_each_other() -> None:
    assert accuracy("fedavg") < 0.75
    assert accuracy("ditto", ditto_lambda=0.1) > 0.85
    assert accuracy("fedper", own_layers=["coef"]) > 0.85


def test_layers_that_the_model_does_not_have_are_named() -> None:
    sites = {n: {c: t[c].values if c != "y" else t[c].labels() for c in t.names} for n, t in opposed().items()}
    given: dict[str, Any] = {"target": "y", "sample_id_column": None, "rounds": 2, "model": "mlp_classifier"}
    with hanse.simulate(sites) as federation:
        with pytest.raises(ConfigError, match="own_layers names no parameter"):
            federation.experiment(federated_strategy="fedper", **given).run(progress=False)
        for layers, says in ((["head"], "head, which fits none"), (["w0", "w1", "b0", "b1"], "all of them")):
            experiment = federation.experiment(federated_strategy="fedper", own_layers=layers, **given)
            with pytest.raises(hanse.errors.RunFailed, match=says):
                experiment.run(progress=False)
