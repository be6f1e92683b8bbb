"""A run that ends early in a federation is what it is in a simulation; its last version is the model that was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import hanse
from experiment.federation import living
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials


def table(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, 3))
    ill = x[:, 0] + rng.normal(size=80) > 0
    return {**{f"x{i}": x[:, i] for i in range(3)}, "disease": np.where(ill, "ill", "well")}


RUN: dict[str, Any] = {
    "model": "sgd_classifier",
    "target": "disease",
    "rounds": 40,
    "sample_id_column": None,
    "learning_rate": 0.5,
    "local_epochs": 3,
    "early_stopping_rounds": 2,
    "tell_contributions": True,
    "keep_models": True,
}


def test_in_a_federation_it_ends_as_in_a_simulation(tmp_path: Path) -> None:
    sites = {"mainz": table(1), "trier": table(2)}
    with living(tmp_path, sites) as real, hanse.connect(real.url, real.tokens["scientist"]) as federation:
        experiment = federation.experiment(**RUN).propose()
        for name in real.hospitals:
            here = Connection(Credentials(real.url, real.tokens[name]))
            here.consent(experiment.run_id, name, "accept", here.session(experiment.run_id)["code_hash"])
            here.close()
        far = experiment.wait(progress=False)
        with hanse.simulate(sites) as simulated:
            near = simulated.experiment(**RUN).run(progress=False)
        best = far.record.data["round"]
        assert "the loss was least after" in far.reason
        assert best + 2 < 40
        assert best == near.record.data["round"]
        for name, array in near.record.arrays.items():
            assert array.tobytes() == far.record.arrays[name].tobytes()
        assert far.metrics == near.metrics
        assert far.metrics["loss"] == min(row["loss"] for row in far.history)
        assert {row["node"]: row["cosine"] for row in far.contributions} == {
            row["node"]: row["cosine"] for row in near.contributions
        }
        scientist = Connection(Credentials(real.url, real.tokens["scientist"]))
        last = scientist.versions(experiment.run_id)[-1]
        assert (last["round"], last["metrics"]["loss"]) == (best, far.metrics["loss"])
        told = scientist.analytics(experiment.run_id)["client_performance"]
        assert {"cosine", "left_out"} <= set(next(iter(told.values())))
        scientist.close()


def test_what_is_told_of_boosted_trees_everywhere_is_the_same(tmp_path: Path) -> None:
    """Of trees that ended early the last version had the loss of the last ones that were grown, or none where steps
    came after it, and the run had come one round less far than it had."""
    sites = {"mainz": table(1), "trier": table(2)}
    given = {"model": "xgboost", "target": "disease", "sample_id_column": None}
    with living(tmp_path, sites) as real, hanse.connect(real.url, real.tokens["scientist"]) as federation:
        scientist = Connection(Credentials(real.url, real.tokens["scientist"]))
        for more, early in (
            ({"rounds": 30, "early_stopping_rounds": 2}, True),
            ({"rounds": 3, "shap_rows": None}, False),
        ):
            experiment = federation.experiment(**given, **more).propose()
            for name in real.hospitals:
                here = Connection(Credentials(real.url, real.tokens[name]))
                here.consent(experiment.run_id, name, "accept", here.session(experiment.run_id)["code_hash"])
                here.close()
            result = experiment.wait(progress=False)
            round, grown = result.record.data["round"], max(step.round or 0 for step in result.rounds)
            assert (round < grown) is early
            last = scientist.versions(experiment.run_id)[-1]
            assert (last["round"], last["metrics"]["loss"]) == (round, result.metrics["loss"])
            assert scientist.session(experiment.run_id)["current_round"] == grown
        scientist.close()
