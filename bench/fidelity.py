"""How far statistics are from those of the pooled rows, at the default protection.

Random federations of each shape (sites x rows), drawn with the same seeds for each build: every statistic is asked,
and held against NumPy, SciPy or lifelines on the rows of all sites together. ``median`` and ``worst`` are errors: of
numbers in standard deviations, of counts in shares of all rows, of U in shares of all pairs, of survival and p as they
are. ``given`` is the share of answers that were a number; ``held`` the share of those ranges that hold the pooled
value (``-``: none is told); ``reject``: of tests of groups that do not differ, the share with p < 0.05.
``--against PATH`` runs another checkout's sources in the same run; ``ratio`` is the median error over its.

``--nulls N`` asks nothing but tests, of N federations of each shape in which no group differs from another: ``told`` is
the share with a p, ``rejected`` that with p < 0.05, ``pooled`` the same of the pooled rows, and ``limit`` 5 % and two
standard errors. (Correlations, standardised differences and table 1 have no p.)

    python bench/fidelity.py --against ../base --draws 20
    python bench/fidelity.py --nulls 1000 --shape 5x30
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

HERE = str(Path(__file__).resolve().parent)
sys.path = [*(path for path in sys.path if path != HERE), HERE]  # this folder has a statistics.py, as Python has

SHAPES = ((5, 30), (5, 100), (5, 500), (3, 3000), (20, 60))
LONGEST = 4 * 3600.0  # seconds that one build may take
Frames = dict[str, dict[str, Any]]
Found = Iterator[tuple[str, float | None, bool | None, float | None]]  # name, error, whether its range holds, p


def draw(sites: int, rows: int, seed: int) -> Frames:
    """No group differs from another in anything; of the groups of ``r`` one is rare, so that sites keep it back."""
    rng, rare = np.random.default_rng((sites, rows, seed)), np.random.default_rng((sites, rows, seed, 1))
    return {
        f"s{i:02d}": {
            "x": rng.normal(50, 10, rows),
            "age": rng.integers(20, 90, rows).astype(float),
            "cost": np.exp(rng.normal(7, 1, rows)),
            "t": rng.exponential(500, rows),
            "e": (rng.random(rows) < 0.7).astype(float),
            "g": rng.choice(["a", "b"], rows),
            "h": rng.choice(["c", "d", "f"], rows, p=[0.6, 0.3, 0.1]),
            "r": rare.choice(["a", "b"], rows, p=[0.75, 0.25]),
        }
        for i in range(sites)
    }


def ask(analytics: Any, name: str, columns: Any, options: dict[str, Any]) -> Any:
    """The value of one statistic; None where there is none. Both builds answer to this."""
    key = columns if isinstance(columns, str) else ", ".join(columns)
    try:
        return analytics.fetch_stats_with_args({key: {name: options}}).values(name).get(key)
    except Exception as error:
        if type(error).__name__ in ("ConfigError", "RunFailed"):
            return None
        raise


def within(value: float, bounds: Any) -> bool | None:
    if bounds is None or any(type(end).__name__ == "Partial" for end in bounds):  # of some of the rows
        return None
    least, most = bounds
    slack = 1e-9 * max(1.0, abs(value))
    return (least is None or least - slack <= value) and (most is None or value <= most + slack)


def bounds_of(value: Any) -> Any:
    return (value.least, value.most) if getattr(value, "least", None) is not None else None


def pooled_one(value: Any) -> Any:
    """The number, where it is told as one of all rows; else None."""
    return None if type(value).__name__ == "Partial" else value


def kept(analytics: Any, pooled: dict[str, Any]) -> Found:
    """Groups that sites keep back where they are few there: errors in standard deviations, of p as they are."""
    from scipy import stats

    spread = pooled["x"].std()
    parts = {label: pooled["x"][pooled["r"] == label] for label in "ab"}
    for name, of in (("mean", np.mean), ("std", lambda x: x.std(ddof=1))):
        found = by_group(analytics, name)
        for label, x in parts.items():
            value, true = pooled_one(found.get(label)), float(of(x))
            held = None if value is None else within(true, bounds_of(value) or (float(value), float(value)))
            yield f"{name} by group", None if value is None else abs(float(value) - true) / spread, held, None
    true = stats.ttest_ind(parts["a"], parts["b"], equal_var=False)
    found = ask(analytics, "t_test", "x", {"group": "r", "groups": ["a", "b"]}) or {}
    for name, exact in (("p", true.pvalue), ("t", true.statistic)):
        value = pooled_one(found.get(name))
        ends = found.get(f"{name}_range") or bounds_of(value) or (None if value is None else (value, value))
        held = within(float(exact), ends)
        yield f"t_test of kept groups {name}", None if value is None else abs(float(value) - exact), held, None


def by_group(analytics: Any, name: str) -> dict[str, Any]:
    try:
        return dict(analytics.fetch_stats(name, "x", by="r").values(name).get("x") or {})
    except Exception as error:
        if type(error).__name__ in ("ConfigError", "RunFailed"):
            return {}
        raise


def plain(analytics: Any, pooled: dict[str, Any]) -> Found:
    """Numbers of one column: errors in standard deviations of it."""
    for name, true in (
        ("count", len(pooled["x"])),
        ("mean", pooled["x"].mean()),
        ("std", pooled["x"].std(ddof=1)),
    ):
        found = ask(analytics, name, "x", {})
        scale = len(pooled["x"]) if name == "count" else pooled["x"].std()
        yield name, None if found is None else abs(float(found) - true) / scale, None, None
    for column in ("x", "age", "cost"):
        spread = pooled[column].std()
        values = ask(analytics, "quantile", column, {"q": [0.05, 0.25, 0.5, 0.75, 0.95]})
        for q, found in zip((0.05, 0.25, 0.5, 0.75, 0.95), values or [None] * 5, strict=True):
            true = float(np.quantile(pooled[column], q))
            error = None if found is None else abs(float(found) - true) / spread
            yield f"quantile {q}", error, within(true, bounds_of(found)) if found is not None else None, None


def counts(analytics: Any, pooled: dict[str, Any]) -> Found:
    """Errors as shares of all rows."""
    n = len(pooled["x"])
    found = ask(analytics, "histogram", "x", {"bins": 20})
    edges = np.array(found["bin_edges"])
    true = np.histogram(pooled["x"], edges)[0]
    for i, (told, bin_) in enumerate(zip(found["counts"], true, strict=True)):
        holds = within(int(bin_), found["counts_range"][i]) if "counts_range" in found else None
        yield "histogram, 20 bins", None if told is None else abs(float(told) - bin_) / n, holds, None
    told = ask(analytics, "value_counts", "h", {}) or {}
    for label in ("c", "d", "f"):
        rows = told.get(label)
        error = None if rows is None else abs(float(rows) - (pooled["h"] == label).sum()) / n
        yield "value_counts", error, within(int((pooled["h"] == label).sum()), bounds_of(rows)), None
    table = ask(analytics, "crosstab", ("g", "h"), {})
    for row in "ab":
        for column in "cdf":
            rows, cell = (table or {}).get("table", {}).get(row, {}).get(column), 0
            cell = int(((pooled["g"] == row) & (pooled["h"] == column)).sum())
            yield "crosstab", None if rows is None else abs(float(rows) - cell) / n, within(cell, bounds_of(rows)), None


def curves(analytics: Any, pooled: dict[str, Any]) -> Found:
    from lifelines import KaplanMeierFitter

    curve = ask(analytics, "kaplan_meier", ("t", "e"), {})
    fit = KaplanMeierFitter().fit(pooled["t"], pooled["e"])
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        time, true = float(np.quantile(pooled["t"], share)), None
        at = int(np.searchsorted(curve["times"], time)) if curve else 0
        if not curve or at >= len(curve["times"]):
            yield "kaplan_meier", None, None, None
            continue
        true = float(fit.predict(curve["times"][at]))
        told, held = pooled_one(curve["survival"][at]), None
        if "survival_range" in curve:
            held = within(true, curve["survival_range"][at])
        yield "kaplan_meier", None if told is None else abs(told - true), held, None
        band = fit.confidence_interval_
        row = band.to_numpy()[int(np.searchsorted(band.index, curve["times"][at], "right")) - 1]
        low, high = pooled_one(curve["lower"][at]), pooled_one(curve["upper"][at])
        told = low is not None and high is not None
        error = max(abs(low - row[0]), abs(high - row[1])) if told else None
        yield "kaplan_meier band", error, bool(low <= row[0] + 1e-7 and row[1] <= high + 1e-7) if told else None, None
    told = curve and pooled_one(curve["median"])
    held = (
        within(float(fit.median_survival_time_), curve["median_range"]) if curve and "median_range" in curve else None
    )
    yield "median survival", None if not told else abs(told / fit.median_survival_time_ - 1), held, None


def tests(analytics: Any, pooled: dict[str, Any]) -> Found:
    """Errors of p, and of U as a share of all pairs."""
    from lifelines.statistics import logrank_test
    from scipy import stats

    a, b = pooled["g"] == "a", pooled["g"] == "b"
    x, t, e = pooled["x"], pooled["t"], pooled["e"]
    ranks = stats.mannwhitneyu(x[a], x[b], method="asymptotic")
    table = [[int((one & (pooled["h"] == label)).sum()) for label in "cdf"] for one in (a, b)]
    for name, columns, true in (
        ("t_test", "x", stats.ttest_ind(x[a], x[b], equal_var=False).pvalue),
        ("mann_whitney", "x", ranks.pvalue),
        ("logrank", ("t", "e"), logrank_test(t[a], t[b], e[a], e[b]).p_value),
        ("chi-square", ("g", "h"), stats.chi2_contingency(table, correction=False).pvalue),
    ):
        found = ask(
            analytics,
            "crosstab" if name == "chi-square" else name,
            columns,
            {} if name == "chi-square" else {"group": "g"},
        )
        p = None if found is None else pooled_one(found["p"])
        ends = found and (found.get("p_range") or bounds_of(p))
        held = within(float(true), ends)
        yield f"{name} p", None if p is None else abs(float(p) - true), held, p
        if name == "mann_whitney":
            u = found and pooled_one(found["u"])
            pairs = int(a.sum()) * int(b.sum())
            held = within(float(ranks.statistic), found["u_range"]) if found and found.get("u_range") else None
            yield "mann_whitney U", None if u is None else abs(float(u) - ranks.statistic) / pairs, held, None


GROUPS: tuple[Callable[[Any, dict[str, Any]], Found], ...] = (plain, counts, curves, tests, kept)


def measure(draws: int) -> list[dict[str, Any]]:
    import hanse

    warnings.simplefilter("ignore")
    rows = []
    for sites, each in SHAPES:
        seen: dict[str, list[tuple[Any, Any, Any]]] = {}
        for seed in range(draws if each < 3000 else max(draws // 2, 1)):
            frames = draw(sites, each, seed)
            pooled = {name: np.concatenate([f[name] for f in frames.values()]) for name in frames["s00"]}
            analytics = hanse.simulate(frames).analytics()
            for group in GROUPS:
                for name, error, held, p in group(analytics, pooled):
                    seen.setdefault(name, []).append((error, held, p))
        for name, found in seen.items():
            errors = [float(e) for e, _, _ in found if e is not None and np.isfinite(e)]
            held = [h for _, h, _ in found if h is not None]
            ps = [float(p) for _, _, p in found if p is not None]
            rows.append(
                {
                    "statistic": name,
                    "sites": sites,
                    "rows": each,
                    "median": float(np.median(errors)) if errors else None,
                    "worst": max(errors) if errors else None,
                    "given": len(errors) / len(found),
                    "held": sum(held) / len(held) if held else None,
                    "reject": sum(p < 0.05 for p in ps) / len(found) if name.endswith(" p") else None,
                }
            )
    return rows


def measured(path: Path, draws: int) -> list[dict[str, Any]]:
    """With the sources of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(path / "src")}
    command = [sys.executable, "-P", __file__, "--draws", str(draws), "--child"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=LONGEST)
    return list(json.loads(done.stdout.splitlines()[-1]))


