"""What an operator wants of runs that do not say otherwise: FLOPY-NET's variables, each of its table."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hanse import algorithms, protection, transports
from hanse.config import RunConfig
from hanse.coordinator.run_defaults import VARIABLES, RunDefaults, served_at
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError

from .federation import PROBE, Federation
from .test_clients import table

DOCUMENTED = {
    "FL_SERVER_HOST": "0.0.0.0",
    "FL_SERVER_PORT": "8080",
    "MIN_CLIENTS": "2",
    "MAX_ROUNDS": "100",
    "AGGREGATION_STRATEGY": "fedavg",
    "CLIENT_FRACTION": "0.8",
    "DIFFERENTIAL_PRIVACY": "false",
}


def test_every_variable_of_the_document_means_something() -> None:
    """F145, F146, F149 to F153."""
    found = RunDefaults.read([], DOCUMENTED)
    assert found.values == {
        "min_available_nodes": 2,
        "min_fit_nodes": 2,
        "min_completed": 2,
        "num_rounds": 100,
        "federated_strategy": "fedavg",
        "fraction": 0.8,
    }
    assert served_at(DOCUMENTED, "127.0.0.1:8000") == "0.0.0.0:8080"
    assert served_at({"FL_SERVER_HOST": "::1"}, "127.0.0.1:8000") == "[::1]:8000"
    assert RunDefaults.read([], {name: " " for name in (*VARIABLES, "DIFFERENTIAL_PRIVACY")}).values == {}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MIN_CLIENTS", "0"),
        ("MIN_CLIENTS", "two"),
        ("MAX_ROUNDS", "-1"),
        ("MAX_ROUNDS", "1.5"),
        ("CLIENT_FRACTION", "0"),
        ("CLIENT_FRACTION", "1.01"),
        ("CLIENT_FRACTION", "NaN"),
        ("AGGREGATION_STRATEGY", "fedsomething"),
        ("DIFFERENTIAL_PRIVACY", "perhaps"),
    ],
)
def test_what_cannot_be_honoured_is_an_error_at_the_start(variable: str, value: str) -> None:
    """F151: and it names the variable."""
    with pytest.raises(ConfigError, match=variable):
        RunDefaults.read([], {**DOCUMENTED, variable: value})


def test_false_is_false_in_every_spelling() -> None:
    """F153: the word "false" is not a true text."""
    for word in ("false", "False", "0", "no", "off", ""):
        assert RunDefaults.read([], {"DIFFERENTIAL_PRIVACY": word}).values == {}


def test_noise_is_added_where_a_run_does_not_say_otherwise_and_never_left_out() -> None:
    """F153: true; a run that cannot keep it is refused when it is proposed."""
    defaults = RunDefaults.read([], {"DIFFERENTIAL_PRIVACY": "true"})
    settings, said = defaults.applied({"model_name": "sgd_classifier"})
    assert (settings["privacy"], settings["test_fraction"], said) == ("local", 0.0, ())
    for own in ({"privacy": None}, {"privacy": {"mode": "local", "epsilon": 3.0}}):
        assert defaults.applied({"model_name": "sgd_classifier", **own})[0]["privacy"] == own["privacy"]
    held_out, _ = defaults.applied({"model_name": "sgd_classifier", "test_fraction": 0.25})
    assert (held_out["privacy"], held_out["test_fraction"]) == ("local", 0.25)
    with pytest.raises(ConfigError, match="differentially private"):
        protection.of(algorithms.settled(RunConfig.parse(held_out)), 3)
    trees, _ = defaults.applied({"model_name": "random_forest"})
    with pytest.raises(ConfigError, match="differentially private"):
        protection.of(algorithms.settled(RunConfig.parse(trees)), 3)


def test_an_option_counts_more_than_a_variable_and_the_run_most() -> None:
    defaults = RunDefaults.read(["fraction=0.5", "local_epochs=5", "min_completed=1"], DOCUMENTED)
    model = {"model_name": "logistic_regression", "target_column": "disease"}
    settings, said = defaults.applied({**model, "num_rounds": 3})
    assert (settings["fraction"], settings["local_epochs"], settings["num_rounds"]) == (0.5, 5, 3)
    assert "min_available_nodes" not in settings  # the option says another thing of what MIN_CLIENTS means
    assert said == ()
    with pytest.raises(ConfigError, match="local_epoch"):
        RunDefaults.read(["local_epoch=5"], {})
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        RunDefaults.read(["fraction"], {})


def test_what_does_not_fit_a_run_is_left_out_with_a_word() -> None:
    """A strategy that cannot learn the run's model; and statistics learn none."""
    defaults = RunDefaults.read([], {"AGGREGATION_STRATEGY": "fedavg", "MIN_CLIENTS": "2"})
    settings, said = defaults.applied({"model_name": "xgboost"})
    assert "federated_strategy" not in settings
    assert settings["min_completed"] == 2
    assert "AGGREGATION_STRATEGY" in said[0]
    assert defaults.applied(PROBE) == (PROBE, ())


def test_a_run_takes_them_and_a_minimum_is_never_left_out(tmp_path: Path) -> None:
    """F12, F74, F149, F152: what owners read has them; a run that asks one node is refused."""
    defaults = RunDefaults.read([], DOCUMENTED)
    model = {"model_name": "logistic_regression", "target_column": "disease", "sample_id_column": None}

    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(run_defaults=defaults)) as f:
            f.people("a", "b")
            await f.node("a", {"d": table("x")})
            why = await f.refused("sci", "POST", "/api/training/start", model, 422)
            assert "min_available_nodes is 2" in why
            await f.refused("sci", "POST", "/start", model, 422)
            await f.node("b", {"d": table("x")})
            session = await f.ok("sci", "POST", "/api/training/start", model, 201)
            config = session["config"]
            assert (config["num_rounds"], config["fraction"], config["min_completed"]) == (100, 0.8, 2)
            own = await f.ok("sci", "POST", "/api/training/start", {**model, "num_rounds": 7, "fraction": 1.0}, 201)
            assert (own["config"]["num_rounds"], own["config"]["fraction"]) == (7, 1.0)

    asyncio.run(body())


def test_how_long_a_run_waits_follows_the_way_on_which_nodes_are_reached(tmp_path: Path) -> None:
    """S24: where messages lie in a folder for days, one time ends a round; whoever says otherwise is heard."""

    async def body() -> None:
        patience = transports.patience("folder:///srv/shared")
        named = RunDefaults.read(["round_timeout_s=900"], {})
        async with Federation(tmp_path, CoordinatorSettings(patience=patience, run_defaults=named)) as f:
            statistics, _ = f.it.runs.read({"federated_strategy": "statistics", "wait_timeout_s": 7.0})
            assert statistics["round_timeout_s"] == statistics["reconnect_timeout_s"] == 3 * 86_400
            assert statistics["wait_timeout_s"] == 7.0
            learns, _ = f.it.runs.read({"model_name": "logistic_regression", "target_column": "y"})
            assert (learns["round_timeout_s"], learns["reconnect_timeout_s"]) == (900, 3 * 86_400)
            RunConfig.parse(learns)
        assert transports.patience("grpc://coordinator.example:8080").run == {}

    asyncio.run(body())
