"""What sites say of their columns before a model is made of them, and what they agree on: classes, categories, sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hanse import comparison
from hanse.errors import ConfigError, Unusable
from hanse.kinds import Gathered, Site
from hanse.learning.rows import Agreed, Described, feature_names, target_columns
from hanse.messages import Array, Json
from hanse.registry import find
from hanse.table import Column, ColumnKind
from hanse.task import Settling, Task

MAX_CATEGORIES = 1000
MAX_WARNINGS = 100
UNTOLD = "each stands in fewer rows than owners ask for, minimum_count"


# ---------------------------------------------------------------- node: what a site reports


def least(site: Site) -> int:
    """The fewest rows of which something is said, as the node's owner sets it."""
    return max(1, int(site.owner.get("minimum_count", 1)))


def report(site: Site) -> dict[str, Json]:
    """The target's labels and the features' kinds and categories, as far as the node names them."""
    atleast, settling = least(site), find("tasks", site.config["task_type"]).TASK
    columns = target_columns(site.table, settling, site.config["target_column"])
    there, told = np.all([column.given for column in columns], axis=0), settling.tell(columns, atleast)
    del columns  # before others are in memory
    barred = {*settling.columns(site.config["target_column"])}
    barred |= {site.config.get("sample_id_column"), site.config.get("weight_column")}
    names = [name for name in site.table.names if name not in barred]
    described = [_describe(name, site.table[name], there, atleast).to_json() for name in names]
    return {"target": told, "columns": described}


def _describe(name: str, column: Column, there: Array, atleast: int) -> Described:
    """Of the rows that are ``there`` (n,) bool."""
    if column.kind is ColumnKind.IMAGE:
        return Described(name, column.kind, shape=tuple(int(n) for n in column.values.shape[1:]))
    if column.kind is ColumnKind.CATEGORICAL:
        counts = np.bincount(column.values[there & (column.values >= 0)], minlength=len(column.categories))
        named = [c for c, n in zip(column.categories, counts, strict=True) if n >= atleast]
        return Described(name, column.kind, tuple(sorted(named)[: MAX_CATEGORIES + 1]))
    return Described(name, column.kind, missing=bool((there & ~np.isfinite(column.values)).sum() >= atleast))


# ---------------------------------------------------------------- coordinator: what they agree on


def agreed(task_type: str, target: str, needs: str, gathered: Gathered) -> tuple[Agreed, tuple[str, ...]]:
    """What is learned from what, and what people should look at. Raises ``Unusable`` naming sites whose reports are not
    what they should be."""
    reports: dict[str, tuple[Mapping[str, Any], tuple[Described, ...]]] = {}
    alike: dict[tuple[Described, ...], tuple[Described, ...]] = {}  # of thousands of sites most say the same
    unusable: dict[str, str] = {}
    settling: Settling = find("tasks", task_type).TASK
    for answer in gathered.answers:
        try:
            said, described = _checked(answer.data, settling)
            reports[answer.node] = said, alike.setdefault(described, described)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            unusable[answer.node] = f"its report on its columns is not usable: {error}"
    layout_of = {columns: tuple((c.name, c.kind, c.shape) for c in columns) for columns in alike}
    layouts = {node: layout_of[columns] for node, (_, columns) in reports.items()}
    if layouts:
        common = Counter(layouts[n] for n in sorted(layouts)).most_common(1)[0][0]
        for node, layout in layouts.items():
            if layout != common:
                unusable[node] = "its columns have other names, kinds or image sizes than those of the other sites"
    if unusable:
        raise Unusable(unusable)
    settled = settling.settle(target, [said for said, _ in reports.values()])
    columns = tuple(_union([columns[i] for _, columns in reports.values()]) for i in range(len(common)))
    if not columns:
        raise ConfigError("the sites have no feature columns besides the target")
    images = [c.name for c in columns if c.kind is ColumnKind.IMAGE]
    if images and len(columns) > 1:
        raise ConfigError(f"images ({', '.join(images)}) cannot be mixed with other features; choose one with features")
    told = {node: said.get("labels", []) for node, (said, _) in reports.items()}
    odd: list[str] = []
    if settled.classes:
        comparison.shared(told, target)
        odd += comparison.labels(told, target)
    for i, column in enumerate(columns):
        if column.kind is ColumnKind.CATEGORICAL:
            own = {node: list(described[i].categories) for node, (_, described) in reports.items()}
            odd += comparison.categories(own, column.name)
            if not column.categories:
                odd.append(f"nothing is learned from {column.name!r}: no site may tell a label of it ({UNTOLD})")
    names = tuple(feature_names(columns, needs))
    if not names:
        raise ConfigError("no feature has a value at any site")
    task = Task(settled.kind, names, tuple(settled.classes), settled.text)
    return Agreed(task, target, columns, needs), tuple(odd[:MAX_WARNINGS])


def _checked(data: Mapping[str, Json], settling: Settling) -> tuple[Mapping[str, Any], tuple[Described, ...]]:
    said, columns = data["target"], tuple(Described.of(entry) for entry in data["columns"])
    settling.check(said)
    if any(len(c.categories) > MAX_CATEGORIES + 1 for c in columns):
        raise ValueError("more categories than a site tells")
    return said, columns


def _union(entries: Sequence[Described]) -> Described:
    categories = tuple(sorted({c for e in entries for c in e.categories}))
    if len(categories) > MAX_CATEGORIES:
        raise ConfigError(
            f"feature {entries[0].name!r} has more than {MAX_CATEGORIES} categories; "
            "is it an identifier? Leave it out with features"
        )
    return replace(entries[0], categories=categories, missing=any(e.missing for e in entries))


def sizes(agreed: Agreed, squares: bool) -> dict[str, int]:
    """Lengths of the arrays that a site is asked for, with or without squares, which give scales to models that need
    them."""
    columns = sum(c.numeric for c in agreed.columns) + agreed.task.of.moments
    classes = {"classes": len(agreed.task.classes)} if agreed.task.classes else {}
    return {
        "count": columns,
        "sum": columns,
        "rows": 3,
        **classes,
        **({"squares": columns} if squares and agreed.standardised else {}),
    }


def check_sums(wanted: Mapping[str, int], found: Mapping[str, Array], gathered: Gathered) -> None:
    """Raises ``Unusable`` for sums that are not of these sizes, or cannot be counts of rows."""
    if {n: a.shape for n, a in found.items()} != {n: (size,) for n, size in wanted.items()}:
        raise Unusable({a.node: "its sums are not of the columns that were agreed on" for a in gathered.answers})
    counts = [found[n] for n in ("count", "rows", "classes", "squares") if n in found]
    if any((a < 0).any() for a in counts) or any((found[n] >= 2**53).any() for n in ("count", "rows") if n in found):
        raise Unusable({a.node: "the sums over the sites are not counts of rows" for a in gathered.answers})
    if "classes" in found and found["classes"].sum() > found["rows"][0]:
        raise Unusable({a.node: "the classes are more than the training rows" for a in gathered.answers})