def text(value: float | None) -> str:
    if value is None or isinstance(value, int):
        return "-" if value is None else str(value)
    return f"{value:.2g}" if 0 < value < 0.01 else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=20, help="random federations of each shape")
    parser.add_argument("--against", type=Path, help="another checkout, measured in the same run")
    parser.add_argument("--nulls", type=int, help="ask tests alone, of so many federations without differences")
    parser.add_argument("--shape", action="append", default=[], help="for --nulls: SITESxROWS; all of them by default")
    parser.add_argument("--json", action="store_true", help="one object per row instead of a table")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.draws)))
        return
    if args.nulls:
        from _nulls import nulls

        warnings.simplefilter("ignore")
        heads = ("draws", "told", "rejected", "pooled", "limit")
        if not args.json:
            print(f"| test | sites x rows | {' | '.join(heads)} |\n|{'---|' * 7}")
        shapes = [(int(a), int(b)) for a, b in (shape.split("x") for shape in args.shape)] or list(SHAPES)
        for row in nulls(draw, args.nulls, shapes):
            line = f"| {row['test']} | {row['sites']} x {row['rows']} | {' | '.join(text(row[h]) for h in heads)} |"
            print(json.dumps(row) if args.json else line, flush=True)
        return
    builds = [Path(__file__).resolve().parents[1], *([args.against] if args.against else [])]
    with ThreadPoolExecutor(len(builds)) as pool:  # errors, and no seconds: they may run at the same time
        rows, *others = pool.map(lambda path: measured(path, args.draws), builds)
    before = {(r["statistic"], r["sites"], r["rows"]): r for other in others for r in other}
    for row in rows:
        other = before.get((row["statistic"], row["sites"], row["rows"]))
        for name in ("median", "worst", "given", "reject"):
            row[f"{name} before"] = other and other[name]
        row["ratio"] = (
            row["median"] / other["median"] if other and other["median"] and row["median"] is not None else None
        )
    heads = (
        "statistic",
        "sites x rows",
        "median",
        "before",
        "ratio",
        "worst",
        "before",
        "given",
        "before",
        "held",
        "reject",
        "before",
    )
    if not args.json:
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        if args.json:
            print(json.dumps(row))
            continue
        names = (
            "median",
            "median before",
            "ratio",
            "worst",
            "worst before",
            "given",
            "given before",
            "held",
            "reject",
            "reject before",
        )
        print(f"| {row['statistic']} | {row['sites']} x {row['rows']} | {' | '.join(text(row[n]) for n in names)} |")


if __name__ == "__main__":
    main()
