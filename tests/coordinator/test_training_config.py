"""FLOPY-NET's training configuration, as its document prints it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hanse import algorithms, protection
from hanse.config import RunConfig
from hanse.coordinator.training_config import translated
from hanse.errors import ConfigError

PRINTED: dict[str, dict[str, Any]] = {
    "training_config": {
        "algorithm": "fedavg",
        "min_clients": 2,
        "max_rounds": 50,
        "client_fraction": 0.8,
        "local_epochs": 5,
        "learning_rate": 0.01,
        "batch_size": 32,
        "convergence_threshold": 0.01,
        "timeout_seconds": 300,
    },
    "model_config": {
        "architecture": "cnn",
        "input_shape": [28, 28, 1],
        "num_classes": 10,
        "compression": True,
        "versioning": True,
    },
    "privacy_config": {
        "differential_privacy": False,
        "epsilon": 1.0,
        "delta": 1e-5,
        "secure_aggregation": False,
        "gradient_clipping": True,
        "max_grad_norm": 1.0,
    },
    "network_config": {
        "sdn_integration": True,
        "traffic_prioritization": True,
        "bandwidth_allocation": "adaptive",
        "qos_enabled": True,
    },
}


def test_every_entry_becomes_a_setting_or_a_sentence() -> None:
    """F154 to F165."""
    settings, said = translated(PRINTED)
    assert settings["federated_strategy"] == "fedavg"
    assert {settings[n] for n in ("min_available_nodes", "min_fit_nodes", "min_completed")} == {2}
    assert (settings["num_rounds"], settings["fraction"], settings["round_deadline_s"]) == (50, 0.8, 300)
    assert (settings["local_epochs"], settings["learning_rate"], settings["batch_size"]) == (5, 0.01, 32)
    assert settings["model_name"] == "cnn"
    assert settings["keep_models"] is True
    assert settings["transforms"] == [{"name": "clip", "norm": 1.0}]
    assert "gathering" not in settings
    told = " ".join(said)
    for entry in ("convergence_threshold", "compression", "sdn_integration", "bandwidth_allocation", "qos_enabled"):
        assert entry in told, entry
    RunConfig.parse({**settings, "model_name": "logistic_regression"})


def test_settings_of_a_run_beside_the_groups_count() -> None:
    settings, _ = translated({**PRINTED, "num_rounds": 3, "tags": ["mnist"]})
    assert (settings["num_rounds"], settings["tags"]) == (3, ["mnist"])
    plain = {"model_name": "xgboost", "num_rounds": 3}
    assert translated(plain) == (plain, ())


@pytest.mark.parametrize(
    ("group", "entry", "value"),
    [
        ("training_config", "epochs", 5),
        ("model_config", "layers", 3),
        ("privacy_config", "secure_aggregation", "no"),
        ("network_config", "qos_enabled", 1),
        ("network_config", "vlan", 3),
    ],
)
def test_what_is_unknown_or_no_switch_is_refused(group: str, entry: str, value: Any) -> None:
    """F154: unknown keys, and words for true and false."""
    given = copy.deepcopy(PRINTED)
    given[group][entry] = value
    with pytest.raises(ConfigError, match=entry):
        translated(given)
    with pytest.raises(ConfigError, match=group):
        translated({group: [1]})


def test_a_secure_sum_is_a_secure_sum() -> None:
    """F161."""
    assert translated({"privacy_config": {"secure_aggregation": True}})[0] == {"gathering": "secure"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"privacy_config": {"epsilon": 1.0, "delta": 1e-5}}, "epsilon and delta, and does not say whether"),
        ({"privacy_config": {"max_grad_norm": 1.0}}, "whether it wants gradient_clipping"),
        (
            {"privacy_config": {"secure_aggregation": True}, "gathering": "plain"},
            "beside it stands gathering = 'plain'",
        ),
        ({"privacy_config": {"gradient_clipping": True}, "transforms": []}, r"beside it stands transforms = \[\]"),
    ],
)
def test_a_protection_is_not_dropped_without_a_word(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        translated(given)
    assert translated({"privacy_config": {"differential_privacy": False, "epsilon": 1.0}}) == ({}, ())


def test_differential_privacy_is_that_of_the_run() -> None:
    """F117, F122, F159, F160, F162: one clipping, that of the noise; and a run that cannot keep it is refused."""
    given = copy.deepcopy(PRINTED)
    given["privacy_config"] |= {"differential_privacy": True, "epsilon": 2.0, "max_grad_norm": 0.5}
    settings, said = translated({**given, "target_column": "digit"})
    assert settings["privacy"] == {"mode": "local", "epsilon": 2.0, "delta": 1e-5, "clip": 0.5}
    assert settings["test_fraction"] == 0
    assert "transforms" not in settings
    assert any("differential_privacy" in sentence for sentence in said)
    assert protection.words(RunConfig.parse({**settings, "fraction": 1.0}), 3)
    with pytest.raises(ConfigError, match="differentially private"):
        protection.of(algorithms.settled(RunConfig.parse({**settings, "test_fraction": 0.25, "fraction": 1.0})), 3)
