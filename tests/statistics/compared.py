"""Each statistic of the pooled rows: what it is exactly, what the reference library says, and the scale
that an error is told in. ``COMPARISONS`` has one entry per file of :mod:`hanse.statistics`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import truth
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from scipy import stats

from hanse.algorithms.statistics import known_of
from hanse.fetched import Fetched
from hanse.queries import Item, statistic
from hanse.statistics import quantile as quantiles


@dataclass(frozen=True)
class Line:
    """One number. ``scale``: what 1e-10 is a share of; ``reference``: NumPy, pandas, SciPy or lifelines."""

    what: str
    ours: Any
    true: Any  # Fraction, mpf, int or None (undefined)
    reference: float | None = None
    scale: Any = None

    def error(self, found: Any, against: Any) -> float:
        """|found - against| on the scale; infinite where just one of them is undefined."""
        if found is None or against is None:
            return 0.0 if found is against else float("inf")
        if not np.isfinite(float(found)):
            return float("inf")
        apart = abs(_real(found) - _real(against))
        scale = abs(_real(self.true if self.scale is None else self.scale))
        return float(apart / scale) if scale else (0.0 if not apart else float("inf"))


def _real(value: Any) -> Any:
    if isinstance(value, (Fraction, int, np.integer)):
        return truth.real(Fraction(int(value)) if not isinstance(value, Fraction) else value)
    return truth.mp.mpf(float(value)) if isinstance(value, (float, np.floating)) else value


class Rows:
    """A data frame's columns as numbers (dates: days since 1970-01-01) and as labels; parts of its rows."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.size = len(frame)
        self.numbers: dict[str, Vector] = {}
        self.labels: dict[str, Vector] = {}
        self.dates = {name for name in frame.columns if frame[name].dtype.kind == "M"}
        for name in frame.columns:
            x = frame[name]
            if x.dtype.kind == "M":
                self.numbers[name] = ((x - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(float)
            elif x.dtype.kind in "biuf":
                self.numbers[name] = x.to_numpy(float)
            texts = [None if pd.isna(v) or v in (np.inf, -np.inf) else _label(v) for v in x.tolist()]
            self.labels[name] = np.array(texts, object)

    def part(self, inside: Vector) -> Rows:
        found = Rows.__new__(Rows)
        found.size, found.dates = int(inside.sum()), self.dates
        found.numbers = {name: x[inside] for name, x in self.numbers.items()}
        found.labels = {name: x[inside] for name, x in self.labels.items()}
        return found

    def there(self, *names: str) -> list[Vector]:
        """The finite values of columns, in the rows in which all are there."""
        fine = self.fine(*names)
        return [self.numbers[name][fine] for name in names]

    def fine(self, *names: str) -> Vector:
        return np.asarray(np.all([np.isfinite(self.numbers[name]) for name in names], axis=0))

    def present(self, name: str) -> list[str]:
        return [v for v in self.labels[name] if v is not None]


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(int(value)) if float(value).is_integer() else repr(value)
    return str(value)


Vector = np.ndarray[Any, Any]
Compare = Callable[[Rows, Item, Any, Fetched], Iterator[Line]]
COMPARISONS: dict[str, Compare] = {}


def compares(function: Compare) -> Compare:
    COMPARISONS[function.__name__.rstrip("_")] = function
    return function


def lines(rows: Rows, item: Item, fetched: Fetched) -> Iterator[Line]:
    """All numbers of one item; by group where it has ``by``."""
    value = fetched.value(item)
    compare = COMPARISONS[item.stat]
    if not item.by:
        yield from compare(rows, item, value, fetched)
        return
    groups = list(itertools.product(*(sorted(set(rows.present(name))) for name in item.by)))
    assert set(value) == {g[0] if len(g) == 1 else g for g in groups}
    for group in groups:
        inside = np.all([rows.labels[name] == label for name, label in zip(item.by, group, strict=True)], axis=0)
        yield from compare(rows.part(inside), item, value[group[0] if len(group) == 1 else group], fetched)


def groups(rows: Rows, item: Item) -> list[Vector]:
    """The column's values in the two groups."""
    names = rows.labels[item.options["group"]]
    return [rows.part(names == label).there(item.columns[0])[0] for label in item.options["groups"]]


def about(x: Vector, k: int) -> Fraction:
    """Mean |x - mean|^k."""
    return truth.absolute(x, k)


# ---------------------------------------------------------------- counts: exact


@compares
def count(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    present = rows.present(item.columns[0])
    yield Line("count", value, len(present), float(pd.Series(rows.labels[item.columns[0]]).count()))


@compares
def missing(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    name = item.columns[0]
    infinite = int(np.isinf(rows.numbers[name]).sum()) if name in rows.numbers else 0
    missing = rows.size - len(rows.present(name)) - infinite
    for what, true in (("rows", rows.size), ("missing", missing), ("infinite", infinite)):
        yield Line(what, value[what], true)


@compares
def sparsity(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    sparse = 0
    for name in item.columns:
        zeros = name in rows.numbers and name not in rows.dates
        infinite = int(np.isinf(rows.numbers[name]).sum()) if name in rows.numbers else 0
        sparse += rows.size - len(rows.present(name)) - infinite
        sparse += int((rows.numbers[name] == 0).sum()) if zeros else 0
    yield Line("sparsity", value, Fraction(sparse, rows.size * len(item.columns)) if rows.size else None)


@compares
def levels(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    found = set(rows.present(item.columns[0]))
    yield Line("labels", int(sorted(value) == sorted(found)), 1)


@compares
def value_counts(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    expected = pd.Series(rows.present(item.columns[0]), dtype=object).value_counts().to_dict()
    yield Line("rows per label", int(value == expected), 1)


@compares
def crosstab(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    a, b = (pd.Series(rows.labels[name], name=name) for name in item.columns)
    table = pd.crosstab(a, b)
    found = {(r, c): n for r, row in value["table"].items() for c, n in row.items()}
    expected = {(r, c): table.loc[r, c] for r in table.index for c in table.columns}
    yield Line("cells", int(found == expected), 1)
    if table.size and min(table.shape) > 1:
        chi2, p = truth.chi_square(table.to_numpy())
        test = stats.chi2_contingency(table, correction=False)
        n = int(table.to_numpy().sum())
        # chi2 / n lies in [0, 1]: near independence it is a sum of squares of differences near 0
        yield Line("chi2", value["chi2"], chi2)
        yield Line("chi2 against SciPy", value["chi2"], chi2, test.statistic, max(chi2, Fraction(n, 10**6)))
        yield Line("chi2 p", value["p"], p, test.pvalue)
        yield Line("dof", value["dof"], test.dof)
    else:
        yield Line("chi2", value["chi2"], None)


@compares
def histogram(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    edges = np.array(value["bin_edges"])
    counts = np.histogram(x, edges)[0]
    yield Line("bins", int(value["counts"] == counts.tolist()), 1)
    yield Line("below", value["below"], int((x < edges[0]).sum()))
    yield Line("above", value["above"], int((x > edges[-1]).sum()))


@compares
def cells(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    yield Line("rows in cells", sum(value["counts"]), len(x))
    low, high = np.array(value["low"]), np.array(value["high"])
    slack = 4 * np.spacing(np.abs(x).max()) if len(x) else 0.0  # a cell's edges are told from 0 again
    inside = [np.any((v >= low - slack) & (v <= high + slack)) for v in x]
    yield Line("values in a cell", int(all(inside)), 1)


@compares
def min_(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    yield Line("min", value, Fraction(float(x.min())) if len(x) else None, x.min() if len(x) else None)


@compares
def max_(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    yield Line("max", value, Fraction(float(x.max())) if len(x) else None, x.max() if len(x) else None)


# ---------------------------------------------------------------- sums and moments


@compares
def sum_(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    yield Line("sum", value, truth.total(x), float(np.sum(x)), truth.total(np.abs(x)))


@compares
def mean(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    if not len(x):
        yield Line("mean", value, None)
    else:
        yield Line("mean", value, truth.mean(x), float(np.mean(x)), truth.mean(np.abs(x)))


@compares
def variance(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    ddof = item.options["ddof"]
    if len(x) <= ddof:
        yield Line("variance", value, None)
    else:
        yield Line("variance", value, truth.variance(x, ddof), float(np.var(truth.shift(x), ddof=ddof)))


@compares
def std(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    if len(x) < 2:
        yield Line("std", value, None)
    else:
        true = truth.mp.sqrt(truth.real(truth.variance(x)))
        yield Line("std", value, true, float(pd.Series(truth.shift(x)).std()))


@compares
def moments(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    n, adjusted = len(x), item.options["adjusted"]
    flat = n < 1 or truth.powers(x, 2)[1] == 0
    moved = truth.shift(x)
    moved = moved / 2.0 ** np.round(np.log2(np.std(moved))) if not flat else moved  # SciPy takes small ones for 0
    if flat or (adjusted and n < 3):
        yield Line("skewness", value["skewness"], None)
    else:
        # the scale: the third absolute moment, of which skewness is what does not cancel
        size = truth.real(about(x, 3)) / truth.mp.power(truth.real(about(x, 2)), 1.5)
        factor = truth.mp.sqrt(n * (n - 1)) / (n - 2) if adjusted else 1
        true = truth.skewness(x, adjusted)
        yield Line("skewness", value["skewness"], true, _quiet(stats.skew, moved, bias=not adjusted), size * factor)
    if flat or (adjusted and n < 4):
        yield Line("kurtosis", value["kurtosis"], None)
    else:
        # the scale: the kurtosis before 3 is taken off
        size, factor = about(x, 4) / about(x, 2) ** 2, Fraction(1)
        if adjusted:
            factor = Fraction((n - 1) * (n + 1), (n - 2) * (n - 3))
        true = truth.kurtosis(x, adjusted)
        yield Line("kurtosis", value["kurtosis"], true, _quiet(stats.kurtosis, moved, bias=not adjusted), size * factor)


def _quiet(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


@compares
def pair_means(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    for i, a in enumerate(item.columns):
        for j, b in enumerate(item.columns):
            x = rows.there(a, b)[0]
            if len(x):
                yield Line("mean of a pair", value[i][j], truth.mean(x), float(np.mean(x)), truth.mean(np.abs(x)))
            else:
                yield Line("mean of a pair", value[i][j], None)


@compares
def covariance(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    for (i, a), (j, b) in itertools.combinations_with_replacement(enumerate(item.columns), 2):
        x, y = rows.there(a, b)
        assert value[i][j] == value[j][i]
        if len(x) < 2:
            yield Line("covariance", value[i][j], None)
            continue
        # the scale: Cauchy and Schwarz's bound, sqrt(var x var y), of which the covariance may be any part
        size = truth.mp.sqrt(truth.real(truth.variance(x) * truth.variance(y)))
        reference = np.cov(truth.shift(x), truth.shift(y))[0, 1] if size else 0.0
        yield Line("covariance", value[i][j], truth.covariance(x, y), reference, size)


@compares
def correlation(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    for (i, a), (j, b) in itertools.combinations_with_replacement(enumerate(item.columns), 2):
        x, y = rows.there(a, b)
        size = truth.mp.sqrt(truth.real(truth.variance(x) * truth.variance(y))) if len(x) > 1 else 0
        if not size:
            yield Line("correlation", value[i][j], None)
            continue
        x, y, true = x, y, truth.real(truth.covariance(x, y)) / size
        reference = np.corrcoef(truth.shift(x), truth.shift(y))[0, 1]
        yield Line("correlation", value[i][j], true, reference, 1)  # it lies in [-1, 1]


# ---------------------------------------------------------------- sketches: within their bounds


def _stands(x: Vector, q: float, found: Any, item: Item, fetched: Fetched) -> Iterator[Line]:
    """A quantile and NumPy's stand between the same bounds."""
    if not len(x):
        yield Line("quantile", found, None)
        return
    known = known_of(fetched.plan, fetched.arrays, item, 0)
    least, most = quantiles.between(known, q)
    if least is None or most is None:
        yield Line("quantile", found, None)
        return
    slack = 8 * np.spacing(np.abs(x).max())
    low, high = least - slack, most + slack
    yield Line("quantile in its bounds", int(low <= found <= high and low <= np.quantile(x, q) <= high), 1)


@compares
def quantile(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    [x] = rows.there(item.columns[0])
    for q, found in zip(item.options["q"], value, strict=True):
        yield from _stands(x, q, found, item, fetched)


@compares
def median(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    yield from _stands(rows.there(item.columns[0])[0], 0.5, value, item, fetched)


@compares
def distinct(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    true = len(set(rows.present(item.columns[0])))
    yield Line("distinct", int(abs(value - true) <= max(1.0, 5 * 0.0082 * true)), 1)


# ---------------------------------------------------------------- groups


@compares
def t_test(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    x, y = groups(rows, item)
    if min(len(x), len(y)) < 2 or truth.variance(x) + truth.variance(y) == 0:
        yield Line("t", value["t"], None)
        return
    true = truth.t_test(x, y, item.options["equal_var"])
    both = truth.shift(np.concatenate([x, y]))
    test = _quiet(stats.ttest_ind, both[: len(x)], both[len(x) :], equal_var=item.options["equal_var"])
    # the scale of a difference of means: their standard error, so that of t is 1, or t itself where it is more
    error = (
        truth.real(true["difference"]) / true["t"]
        if true["t"]
        else truth.mp.sqrt(truth.real(truth.variance(x) / len(x) + truth.variance(y) / len(y)))
    )
    yield Line(
        "t difference",
        value["difference"],
        true["difference"],
        float(np.mean(both[: len(x)]) - np.mean(both[len(x) :])),
        max(abs(truth.real(true["difference"])), error),
    )
    yield Line("t", value["t"], true["t"], test.statistic, max(abs(true["t"]), truth.mp.mpf(1)))
    yield Line("t dof", value["dof"], true["dof"], test.df)
    yield Line("t p", value["p"], true["p"], test.pvalue)


@compares
def smd(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    x, y = groups(rows, item)
    if min(len(x), len(y)) < 2 or truth.variance(x) + truth.variance(y) == 0:
        yield Line("smd", value, None)
        return
    spread = truth.mp.sqrt(truth.real((truth.variance(x) + truth.variance(y)) / 2))
    both = truth.shift(np.concatenate([x, y]))
    a, b = both[: len(x)], both[len(x) :]
    reference = (np.mean(a) - np.mean(b)) / np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2)
    true = truth.real(truth.mean(x) - truth.mean(y)) / spread
    yield Line("smd", value, true, reference, max(abs(true), truth.mp.mpf(1)))


@compares
def mann_whitney(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    x, y = groups(rows, item)
    if min(len(x), len(y)) < 1:
        yield Line("u", value["u"], None)
        return
    u, p = truth.mann_whitney(x, y) if len({*x, *y}) > 1 else (Fraction(len(x) * len(y), 2), None)
    yield Line("u within its error", int(abs(Fraction(value["u"]) - u) <= Fraction(value["error"])), 1)
    counted = statistic("mann_whitney").needs(item)[1]
    cells_used = int((fetched._sliced(counted)["counts"].sum(0) > 0).sum())
    yield Line(
        "u p within its range",
        int(p is None or value["p_range"][0] * (1 - 1e-10) <= p <= value["p_range"][1] * (1 + 1e-10)),
        1,
    )
    if not value["error"] and cells_used == len({*x, *y}):
        test = _quiet(stats.mannwhitneyu, x, y, method="asymptotic")
        yield Line("u", value["u"], u, test.statistic)
        yield Line("u p", value["p"], p, test.pvalue if p is not None else None)


@compares
def kaplan_meier(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    time, event = rows.there(*item.columns)
    ours = {t: i for i, t in enumerate(value["times"])}
    if not len(time):
        return
    fit = _quiet(KaplanMeierFitter().fit, time, event, alpha=1 - item.options["level"])
    curve, band = fit.survival_function_.iloc[:, 0], fit.confidence_interval_
    below = None
    for at, survival, lower, upper in truth.kaplan_meier(time, event, item.options["level"]):
        i = ours[at]
        yield Line("survival", value["survival"][i], survival, curve[at] if survival else None)
        if 0 < survival < 1:
            yield Line("lower", value["lower"][i], lower, band.iloc[:, 0][at])
            yield Line("upper", value["upper"][i], upper, band.iloc[:, 1][at])
        below = at if below is None and survival <= Fraction(1, 2) else below
    yield Line("median survival", value["median"], None if below is None else Fraction(below))


@compares
def logrank(rows: Rows, item: Item, value: Any, fetched: Fetched) -> Iterator[Line]:
    time, event = rows.there(*item.columns)
    names = rows.labels[item.options["group"]][rows.fine(*item.columns)]
    known = np.array([name is not None for name in names], bool)
    time, event, names = time[known], event[known], names[known].astype(str)
    true = truth.logrank(time, event, names)
    if true is None:
        yield Line("log-rank", value["chi2"], None)
        return
    chi2, p, rank = true
    test = _quiet(multivariate_logrank_test, time, names, event)
    yield Line("log-rank", value["chi2"], chi2, test.test_statistic, max(chi2, Fraction(1, 10**6)))
    yield Line("log-rank p", value["p"], p, test.p_value if rank == len(set(names)) - 1 else None)
    yield Line("log-rank dof", value["dof"], rank)
