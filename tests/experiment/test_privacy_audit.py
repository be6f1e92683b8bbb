"""The auditor: each attack gets what is there to be got, and nothing where it is protected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from click.testing import CliRunner

import hanse
from hanse.errors import ConfigError
from hanse.experiment.cli_privacy import privacy
from hanse.experiment.laboratory import bare
from hanse.experiment.privacy_audit import Audit, audit, audit_result
from hanse.registry import names

LINEAR = {"model": "logistic_regression", "target": "ill", "rounds": 3}
BY_HEART = {"max_depth": 6, "eta": 0.5, "min_child_weight": 0.0}
NOISED = {"mode": "local", "ranges": {"age": [20, 90], "*": [-4, 4]}}


def patients(rows: int = 200, seed: int = 0, learnable: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    age, marker, other = rng.uniform(20, 90, rows), rng.normal(size=rows), rng.normal(size=rows)
    score = marker + (age - 55) / 20 if learnable else np.zeros(rows)
    ill = np.where(score + rng.normal(size=rows) > 0, "yes", "no")
    return {"age": age, "marker": marker, "other": other, "ill": ill}


def got(found: Audit, attack: str) -> Any:
    [row] = [row for row in found if row["attack"] == attack]
    return row


@pytest.mark.parametrize(
    "settings",
    [
        LINEAR,
        {**LINEAR, "federated_strategy": "fedavg"},
        {"model": "sgd_classifier", "target": "ill", "rounds": 2},
        {"model": "linear_regression", "target": "other"},
    ],
    ids=lambda s: f"{s['model']}-{s.get('federated_strategy', '')}",
)
def test_what_a_site_of_one_row_sends_for_a_linear_model_is_that_row(settings: dict[str, Any]) -> None:
    found = audit(patients(), settings, attacks=["gradient_inversion"])
    assert got(found, "gradient_inversion")["without"] == 1.0
    assert got(found, "gradient_inversion")["proposed"] == 1.0  # nothing protects it, and the auditor says so


@pytest.mark.parametrize(
    "protection",
    [
        {"gathering": "secure"},
        {"federated_strategy": "noisy_gradients", "privacy": {**NOISED, "epsilon": 0.5}},
    ],
    ids=["secure", "noise"],
)
def test_protections_take_it_away(protection: dict[str, Any]) -> None:
    row = got(audit(patients(), {**LINEAR, **protection}, attacks=["gradient_inversion"]), "gradient_inversion")
    assert row["without"] == 1.0
    assert row["proposed"] < 0.2


def test_two_means_tell_of_one_person_unless_cells_have_a_minimum() -> None:
    row = got(audit(patients(), LINEAR, attacks=["differencing"]), "differencing")
    assert (row["without"], row["proposed"]) == (1.0, 0.0)
    row = got(audit(patients(), LINEAR, attacks=["differencing"], policy={"minimum_cell": 1}), "differencing")
    assert row["proposed"] == 1.0


def test_what_a_model_has_learned_by_heart_is_found_and_proves_an_epsilon() -> None:
    learned = {"model": "xgboost", "target": "ill", "rounds": 20, "model_options": BY_HEART}
    found = audit(patients(240, learnable=False), learned, attacks=["membership_inference"])
    row = got(found, "membership_inference")
    assert row["proposed"] > 0.7
    assert row["epsilon_at_least"] > 0.5
    assert row["chance"] == 0.5


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0])
def test_of_a_run_with_noise_no_attack_proves_more_than_it_promises(epsilon: float) -> None:
    noised = {**LINEAR, "federated_strategy": "noisy_gradients", "privacy": {**NOISED, "epsilon": epsilon}}
    for seed in range(2):
        found = audit(patients(400, seed, learnable=False), noised, seed=seed, attacks=["membership_inference"])
        assert found.claim == epsilon
        assert got(found, "membership_inference")["epsilon_at_least"] <= epsilon


def test_a_finished_model_is_audited_by_rows_that_it_has_and_has_not_seen(tmp_path: Path) -> None:
    members, others = patients(150, 1, learnable=False), patients(150, 2, learnable=False)
    sites = {f"s{k}": {name: column[k::3] for name, column in members.items()} for k in range(3)}
    run = hanse.simulate(sites).experiment("xgboost", target="ill", rounds=20, model_options=BY_HEART)
    result = run.run(progress=False)
    found = audit_result(result, members, others)
    row = got(found, "membership_inference")
    assert row["proposed"] > 0.7
    assert row["without"] is None
    assert "audit the proposal" in got(found, "gradient_inversion")["note"]  # nothing is said to be safe
    assert got(found, "gradient_inversion")["proposed"] is None


def test_it_is_asked_for_on_the_command_line_and_drawn(tmp_path: Path) -> None:
    polars.DataFrame(patients()).write_csv(tmp_path / "rows.csv")
    (tmp_path / "run.json").write_text(json.dumps({**LINEAR, "gathering": "secure", "tags": ["heart"]}))
    asked = ["audit", str(tmp_path / "rows.csv"), "--config", str(tmp_path / "run.json")]
    done = CliRunner().invoke(privacy, [*asked, "--plot", str(tmp_path / "drawn.svg")], catch_exceptions=False)
    assert all(name in done.output for name in names("attacks"))
    assert "gradient inversion" in (tmp_path / "drawn.svg").read_text()
    done = CliRunner().invoke(privacy, [*asked, "--json", "--attack", "differencing"], catch_exceptions=False)
    [row] = json.loads(done.output)["attacks"]
    assert (row["attack"], row["without"], row["proposed"]) == ("differencing", 1.0, 0.0)


def test_every_attack_has_its_bars_and_its_guess() -> None:
    found = audit(patients(100), LINEAR, attacks=["gradient_inversion", "differencing"])
    [axes] = found.plot().axes
    assert sorted(bar.get_width() for bar in axes.patches) == [0.0, 1.0, 1.0, 1.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["differencing", "gradient inversion"]


def test_what_cannot_be_audited_says_so() -> None:
    with pytest.raises(ConfigError, match="there is no 'nothing' in attacks"):
        audit(patients(), LINEAR, attacks=["nothing"])
    with pytest.raises(ConfigError, match="at least 60 rows, and 3 sites"):
        audit(patients(59), LINEAR)
    with pytest.raises(ConfigError, match="no setting 'modell'"):
        audit(patients(), {"modell": "xgboost"})


def test_without_protections_is_without_what_belongs_to_them() -> None:
    given = {"target_column": "ill", "federated_strategy": "noisy_gradients", "step_size": 1.0, "secure_threshold": 3}
    assert bare({**given, "privacy": "local", "gathering": "secure"}) == {"target_column": "ill"}
