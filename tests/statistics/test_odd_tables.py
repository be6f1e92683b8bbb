"""Random federations of odd tables at the default protection: whatever is told is that of the pooled rows it rests on,
or lies with it between its bounds. References: pandas, SciPy and lifelines on the rows of all sites that are in it."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from pooled import ask
from scipy import stats

from hanse.algorithms.statistics import ByItem, sliced
from hanse.errors import ConfigError
from hanse.fetched import Fetched
from hanse.queries import Item, Known, Values, closure, levels_of, make_item
from hanse.rough import Partial, Rough
from hanse.statistics import _pairs, sparsity
from hanse.table import Column, ColumnKind

DEFAULT = {"minimum_cell": 10, "allow_extremes": False, "allow_node_statistics": False}
EDGES = [-1e3, -10.0, 0.0, 1.0, 2.0, 20.0, 40.0, 45.0, 50.0, 55.0, 60.0, 80.0, 1e3]
LABELS = ("g", "h")
Q = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]


# ---------------------------------------------------------------- tables


def _numbers(rng: np.random.Generator, kind: int, n: int) -> Any:
    if kind == 0:
        return rng.normal(50, 10, n)
    if kind == 1:  # ties
        return np.round(rng.normal(50, 10, n))
    if kind == 2:  # half of it zero, the rest of all sizes
        return np.where(rng.random(n) < 0.5, 0.0, np.exp(rng.normal(0, 2, n)))
    if kind == 3:
        return np.full(n, 3.0)
    if kind == 4:
        return rng.random(n) < 0.3
    if kind == 5:  # every site another population
        return rng.normal(50 + rng.normal(0, 30), np.exp(rng.normal()), n)
    return rng.integers(0, 4, n)


def _gaps(rng: np.random.Generator, values: Any) -> Any:
    """Nothing missing, some, most, or all; here and there an infinite value."""
    share = rng.choice([0.0, 0.0, 0.1, 0.6, 1.0], p=[0.4, 0.2, 0.2, 0.15, 0.05])
    if not share:
        return values
    found = np.where(rng.random(len(values)) < share, np.nan, np.asarray(values, float))
    return np.where(rng.random(len(values)) < 0.02, np.inf, found)


def tables(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """1 to 7 sites of 5 to 3,000 rows."""
    kinds, found = rng.integers(0, 7, 2), {}
    largest = int(rng.choice([60, 300, 3000], p=[0.55, 0.35, 0.1]))
    names = [None, "a", "b", "c"]
    for i in range(int(rng.integers(1, 8))):
        n = int(np.exp(rng.uniform(np.log(5), np.log(largest))))
        x, w = (_gaps(rng, _numbers(rng, int(kind), n)) for kind in kinds)
        t = rng.exponential(500, n)
        t = np.abs(_gaps(rng, np.round(t / 50) if kinds[0] % 2 else t))
        p = rng.dirichlet([0.3, 3.0, 2.0, 0.5])
        g = rng.choice(names, n, p=p / p.sum()).astype(object)
        h = rng.choice(["u", "v", f"only{i}"], n, p=[0.6, 0.38, 0.02]).astype(object)
        g[:1] = "alone"  # a group of one row at each site
        found[f"s{i}"] = pd.DataFrame({"x": x, "w": w, "t": t, "e": rng.random(n) < rng.choice([0.2, 0.7, 0.9])})
        found[f"s{i}"] = found[f"s{i}"].assign(g=g, h=h)
    return found


# ---------------------------------------------------------------- what pooled rows give


def _finite(rows: pd.DataFrame, *names: str) -> list[Any]:
    columns = [rows[name].to_numpy(float, na_value=np.nan) for name in names]
    fine = np.all([np.isfinite(column) for column in columns], axis=0)
    return [column[fine] for column in columns]


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _missing(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    column = rows[item.columns[0]]
    infinite = 0 if item.columns[0] in LABELS else int(np.isinf(column.to_numpy(float, na_value=np.nan)).sum())
    return {"rows": len(column), "missing": int(column.isna().sum()), "infinite": infinite}


def _sparsity(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    columns = [rows[name].to_numpy(float, na_value=np.nan) for name in item.columns]
    return float(np.mean([np.isnan(c) | (c == 0) for c in columns])) if len(rows) else None  # infinite is neither


def _moments(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    [x] = _finite(rows, *item.columns)
    return {"skewness": _or_none(stats.skew(x, bias=False)), "kurtosis": _or_none(stats.kurtosis(x, bias=False))}


def _histogram(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    [x] = _finite(rows, *item.columns)
    edges = np.array(told["bin_edges"], float)
    counts = np.histogram(x, edges)[0].tolist()
    return {"counts": counts, "below": int((x < edges[0]).sum()), "above": int((x > edges[-1]).sum())}


def _value_counts(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    counts = rows[item.columns[0]].value_counts()
    return {label: int(counts.get(label, 0)) for label in told if label != "(other)"}


def _crosstab(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    table = pd.crosstab(rows[item.columns[0]], rows[item.columns[1]])
    cells = {
        r: {c: int(table.loc[r, c]) if r in table.index and c in table.columns else 0 for c in row if c != "(other)"}
        for r, row in told["table"].items()
        if r != "(other)"
    }
    if told["chi2"] is None:
        return {"table": cells}
    test = stats.chi2_contingency(table, correction=False)
    return {"table": cells, "chi2": test.statistic, "dof": test.dof, "p": test.pvalue}


def _matrix(what: Callable[[Any, Any], float]) -> Callable[[list[pd.DataFrame], Item], Any]:
    """Of each pair, of the rows of the sites that do not keep it back."""

    def pooled(frames: list[pd.DataFrame], item: Item) -> Any:
        table: list[list[float | None]] = [[None] * len(item.columns) for _ in item.columns]
        there = [np.isfinite(f[list(item.columns)].to_numpy(float, na_value=np.nan)) for f in frames]
        back = [_pairs.hidden(_pairs.pairs(t), _pairs.triples(t), DEFAULT["minimum_cell"]) for t in there]
        for i, a in enumerate(item.columns):
            for j, b in enumerate(item.columns):
                parts = [frame for frame, hidden in zip(frames, back, strict=True) if not hidden[i, j]]
                x, y = _finite(pd.concat(parts), a, b) if parts else ([], [])
                table[i][j] = _or_none(what(x, y)) if len(x) > 1 else None
        return table

    return pooled


def _curve(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    t, e = _finite(rows, "t", "e")
    if not len(t):
        return {"times": [], "median": None}
    fit = KaplanMeierFitter().fit(t, e, alpha=1 - item.options["level"])
    band = fit.confidence_interval_
    times = np.array(told["times"], float)
    rows_of_band = band.to_numpy()[np.searchsorted(band.index, times, "right") - 1]
    for (low, high), below, above in zip(rows_of_band, told["lower"], told["upper"], strict=True):
        assert np.isnan(low) or below is None or (below <= low + 1e-7 and high <= above + 1e-7)
    before = np.concatenate([[-np.inf], times[:-1]])
    return {
        "survival": np.atleast_1d(fit.predict(times)).astype(float).tolist(),
        "at_risk": [int((t > one).sum()) for one in before],
        "events": [int(((t > a) & (t <= b) & (e > 0)).sum()) for a, b in zip(before, times, strict=True)],
        "median": _or_none(fit.median_survival_time_),
    }


def _one(what: Callable[[Any], float], least: int = 1) -> Callable[[pd.DataFrame, Item, Any], Any]:
    def pooled(rows: pd.DataFrame, item: Item, told: Any) -> Any:
        [x] = _finite(rows, *item.columns)
        return _or_none(what(x)) if len(x) >= least else None

    return pooled


def _quantiles(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    [x] = _finite(rows, *item.columns)
    return np.quantile(x, Q).tolist() if len(x) else [None] * len(Q)


def _count(rows: pd.DataFrame, item: Item, told: Any) -> Any:
    column = rows[item.columns[0]]
    return int(column.notna().sum()) if item.columns[0] in LABELS else len(_finite(rows, *item.columns)[0])


POOLED: dict[str, Callable[[pd.DataFrame, Item, Any], Any]] = {
    "count": _count,
    "missing": _missing,
    "sparsity": _sparsity,
    "sum": _one(np.sum, 0),
    "mean": _one(np.mean),
    "variance": _one(lambda x: np.var(x, ddof=1), 2),
    "std": _one(lambda x: np.std(x, ddof=1), 2),
    "moments": _moments,
    "histogram": _histogram,
    "value_counts": _value_counts,
    "crosstab": _crosstab,
    "quantile": _quantiles,
    "median": _one(np.median),
    "kaplan_meier": _curve,
}


PAIRS = {
    "covariance": _matrix(lambda x, y: np.cov(x, y)[0, 1]),
    "correlation": _matrix(lambda x, y: np.corrcoef(x, y)[0, 1] if np.ptp(x) and np.ptp(y) else math.nan),
}


def _smd(x: Any, y: Any) -> Any:
    return (x.mean() - y.mean()) / math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)


def _t(x: Any, y: Any) -> Any:
    test = stats.ttest_ind(x, y, equal_var=False)
    return {"difference": x.mean() - y.mean(), "t": test.statistic, "dof": test.df, "p": test.pvalue}


def _ranks(x: Any, y: Any) -> Any:
    test = stats.mannwhitneyu(x, y, method="asymptotic")
    return {"u": float(test.statistic), "p": _or_none(test.pvalue)}


TESTS: dict[str, Callable[[Any, Any], Any]] = {"t_test": _t, "smd": _smd, "mann_whitney": _ranks}


# ---------------------------------------------------------------- whose rows are in a value


def _gone(found: Fetched, item: Item, by: str = "", label: str = "") -> set[str]:
    """The sites that tell nothing of a label of ``by``, or of all rows."""
    gone, group = set(found.failures), found.value(levels_of(by)).index(label) if label else 0
    for carrier in closure(item):
        if carrier in found.plan.shared and carrier.by == ((by,) if by else ()) and carrier.stat != "levels":
            gone |= {node for node, groups in found.kept.get(carrier, {}).items() if group in groups}
    return gone


def _rows(frames: dict[str, pd.DataFrame], found: Fetched, item: Item, by: str = "", label: str = "") -> pd.DataFrame:
    """Those of all sites that tell them."""
    gone = _gone(found, item, by, label)
    parts = [frame if not label else frame[frame[by] == label] for name, frame in frames.items() if name not in gone]
    return pd.concat(parts) if parts else next(iter(frames.values())).iloc[:0]


def of_told(value: Any) -> Any:
    """With numbers of the rows that are told, which are looked at here, as numbers with their ends."""
    if isinstance(value, dict):
        return {key: of_told(one) for key, one in value.items()}
    if isinstance(value, list):
        return [of_told(one) for one in value]
    return Rough(float(value), value.least, value.most) if isinstance(value, Partial) else value


def agrees(told: Any, true: Any, what: str) -> int:
    """How many numbers were looked at. Raises ``AssertionError`` where one is not that of the pooled rows."""
    if told is None:
        return 0
    if isinstance(true, dict):
        return sum(agrees(told[key], one, f"{what} {key}") for key, one in true.items() if key in told)
    if isinstance(true, list):
        assert len(told) == len(true), what
        return sum(agrees(a, b, f"{what} [{i}]") for i, (a, b) in enumerate(zip(told, true, strict=True)))
    if isinstance(told, Rough) and told.least is not None and told.most is not None:
        assert true is None or math.isclose(true, told.least, rel_tol=1e-9, abs_tol=1e-9) or true >= told.least, what
        assert true is None or math.isclose(true, told.most, rel_tol=1e-9, abs_tol=1e-9) or true <= told.most, what
        assert told.least - 1e-9 <= float(told) <= told.most + 1e-9, what
        return 1
    assert true is not None, f"{what}: {told!r} where pooled rows give none"
    assert math.isclose(float(told), true, rel_tol=1e-7, abs_tol=1e-7), f"{what}: {told!r}, pooled {true!r}"
    return 1


def _items(rng: np.random.Generator) -> list[Item]:
    two = {"group": "g", "groups": ["a", "b"]}
    numbers = [make_item(s, [c], {}) for s in ("count", "missing", "sum", "mean", "std", "moments") for c in "xw"]
    numbers += [make_item("quantile", [c], {"q": Q, "depth": int(rng.integers(1, 4))}) for c in "xw"]
    numbers += [make_item("histogram", [c], {"bin_edges": EDGES}) for c in "xw"]
    numbers += [make_item("histogram", ["x"], {"bins": 12}), make_item("median", ["w"], {})]
    labels = [make_item(s, [c], {}) for s in ("count", "missing", "value_counts") for c in "gh"]
    both = [make_item(s, ["x", "w"], {}) for s in ("covariance", "correlation", "sparsity")]
    grid = {} if rng.random() < 0.5 else {"grid": sorted(rng.uniform(0, 1500, int(rng.integers(2, 40))).tolist())}
    by = [make_item(s, ["x"], {}, ["g"]) for s in ("count", "missing", "mean", "std", "median")]
    by += [make_item("histogram", ["x"], {"bin_edges": EDGES}, ["g"]), make_item("value_counts", ["h"], {}, ["g"])]
    curves = [make_item("kaplan_meier", ["t", "e"], grid, by) for by in ([], ["g"])]
    tests = [make_item(s, ["x"], two) for s in TESTS] + [make_item("logrank", ["t", "e"], two)]
    return [*numbers, *labels, *both, make_item("crosstab", ["g", "h"], {}), *by, *curves, *tests]


def held(rng: np.random.Generator) -> int:
    """How many numbers of a random federation were held against the pooled rows."""
    return compared(tables(rng), _items(rng))


def compared(frames: dict[str, pd.DataFrame], items: list[Item], asked: dict[str, pd.DataFrame] | None = None) -> int:
    """The same of given ``frames``. ``asked``: as the sites have them, where pooled rows are easier as numbers."""
    found, looked = ask(asked or frames, items, **DEFAULT), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in items:
            try:
                told = of_told(found.qualified(item))
            except ConfigError:  # no two groups are told
                continue
            if item.stat in TESTS or item.stat == "logrank":
                a, b = (_rows(frames, found, item, "g", label) for label in "ab")
                if item.stat == "logrank":
                    if item.options["grid"] is None and told["p"] is not None:
                        both = pd.concat([a, b])
                        t, e = (both[name].to_numpy(float, na_value=np.nan) for name in "te")
                        fine = np.isfinite(t)
                        test = multivariate_logrank_test(t[fine], both.g.to_numpy()[fine], e[fine])
                        looked += agrees(told, {"chi2": test.test_statistic, "p": test.p_value}, item.name)
                else:
                    looked += agrees(told, TESTS[item.stat](*(_finite(rows, "x")[0] for rows in (a, b))), item.name)
            elif item.stat in PAIRS:
                told_by = [frames[n] for n in sorted(frames) if n not in _gone(found, item)]
                looked += agrees(told, PAIRS[item.stat](told_by, item), item.name)
            elif item.by:
                for label, one in told.items():
                    rows = _rows(frames, found, item, "g", label)
                    if one is not None:
                        looked += agrees(one, POOLED[item.stat](rows, item, one), f"{item.name}: {label}")
            elif told is not None:
                looked += agrees(told, POOLED[item.stat](_rows(frames, found, item), item, told), item.name)
    return looked


@pytest.mark.parametrize("part", range(4))
def test_what_is_told_of_odd_tables_is_that_of_the_pooled_rows(part: int) -> None:
    """``make long`` draws two hundred times as many."""
    assert sum(held(np.random.default_rng((part, draw))) for draw in range(4)) > 60


@pytest.mark.long
@pytest.mark.parametrize("part", range(40))
def test_what_is_told_of_thousands_of_odd_tables_is_that_of_the_pooled_rows(part: int) -> None:
    assert sum(held(np.random.default_rng((1000 + part, draw))) for draw in range(80)) > 4_000


# ---------------------------------------------------------------- what a sceptic tries


def _sized(rng: np.random.Generator, sizes: list[int], **given: Any) -> dict[str, pd.DataFrame]:
    """Sites of these sizes; each of ``given`` makes a column of a site from its number and its rows."""
    found = {}
    for i, n in enumerate(sizes):
        columns = {"x": rng.normal(50, 10, n), "w": rng.normal(0, 1, n), "t": rng.exponential(500, n)}
        columns |= {"e": rng.random(n) < 0.7, "g": rng.choice(["a", "b"], n), "h": rng.choice(["u", "v"], n)}
        found[f"s{i:02d}"] = pd.DataFrame(columns | {name: make(i, n) for name, make in given.items()})
    return found


def _of(name: str, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    even, draw = [120, 80, 60, 40], rng.normal
    return {
        "constant but at one site": lambda: _sized(
            rng, even, x=lambda i, n: draw(50, 10, n) if i == 1 else np.full(n, 3.0)
        ),
        "groups of one row": lambda: _sized(rng, even, g=lambda i, n: np.array(["b"] + ["a"] * (n - 1))),
        "groups of one row of all": lambda: _sized(rng, even, g=lambda i, n: np.array([f"only {i}"] + ["a"] * (n - 1))),
        "ties everywhere": lambda: _sized(
            rng, even, x=lambda i, n: rng.integers(1, 3, n), t=lambda i, n: rng.integers(1, 4, n) * 1.0
        ),
        "fifty sites of six rows": lambda: _sized(rng, [6] * 50),
        "one site with 95 %": lambda: _sized(rng, [1900, *[20] * 5]),
        "one site with 95 %, others few": lambda: _sized(rng, [760, *[8] * 5]),
        "beyond 2^53": lambda: _sized(rng, even, x=lambda i, n: rng.integers(2**53, 2**60, n).astype(float)),
        "neighbours at 2^53": lambda: _sized(rng, even, x=lambda i, n: 2.0**53 - rng.integers(0, 50, n)),
        "every site beside the others": lambda: _sized(rng, even, x=lambda i, n: draw(1000.0 * i, 1e-3, n)),
        "a site of infinities": lambda: _sized(
            rng, even, x=lambda i, n: np.full(n, np.inf) if i == 2 else draw(0, 1, n)
        ),
        "all events at one time": lambda: _sized(rng, even, t=lambda i, n: np.full(n, 7.0)),
        "no censoring": lambda: _sized(rng, even, e=lambda i, n: np.ones(n, bool)),
        "survival that ends at one site": lambda: _sized(
            rng, even, t=lambda i, n: rng.exponential(5.0 if i else 5000.0, n), e=lambda i, n: np.full(n, i > 0)
        ),
        "coded 1 and 2": lambda: _sized(rng, even, h=lambda i, n: rng.integers(1, 3, n).astype(str)),
    }[name]()


SCEPTIC = (
    "constant but at one site",
    "groups of one row",
    "groups of one row of all",
    "ties everywhere",
    "fifty sites of six rows",
    "one site with 95 %",
    "one site with 95 %, others few",
    "beyond 2^53",
    "every site beside the others",
    "a site of infinities",
    "all events at one time",
    "no censoring",
    "survival that ends at one site",
    "coded 1 and 2",
)


@pytest.mark.parametrize("name", SCEPTIC)
def test_what_a_sceptic_tries(name: str) -> None:
    """None of these is wrong without a word; where all sites but one at most keep their rows back, nothing is told."""
    rng = np.random.default_rng(len(name))
    looked = compared(_of(name, rng), _items(rng))
    assert (looked == 0) is name.endswith(("six rows", "others few"))


def test_neighbouring_numbers_of_sixteen_digits() -> None:
    """What is ordered; NumPy's moments have no digits left of them (``test_extremes.py`` has exact ones)."""
    rng = np.random.default_rng(1)
    ordered = ("count", "missing", "quantile", "median", "mann_whitney", "value_counts")
    assert compared(_of("neighbours at 2^53", rng), [i for i in _items(rng) if i.stat in ordered]) > 10


