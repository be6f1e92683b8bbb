"""The two-sample t-test: Welch's, or with ``equal_var=True`` Student's. Two-sided; derived from mean
and variance by group. Arguments: ``group``, the column with the groups; ``groups``, the two of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Bounds, Item, Known, Lacking, Statistic, levels_of, same, unpack
from hanse.statistics import _groups, _lacking, _p_values, variance
from hanse.statistics._powers import center


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = _groups.check(options, equal_var=False)
    if not isinstance(found["equal_var"], bool):
        raise ConfigError(f"equal_var is {found['equal_var']!r}; expected true or false")
    return found


def needs(item: Item) -> tuple[Item, ...]:
    grouped = _groups.by_group(item)
    return (levels_of(item.options["group"]), same(grouped, "mean"), same(grouped, "variance", ddof=1))


def pair(options: Mapping[str, Json], known: Known) -> tuple[list[str], list[int], list[float], list[float]]:
    """Labels, rows, means and variances of the two groups. Means are told from a point between them, not
    from 0: of two close numbers far from 0 the difference would have few digits."""
    labels = unpack(known[0]["labels"])
    chosen = _groups.two(options, labels, known[1]["n"], 2)
    centers = [center({name: known[1][name][i] for name in ("n", "sum")}) for i in chosen]
    parts = [{name: array[i] for name, array in known[2].items()} for i in chosen]
    n = [int(part["n"]) for part in parts]
    rest = [float(part["s"][0]) / max(int(part["n"]), 1) for part in parts]  # the mean's, about the center
    means = [rest[0], (centers[1] - centers[0]) + rest[1]]
    spread = [variance.final(part, {"ddof": 1}, known) for part in parts]
    return [labels[i] for i in chosen], n, means, [math.nan if v is None else v for v in spread]


def moments(options: Mapping[str, Json], known: Known, lacking: Lacking) -> list[_lacking.Moments]:
    """Of the two groups, between what means and sums of squares of all rows lie."""
    chosen = _groups.two(options, unpack(known[0]["labels"]), known[1]["n"], 2)
    parts = [[{name: array[i] for name, array in need.items()} for need in known[1:3]] for i in chosen]
    return [variance.moments(part, mean, lacking) for mean, part in parts]


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    from scipy import special

    labels, (n1, n2), (m1, m2), (v1, v2) = pair(options, known)
    difference = m1 - m2 if n1 and n2 else None
    found: dict[str, Json] = {"groups": labels, "difference": difference, "t": None, "dof": None, "p": None}
    if n1 < 2 or n2 < 2 or not v1 + v2 > 0:
        return found
    if options["equal_var"]:
        dof = float(n1 + n2 - 2)
        error = math.sqrt(((n1 - 1) * v1 + (n2 - 1) * v2) / dof * (1 / n1 + 1 / n2))
    else:
        a, b = v1 / n1, v2 / n2
        share = a / (a + b)  # not (a + b)^2 / ...: squares of variances may not be float64
        dof = 1 / (share**2 / (n1 - 1) + (1 - share) ** 2 / (n2 - 1))
        error = math.sqrt(a + b)
    t = (m1 - m2) / error
    return {**found, "t": t, "dof": dof, "p": float(2 * special.stdtr(dof, -abs(t)))}


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """What is told of each group holds whichever of the rows that are lacking are its own, so t lies between what the
    ends of means and variances make of it; p falls with |t| and with the degrees of freedom."""
    from scipy import special

    a, b = moments(options, known, lacking)
    ends = _lacking.difference(a, b)
    if value["t"] is None or ends is None:
        return value, {"difference": ends}
    far, near = max(abs(ends[0]), abs(ends[1])), 0.0 if ends[0] <= 0 <= ends[1] else min(abs(ends[0]), abs(ends[1]))
    least, most = _errors(a, b, options["equal_var"])
    many, few = float(a.n + b.n + a.rows + b.rows - 2), float(min(a.n, b.n) - 1)
    if options["equal_var"]:
        few = float(a.n + b.n - 2)
    t = [end / (least if (end < 0) == (place == 0) else most) for place, end in enumerate(ends)]
    found = [float(2 * special.stdtr(many, -far / least)), float(2 * special.stdtr(few, -near / most))]
    clear = _p_values.tell(*found)
    told = {**value, "p": value["p"] if clear else None, "p_range": found}
    same_ends = {"p_range": [(end, end) for end in found]}
    return told, {"difference": ends, "t": tuple(t), "dof": (few, many), "p": tuple(found), **same_ends}


def _errors(a: _lacking.Moments, b: _lacking.Moments, equal: bool) -> tuple[float, float]:
    """The least and the most that the standard error of the difference can be."""
    sides, full = (a, b), [float(side.squares[1] or 0.0) for side in (a, b)]
    if equal:
        n, rows = a.n + b.n - 2, a.rows + b.rows
        least = (a.squares[0] + b.squares[0]) / (n + rows) * sum(1 / (side.n + side.rows) for side in sides)
        return math.sqrt(least), math.sqrt(sum(full) / n * sum(1 / side.n for side in sides))
    ends = [side.variance() for side in sides]
    least = sum(float(end[0] or 0.0) / (side.n + side.rows) for side, end in zip(sides, ends, strict=True))
    most = sum(float(end[1] or 0.0) / side.n for side, end in zip(sides, ends, strict=True))
    return math.sqrt(least), math.sqrt(most)


def why(found: Json, options: Mapping[str, Json], arrays: Arrays, known: Known) -> str:
    """Why there is no t, or no p beside its range."""
    if found["t"] is None:
        return "there is no t of groups that do not vary, or of a group of one row"
    return _p_values.lacking(found)


STATISTIC = Statistic(
    doc="two-sample t-test",
    check=check,
    needs=needs,
    final=final,
    pooled=pooled,
    beside=_lacking.beside,
    why=why,
    scalar=False,
    shown=Shown(
        roles=("column",),
        arguments={**_groups.ARGUMENTS, "equal_var": "Student's test, which takes the variances for equal"},
    ),
)
