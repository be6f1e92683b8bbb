"""Results: what they say, how they rest on disk, what models they become, how they look."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hanse
from experiment import sites
from hanse.config import RunConfig
from hanse.errors import DataError, WireError
from hanse.experiment import drawing
from hanse.experiment.records import steps
from hanse.experiment.results import Result, load_result
from hanse.messages import Record, dump
from hanse.prediction import Unfamiliar
from hanse.rounds import Step
from tests.examples import examples

LINEAR = ("logistic_regression", "sgd_classifier", "mlp_classifier")


@pytest.fixture(scope="module")
def learned() -> dict[str, Result]:
    federation = hanse.simulate(sites.cancer())
    found = {m: federation.experiment(model=m, rounds=4, target="disease").run(progress=False) for m in LINEAR}
    for model in ("xgboost", "random_forest"):
        found[model] = federation.experiment(model=model, rounds=3, target="disease").run(progress=False)
    return found


def made(rounds: int = 6, names: tuple[str, ...] = ("a", "b", "c")) -> Result:
    """A result with everything that can happen: failures, a failed attempt, a node that was not asked."""
    prepared = {n: _part(1, {}) for n in names}
    found = [Step(0, "prepare", None, "t", seconds=0.1, asked=list(names), participants=prepared)]
    for r in range(1, rounds + 1):
        failures = {names[-1]: "showed no progress for 60 s"} if r % 3 == 0 else {}
        there = [n for n in names if n not in failures and not (n == names[0] and r == 2)]
        asked = [n for n in names if not (n == names[0] and r == 2)]
        parts = {
            n: _part(
                10 * (i + 1),
                {"loss": 1 / r + i / 10, "accuracy": 0.7 + i / 10, "n": 5.0, "n_test": 2.0, "update_norm": 1.0 + i},
            )
            for i, n in enumerate(names)
            if n in there
        }
        if r == 4:
            lost = dict.fromkeys(names, "lost")
            found.append(Step(r, "train", r, f"first {r}", status="failed", asked=asked, failures=lost))
        found.append(
            Step(
                r,
                "train",
                r,
                f"t{r}",
                seconds=0.5,
                asked=asked,
                participants=parts,
                failures=failures,
                metrics={"evaluated_round": r - 1, "loss": 1 / r, "accuracy": 0.8, "n": 6},
                bytes_up=500,
                bytes_down=700,
            )
        )
    last = {n: _part(2, {"loss": 0.1 + i / 10, "accuracy": 0.9 + i / 100}) for i, n in enumerate(names)}
    found.append(
        Step(
            rounds + 1,
            "evaluate",
            None,
            "end",
            seconds=0.1,
            asked=list(names),
            participants=last,
            metrics={"evaluated_round": rounds, "loss": 0.2, "accuracy": 0.91, "auc": None},
        )
    )
    return Result(Record(), RunConfig(num_rounds=rounds, model_name="logistic_regression"), found, "run-1", names)


def _part(weight: float, metrics: dict[str, Any]) -> dict[str, Any]:
    return {"weight": weight, "seconds": 0.25, "asked": 0, "metrics": metrics}


def test_a_result_says_where_its_figures_rest_on_some_sites_only() -> None:
    result = made()
    assert "of 3" not in repr(result)
    result.rounds[-1].metrics["sites"] = {"answered": 2, "of": 3, "which": "x"}
    result.rounds[-1].participants.pop(next(iter(result.rounds[-1].participants)))
    assert "(of 2 of 3 sites)" in repr(result)
    assert "rests on 2 of 3 sites" in result._repr_html_()
    assert (result.history[-1]["nodes"], result.history[-1]["of"]) == (2, 3)


def test_history_says_how_good_the_model_was_after_each_round() -> None:
    result = made()
    assert result.history.column("round") == [0, 1, 2, 3, 4, 5, 6]
    last = result.history[-1]
    assert (last["loss"], last["accuracy"], last["nodes"]) == (0.2, 0.91, 3)
    assert last["spread"]["loss"] == (0.1, pytest.approx(0.3))
    assert "auc" not in last
    assert "n" not in result.history[1]["spread"]
    assert result.metrics == {"loss": 0.2, "accuracy": 0.91}
    assert result.history[3]["failures"] == 1


def test_participation_failures_and_contributions() -> None:
    result = made()
    seen = {row["node"]: row for row in result.participation}
    assert (seen["a"]["asked"], seen["a"]["answered"], seen["a"]["failed"]) == (5, 5, 1)
    assert (seen["c"]["asked"], seen["c"]["answered"], seen["c"]["failed"]) == (6, 4, 3)
    assert len(result.failures) == 5
    assert result.failures[0]["reason"] == "showed no progress for 60 s"
    contributions = {row["node"]: row for row in result.contributions}
    assert sum(row["share"] for row in contributions.values()) == pytest.approx(1)
    assert contributions["b"]["loss"] == pytest.approx(0.2)
    assert contributions["c"]["update_norm"] == pytest.approx(3.0)
    assert "run-1" not in repr(result)
    assert "5 failures" in repr(result)


def test_nothing_happened() -> None:
    empty = Result(Record(), RunConfig(), [])
    assert empty.metrics == {}
    assert list(empty.history) == []
    assert repr(empty.failures) == "no failures"
    assert "<svg" in empty._repr_html_()
    assert empty.plot() is not None


def test_frames() -> None:
    frame = made().to_frame()
    assert list(frame["loss"])[-1] == 0.2
    assert {"loss_min", "loss_max", "accuracy_min"} <= set(frame.columns)
    assert list(made().contributions.to_frame()["node"]) == ["a", "b", "c"]


@pytest.mark.parametrize("model", [*LINEAR, "xgboost", "random_forest"])
def test_saved_and_loaded_it_is_the_same(model: str, learned: dict[str, Result], tmp_path: Path) -> None:
    result = learned[model]
    again = load_result(result.save(tmp_path / "r.safetensors"))
    assert dump(again.record) == dump(result.record)
    assert again.rounds == result.rounds
    assert again.config == result.config
    assert repr(again) == repr(result)
    assert again.simulated
    assert again._repr_html_() == result._repr_html_()
    assert [p.name for p in tmp_path.iterdir()] == ["r.safetensors"]
    rows = sites.cancer()["site2"]
    assert np.array_equal(again.predictor().predict(rows), result.predictor().predict(rows))


def test_any_reader_of_safetensors_opens_it(learned: dict[str, Result], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    result = learned["logistic_regression"]
    found = load_file(result.save(tmp_path / "r.safetensors"))
    assert {n: found[n].tolist() for n in found} == {n: result.record.arrays[n].tolist() for n in result.record.arrays}


def test_files_that_are_not_results(learned: dict[str, Result], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_result(tmp_path / "nothing")
    path = tmp_path / "x"
    for garbage in (b"", b"\x00" * 7, b"\xff" * 100, b"\x80\x04\x95pickle", b"age,sex,disease\n50,m,yes\n"):
        path.write_bytes(garbage)
        with pytest.raises(DataError, match=f"{path} is no safetensors file; expected what result.save"):
            load_result(path)
    path.write_bytes(dump(Record({"hanse_result": 1})))
    with pytest.raises(WireError):
        load_result(path)
    path.write_bytes(dump(learned["xgboost"].record))
    with pytest.raises(DataError, match="holds a model alone; hanse run model RUN --result"):
        load_result(path)
    path.write_bytes(dump(Record({"hanse_result": 99})))
    with pytest.raises(DataError, match="not a result of hanse"):
        load_result(path)
    whole = learned["xgboost"].save(path).read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(WireError):
        load_result(path)


@pytest.mark.parametrize("model", LINEAR)
def test_the_native_model_predicts_the_same(model: str, learned: dict[str, Result]) -> None:
    import sklearn.base

    rows = sites.cancer()["site1"]
    native, predictor = learned[model].model(), learned[model].predictor()
    assert isinstance(native, sklearn.base.ClassifierMixin)
    assert list(native.classes_) == ["benign", "malignant"]
    assert np.array_equal(native.predict(predictor.design(rows)), predictor.predict(rows))
    assert np.allclose(native.predict_proba(predictor.design(rows)), predictor.predict_proba(rows))


def test_the_native_trees_predict_the_same(learned: dict[str, Result]) -> None:
    import xgboost

    rows = sites.cancer()["site1"]
    for model in ("xgboost", "random_forest"):
        native, predictor = learned[model].model(), learned[model].predictor()
        X = predictor.design(rows)
        if isinstance(native, xgboost.Booster):
            found = native.predict(xgboost.DMatrix(X, feature_names=native.feature_names))
        else:
            found = native.predict_proba(X)[:, 1]
        assert np.allclose(found, predictor.predict_proba(rows)[:, 1], atol=1e-6), model


def test_a_predictor_takes_rows_as_they_come(learned: dict[str, Result]) -> None:
    predictor = learned["logistic_regression"].predictor()
    rows = sites.cancer()["site1"].head(3)
    whole = predictor.predict_proba(rows)
    assert whole.shape == (3, 2)
    assert np.allclose(whole.sum(1), 1)
    shuffled = rows[rows.columns[::-1]].assign(extra=1)
    assert np.array_equal(predictor.predict_proba(shuffled), whole)
    assert predictor.predict({}.fromkeys(rows.columns, [])).shape == (0,)
    assert predictor.predict_proba(rows.iloc[:0]).shape == (0, 2)
    with pytest.warns(Unfamiliar, match="no column 'mean concave points'.* and 3 more, which counts as missing"):
        assert np.isfinite(predictor.predict_proba(rows[["mean radius"]])).all()
    assert np.isfinite(predictor.predict_proba(rows.assign(**{"mean radius": np.nan}))).all()
    with pytest.raises(DataError, match="none of the model's features"):
        predictor.predict({"height": [1.8]})


@pytest.mark.parametrize("labels", [[0, 1], [False, True], [0.0, 1.0], ["0", "1"], ["no", "yes"]], ids=str)
@pytest.mark.parametrize("model", ["logistic_regression", "xgboost"])
def test_a_score_is_the_accuracy_whatever_the_labels_are(labels: list[Any], model: str) -> None:
    """It was 0 for labels of true and false, and for 0.0 and 1.0; '0' and '1' came back as numbers."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(3, 60)), rng.normal(size=(3, 60))
    y = [[labels[int(v)] for v in (a + b > 0)] for a, b in zip(x, noise, strict=True)]
    result = hanse.simulate({f"s{i}": {"x": a, "y": b} for i, (a, b) in enumerate(zip(x, y, strict=True))})
    predictor = result.experiment(model, target="y", rounds=3).run(progress=False).predictor()
    rows, truth = {"x": x.reshape(-1)}, [label for own in y for label in own]
    told = predictor.predict(rows)
    right = np.mean([a == b for a, b in zip(told, truth, strict=True)])
    assert right > 0.7
    for as_given in (truth, np.array(truth), pandas.Series(truth)):
        assert predictor.score(rows, as_given) == right
    assert isinstance(told[0], str) == isinstance(labels[0], str)


