"""Exact fits: equal to the pooled ones of scikit-learn and statsmodels, however the rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

import hanse
from hanse import coefficients
from hanse.errors import WireError
from hanse.experiment.results import Result
from hanse.kinds import Site
from hanse.learning.rows import unpack
from hanse.messages import Record
from hanse.registry import find
from hanse.table import Table

SPLITS = ("one", "even", "uneven", "labels apart", "twenty")


def frame_of(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 12, n),
            "dose": np.exp(rng.normal(0, 2, n)),
            "sex": rng.choice(["f", "m"], n),
            "stage": rng.choice(["i", "ii", "iii", None], n, p=[0.5, 0.25, 0.15, 0.1]),
            "smokes": rng.integers(0, 2, n).astype(bool),
        }
    )
    frame.loc[rng.random(n) < 0.1, "dose"] = np.nan
    score = (
        -3 + 0.04 * frame["age"] + 0.8 * (frame["sex"] == "m") + 0.3 * frame["smokes"] - 0.1 * frame["dose"].fillna(1)
    )
    frame["disease"] = np.where(rng.random(n) < 1 / (1 + np.exp(-score)), "yes", "no")
    frame["grade"] = np.where(frame["disease"] == "no", "none", rng.choice(["low", "high"], n))
    frame["pressure"] = 90 + 5 * score + rng.normal(0, 4, n)
    return frame


def split(frame: pd.DataFrame, how: str, target: str) -> dict[str, pd.DataFrame]:
    n = len(frame)
    if how == "one":
        return {"all": frame}
    if how == "labels apart":
        frame = frame.sort_values(target)
    edges = {
        "even": [n // 3, 2 * n // 3],
        "uneven": [7, 7 + n // 20],
        "labels apart": [n // 2, n // 2 + 30],
        "twenty": [int(n * i / 20) for i in range(1, 20)],
    }[how]
    bounds = zip([0, *edges], [*edges, n], strict=True)
    return {f"s{i:02d}": frame.iloc[a:b] for i, (a, b) in enumerate(bounds)}


def fit(frame: pd.DataFrame, how: str, model: str, target: str, features: list[str], **options: Any) -> Result:
    federation = hanse.simulate(split(frame, how, target))
    return federation.experiment(
        model, target=target, features=features, federated_strategy="newton", test_fraction=0.0, model_options=options
    ).run(progress=False)


def design(frame: pd.DataFrame, result: Result) -> np.ndarray[Any, Any]:
    return result.predictor().design(frame)


@pytest.mark.parametrize("how", SPLITS)
def test_logistic_regression_equals_the_pooled_one(how: str) -> None:
    frame = frame_of(1500, 1)
    features = ["age", "dose", "sex", "stage", "smokes"]
    result = fit(frame, how, "logistic_regression", "disease", features)
    X, y = design(frame, result), frame["disease"]
    pooled = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-14, max_iter=1000).fit(X, y)
    model = result.model()
    assert model.coef_ == pytest.approx(pooled.coef_, abs=1e-8)
    assert model.intercept_ == pytest.approx(pooled.intercept_, abs=1e-8)
    assert len(result.rounds) <= 15
    assert result.record.data["fit"]["converged"] is True


@pytest.mark.parametrize("how", SPLITS)
def test_multinomial_regression_equals_the_pooled_one(how: str) -> None:
    frame = frame_of(1500, 2)
    result = fit(frame, how, "logistic_regression", "grade", ["age", "dose", "sex"], C=0.5)
    pooled = LogisticRegression(C=0.5, solver="newton-cg", tol=1e-11, max_iter=5000).fit(
        design(frame, result), frame["grade"]
    )
    assert result.model().coef_ == pytest.approx(pooled.coef_, abs=1e-8)
    assert result.model().intercept_ == pytest.approx(pooled.intercept_, abs=1e-8)


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("features", [["age", "smokes"], ["age", "dose", "sex", "stage"]])
def test_linear_regression_equals_the_pooled_one(how: str, features: list[str]) -> None:
    """Also where a category for each row makes the design singular: the shortest coefficients, as scikit-learn's."""
    frame = frame_of(800, 3)
    result = fit(frame, how, "linear_regression", "pressure", features)
    pooled = LinearRegression().fit(design(frame, result), frame["pressure"])
    model = result.model()
    assert model.coef_ == pytest.approx(pooled.coef_, abs=1e-8)
    assert model.intercept_ == pytest.approx(pooled.intercept_, abs=1e-8)
    assert len(result.rounds) <= 8


