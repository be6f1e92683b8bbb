"""The log-rank test: do the groups survive alike? Derived from the Kaplan-Meier counts by group.

Columns: time and event. Arguments: ``group``, and those of ``kaplan_meier``. With k groups, chi-square
of k - 1 degrees of freedom from Z'V^-1 Z, Z the observed minus the expected events. A group that is at
risk with no other one when somebody dies adds no degree of freedom (as in R's survival package).

Where times are joined at some site (``hidden``: at how many), chi2 and p of two groups lie within ``chi2_range`` and
``p_range`` wherever the rows stand, and p is given where that range says enough (:mod:`hanse.statistics._p_values`);
of more groups, there is none. ``hidden`` also counts the sites that keep groups of few events back, whose rows are in
neither.

Where the minimum holds on the total, a ``grid`` ends the test at the last time before its end at which a curve is told,
which is ``until``; of all times it is the test without a grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hanse.messages import Array, Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Bounds, Item, Known, Lacking, Statistic, levels_of, same, unpack
from hanse.statistics import _groups, _p_values, _survival, _total_curve, kaplan_meier

_MOST = 3_000_000_000  # rows: the square of their number is still an int64


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = _groups.check(options, grid=None, level=0.95)
    return {**found, **kaplan_meier.check({k: found[k] for k in ("grid", "level")})}


def needs(item: Item) -> tuple[Item, ...]:
    options = item.options
    curves = same(_groups.by_group(item), "kaplan_meier", grid=options["grid"], level=options["level"])
    return (levels_of(options["group"]), curves)


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    groups, full, curves = _compared(options, known)
    if len(full) < 2:
        return {"groups": groups, "chi2": None, "dof": None, "p": None}
    times = curves["events"].shape[1] - (options["grid"] is not None)  # a grid that was given ends the test
    found = _test(groups, curves["events"][full], curves["gone"][full], times)
    chi2 = found["chi2"]
    if chi2 is None:
        return found
    sites = int((curves["hidden"][full] + curves["withheld"][full]).max())
    if sites or curves["off"][full].any():
        found |= _ranges({name: array[full] for name, array in curves.items()}, times, chi2, found["p"])
    return found | ({"hidden": sites} if sites else {})


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """Rows that are lacking may be of either group, and leave at any time."""
    groups, full, curves = _compared(options, known)
    if value["dof"] is None or len(full) != 2 or "rows_first" not in curves:
        return value, None
    times = curves["events"].shape[1] - (options["grid"] is not None)
    test = _test(groups, curves["events"][full], curves["gone"][full], times)
    parts = [_survival.with_more({name: array[i] for name, array in curves.items()}, lacking.rows) for i in full]
    wide = _ranges(
        {name: np.stack([part[name] for part in parts]) for name in parts[0]}, times, test["chi2"], test["p"]
    )
    ends = {f"{name}_range": [(end, end) for end in wide[f"{name}_range"]] for name in ("chi2", "p")}
    return {**value, **wide}, {**ends, "chi2": wide["chi2_range"], "p": wide["p_range"], "dof": (value["dof"],) * 2}


def of_all(options: Mapping[str, Json], known: Known, told: Known) -> Json:
    """The test of all rows, in the cells that all sites count in; where a grid ends it, up to the last time before that
    at which a curve is told."""
    groups, full, curves = _compared(options, known)
    if len(full) < 2:
        return {"groups": groups, "chi2": None, "dof": None, "p": None}
    events, gone = curves["events"][full], curves["gone"][full]
    if options["grid"] is None:
        return _test(groups, events, gone, len(_total_curve.ENDS))
    ends = np.unique(told[1]["times"])
    last = float(ends[ends <= options["grid"][-1]].max(initial=0.0))
    return _test(groups, events, gone, int(np.searchsorted(_total_curve.ENDS, last, "right"))) | {"until": last}


def _compared(options: Mapping[str, Json], known: Known) -> tuple[list[str], Array, Mapping[str, Json]]:
    """Labels and places of the groups that are compared, and the curves of all."""
    labels, curves = unpack(known[0]["labels"]), known[1]
    full = np.flatnonzero(curves["n"] > 0)
    if options["groups"] is not None:
        full = np.array(_groups.two(options, labels, curves["n"]))
    return [labels[i] for i in full], full, curves


def _test(groups: list[str], events: Array, gone: Array, times: int) -> dict[str, Json]:
    """Of (k, all times) events and censorings, by those up to so many times."""
    from scipy import special

    risk = np.array([_survival.at_risk(e, g) for e, g in zip(events, gone, strict=True)])[:, :times]
    chi2, dof = form(*scores(events[:, :times], risk))
    if not dof:
        return {"groups": groups, "chi2": None, "dof": None, "p": None}
    return {"groups": groups, "chi2": chi2, "dof": dof, "p": float(special.chdtrc(dof, chi2))}


def _ranges(curves: Arrays, times: int, chi2: float, p: Json) -> dict[str, Json]:
    """What is known of the test where times are joined."""
    if len(curves["n"]) != 2:
        return {"chi2": None, "p": None, "chi2_range": None, "p_range": None}
    one, two = ({name: array[i] for name, array in curves.items()} for i in range(2))
    chi2_range, p_range = _survival.logrank((one, two), times)
    clear = _p_values.tell(*p_range)
    return {
        "chi2": min(max(chi2, chi2_range[0]), chi2_range[1]) if clear else None,
        "p": min(max(p, p_range[0]), p_range[1]) if clear else None,
        "chi2_range": [chi2_range[0], chi2_range[1] if math.isfinite(chi2_range[1]) else None],
        "p_range": p_range,
    }


def scores(events: Array, risk: Array) -> tuple[Array, Array]:
    """(k,) observed minus expected events, and (k, k) minus their covariances, 0 on the diagonal.

    Args:
        events, risk: (k, times) int64.
    """
    d, n = events.sum(0), risk.sum(0)
    keep = (d > 0) & (n > 1)
    events, risk, d, n = events[:, keep], risk[:, keep], d[keep], n[keep]
    if n.max(initial=0) >= _MOST:
        events, risk, d, n = (a.astype(object) for a in (events, risk, d, n))  # Python's, of any size
    apart = (events * n - risk * d).astype(float)  # the difference in whole numbers
    risk, d, n = (a.astype(float) for a in (risk, d, n))
    apart, share = apart / n, risk / n
    v = (share * (d * ((n - d) / (n - 1)))) @ share.T
    np.fill_diagonal(v, 0.0)
    return np.array([math.fsum(row) for row in apart]), v


def form(z: Array, v: Array) -> tuple[float, int]:
    """Chi-square and its degrees of freedom. Groups that are never at risk together (in one chain or
    another) cannot be compared; each set of those that are gives one degree less than it has groups."""
    chi2, dof, left = 0.0, 0, set(range(len(z)))
    while left:
        inside = [left.pop()]
        for one in inside:
            met = [j for j in left if v[one, j] > 0]
            left.difference_update(met)
            inside += met
        if len(inside) > 1:
            v_in, z_in = v[np.ix_(inside, inside)], z[inside]
            degree = v_in.sum(1)  # a variance is the sum of the covariances with all others: nothing cancels
            rest = np.arange(len(inside)) != int(np.argmax(degree))  # one group follows from the others
            inner = (np.diag(degree) - v_in)[np.ix_(rest, rest)]
            chi2 += float(z_in[rest] @ np.linalg.solve(inner, z_in[rest]))
            dof += len(inside) - 1
    return chi2, dof


def why(found: Json, options: Mapping[str, Json], arrays: Arrays, known: Known) -> str:
    """Why there is no test, or none without a range."""
    groups = found["groups"]
    if len(groups) < 2:
        return f"two groups or more are compared; there are {len(groups)} ({', '.join(groups) or 'none'})"
    if found["dof"] is None:
        return "no group is at risk with another one when somebody dies"
    if found.get("p_range") is None:
        return "of more than two groups there is no test where times are joined; compare two with groups=[a, b]"
    return _p_values.why(found)


STATISTIC = Statistic(
    doc="log-rank test",
    columns=2,
    check=check,
    needs=needs,
    final=final,
    pooled=pooled,
    fixed=("hidden", "until"),
    of_all=of_all,
    why=why,
    scalar=False,
    shown=Shown(
        roles=("time", "event"),
        arguments={
            "group": _groups.ARGUMENTS["group"],
            **kaplan_meier.ARGUMENTS,
            "groups": _groups.ARGUMENTS["groups"],
        },
    ),
)
