"""The log-rank test: do the groups survive alike? Derived from the Kaplan-Meier counts by group.

Columns: time and event. Arguments: ``group``, and those of ``kaplan_meier``. With k groups, chi-square
of k - 1 degrees of freedom from Z'V^-1 Z, Z the observed minus the expected events.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Json
from hanse.queries import Arrays, Item, Known, Statistic, levels_of, same, unpack
from hanse.statistics import _groups, kaplan_meier


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
    events = curves["events"][full][:, :-1].astype(float)
    risk = np.array([kaplan_meier.at_risk(e, g) for e, g in zip(curves["events"][full], curves["gone"][full],
                                                               strict=True)])[:, :-1].astype(float)  # fmt: skip
    d, n = events.sum(0), risk.sum(0)
    keep = (d > 0) & (n > 1)
    share = risk[:, keep] / n[keep]
    spread = d[keep] * (n[keep] - d[keep]) / (n[keep] - 1)
    difference = events[:, keep].sum(1) - (share * d[keep]).sum(1)
    inner = np.diag((share * spread).sum(1)) - (share * spread) @ share.T
    k = len(full) - 1
    try:
        chi2 = float(difference[:k] @ np.linalg.solve(inner[:k, :k], difference[:k]))
    except np.linalg.LinAlgError:
        return {"groups": groups, "chi2": None, "dof": k, "p": None}
    return {"groups": groups, "chi2": chi2, "dof": k, "p": float(special.chdtrc(k, chi2))}


STATISTIC = Statistic(doc="log-rank test", columns=2, check=check, needs=needs, final=final, scalar=False)
