"""The log-rank test: do the groups survive alike? Derived from the Kaplan-Meier counts by group.

Columns: time and event. Arguments: ``group``, and those of ``kaplan_meier``. With k groups, chi-square
of k - 1 degrees of freedom from Z'V^-1 Z, Z the observed minus the expected events. A group that is at
risk with no other one when somebody dies adds no degree of freedom (as in R's survival package).

``hidden``: at how many sites times were joined, or groups of few events are missing. Chi-square is then that of the
joined times and of the groups that are there, which may be far from that of the pooled rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hanse.messages import Array, Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Item, Known, Statistic, levels_of, same, unpack
from hanse.statistics import _groups, kaplan_meier

_MOST = 3_000_000_000  # rows: the square of their number is still an int64


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = _groups.check(options, grid=None, level=0.95)
    return {**found, **kaplan_meier.check({k: found[k] for k in ("grid", "level")})}


def needs(item: Item) -> tuple[Item, ...]:
    options = item.options
    curves = same(_groups.by_group(item), "kaplan_meier", grid=options["grid"], level=options["level"])
    return (levels_of(options["group"]), curves)


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    from scipy import special

    labels, curves = unpack(known[0]["labels"]), known[1]
    full = np.flatnonzero(curves["n"] > 0)
    if options["groups"] is not None:
        full = np.array(_groups.two(options, labels, curves["n"]))
    groups = [labels[i] for i in full]
    if len(full) < 2:
        return {"groups": groups, "chi2": None, "dof": None, "p": None}
    events = curves["events"][full][:, :-1]
    risk = np.array(
        [kaplan_meier.at_risk(e, g) for e, g in zip(curves["events"][full], curves["gone"][full], strict=True)]
    )[:, :-1]
    z, v = scores(events, risk)
    chi2, dof = form(z, v)
    if not dof:
        return {"groups": groups, "chi2": None, "dof": None, "p": None}
    found: dict[str, Json] = {"groups": groups, "chi2": chi2, "dof": dof, "p": float(special.chdtrc(dof, chi2))}
    sites = int((curves["hidden"][full] + curves["withheld"][full]).max())
    return {**found, "hidden": sites} if sites else found


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


STATISTIC = Statistic(
    doc="log-rank test",
    columns=2,
    check=check,
    needs=needs,
    final=final,
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
