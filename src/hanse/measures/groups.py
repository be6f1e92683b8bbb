"""Metrics by group: of the held-out rows of each sex, age group or scanner, over all sites.

``group_by`` names columns: ``{"sex": [], "age": [50, 65]}``. A column of labels, or of true and false, has a group for
each; one of numbers is cut, here into below 50, from 50 to below 65, and 65 and more. The columns need not be features.

Of a group, each site sends the sums that metrics follow from, as of all its rows; so the metrics of a group are those
of the pooled held-out rows of the sites that tell it. A site tells no group in which it has fewer held-out rows than
its owner's ``minimum_cell``; where classes are predicted, none in which it has 1 to ``minimum_cell`` - 1 of a class. Of
each column as many more are kept back as it takes that the rest of the site, which its total gives, is none that could
not be told (:func:`hanse.suppression.hidden_groups`). First the sites say which labels they will tell, since nobody
else knows all of them; a label that no site tells appears nowhere. In a run with a ``weight_column`` rows count by it,
as in the metrics of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from hanse.config import RunConfig
from hanse.errors import NodeFailed, Unusable
from hanse.kinds import Combine, Contribution, Gathered, Shapes, Site
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.learning.measuring import WEIGHTED, Inquiry, measuring, prediction
from hanse.messages import Array, Json, Record
from hanse.queries import MINIMUM
from hanse.settings import Check, Setting
from hanse.suppression import hidden_groups
from hanse.table import Column, ColumnKind
from hanse.task import PROBABILITIES

MOST = 100  # groups in all; of further labels none is told


def _cuts(value: Json) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) and name.strip() for name in value)
        and all(isinstance(cuts, list) and all(map(_number, cuts)) for cuts in value.values())
        and all(a < b for cuts in value.values() for a, b in pairwise(cuts))
    )


def _number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


SETTINGS = {
    "group_by": Setting(
        {},
        "columns by whose groups held-out rows are measured, each with the cuts of its numbers ([] of labels)",
        Check(
            "an object of column to a list of ascending numbers",
            _cuts,
            {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
        ),
    ),
}


def unfit(config: RunConfig) -> str:
    """Why a run cannot be measured so: it names no column."""
    wanted: Mapping[str, Json] = config.ingredient_settings["group_by"]
    if not wanted:
        return 'group_by names no column; give some, such as {"sex": [], "age": [50, 65]}'
    targets = sorted(set(wanted) & set(config.targets))
    return f"group_by names the target {targets[0]!r}; name columns that are known before" if targets else ""


def unfit_columns(config: RunConfig, schemas: Mapping[str, Mapping[str, str]]) -> str:
    """Why not, by the kinds of the columns: one is at no site, is of numbers and not cut, or the other way round."""
    for name, cuts in config.ingredient_settings["group_by"].items():
        kinds = {str(columns[name]) for columns in schemas.values() if name in columns}
        if not kinds:
            return f"group_by names {name!r}, which is a column of no dataset here"
        for kind in sorted(kinds):
            if kind not in (ColumnKind.NUMERIC, ColumnKind.CATEGORICAL, ColumnKind.BOOLEAN):
                return f"group_by names {name!r}, which is {kind}; it takes labels, true and false, and numbers"
            if (kind == ColumnKind.NUMERIC) is not bool(cuts):
                what = "needs its cuts, such as [50, 65]" if kind == ColumnKind.NUMERIC else "takes none: []"
                return f"group_by: {name!r} is {kind} and {what}"
    return ""


# ---------------------------------------------------------------- at a node


def _labelled(column: Column, cuts: Sequence[float]) -> tuple[list[str], Array]:
    """The labels of a column's groups, and (n,) int64 the place of each row's among them; -1: it has none."""
    if column.kind is ColumnKind.CATEGORICAL:
        return list(column.categories), column.values.astype(np.int64)
    if column.kind is ColumnKind.BOOLEAN:
        return ["false", "true"], np.where(column.given, column.values, -1).astype(np.int64)
    if column.kind is not ColumnKind.NUMERIC or not cuts:
        raise NodeFailed(f"a column of group_by is {column.kind} at this site; expected labels, or numbers with cuts")
    places = np.searchsorted(np.asarray(cuts, np.float64), column.values, side="right")
    return _intervals(cuts), np.where(column.given, places, -1)


def _intervals(cuts: Sequence[float]) -> list[str]:
    """
    >>> _intervals([50, 65])
    ['below 50', '50 to below 65', '65 and more']
    """
    said = [repr(float(cut)).removesuffix(".0") for cut in cuts]  # so that two cuts never look alike
    return [f"below {said[0]}", *(f"{low} to below {high}" for low, high in pairwise(said)), f"{said[-1]} and more"]


def _told(site: Site, learned: Record, name: str, cuts: Sequence[float]) -> dict[str, Array]:
    """Label to which of the site's held-out rows (n,) bool are in its group, of those groups that may be told."""
    if name not in site.beside.names:
        return {}
    prepared = preparation.unpack(learned)
    own, settled = preparation.targets(site, prepared), preparation.task(prepared)
    labels, codes = _labelled(site.beside[name].take(own.at(own.test)), cuts)
    y = own.y[own.test].astype(np.int64) if settled.predicts == PROBABILITIES and own.y.ndim == 1 else None
    groups, classes = len(labels) + 1, 1 if y is None else len(settled.classes)  # the last: rows without a label
    cells = np.where(codes < 0, groups - 1, codes) * classes + (0 if y is None else y)
    counts = np.bincount(cells, minlength=groups * classes).reshape(groups, classes)
    minimum = max(1, int(site.owner.get("minimum_cell", MINIMUM)))
    back = hidden_groups(counts, np.zeros(groups, bool), [groups], minimum)
    few = counts.sum(1) < minimum  # of no class any is few, and all together are
    return {label: codes == i for i, label in enumerate(labels) if not back[i] and not few[i]}


