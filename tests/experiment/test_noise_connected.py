"""Differential privacy through a real coordinator: statistics and a model, in each mode, and what people read of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hanse
from experiment.federation import Living, living
from experiment.test_analytics_connected import standing


def frame(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=300)
    return pd.DataFrame({"x": x, "z": rng.normal(size=300), "y": np.where(x + rng.normal(size=300) > 0, "a", "b")})


def accepting(real: Living) -> None:
    for name, hospital in real.hospitals.items():
        standing(hospital, "accept")
        real.coordinator.presence._transport.attach(name, hospital.handle)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["local", "distributed", "central"])
def test_statistics_and_a_model_with_noise(tmp_path: Path, mode: str) -> None:
    sites = {name: frame(k) for k, name in enumerate(("ulm", "bonn", "jena", "kiel"))}
    pooled = pd.concat(sites.values())
    with living(tmp_path, sites) as real:
        accepting(real)
        with hanse.connect(real.url, real.tokens["scientist"]) as federation:
            asked: dict[str, Any] = {"x": {"mean": {"range": [-4, 4]}}, "": {"count": {}}}
            mean, count = federation.analytics(tags=["demo"]).noisy(asked, epsilon=4.0, mode=mode)
            assert abs(mean["value"] - pooled["x"].mean()) < 2 * (mean["interval"][1] - mean["interval"][0])
            assert count["value"] != 1200
            assert abs(count["value"] - 1200) < 2 * (count["interval"][1] - count["interval"][0])
            experiment = federation.experiment(
                "logistic_regression",
                target="y",
                tags=["demo"],
                federated_strategy="noisy_gradients",
                sample_id_column=None,
                privacy={"mode": mode, "epsilon": 4.0, "ranges": {"*": [-3, 3]}},
                gathering="secure" if mode == "distributed" else "plain",
                rounds=15,
            )
            result = experiment.run(progress=False)
            assert result.evaluate(frame(9))["auc"] > 0.7
            assert result.privacy is not None
            assert (result.privacy.mode, result.privacy.unit, result.privacy.epsilon) == (mode, "row", 4.0)
            assert "Differentially private with epsilon 4" in repr(result)
            assert "Differentially private with epsilon 4" in result._repr_html_()
            assert result.nearness.startswith("noised")
            told = real.coordinator.store.runs.get(result.run_id)
            assert told.config["test_fraction"] == 0.0
    assert (tmp_path / "noise.key").exists() == (mode == "central")