def test_evaluation_on_other_rows(learned: dict[str, Result]) -> None:
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    result = learned["logistic_regression"]
    rows = sites.cancer()["site3"]
    found, p = result.evaluate(rows), result.predictor().predict_proba(rows)[:, 1]
    y = rows["disease"] == "malignant"
    assert found["accuracy"] == pytest.approx(accuracy_score(y, p > 0.5))
    assert found["loss"] == pytest.approx(log_loss(y, p))
    assert found["auc"] == pytest.approx(roc_auc_score(y, p), abs=0.002)
    with pytest.raises(DataError, match="no row has a value"):
        result.evaluate(rows.assign(disease="unheard of"))
    with pytest.raises(DataError, match="is not in the dataset"):
        result.evaluate(rows.drop(columns="disease"))


@pytest.mark.parametrize("model", ["logistic_regression", "sgd_classifier", "xgboost", "random_forest"])
def test_importance_is_a_share_of_the_features_as_they_were(model: str) -> None:
    data = sites.rough()
    result = hanse.simulate(data).experiment(model=model, rounds=3, target="disease").run(progress=False)
    weights = result.feature_importance
    assert set(weights) <= set(result.alignment["features"])  # not grade=low, nor "... is missing"
    assert sum(weights.values()) == pytest.approx(1)
    assert list(weights.values()) == sorted(weights.values(), reverse=True)
    assert min(weights.values()) >= 0