def test_dates_before_1970() -> None:
    """They are days below 0."""
    rng = np.random.default_rng(1)
    frames = _sized(rng, [120, 80, 60], x=lambda i, n: rng.integers(-25_000, -3_000, n).astype(float))
    asked = {s: f.assign(x=pd.Timestamp(0) + pd.to_timedelta(f["x"], unit="D")) for s, f in frames.items()}
    assert compared(frames, [i for i in _items(rng) if i.stat != "sparsity"], asked) > 100


@pytest.mark.parametrize("cells", [1, 100, 1 << 16])
def test_sparse_cells_are_counted_alike_however_many_columns_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(sparsity, "CELLS", cells)
    rng, n = np.random.default_rng(0), 30
    numbers = [rng.choice([0.0, -0.0, 1.5, np.nan, np.inf], n) for _ in range(20)]
    words = [rng.choice(["a", "b", ""], n) for _ in range(3)]
    columns = [
        *(Column.numeric(v) for v in numbers[:10]),
        Column(ColumnKind.DATE, rng.choice([0.0, 3.0, np.nan], n)),  # the first day of 1970 is no zero
        *(Column.categorical([w or None for w in v]) for v in words),
        *(Column(ColumnKind.BOOLEAN, np.where(np.isinf(v), 1.0, v)) for v in numbers[10:]),
    ]
    found = sparsity.observe(Values(columns), {}, Known(()))
    sparse = [
        sum(c.values[i] < 0 if c.kind == "categorical" else c.values[i] != c.values[i] for i in range(n))
        + sum(c.values[i] == 0 for i in range(n)) * (c.kind in ("numeric", "boolean"))
        for c in columns
    ]
    assert found["cells"].tolist() == [sparse, [n - count for count in sparse]]
    assert sparsity.observe(Values([c.take(np.empty(0, int)) for c in columns]), {}, Known(()))["cells"].sum() == 0


