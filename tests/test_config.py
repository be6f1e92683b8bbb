"""A run's configuration: mllabiome's names and defaults, strict, and the same when it is read again."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from hanse import registry
from hanse.algorithms import settled
from hanse.config import RunConfig
from hanse.errors import ConfigError


def test_the_defaults_of_the_session_configuration() -> None:
    """M52 to M59, with task_type settled from the labels (M53) and a named strategy (M58)."""
    config = RunConfig()
    assert (config.model_name, config.num_rounds, config.target_column) == ("xgboost", 10, "disease")
    assert (config.feature_strategy, config.sample_id_column, config.auto_start) == ("intersection", "Sample", True)


def test_the_documents_example_is_accepted() -> None:
    example = {
        "model_name": "random_forest",
        "task_type": "binary",
        "num_rounds": 10,
        "target_column": "disease",
        "feature_strategy": "union",
        "sample_id_column": "Sample",
        "federated_strategy": "model_aggregation",
        "auto_start": True,
    }
    assert RunConfig.parse(example).task_type == "binary"


@pytest.mark.parametrize("given", [{}, {"min_completed": 3}, {"tags": ["a"], "features": ["x"], "fraction": 0.5}])
def test_reading_what_was_written_changes_nothing(given: dict[str, object]) -> None:
    config = RunConfig.parse(given)
    assert RunConfig.parse(json.loads(json.dumps(config.to_json()))) == config


def test_at_least_as_many_are_asked_as_must_answer() -> None:
    assert RunConfig.parse({"min_completed": 3}).min_fit_nodes == 3
    with pytest.raises(ConfigError, match="more than min_fit_nodes"):
        RunConfig.parse({"min_completed": 3, "min_fit_nodes": 2})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_rounds": 0}, "num_rounds is 0; expected a whole number from 1"),
        ({"num_rounds": 2.5}, "whole number"),
        ({"num_rounds": True}, "whole number"),
        ({"fraction": 0}, "above 0"),
        ({"fraction": float("nan")}, "number"),
        ({"round_timeout_s": float("inf")}, "number"),
        ({"auto_start": "true"}, "true or false"),
        ({"feature_strategy": "both"}, "one of intersection, union"),
        ({"target_column": " "}, "text"),
        ({"tags": ["a", "a"]}, "distinct"),
        ({"tags": "heart"}, "list"),
        ({"model_options": []}, "object"),
        ({"sample_id_column": 3}, "or null"),
        ({"features": ["disease"]}, "cannot also be a feature"),
        ({"union_fill": "zero"}, "under intersection no site lacks a feature"),
        ({"epsilon": 1}, "there is no setting 'epsilon'"),
        ({"model_name": "ridge", "C": 1}, "there is no setting 'C'"),
        ({"model_name": "logistic_regression", "C": 1}, "an option of logistic_regression: model_options={'C': ...}"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RunConfig.parse(given)


def test_a_configuration_is_an_object() -> None:
    with pytest.raises(ConfigError, match="not list"):
        RunConfig.parse([])  # type: ignore[arg-type]


# ---------------------------------------------------------------- composed of what the run uses


def settle(**given: object) -> RunConfig:
    return settled(RunConfig.parse(given))


def test_the_settings_of_a_run_are_those_of_its_ingredients() -> None:
    averaged = settle(model_name="sgd_classifier", local_epochs=3)
    assert averaged.to_json()["local_epochs"] == 3
    assert averaged.to_json()["server_learning_rate"] == 1.0
    assert "server_learning_rate" not in settle(model_name="xgboost").to_json()
    assert "local_epochs" not in settle(model_name="random_forest").to_json()
    assert settled(averaged) == averaged
    assert RunConfig.parse(json.loads(json.dumps(averaged.to_json()))) == averaged


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model_name": "random_forest", "local_epochs": 3}, "local_epochs is a setting of .*fedavg.*leave .* out"),
        ({"model_name": "xgboost", "batch_size": 3}, "batch_size is a setting of .*it uses boosting"),
        ({"model_name": "sgd_classifier", "local_epochs": 0}, "local_epochs is 0; expected a whole number"),
        ({"model_name": "logistic_regression", "model_options": {"C": -1}}, "C of logistic_regression is -1; expected"),
        ({"model_name": "sgd_classifier", "model_options": {"penalty": "l3"}}, "penalty of sgd_classifier is 'l3'"),
        ({"model_name": "xgboost", "model_options": {"depth": 3}}, "no setting 'depth' of xgboost; did you mean"),
        ({"selection": "perfection"}, "there is no 'perfection' in selection; known are .*uniform"),
        ({"federated_strategy": "fedavgg"}, "there is no 'fedavgg' in algorithms"),
    ],
)
def test_what_does_not_fit_the_run_is_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settle(**given)


SITE = """
import json, sys
from hanse.config import RunConfig
config = RunConfig.parse(json.loads(sys.argv[1]))
print(json.dumps(config.to_json()))
print(*(name for name in sys.modules if name.startswith(("hanse.algorithms.", "hanse.selection.", "hanse.measures."))))
"""


def test_a_site_loads_the_ingredients_of_its_run_and_no_others() -> None:
    """It loaded every one of them with what they are made of, 240 modules, to know the names of their settings."""
    config = settle(
        model_name="logistic_regression", federated_strategy="fedprox", measures=["groups"], group_by={"sex": []}
    ).to_json()
    done = subprocess.run([sys.executable, "-c", SITE, json.dumps(config)], capture_output=True, text=True, check=True)
    parsed, loaded = done.stdout.splitlines()
    assert json.loads(parsed) == config
    kinds = {name for name in loaded.split() if not name.rpartition(".")[2].startswith("_")}
    assert kinds == {"hanse.algorithms.fedprox", "hanse.selection.uniform", "hanse.measures.groups"}


def test_only_what_was_set_is_sent() -> None:
    config = RunConfig.parse({"model_name": "xgboost", "seed": 0, "learning_rate": 0.1})
    assert config.to_send() == {"model_name": "xgboost", "seed": 0, "learning_rate": 0.1}
    assert dataclasses.replace(config, keep_models=True).to_send()["keep_models"] is True


def test_a_run_of_another_release_can_be_read() -> None:
    raw = {**settle(model_name="logistic_regression").to_json(), "mu_of_2029": 0.1, "of_2030": {"a": 1}}
    config = RunConfig.read(raw)
    assert config.to_json() == raw
    assert config.ingredient_settings["mu_of_2029"] == 0.1
    with pytest.raises(ConfigError, match="no setting .mu_of_2029"):
        RunConfig.parse(raw)


def test_every_setting_says_what_it_is() -> None:
    described = [*RunConfig.describe()]
    for folder in RunConfig.folders():
        described += [one for found in registry.describe(folder).values() for one in found["settings"]]
    assert len(described) > 60
    for setting in described:
        assert setting["help"], setting["name"]
        assert setting["schema"], setting["name"]
        json.dumps(setting, allow_nan=False)