def _say(site: Site, learned: Record, about: Record) -> Contribution:
    wanted: Mapping[str, list[float]] = site.config["group_by"]
    return Contribution(
        Record({"labels": {name: [*_told(site, learned, name, cuts)] for name, cuts in wanted.items()}})
    )


def _measure(site: Site, learned: Record, about: Record) -> Contribution:
    prepared = preparation.unpack(learned)
    settled, center = preparation.task(prepared), prepared.arrays["target_mean"]
    predicted, y, weight = prediction(learned, site)
    wanted: Mapping[str, list[float]] = site.config["group_by"]
    told = {name: _told(site, learned, name, cuts) for name, cuts in wanted.items()}
    groups: list[tuple[str, str]] = [(str(name), str(label)) for name, label in about.data["groups"]]
    shapes = _shapes(learned, len(groups), weight is not None)
    sums = {name: np.zeros([n or 0 for n in shape], dtype) for name, (dtype, shape) in shapes.items()}
    for i, (name, label) in enumerate(groups):
        mask = told.get(name, {}).get(label)
        if mask is None:
            continue
        own = None if weight is None else weight[mask]
        for part, values in evaluation.evaluate(predicted[mask], y[mask], settled, center, own)[0].items():
            sums[part][i] = values
        sums["rows"][i], sums["sites"][i] = mask.sum(), 1
    return Contribution(Record(), sums=sums)


# ---------------------------------------------------------------- at the coordinator


def _shapes(learned: Record, groups: int, weighted: bool) -> Shapes:
    parts = evaluation.shapes(preparation.task(preparation.unpack(learned)), weighted)
    stacked = {name: (dtype, (groups, *(shape or ()))) for name, (dtype, shape) in parts.items()}
    return {**stacked, "rows": ("float64", (groups,)), "sites": ("float64", (groups,))}


def _labels(learned: Record, known: Record, gathered: Gathered) -> Record:
    """The groups that any site tells: columns in the order of their names, labels sorted, numbers ascending."""
    found: dict[str, set[str]] = {}
    wrong = {}
    for answer in gathered.answers:
        said = answer.data.get("labels")
        if not isinstance(said, Mapping) or not all(isinstance(x, list) for x in said.values()):
            wrong[answer.node] = "it says no labels of groups"
            continue
        for name, labels in said.items():
            found.setdefault(str(name), set()).update(label for label in labels if isinstance(label, str))
    if wrong:
        raise Unusable(wrong)
    groups = [[name, label] for name in sorted(found) for label in sorted(found[name], key=_place)]
    silent = sorted(name for name, labels in found.items() if not labels)
    return Record({**known.data, "groups": groups[:MOST], "more": max(0, len(groups) - MOST), "silent": silent})


def _place(label: str) -> tuple[float, str]:
    """Where a label stands: intervals by their numbers."""
    first = label.split(" ")[0]
    if label.startswith("below "):
        return -np.inf, label
    try:
        return float(first), label
    except ValueError:
        return np.inf, label


def _reports(learned: Record, known: Record, gathered: Gathered) -> Record:
    task, sums = preparation.task(preparation.unpack(learned)), gathered.sums()
    rows, sites = sums.pop("rows"), sums.pop("sites")
    told: list[Json] = []
    for i, (name, label) in enumerate(known.data["groups"]):
        report = evaluation.report({part: values[i] for part, values in sums.items()}, task)
        about = {"column": name, "group": label, "rows": int(rows[i]), "sites": int(sites[i])}
        shown = {*task.of.metrics, *(f"{metric}_error" for metric in task.of.metrics), "implausible"}
        told.append({**about, **{k: v for k, v in report.items() if k in shown}})
    besides = {name: known.data[name] for name in ("more", "silent") if known.data.get(name)}
    return Record({"told": {"groups": told, **besides}})


MEASURE = measuring(
    __name__,
    (
        Inquiry("name groups", Combine.AGREE, lambda learned, known: Record(), _say, _labels),
        Inquiry(
            "measure groups",
            Combine.SUM,
            lambda learned, known: Record({"groups": known.data["groups"]}),
            _measure,
            _reports,
            sums=lambda learned, known: _shapes(learned, len(known.data["groups"]), known.data[WEIGHTED]),
            counts={"rows": None},
        ),
    ),
)
