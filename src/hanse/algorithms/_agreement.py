"""What sites say of their columns before a model is made of them, and what they agree on: classes, categories, sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse import comparison
from hanse.errors import ConfigError, Unusable
from hanse.kinds import Gathered, Site, State
from hanse.learning.rows import feature_names, target_columns, task
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.table import Column, ColumnKind
from hanse.task import Settling

MAX_CATEGORIES = 1000
MAX_WARNINGS = 100


# ---------------------------------------------------------------- node: what a site reports


def least(site: Site) -> int:
    """The fewest rows of which something is said, as the node's owner sets it."""
    return max(1, int(site.owner.get("minimum_count", 1)))


def report(site: Site) -> dict[str, Json]:
    """The target's labels and the features' kinds and categories, as far as the node names them."""
    atleast, settling = least(site), find("tasks", site.config["task_type"]).TASK
    columns = target_columns(site.table, settling, site.config["target_column"])
    there = np.all([column.given for column in columns], axis=0)
    barred = {*settling.columns(site.config["target_column"]), site.config.get("sample_id_column")}
    features = site.table.take(np.flatnonzero(there))
    described = [_describe(n, c, atleast) for n, c in features.columns.items() if n not in barred]
    return {"target": settling.tell(columns, atleast), "columns": described}


def _describe(name: str, column: Column, atleast: int) -> dict[str, Json]:
    entry: dict[str, Json] = {"name": name, "kind": str(column.kind), "categories": [], "missing": False}
    if column.kind is ColumnKind.IMAGE:
        entry["shape"] = [int(s) for s in column.values.shape[1:]]
    elif column.kind is ColumnKind.CATEGORICAL:
        counts = np.bincount(column.values[column.values >= 0], minlength=len(column.categories))
        named = [c for c, n in zip(column.categories, counts, strict=True) if n >= atleast]
        entry["categories"] = sorted(named)[: MAX_CATEGORIES + 1]
    else:
        entry["missing"] = bool((~np.isfinite(column.values)).sum() >= atleast)
    return entry


# ---------------------------------------------------------------- coordinator: what they agree on


def agreed(state: State, gathered: Gathered) -> State:
    """The state with task and columns. Raises ``Unusable`` naming sites whose reports are not what they should be."""
    reports: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    unusable: dict[str, str] = {}
    settling: Settling = find("tasks", state.data["task_type"]).TASK
    for answer in gathered.answers:
        try:
            reports[answer.node] = _checked(answer.data, settling)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            unusable[answer.node] = f"its report on its columns is not usable: {error}"
    layouts = {
        node: tuple((c["name"], c["kind"], tuple(c.get("shape", ()))) for c in columns)
        for node, (_, columns) in reports.items()
    }
    if layouts:
        common = Counter(layouts[n] for n in sorted(layouts)).most_common(1)[0][0]
        for node, layout in layouts.items():
            if layout != common:
                unusable[node] = "its columns have other names, kinds or image sizes than those of the other sites"
    if unusable:
        raise Unusable(unusable)
    settled = settling.settle(state.data["target"], [said for said, _ in reports.values()])
    columns = [_union([columns[i] for _, columns in reports.values()]) for i in range(len(common))]
    if not columns:
        raise ConfigError("the sites have no feature columns besides the target")
    images = [c["name"] for c in columns if c["kind"] == ColumnKind.IMAGE]
    if images and len(columns) > 1:
        raise ConfigError(f"images ({', '.join(images)}) cannot be mixed with other features; choose one with features")
    told = {node: said.get("labels", []) for node, (said, _) in reports.items()}
    odd = []
    if settled.classes:
        comparison.shared(told, state.data["target"])
        odd = comparison.labels(told, state.data["target"])
    for i, column in enumerate(columns):
        if column["kind"] == ColumnKind.CATEGORICAL:
            own = {node: described[i]["categories"] for node, (_, described) in reports.items()}
            odd += comparison.spellings(own, column["name"])
    names = feature_names(columns, state.data["needs"] == "standardised")
    task = {"kind": settled.kind, "features": names, "classes": list(settled.classes)}
    if not task["features"]:
        raise ConfigError("no feature has a value at any site")
    warned = {"warnings": odd[:MAX_WARNINGS]} if odd else {}
    return Record({**state.data, "step": "sum", "task": task, "columns": columns, **warned})


def _checked(data: Mapping[str, Json], settling: Settling) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    said, columns = data["target"], data["columns"]
    settling.check(said)
    for texts in (c["categories"] for c in columns):
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise TypeError("categories must be lists of text")
    if any(len(c["categories"]) > MAX_CATEGORIES + 1 for c in columns):
        raise ValueError("more categories than a site tells")
    for column in columns:
        ColumnKind(column["kind"])
        shape = column.get("shape", [])
        if not isinstance(shape, list) or len(shape) > 3 or not all(type(n) is int and 0 < n < 1 << 20 for n in shape):
            raise TypeError("the shape of images is a list of whole numbers")
        if not isinstance(column["name"], str) or not isinstance(column["missing"], bool):
            raise TypeError("a column needs a name and whether values are missing")
    return said, columns


def _union(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    categories = sorted({c for e in entries for c in e["categories"]})
    if len(categories) > MAX_CATEGORIES:
        raise ConfigError(
            f"feature {entries[0]['name']!r} has more than {MAX_CATEGORIES} categories; "
            "is it an identifier? Leave it out with features"
        )
    return {**entries[0], "categories": categories, "missing": any(e["missing"] for e in entries)}


def sizes(state: State) -> dict[str, int]:
    """Lengths of the arrays that a site is asked for in this step."""
    columns = sum(c["kind"] not in (ColumnKind.CATEGORICAL, ColumnKind.IMAGE) for c in state.data["columns"])
    settled = task(state)
    columns += settled.of.moments
    squares = {"squares": columns} if state.data["step"] == "squares" else {}
    classes = {"classes": len(settled.classes)} if settled.classes else {}
    return {"count": columns, "sum": columns, "rows": 3, **classes, **squares}


def check_sums(state: State, found: Mapping[str, Array], gathered: Gathered) -> None:
    if {n: a.shape for n, a in found.items()} != {n: (size,) for n, size in sizes(state).items()}:
        raise Unusable({a.node: "its sums are not of the columns that were agreed on" for a in gathered.answers})
    counts = [found[n] for n in ("count", "rows", "classes", "squares") if n in found]
    if any((a < 0).any() for a in counts) or any((found[n] >= 2**53).any() for n in ("count", "rows") if n in found):
        raise Unusable({a.node: "the sums over the sites are not counts of rows" for a in gathered.answers})
    if "classes" in found and found["classes"].sum() > found["rows"][0]:
        raise Unusable({a.node: "the classes are more than the training rows" for a in gathered.answers})
