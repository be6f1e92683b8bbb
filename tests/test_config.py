"""A run's configuration: mllabiome's names and defaults, strict, and the same when it is read again."""

from __future__ import annotations

import json

import pytest

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
        ({"epsilon": 1}, "there is no setting 'epsilon'"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RunConfig.parse(given)


def test_a_configuration_is_an_object() -> None:
    with pytest.raises(ConfigError, match="not list"):
        RunConfig.parse([])  # type: ignore[arg-type]
