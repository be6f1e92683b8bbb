"""A contingency table of two columns, with Pearson's chi-square test of independence.

``chi2`` is without Yates' correction; it is None where a cell was kept back at some site (of 1 to
minimum - 1 rows, or hidden so that row and column totals give none away). The totals are those of each
column by itself: rows that have a label of one column and none of the other are cells too, though untold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import LABELS, Arrays, Bounds, Item, Known, Lacking, Owner, Statistic, Values, levels_of, unpack
from hanse.statistics.value_counts import MOST, OTHER
from hanse.suppression import hidden_table

_MOST = 3_000_000_000  # rows: the square of their number is still an int64


def needs(item: Item) -> tuple[Item, ...]:
    return tuple(levels_of(name) for name in item.columns)


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    rows, columns = (unpack(k["labels"]) for k in known)
    r, c = values.codes(rows, 0), values.codes(columns, 1)
    shape = (len(rows) + 2, len(columns) + 2)  # labels, the others, and those that are missing
    r, c = (np.where(code < 0, size - 1, code) for code, size in zip((r, c), shape, strict=True))
    counts = np.bincount(r * shape[1] + c, minlength=shape[0] * shape[1]).reshape(shape)
    return {"n": counts[:-1, :-1].sum(dtype=np.int64), "counts": counts.astype(np.int64)}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    counts = arrays["counts"].copy()
    counts[-1, -1] = 0  # rows that have neither are in no count
    rare = np.zeros(counts.shape, bool)
    if owner.minimum > 1:  # who knows how many rare labels there are could share out their sum
        rare[-2], rare[:, -2] = counts[-2] > 0, counts[:, -2] > 0
    back = hidden_table(counts, owner.minimum, rare)[:-1, :-1]
    return {"n": arrays["n"], "counts": np.where(back, 0, counts[:-1, :-1]), "hidden": back.astype(np.int64)}


def _cells(arrays: Arrays, known: Known) -> list[tuple[str, str, int, bool]]:
    """Labels of row and column of each cell, its rows, and whether it was kept back; without lines that are empty."""
    rows, columns = ([*unpack(k["labels"]), OTHER] for k in known)
    counts, back = arrays["counts"], arrays["hidden"] > 0
    named = np.zeros(counts.shape, bool)
    named[:-1, :-1] = back[:-1, :-1]  # that there are rare labels is not told
    some = (counts > 0) | named
    return [
        (rows[i], columns[j], int(counts[i, j]), bool(back[i, j]))
        for i in np.flatnonzero(some.any(1))
        for j in np.flatnonzero(some.any(0))
    ]


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    table: dict[str, dict[str, Json]] = {}
    counts = arrays["counts"]
    rough = arrays["n"] - counts.sum() > MOST * arrays["n"]
    for row, column, n, back in _cells(arrays, known):
        table.setdefault(row, {})[column] = None if back and (rough or not n) else n
    r, c = counts.sum(1) > 0, counts.sum(0) > 0
    found: dict[str, Json] = {"table": table, "chi2": None, "dof": None, "p": None}
    if arrays["hidden"].any():
        found["hidden"] = int(arrays["hidden"].max())
    elif r.sum() > 1 and c.sum() > 1:
        found |= chi_square(counts[r][:, c])
    return found


def bounds(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Bounds:
    """What is kept back of all cells together may be of any one that is."""
    lost = int(arrays["n"] - arrays["counts"].sum())
    table: dict[str, dict[str, tuple[int, int]]] = {}
    for row, column, n, back in _cells(arrays, known):
        table.setdefault(row, {})[column] = (n, n + (lost if back else 0))
    return {"table": table}


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """A row that is lacking may be in any cell; of the test that leaves nothing that is bounded."""
    cells = bounds(arrays, options, known)["table"]
    more = {
        row: {column: (least, most + lacking.rows) for column, (least, most) in line.items()}
        for row, line in cells.items()
    }
    return value, {"table": more}


def chi_square(counts: Any) -> dict[str, Json]:
    """Pearson's χ² of (r, c) counts without a correction, as ``chi2``, ``dof`` and ``p``; r, c > 1, and no row or
    column is empty."""
    from scipy import special

    if counts.sum() >= _MOST:
        counts = counts.astype(object)  # Python's whole numbers, of any size
    n, expected = counts.sum(), np.outer(counts.sum(1), counts.sum(0))
    # (counts - expected / n)^2 / (expected / n), with the difference in whole numbers
    apart, expected = ((a.astype(float) / float(n)) for a in (counts * n - expected, expected))
    chi2 = float((apart**2 / expected).sum())
    dof = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return {"chi2": chi2, "dof": dof, "p": float(special.chdtrc(dof, chi2))}


def table(columns: Sequence[str], options: Mapping[str, Json], value: Any) -> list[dict[str, Json]]:
    found, heads = value["table"], list(dict.fromkeys(head for row in value["table"].values() for head in row))
    return [{columns[0]: label, **{head: row.get(head, 0) for head in heads}} for label, row in found.items()]


def why(found: Json, options: Mapping[str, Json], arrays: Arrays, known: Known) -> str:
    """Why there is no cell, or no test."""
    if found.get("hidden"):
        return (
            "a cell that every site with rows of it keeps back is None, and of a table with such cells there is no "
            "chi2; join labels of few rows, or ask more sites"
        )
    return "there is no chi2 of a table with one row or one column"


STATISTIC = Statistic(
    doc="contingency table with chi-square test",
    kinds=LABELS,
    columns=2,
    needs=needs,
    before=2,
    observe=observe,
    protect=protect,
    counts=("n", "counts"),
    final=final,
    bounds=bounds,
    pooled=pooled,
    why=why,
    scalar=False,
    shown=Shown(roles=("rows", "columns"), table=table),
)