def test_importance_of_xgboost_is_its_gain() -> None:
    """Only one column tells anything; it must be found, whatever the names are."""
    rng = np.random.default_rng(0)
    data = {}
    for site in "ab":
        x = rng.normal(size=(200, 3))
        data[site] = {"z[0]<1": x[:, 0], "a": x[:, 1], "m": x[:, 2], "disease": x[:, 0] > 0}
    weights = (
        hanse.simulate(data)
        .experiment(model="xgboost", rounds=2, target="disease")
        .run(progress=False)
        .feature_importance
    )
    assert next(iter(weights)) == "z[0]<1"
    assert weights["z[0]<1"] > 0.9


def test_what_features_add_to_predictions_is_listed_and_drawn() -> None:
    given = {"model": "xgboost", "rounds": 2, "target": "disease"}
    federation = hanse.simulate(sites.rough())
    result = federation.experiment(**given, shap_rows=None).run(progress=False)
    rows = list(result.shap)
    assert {row["feature"] for row in rows} == set(result.alignment["features"])
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["mean_abs"] > 0
    html = result._repr_html_()
    assert f"Mean |SHAP| over {result.record.data['shap']['rows']} training rows." in html
    plain = federation.experiment(**given).run(progress=False)
    assert list(plain.shap) == []
    assert "set shap_rows" in repr(plain.shap)
    assert "SHAP" not in plain._repr_html_()