def _looks(columns: int) -> int:
    """How often a name is looked at for how it begins, where the deviation of so many columns is asked for."""
    items = [make_item("std", (f"c{i}",), {}) for i in range(columns)]
    found, looks = pd.DataFrame({f"c{i}": np.arange(9.0) for i in range(columns)}), 0

    def seen(frame: Any, event: str, of: Any) -> None:
        nonlocal looks
        looks += event == "c_call" and of.__name__ == "startswith"

    sys.setprofile(seen)
    try:
        fetched = ask({"a": found}, items)
        assert [fetched.value(item) for item in items] == pytest.approx([7.5**0.5] * columns)
        assert [fetched.scope(item).missing for item in items] == [{}] * columns
    finally:
        sys.setprofile(None)
    return looks


def test_of_many_columns_not_all_names_are_looked_at_for_each() -> None:
    """The mean of 10,000 columns took minutes at the coordinator and for who asked."""
    assert _looks(60) <= 6 * _looks(20) + 100


def test_arrays_that_know_their_items_are_the_same() -> None:
    names = ["3.n", "3.sum.x", "13.n", "@site.1@3.n", "@a@b@3.n", "@site.1@13.n", "plain"]
    arrays = {name: np.array([at]) for at, name in enumerate(names)}
    for place, prefix in [(3, ""), (13, ""), (3, "@site.1@"), (3, "@a@b@"), (1, ""), (3, "@site@")]:
        assert sliced(ByItem(arrays), place, prefix) == sliced(arrays, place, prefix)
