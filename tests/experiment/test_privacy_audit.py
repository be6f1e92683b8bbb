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
from hanse.attacks import gradient_inversion, membership_inference
from hanse.errors import ConfigError
from hanse.experiment.cli_privacy import privacy
from hanse.experiment.federation import Federation
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
    learned = {"model": "xgboost", "target": "ill", "rounds": 10, "model_options": BY_HEART}
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


class Told:
    """A scene of which the losses are known."""

    by_coins = True

    def __init__(self, members: np.ndarray, others: np.ndarray) -> None:
        self._told = members, others

    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        return self._told


@pytest.mark.parametrize("values", [1, 2, 5])
def test_equal_losses_prove_no_epsilon_whichever_rows_are_named_first(values: int) -> None:
    """A model that tells nothing, of few values, as one tree has: rows that were learned from stood first among equal
    ones, and a model of one value was said to prove an epsilon of 3.77."""
    proved = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        losses, took = rng.integers(values, size=200) / 8, rng.random(200) < 0.5
        found = membership_inference.attack(Told(losses[took], losses[~took]))  # type: ignore[arg-type]
        proved += bool(found.epsilon)
    assert proved <= 8  # of 60 that are each wrong in a case of twenty: more has a probability below 0.003


def test_ties_among_rows_that_were_all_learned_from_are_right_guesses() -> None:
    told = Told(np.zeros(60), np.ones(60))
    assert membership_inference.guessed(*told.losses()) == (80, 80)


def test_who_is_said_to_be_in_was_learned_from_whatever_the_run_holds_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = Federation.experiment

    def noted(self: Federation, *args: Any, **settings: Any) -> Any:
        asked.append(settings)
        return plain(self, *args, **settings)

    monkeypatch.setattr(Federation, "experiment", noted)
    audit(patients(), {**LINEAR, "test_fraction": 0.5}, attacks=["membership_inference"])
    assert [settings["test_fraction"] for settings in asked] == [0.0, 0.0]


def test_a_run_that_cannot_do_without_rows_held_out_says_so() -> None:
    stopped = {"model": "xgboost", "target": "ill", "rounds": 3, "early_stopping_rounds": 2}
    row = got(audit(patients(), stopped, attacks=["membership_inference"]), "membership_inference")
    assert row["proposed"] is None
    assert "every row is learned from, and then early_stopping_rounds needs rows that are held out" in row["note"]


def test_wrong_input_of_an_attack_is_no_attack_that_failed() -> None:
    class Wrong(Told):
        def updates(self) -> Any:
            return [(np.zeros(2), 7)]

    with pytest.raises(TypeError):
        gradient_inversion.attack(Wrong(np.zeros(1), np.zeros(1)))  # type: ignore[arg-type]


def test_the_command_reads_a_file_as_a_node_does(tmp_path: Path) -> None:
    """A number that is missing is "NA" in many files, which made a column of numbers one of labels."""
    rows = patients()
    text = ["age;marker;other;ill".replace(";", "\t")]
    for k in range(200):
        cells = [f"{rows[name][k]}" for name in ("age", "marker", "other", "ill")]
        text.append("\t".join(["NA" if k == 5 else cells[0], *cells[1:]]))
    (tmp_path / "rows.tsv").write_text("\n".join(text) + "\n")
    asked = ["audit", str(tmp_path / "rows.tsv"), "--model", "logistic_regression", "--target", "ill", "--rounds", "2"]
    asked += ["--attack", "differencing", "--json"]
    done = CliRunner().invoke(privacy, asked, catch_exceptions=False)
    [row] = json.loads(done.output)["attacks"]
    assert row["without"] == 1.0


@pytest.mark.parametrize(("model", "strategy"), [("logistic_regression", "dp_sgd"), ("xgboost", "noisy_boosting")])
def test_so_it_is_where_steps_or_leaves_are_noised(model: str, strategy: str) -> None:
    noised = {"model": model, "target": "ill", "rounds": 3, "federated_strategy": strategy, "privacy": NOISED}
    found = audit(patients(400, learnable=False), noised, attacks=["membership_inference"])
    row = got(found, "membership_inference")
    assert row["without"] > 0.5
    assert row["epsilon_at_least"] <= found.claim == 1.0


def test_a_finished_model_is_audited_by_rows_that_it_has_and_has_not_seen(tmp_path: Path) -> None:
    members, others = patients(150, 1, learnable=False), patients(150, 2, learnable=False)
    sites = {f"s{k}": {name: column[k::3] for name, column in members.items()} for k in range(3)}
    run = hanse.simulate(sites).experiment("xgboost", target="ill", rounds=20, model_options=BY_HEART)
    result = run.run(progress=False)
    found = audit_result(result, members, others)
    row = got(found, "membership_inference")
    assert row["proposed"] > 0.7
    assert row["without"] is None
    assert row["epsilon_at_least"] is None  # nobody tossed a coin for each row, so nothing follows
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
