"""The cross-site matrix: what a site would have alone, measured where all are, and nobody's word is taken for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hanse
import hanse.bundle
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.messages import Record
from tests.algorithms.drive import Drive, shares, toy

from .test_groups import held_out, sites

RUN: dict[str, Any] = {"measures": ["cross_site"]}


def matrix(tables: Any, minimum: int = 1, **settings: Any) -> Any:
    given = {**RUN, **settings}
    with hanse.simulate(tables, wire="exact", policy={"minimum_cell": minimum}) as federation:
        run = {"target": "disease", "features": ["age", "pressure"], "rounds": 2, "sample_id_column": None, **given}
        return federation.experiment(**run).run(progress=False)


def cells(result: Any) -> dict[tuple[str, str], Any]:
    found = result.record.data["measured"]["cross_site"]["cells"]
    return {(cell["model"], cell["site"]): cell for cell in found}


def test_an_own_model_is_the_one_that_the_site_would_have_alone() -> None:
    """Of rows that the same run holds out whoever takes part (``hold_out: rows``), without a penalty, which would
    depend on the scales that sites agree on."""
    tables = sites()
    given = {"model": "linear_regression", "target": "pressure", "features": ["age"]}
    result = matrix(tables, **given)
    found = cells(result)
    assert set(found) == {(model, site) for model in ("all sites", *tables) for site in tables}
    for model in tables:
        own = matrix({model: tables[model]}, measures=[], **given).predictor()
        for site in tables:
            rows = held_out(result, {site: tables[site]})
            off = rows["pressure"].values - own.predict(rows)
            assert found[model, site]["rmse"] == pytest.approx(np.sqrt(np.square(off).mean()), rel=1e-9)
            assert found[model, site]["rows"] == rows.rows
    whole = result.predictor()
    rows = held_out(result, {"ulm": tables["ulm"]})
    off = rows["pressure"].values - whole.predict(rows)
    assert found["all sites", "ulm"]["rmse"] == pytest.approx(np.sqrt(np.square(off).mean()), rel=1e-9)
    shown = result.cross_site("rmse")
    assert shown.columns == ["model of", "bonn", "kiel", "ulm"]
    assert shown.column("model of") == ["all sites", "bonn", "kiel", "ulm"]
    assert shown.column("ulm")[0] == found["all sites", "ulm"]["rmse"]
    assert result.cross_site().notes[0].startswith("r2 on")
    with pytest.raises(ConfigError, match="there is no metric 'auc' in this matrix; there are"):
        result.cross_site("auc")


@pytest.mark.parametrize(
    "model", ["logistic_regression", "sgd_classifier", "random_forest", "xgboost_bagging", "xgboost"]
)
def test_every_kind_of_model_has_one(model: str) -> None:
    found = cells(matrix(sites(), model=model))
    assert len(found) == 12
    for cell in found.values():
        assert cell["loss"] > 0
        assert 0.3 < cell["accuracy"] <= 1


def test_strategies_that_need_several_sites_have_own_models_too() -> None:
    found = cells(matrix(sites(), model="sgd_classifier", federated_strategy="median"))
    plain = cells(matrix(sites(), model="sgd_classifier", federated_strategy="fedavg"))
    assert found["ulm", "bonn"] == plain["ulm", "bonn"]


def test_a_site_of_few_held_out_rows_says_nothing_and_one_without_rows_has_no_model() -> None:
    tables = {**sites(), "zell": {name: list(column[:4]) for name, column in sites()["ulm"].items()}}
    tables["leer"] = {name: list(column[:0]) for name, column in sites()["ulm"].items()}
    result = matrix(tables, 10, model="sgd_classifier")
    told = result.record.data["measured"]["cross_site"]
    assert {"leer", "zell"} <= set(told["few"])
    assert "leer" not in told["models"]
    assert "zell" in told["models"]
    assert "zell: too few" in repr(result.cross_site()) or "leer, zell" in repr(result.cross_site())


def test_secure_sums_hide_single_models_so_it_has_to_be_said() -> None:
    with pytest.raises(ConfigError, match="secure"):
        matrix(sites(), model="sgd_classifier", gathering="secure")
    found = matrix(sites(), model="sgd_classifier", gathering="secure", gathering_fallback="plain")
    assert len(cells(found)) == 12


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (lambda arrays: {n: a for n, a in arrays.items() if not n.endswith("coef")}, "has other arrays"),
        (
            lambda arrays: {n: np.zeros((2, 99)) if n.endswith("coef") else a for n, a in arrays.items()},
            "expected float",
        ),
        (lambda arrays: {n: a.astype("float32") for n, a in arrays.items()}, "expected float64"),
    ],
)
def test_who_sends_what_is_no_such_model_is_left_out(spoiled: Any, said: str) -> None:
    def spoil(node: str, label: str, body: Record) -> Record:
        liar = node == "site-1" and label == "learn own models"
        return Record(body.data, spoiled(dict(body.arrays))) if liar else body

    drive = _drive(spoil)
    assert said in drive.failures[drive.labels.index("learn own models")]["site-1"]
    assert drive.run_result.data["measured"]["cross_site"]["models"] == ["all sites", "site-0", "site-2"]


def test_a_model_that_is_none_anywhere_has_no_figures() -> None:
    """What the coordinator cannot see (a shape that fits, trees that are none) ends no other site's answer."""

    def spoil(node: str, label: str, body: Record) -> Record:
        if node != "site-1" or label != "learn own models":
            return body
        return Record(
            body.data, {n: np.full_like(a, np.nan) if a.dtype.kind == "f" else a for n, a in body.arrays.items()}
        )

    told = _drive(spoil).run_result.data["measured"]["cross_site"]
    mine = [cell for cell in told["cells"] if cell["model"] == "site-1"]
    assert mine
    assert all(cell["loss"] is None for cell in mine)