@pytest.mark.parametrize("how", SPLITS)
def test_ridge_equals_the_pooled_one(how: str) -> None:
    frame = frame_of(800, 7)
    result = fit(frame, how, "ridge", "pressure", ["age", "dose", "sex", "stage"], alpha=2.5)
    pooled = Ridge(alpha=2.5, solver="cholesky").fit(design(frame, result), frame["pressure"])
    assert result.model().coef_ == pytest.approx(pooled.coef_, abs=1e-8)
    assert result.model().intercept_ == pytest.approx(pooled.intercept_, abs=1e-8)


def test_without_a_penalty_and_without_an_intercept() -> None:
    frame = frame_of(900, 4)
    result = fit(frame, "even", "logistic_regression", "disease", ["age", "smokes"], C="inf", fit_intercept=False)
    X = design(frame, result)
    pooled = sm.Logit((frame["disease"] == "yes").to_numpy(float), X).fit(disp=0, tol=1e-14, maxiter=200)
    assert result.model().coef_[0] == pytest.approx(pooled.params, abs=1e-8)
    assert result.model().intercept_ == 0


def test_the_hessian_of_the_result_is_that_of_the_fit() -> None:
    frame = frame_of(900, 5)
    result = fit(frame, "even", "logistic_regression", "disease", ["age", "smokes"], C="inf")
    X = sm.add_constant(design(frame, result), prepend=False)
    pooled = sm.Logit((frame["disease"] == "yes").to_numpy(float), X).fit(disp=0, tol=1e-14, maxiter=200)
    errors = np.sqrt(np.diag(np.linalg.inv(result.record.arrays["fit.hessian"])))
    assert errors == pytest.approx(pooled.bse, abs=1e-8)
    assert unpack(result.record).data["target"] == "disease"


def test_classes_that_features_separate_have_no_unpenalised_fit() -> None:
    sites = {s: {"x": [float(i) for i in range(40)], "disease": [int(i >= 20) for i in range(40)]} for s in "ab"}
    run = hanse.simulate(sites).experiment(
        "logistic_regression",
        target="disease",
        federated_strategy="newton",
        model_options={"C": "inf"},
        test_fraction=0.0,
    )
    with pytest.raises(hanse.errors.RunFailed, match="separate"):
        run.run(progress=False)


@pytest.mark.parametrize(
    ("model", "options"),
    [("logistic_regression", {"C": "inf"}), ("poisson_regression", {"alpha": 0}), ("grades", {"C": "inf"})],
)
def test_a_value_that_decides_the_outcome_has_no_finite_coefficient_and_that_is_said(
    model: str, options: dict[str, Any]
) -> None:
    """Quasi-complete separation: statsmodels does not converge, and R's coefficients are where it gave up."""
    frame = frame_of(800, 4).drop(columns=["stage", "dose"])
    frame["ward"] = np.where(np.arange(800) % 90 == 0, "hospice", np.where(np.arange(800) % 2, "east", "west"))
    hospice = frame["ward"] == "hospice"
    frame["disease"] = np.where(hospice, "yes", frame["disease"])
    frame["grade"] = np.where(hospice, "high", frame["grade"])
    frame["falls"] = np.where(hospice, 0, frame["age"].clip(0) / 4)
    target = {"logistic_regression": "disease", "poisson_regression": "falls"}.get(model, "grade")
    model = "logistic_regression" if model == "grades" else model
    features = ["age", "sex", "ward"]
    result = fit(frame, "uneven", model, target, features, **options)
    assert sum("no finite fit" in warning for warning in result.warnings) == 1
    assert "! no finite fit" in repr(result)
    assert result.reason.startswith("no finite fit")
    odd = {row["name"] for row in result.coefficients() if "no finite estimate" in row["note"]}
    assert odd == {"ward=hospice"}
    assert all(row["coefficient"] is None for row in result.coefficients() if row["name"] in odd)
    sound = fit(frame[~hospice], "uneven", model, target, features, **options)
    assert not [warning for warning in sound.warnings if "finite" in warning]
    assert not any(row["note"] for row in sound.coefficients())
    for row, alone in zip(
        [r for r in result.coefficients() if r["name"] not in odd], sound.coefficients(), strict=True
    ):
        if target != "grade":  # rows whose outcome is certain tell nothing of other terms
            assert (row["coefficient"], row["standard_error"]) == pytest.approx(
                (alone["coefficient"], alone["standard_error"]), abs=1e-5
            )


