"""Rows per label. Labels that no site has in its minimum of rows are counted together, as "(other)".

Counts below the owner's minimum are kept back at a node, and as many more as it takes that
subtraction from the total finds none; a count is then the least that it can be, and its bounds say so. Labels that
are rare everywhere are as small together as each is alone: who knows how many there are could share
out their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.messages import Json
from hanse.presentation import Bars, Picture, Shown, Summary
from hanse.queries import LABELS, Arrays, Bounds, Item, Known, Lacking, Owner, Statistic, Values, levels_of, unpack
from hanse.suppression import hidden
from hanse.table import ColumnKind

OTHER = "(other)"
MOST = 0.25  # share of all rows that may be missing in a count that is given


def needs(item: Item) -> tuple[Item, ...]:
    return (levels_of(item.columns[0]),)


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    labels = unpack(known[0]["labels"])
    code = values.codes(labels)
    counts = np.bincount(code[code >= 0], minlength=len(labels) + 1).astype(np.int64)
    return {"n": counts.sum(), "counts": counts}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    counts = arrays["counts"]
    rare = (np.arange(len(counts)) == len(counts) - 1) & (counts > 0) & (owner.minimum > 1)
    # of groups, all of them together choose what is kept back besides: as the table of both columns does
    small = rare | ((counts > 0) & (counts < owner.minimum))
    back = small if owner.grouped else hidden(counts, owner.minimum, rare)
    return {"n": arrays["n"], "counts": np.where(back, 0, counts), "hidden": back.astype(np.int64)}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    """Rows per label; None where all sites keep theirs back, or more than ``MOST`` of all rows may be missing."""
    labels, rough = [*unpack(known[0]["labels"]), OTHER], arrays["n"] - arrays["counts"].sum() > MOST * arrays["n"]
    told = zip(labels, arrays["counts"].tolist(), arrays["hidden"].tolist(), strict=True)
    return {label: None if back and rough else n or None for label, n, back in told if n or (back and label != OTHER)}


def bounds(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Bounds:
    """What is kept back of all labels together may be of any one that is."""
    lost = int(arrays["n"] - arrays["counts"].sum())
    told = zip([*unpack(known[0]["labels"]), OTHER], arrays["counts"].tolist(), arrays["hidden"].tolist(), strict=True)
    return {label: (count, count + (lost if back else 0)) for label, count, back in told}


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """A row that is lacking may have any label."""
    ends = bounds(arrays, options, known)
    return value, {label: (least, most + lacking.rows) for label, (least, most) in ends.items()}


def cells(options: Mapping[str, Json], value: Any) -> dict[str, Json]:
    ordered = sorted(value.items(), key=lambda p: (-float(p[1] or 0), p[0]))
    return {"labels": ", ".join(f"{k}: {'kept back' if v is None else v}" for k, v in ordered)}


def table(columns: Sequence[str], options: Mapping[str, Json], value: Any) -> list[dict[str, Json]]:
    return [{"label": label, "rows": rows} for label, rows in value.items()]


def pictures(options: Mapping[str, Json], values: Mapping[str, Any]) -> list[Picture]:
    return [
        Bars("rows per label", {label: n for label, n in value.items() if n is not None}, group)
        for group, value in values.items()
        if value
    ]


STATISTIC = Statistic(
    doc="rows per label",
    kinds=LABELS,
    needs=needs,
    before=1,
    observe=observe,
    protect=protect,
    counts=("n", "counts"),
    final=final,
    bounds=bounds,
    pooled=pooled,
    scalar=False,
    shown=Shown(
        usual=frozenset({ColumnKind.CATEGORICAL, ColumnKind.BOOLEAN}),
        summary=Summary(frozenset({ColumnKind.CATEGORICAL}), 4),
        cells=cells,
        table=table,
        pictures=pictures,
    ),
)
