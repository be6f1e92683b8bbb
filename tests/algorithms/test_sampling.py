"""Training asks a sample; what the sites agree on, and what the model is measured on, is everybody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drive import Drive, same, shares, toy

import hanse
from hanse.errors import ConfigError
from hanse.learning import rows as preparation
from hanse.messages import Record

HALF = {"fraction": 0.5, "sample_id_column": None, "target": "y"}
MODELS = [("sgd_classifier", {}), ("xgboost_bagging", {"max_depth": 2}), ("random_forest", {"n_estimators": 8})]


def unequal() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found = {}
    for name, n in {"a": 1000, "b": 20, "c": 1000, "d": 20}.items():
        x = rng.normal(size=n)
        found[name] = {"x": x, "y": np.where(x + rng.normal(size=n) > 0, "ill", "well").tolist()}
    return found


def pairs(step: int) -> list[str]:
    """Each training round another half of four sites."""
    return ["site-0", "site-1"] if step % 2 else ["site-2", "site-3"]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_scale_is_that_of_all_rows_whoever_is_drawn(seed: int) -> None:
    with hanse.simulate(unequal(), seed=seed) as federation:
        result = federation.experiment(model="logistic_regression", federated_strategy="fedavg", rounds=2, **HALF).run(
            progress=False
        )
    prepared = preparation.unpack(result.record)
    assert prepared.data["rows"] == 1530
    assert prepared.arrays["scale"][0] == pytest.approx(0.99, abs=0.02)
    assert result.metrics["n"] == 510
    assert result.metrics["accuracy"] > 0.7


@pytest.mark.parametrize(("model", "options"), MODELS)
def test_everybody_measures_now_and_then_and_at_the_end(model: str, options: Any) -> None:
    tables = shares(toy(240), 90, 60, 60, 30)
    drive = Drive(
        tables, draw=pairs, model_name=model, model_options=options, num_rounds=5, fraction=0.5, evaluate_every=2
    )
    result = drive.run()
    training = drive.labels[drive.labels.index("train") :]
    assert training == ["train", "train", "evaluate", "train", "train", "evaluate", "train", "evaluate"]
    history = result.data["history"]
    assert [entry["round"] for entry in history] == [0, 1, 2, 3, 4, 5]
    assert [entry.get("sites", {}).get("answered") for entry in history] == [2, 2, None, 2, None, None]
    assert history[0]["sites"]["of"] == 4
    assert [entry["n"] for entry in history if "sites" not in entry] == [61, 61, 61]
    whole = [entry for entry in history if "sites" not in entry]
    assert result.data["best"] == min(whole, key=lambda entry: entry["loss"])["round"]
    # after everybody measured it, the sample does not measure the same model again
    again = drive.labels.index("evaluate") + 1
    assert set(drive.contributions[again]) == set(pairs(again))
    assert not any(
        name.startswith("s.totals") for name in drive.contributions[again]["site-0" if again % 2 else "site-2"].arrays
    )
    assert "loss" not in drive.records[again]


def test_with_none_between_the_last_model_is_measured_on_everybody() -> None:
    drive = Drive(
        shares(toy(240), 90, 60, 60, 30),
        draw=pairs,
        model_name="sgd_classifier",
        num_rounds=3,
        fraction=0.5,
        evaluate_every=0,
    )
    result = drive.run()
    assert drive.labels[3:] == ["train", "train", "train", "evaluate"]
    assert result.data["best"] == 3  # the others rest on other sites


def test_a_site_that_is_lost_is_missed_in_the_number_and_best_compares_like_with_like() -> None:
    drive = Drive(
        shares(toy(240), 90, 60, 60, 30),
        there=lambda node, step: not (node == "site-3" and step >= 5),
        model_name="sgd_classifier",
        num_rounds=4,
    )
    history = drive.run().data["history"]
    assert [entry.get("sites", {}).get("answered") for entry in history] == [None, None, 3, 3, 3]
    assert (
        drive.algorithm.result(drive.state).data["best"] == min(history[2:], key=lambda entry: entry["loss"])["round"]
    )


@pytest.mark.parametrize(("model", "options"), MODELS)
def test_a_sampled_run_goes_on_from_any_checkpoint_with_the_same_bytes(model: str, options: Any) -> None:
    def drive(start: Record | None = None, before: int = 0) -> Drive:
        made = Drive(
            shares(toy(240), 90, 60, 60, 30),
            draw=lambda step: pairs(step + before),
            model_name=model,
            model_options=options,
            num_rounds=4,
            fraction=0.5,
            evaluate_every=2,
        )
        if start is not None:
            made.algorithm.init = lambda config, previous=None: start  # type: ignore[method-assign]
        return made

    first = drive()
    expected = first.run()
    for step, state in enumerate(first.states):
        assert same(drive(state, step + 1).run(), expected), f"from step {step}"


def test_a_selection_that_is_unknown_or_does_not_fit_is_refused_at_the_proposal() -> None:
    with hanse.simulate(unequal()) as federation:
        for more, says in [
            ({"selection": "reputation"}, "there is no 'reputation' in selection"),
            ({"selection": "reputation", "fraction": 1.0}, "there is no 'reputation' in selection"),
            ({"selection": "highest_loss", "fraction": 1.0}, "fraction is 1"),
            ({"selection": "highest_loss", "test_fraction": 0.0}, "no node knows its loss"),
        ]:
            with pytest.raises(ConfigError, match=says):
                federation.experiment(
                    model="logistic_regression", federated_strategy="fedavg", rounds=1, **{**HALF, **more}
                ).run(progress=False)


def test_a_selection_by_loss_asks_where_the_model_is_worst() -> None:
    rng = np.random.default_rng(1)
    sites = unequal()
    for name in ("c", "d"):  # labels by lot: nothing can be learned there
        sites[name]["y"] = rng.choice(["ill", "well"], len(sites[name]["y"])).tolist()
    with hanse.simulate(sites) as federation:
        result = federation.experiment(
            model="logistic_regression",
            federated_strategy="fedavg",
            rounds=12,
            selection="highest_loss",
            evaluate_every=1,
            **HALF,
        ).run(progress=False)
    trained = [step for step in result.rounds if step.label == "train"]
    assert all(step.chosen["reason"] == "2 of 4 candidates with the highest loss" for step in trained)
    assert trained[0].chosen["reasons"] == dict.fromkeys(trained[0].asked, "its loss is not known yet")
    assert [sorted(step.asked) for step in trained[2:]] == [["c", "d"]] * 10
    assert trained[-1].chosen["reasons"]["c"].startswith("loss 0.")