@pytest.mark.parametrize("said", [{}, {"measured": []}, {"measured": {"all sites": {}}, "rows": 4}, {"measured": None}])
def test_who_says_no_figures_is_left_out(said: dict[str, Any]) -> None:
    def spoil(node: str, label: str, body: Record) -> Record:
        liar = node == "site-1" and label == "measure everywhere"
        return Record({**body.data, "data": said}, body.arrays) if liar else body

    drive = _drive(spoil)
    assert "how each of the models does" in drive.failures[-1]["site-1"]
    told = drive.run_result.data["measured"]["cross_site"]
    assert {cell["site"] for cell in told["cells"]} == {"site-0", "site-2"}


def _drive(spoil: Any) -> Any:
    table = toy(300)
    drive: Any = Drive(shares(table, 120, 100, 80), spoil, model_name="logistic_regression", measures=["cross_site"])
    drive.run_result = drive.run()
    return drive


def test_a_site_learns_alone_by_the_default_whatever_the_run_learns_by() -> None:
    """Whose settings are not those of the run; its code is in what owners agree to."""
    run = {"model": "logistic_regression", "federated_strategy": "fedavg", "measures": ["cross_site"], "rounds": 2}
    tables = {name: {**rows, "y": ["a" if v > 0 else "b" for v in rows["x"]]} for name, rows in two_sites().items()}
    with hanse.simulate(tables) as federation:
        result = federation.experiment(target="y", sample_id_column=None, **run).run(progress=False)
    assert {cell["model"] for cell in result.record.data["measured"]["cross_site"]["cells"]} == {"all sites", *tables}
    config = RunConfig.parse({"model_name": "sgd_classifier", "federated_strategy": "median", "target_column": "y"})
    without = hanse.bundle.node_code(config)
    code = hanse.bundle.node_code(RunConfig.parse({**config.to_json(), "measures": ["cross_site"]}))
    assert set(code) - set(without) >= {"hanse.algorithms.fedavg", "hanse.measures.cross_site"}


def two_sites() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: {"x": rng.normal(size=90), "z": rng.normal(size=90)} for name in ("ulm", "federation")}