# ---------------------------------------------------------------- pictures


def drawings(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.S)]


def test_the_notebook_view_shows_what_happened() -> None:
    result = made()
    html = result._repr_html_()
    text = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    for words in (
        "logistic regression for &#x27;disease&#x27;",
        "Participation",
        "Contribution of each site",
        "Loss",
        "round 3: showed no progress for 60 s",
        "5 failed answers",
        "0.910",
        "run run-1",
    ):
        assert words in text, words
    assert "simulation" not in text
    assert not re.search(r"https?://|<script|@import|url\(", html)  # a closed network shows it too
    pictures = drawings(html)
    assert len(pictures) == 3
    bands = [e for e in pictures[0].iter() if e.tag == "polygon"]
    assert len(bands) == 1
    assert len(bands[0].get("points", "").split()) == 2 * 6  # rounds 1 to 6: the untrained model is left out


@pytest.mark.parametrize(
    ("model", "says"), [("logistic_regression", "exact"), ("mlp_classifier", "averaged"), ("random_forest", "joined")]
)
def test_a_result_says_how_near_it_is_to_the_pooled_fit(model: str, says: str, learned: dict[str, Result]) -> None:
    """Nobody said that what averages is another model than the pooled fit."""
    assert learned[model].nearness.startswith(f"{says}: ")
    assert repr(learned[model]).splitlines()[1] == learned[model].nearness
    assert learned[model].nearness in learned[model]._repr_html_()


def test_a_simulation_says_so(learned: dict[str, Result]) -> None:
    html = learned["xgboost"]._repr_html_()
    assert ">simulation<" in html
    assert "(simulation)" in repr(learned["xgboost"])
    assert "Feature importance" in html


def test_hostile_names_are_only_text() -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    result = made(names=("a", evil))
    result.config = RunConfig(name=evil, target_column=evil)
    result.alignment = {"features": [evil], "warnings": [evil]}
    html = result._repr_html_()
    assert "<img" not in html
    assert drawings(html)
    assert "<img" not in result.history._repr_html_() + result.failures._repr_html_()


def test_numbers_that_are_no_numbers_do_not_break_a_picture() -> None:
    result = made()
    for step in result.rounds:
        step.metrics = {**step.metrics, "loss": float("nan"), "accuracy": None}
        for part in step.participants.values():
            part["metrics"] = {"loss": float("inf"), "accuracy": "much", "n": None}
    drawings(result._repr_html_())
    assert result.plot() is not None


@examples(20)
@given(
    st.integers(1, 400),
    st.integers(1, 26),
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=5),
)
def test_any_run_can_be_drawn(rounds: int, nodes: int, values: list[float]) -> None:
    names = tuple(f"node {i}" for i in range(nodes))
    found = [
        Step(
            r,
            "train",
            r,
            str(r),
            asked=list(names),
            metrics={"loss": values[r % len(values)]},
            participants={n: _part(1, {"loss": values[r % len(values)]}) for n in names},
        )
        for r in range(1, min(rounds, 40) + 1)
    ]
    for step, number in zip(found, np.linspace(1, rounds, len(found)).astype(int), strict=True):
        step.round = int(number)
    html = Result(Record(), RunConfig(num_rounds=rounds), found)._repr_html_()
    for picture in drawings(html):
        for element in picture.iter():
            for value in element.attrib.values():
                assert "nan" not in value
                assert "inf" not in value.replace("infinite", "")


def test_the_figure_can_be_written(tmp_path: Path, learned: dict[str, Result]) -> None:
    drawn = learned["xgboost"].plot()
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert titles == ["Loss", "AUC", "Participation", "Feature importance", "Contribution of each site"]
    drawn.savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes()[1:4] == b"PNG"


def test_steps_of_a_later_release_can_be_read() -> None:
    row = json.loads(json.dumps({"step": 1, "label": "train", "round": 1, "started": "t", "colour": "blue"}))
    assert steps([row])[0].label == "train"


def test_units() -> None:
    assert [drawing.duration(s) for s in (0.0123, 3.21, 150, 9000)] == ["12 ms", "3.2 s", "2.5 min", "2.5 h"]
    assert [drawing.size(b) for b in (7, 1500, 123456, 2.5e9, 7e13)] == ["7 B", "1.5 KB", "123 KB", "2.5 GB", "70.0 TB"]
