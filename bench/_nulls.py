"""How often tests find what is not there, at the default protection: federations in which no group differs from another
in anything, asked nothing but tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from _in_process import asked

from hanse.errors import ConfigError
from hanse.queries import Item, make_item, statistic
from hanse.rough import Partial

LEVEL = 0.05
TWO = {"group": "g", "groups": ["a", "b"]}
TESTS: dict[str, Item] = {
    "t_test": make_item("t_test", ["x"], TWO),
    "t_test, equal_var": make_item("t_test", ["x"], {**TWO, "equal_var": True}),
    "mann_whitney": make_item("mann_whitney", ["x"], TWO),
    "logrank": make_item("logrank", ["t", "e"], TWO),
    "crosstab": make_item("crosstab", ["g", "h"], {}),
}


def pooled_p(pooled: dict[str, Any]) -> dict[str, float]:
    """Of each test, by SciPy and lifelines."""
    from lifelines.statistics import logrank_test
    from scipy import stats

    a, b = pooled["g"] == "a", pooled["g"] == "b"
    x, t, e = pooled["x"], pooled["t"], pooled["e"]
    table = [[int((one & (pooled["h"] == label)).sum()) for label in "cdf"] for one in (a, b)]
    return {
        "t_test": stats.ttest_ind(x[a], x[b], equal_var=False).pvalue,
        "t_test, equal_var": stats.ttest_ind(x[a], x[b]).pvalue,
        "mann_whitney": stats.mannwhitneyu(x[a], x[b], method="asymptotic").pvalue,
        "logrank": logrank_test(t[a], t[b], e[a], e[b]).p_value,
        "crosstab": stats.chi2_contingency(table, correction=False).pvalue,
    }


def told_p(frames: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Of each test, by the federation; None where it tells none."""
    besides = dict.fromkeys(more for item in TESTS.values() for more in statistic(item.stat).beside(item))
    found, told = asked(frames, [*TESTS.values(), *besides]), dict[str, float | None]()
    for name, item in TESTS.items():
        try:
            p = found.qualified(item)["p"]
        except ConfigError:  # no two groups are told
            p = None
        told[name] = None if p is None or isinstance(p, Partial) else float(p)
    return told


def nulls(draw: Any, draws: int, shapes: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Of each shape and test how many draws had a p, in how many of all draws it was below 5 %, and the same of pooled
    rows. ``limit``: the nominal 5 % and two standard errors of a share of so many draws."""
    for sites, each in shapes:
        told: dict[str, list[float | None]] = {name: [] for name in TESTS}
        true: dict[str, list[float]] = {name: [] for name in TESTS}
        for seed in range(draws):
            frames = draw(sites, each, 10_000 + seed)
            pooled = {name: np.concatenate([f[name] for f in frames.values()]) for name in frames["s00"]}
            for name, p in told_p(frames).items():
                told[name].append(p)
            for name, p in pooled_p(pooled).items():
                true[name].append(p)
        for name in TESTS:
            yield {
                "test": name,
                "sites": sites,
                "rows": each,
                "draws": draws,
                "told": sum(p is not None for p in told[name]) / draws,
                "rejected": sum(p is not None and p < LEVEL for p in told[name]) / draws,
                "pooled": sum(p < LEVEL for p in true[name]) / draws,
                "limit": LEVEL + 2 * (LEVEL * (1 - LEVEL) / draws) ** 0.5,
            }
