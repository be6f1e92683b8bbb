"""Distributed differential privacy at real nodes, over gRPC with TLS: parts of one noise inside the secure sum."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hanse as api
from demo.federation import Federation, hanse
from hanse import noised
from hanse.privacy import concentrated
from hanse.privacy.release import deviation_of, grid_of

from .harness import join, rounds, table

NODES, BINS = 4, 4000


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("noise") / "f") as federation:
        join(federation, NODES, allow_federated_analytics="true", require_secure_aggregation="true")
        yield federation


def spent(federation: Federation, node: str, run: str) -> float:
    """Epsilon of a run, as its owner reads it: the book has whole multiples of 2⁻⁶⁰ of ρ."""
    told = json.loads(hanse("node", "budget", "--json", "--home", str(federation.home / node)))
    years = [entry["spent"] for entry in told if entry["ledger"] == "privacy"]
    units = [runs[run] for year in years for people in year.values() for runs in people.values() if run in runs]
    return concentrated.epsilon_of(sum(units) / 2**60, 1e-5)


def added_up(federation: Federation, run: str, epsilon: float) -> list[dict[str, Any]]:
    """The steps of a run that are sums, each of all nodes and with nothing of a single one; and each booked epsilon."""
    added = [step for step in rounds(federation, run) if step["gathered"]]
    for step in added:
        assert (step["gathered"]["by"], step["gathered"]["of"]) == ("secure", NODES)
        assert all(part["weight"] is None and not part["metrics"] for part in step["participants"].values())
    for node in federation.nodes:
        assert spent(federation, node, run) == pytest.approx(epsilon, rel=1e-6)
    return added


def values(federation: Federation, column: str) -> list[float]:
    found: list[float] = []
    for node in sorted(federation.nodes):
        with (federation.home / f"{node}.csv").open() as file:
            found += [float(row[column]) for row in csv.DictReader(file)]
    return found


def test_the_noise_in_the_sum_is_what_was_promised_and_each_node_adds_less(four: Federation) -> None:
    """A histogram of many bins has as many draws of the noise, once what is known is taken off."""
    token = four.account("statistician", "data_scientist")
    exact, _ = np.histogram(np.clip(values(four, "a"), -3, 3), BINS, (-3, 3))
    with api.connect(four.url, token) as federation:
        asked = {"a": {"histogram": {"range": [-3, 3], "bins": BINS}}}
        [found] = answers = federation.analytics().noisy(asked, epsilon=2.0, mode="distributed")
    promised = answers.guarantee
    assert (promised.mode, promised.sharing, len(answers.nodes)) == ("distributed", 2, NODES)  # 3 of 4, 1 may collude
    noise = np.array(found["value"]) - exact
    entry = noised.entries([{"stat": "histogram", "column": "a", "range": [-3, 3], "bins": BINS}])
    one = deviation_of(promised, noised.sensitivity(entry), BINS)
    whole = promised.multiplier  # what is enough for all of them together, of which each adds a part
    assert one == pytest.approx(whole / 2**0.5, rel=1e-2)
    assert noise.std() == pytest.approx(one * NODES**0.5, rel=7 / (2 * BINS) ** 0.5)  # seven deviations of it
    assert abs(noise.mean()) < 7 * one * NODES**0.5 / BINS**0.5
    grid = grid_of(promised, noised.sensitivity(entry))
    assert (np.array(found["value"]) % grid == 0).all()


def test_a_model_is_learned_so_and_booked_at_every_node(four: Federation, tmp_path: Path) -> None:
    with api.connect(four.url, four.account("modeller", "data_scientist")) as federation:
        result = federation.experiment(
            "logistic_regression",
            target="y",
            federated_strategy="noisy_gradients",
            gathering="secure",
            sample_id_column=None,
            privacy={"mode": "distributed", "epsilon": 4.0, "ranges": {"*": [-3, 3]}},
            rounds=12,
        ).run(progress=False)
        held_out = pd.read_csv(table(tmp_path / "other.csv", 2, 2000))
        assert result.evaluate(held_out)["auc"] > 0.75  # of 40 runs, the mean is 0.951 and the deviation 0.001
    added = added_up(four, result.run_id, 4.0)
    assert [step["round"] for step in added if step["label"] == "train"] == list(range(1, 13))
    for node in four.nodes:
        with sqlite3.connect(four.home / node / "sums.db") as kept:
            (sums,) = kept.execute("SELECT count(*) FROM sums WHERE step LIKE ?", (f"{result.run_id} %",)).fetchone()
        assert sums == len(added)


def test_boosted_trees_are_learned_so_over_grpc_and_booked_at_every_node(four: Federation, tmp_path: Path) -> None:
    with api.connect(four.url, four.account("forester", "data_scientist")) as federation:
        result = federation.experiment(
            "xgboost",
            target="y",
            federated_strategy="noisy_boosting",
            gathering="secure",
            sample_id_column=None,
            privacy={"mode": "distributed", "epsilon": 8.0, "ranges": {"*": [-3, 3]}},
            rounds=8,
            model_options={"max_depth": 3, "eta": 0.5},
        ).run(progress=False)
        held_out = pd.read_csv(table(tmp_path / "other.csv", 2, 2000))
        assert result.evaluate(held_out)["auc"] > 0.7  # of 14 runs, the mean is 0.903 and the deviation 0.004
    assert (result.privacy.unit, result.privacy.releases, result.privacy.sharing) == ("row", 8, 2)
    added = added_up(four, result.run_id, 8.0)
    assert len([step for step in added if step["label"] == "train"]) == 8
