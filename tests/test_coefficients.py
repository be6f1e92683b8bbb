"""Regression tables: equal to those of statsmodels on pooled rows, in the units of the data."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import hanse
from hanse.errors import DataError, NotFound
from hanse.experiment.results import Result

TERMS = {
    "intercept": "Intercept",
    "age": "age",
    "sex=m": "sex[T.m]",
    "cp=b": "cp[T.b]",
    "cp=c": "cp[T.c]",
    "flag": "flag[T.True]",
}


def frame_of(n: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"age": rng.normal(60, 12, n), "sex": rng.choice(["f", "m"], n)})
    frame["cp"] = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    frame["flag"] = rng.integers(0, 2, n).astype(bool)
    score = -3 + 0.04 * frame["age"] + 0.8 * (frame["sex"] == "m") - 0.5 * (frame["cp"] == "b") + 0.3 * frame["flag"]
    frame["sick"] = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(int)
    frame["pressure"] = 120 + 8 * score + rng.normal(0, 5, n)
    frame["grade"] = rng.integers(0, 3, n) + frame["sick"]
    return frame


def fit(model: str, target: str, **options: Any) -> Result:
    frame = frame_of()[[*{t.split("=")[0].split("[")[0] for t in TERMS} - {"intercept"}, target]]
    sites = {"a": frame[:100], "b": frame[100:130], "c": frame[130:]}
    experiment = hanse.simulate(sites).experiment(
        model, target=target, test_fraction=0.0, federated_strategy="newton", model_options=options
    )
    return experiment.run(progress=False)


def check(rows: Any, pooled: Any, at: Any = lambda found, row: found[TERMS[row["name"]]]) -> None:
    low, high = pooled.conf_int()[0], pooled.conf_int()[1]
    for row in rows:
        assert row["coefficient"] == pytest.approx(at(pooled.params, row), abs=1e-8)
        assert row["standard_error"] == pytest.approx(at(pooled.bse, row), abs=1e-8)
        assert row["p_value"] == pytest.approx(at(pooled.pvalues, row), abs=1e-8)
        assert row["low"] == pytest.approx(at(low, row), abs=1e-7)
        assert row["high"] == pytest.approx(at(high, row), abs=1e-7)
    assert {row["name"] for row in rows} == set(TERMS)


def test_logistic_table() -> None:
    rows = fit("logistic_regression", "sick", C="inf").coefficients()
    check(rows, smf.logit("sick ~ age + sex + cp + flag", frame_of()).fit(tol=1e-14, disp=0, maxiter=100))
    assert {row["name"]: row["reference"] for row in rows}["sex=m"] == "f"
    assert {row["outcome"] for row in rows} == {"1"}  # whose odds these are, as a sign alone does not tell


def test_linear_table() -> None:
    assert {row["outcome"] for row in fit("linear_regression", "pressure").coefficients()} == {""}
    check(fit("linear_regression", "pressure").coefficients(), smf.ols("pressure ~ age+sex+cp+flag", frame_of()).fit())


def test_multinomial_table() -> None:
    rows = fit("logistic_regression", "grade", C="inf").coefficients()
    pooled = smf.mnlogit("grade ~ age + sex + cp + flag", frame_of()).fit(disp=0, tol=1e-14, maxiter=100)
    for row in rows:
        place = int(row["outcome"]) - 1
        assert row["coefficient"] == pytest.approx(pooled.params.loc[TERMS[row["name"]], place], abs=1e-8)
        assert row["standard_error"] == pytest.approx(pooled.bse.loc[TERMS[row["name"]], place], abs=1e-8)


def test_a_level_of_its_own() -> None:
    result = fit("linear_regression", "pressure")
    narrow, wide = (result.coefficients(level)[1] for level in (0.5, 0.99))
    assert wide["low"] < narrow["low"] < narrow["coefficient"] < narrow["high"] < wide["high"]
    with pytest.raises(DataError, match="level is 95"):
        result.coefficients(95)


def test_where_there_are_no_errors_the_table_says_why() -> None:
    assert all("penalised" in row["note"] for row in fit("logistic_regression", "sick").coefficients())
    assert all(row["p_value"] is None for row in fit("logistic_regression", "sick").coefficients())
    shown = repr(fit("logistic_regression", "sick").coefficients()).splitlines()
    assert [line.startswith("[1] the fit is penalised") for line in shown].count(True) == 1  # whole, and once
    assert '{"C": "inf"}' in shown[-2]
    assert all(line.endswith("[1]") for line in shown[1:-2])
    averaged = hanse.simulate({"a": frame_of()}).experiment("sgd_classifier", target="sick", features=["age"], rounds=1)
    with pytest.raises(NotFound, match="needs an exact fit"):
        averaged.run(progress=False).coefficients()


def test_a_table_says_how_many_rows_it_is_of() -> None:
    """By default a quarter is held out, and a table beside that of all rows differs."""
    sites = {"a": frame_of()[:500], "b": frame_of()[500:]}
    asked = {"target": "pressure", "features": ["age"], "sample_id_column": None}
    for test_fraction, said in (
        (0.25, r"! fitted to 6\d\d rows; 2\d\d more were held out .*"),
        (0.0, "! fitted to 900 rows"),
    ):
        federation = hanse.simulate(sites)
        experiment = federation.experiment("linear_regression", test_fraction=test_fraction, **asked)
        assert re.fullmatch(said, repr(experiment.run(progress=False).coefficients()).splitlines()[-1])


def test_a_term_that_follows_from_others_is_not_estimable() -> None:
    frame = frame_of()
    frame["months"] = 12 * frame["age"] + 1
    result = (
        hanse.simulate({"a": frame[:500], "b": frame[500:]})
        .experiment(
            "linear_regression", target="pressure", features=["age", "months", "sex"], federated_strategy="newton"
        )
        .run(progress=False)
    )
    rows = {row["name"]: row for row in result.coefficients()}
    assert rows["age"]["coefficient"] is None
    assert "not estimable" in rows["months"]["note"]
    assert rows["sex=m"]["standard_error"] > 0


def test_odds_ratios_are_those_of_the_pooled_fit() -> None:
    rows = fit("logistic_regression", "sick", C="inf").coefficients(ratios=True)
    pooled = smf.logit("sick ~ age + sex + cp + flag", frame_of()).fit(tol=1e-14, disp=0, maxiter=100)
    interval = np.exp(pooled.conf_int())
    for row in rows:
        name = TERMS[row["name"]]
        assert row["odds_ratio"] == pytest.approx(np.exp(pooled.params[name]), rel=1e-8)
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval.loc[name]), rel=1e-7)
        assert row["p_value"] == pytest.approx(pooled.pvalues[name], abs=1e-8)
    assert {row["name"] for row in rows} == set(TERMS)
    assert "rate_ratio" in fit("poisson_regression", "pressure", alpha=0).coefficients(ratios=True).columns
    with pytest.raises(DataError, match="no logarithms"):
        fit("linear_regression", "pressure").coefficients(ratios=True)