def test_a_term_that_follows_from_others_is_called_so_beside_one_without_a_finite_estimate() -> None:
    frame = frame_of(800, 4)
    frame["months"] = 12 * frame["age"] + 1
    frame["ward"] = np.where(np.arange(800) % 90 == 0, "hospice", np.where(np.arange(800) % 2, "east", "west"))
    frame["disease"] = np.where(frame["ward"] == "hospice", "yes", frame["disease"])
    result = fit(frame, "even", "logistic_regression", "disease", ["age", "months", "sex", "ward"], C="inf")
    notes = {row["name"]: row["note"] for row in result.coefficients()}
    assert notes["ward=hospice"] == coefficients.NO_FINITE
    assert notes["age"] == notes["months"] == coefficients.NOT_ESTIMABLE
    assert notes["sex=m"] == notes["ward=west"] == ""


def test_ill_scaled_columns_are_no_separation() -> None:
    frame = frame_of(800, 4)
    frame["age"] = 1e9 + frame["age"] * 1e-3
    frame["again"] = frame["age"] + np.random.default_rng(1).normal(0, 1e-6, 800)
    result = fit(frame, "even", "logistic_regression", "disease", ["age", "again", "dose", "sex", "smokes"], C="inf")
    assert not [warning for warning in result.warnings if "finite" in warning]
    assert "separated" not in result.record.data["fit"]


def test_no_step_mixes_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that is lost in the middle: the fit is that of the sites that stayed."""
    frame = frame_of(1200, 6)
    sites: Mapping[str, pd.DataFrame] = split(frame, "even", "disease")
    from hanse.algorithms.newton import ALGORITHM
    from hanse.errors import NodeFailed

    calls: list[str] = []
    honest = type(ALGORITHM).answer

    def answer(self: Any, site: Any, ask: Any) -> Any:
        calls.append(site.node)
        if site.node == "s01" and calls.count("s01") > 2:
            raise NodeFailed("the disk broke")
        return honest(self, site, ask)

    monkeypatch.setattr(type(ALGORITHM), "answer", answer)
    result = (
        hanse.simulate(sites)
        .experiment(
            "logistic_regression",
            target="disease",
            features=["age", "smokes"],
            federated_strategy="newton",
            test_fraction=0.0,
        )
        .run(progress=False)
    )
    assert result.record.data["fit"]["nodes"] == ["s00", "s02"]
    left = pd.concat([sites["s00"], sites["s02"]])
    pooled = LogisticRegression(solver="newton-cholesky", tol=1e-14).fit(design(left, result), left["disease"])
    assert result.model().coef_ == pytest.approx(pooled.coef_, abs=1e-8)


def test_an_ask_with_another_name_in_it_is_refused_by_its_path() -> None:
    ask = Record({"prepared": {}, "theta_": 1}, {"theta": np.zeros((1, 1))})
    with pytest.raises(WireError, match="theta_ of Question is not known"):
        find("algorithms", "newton").ALGORITHM.answer(Site("a", Table(), {}), ask)
