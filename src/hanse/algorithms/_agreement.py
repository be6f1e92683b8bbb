"""What sites say of their columns before a model is made of them, and what they agree on: classes, categories, sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse import comparison
from hanse.algorithms._rows import feature_names, kind_of, labelled
from hanse.errors import ConfigError, DataError, Unusable
from hanse.kinds import Gathered, Site, State
from hanse.messages import Array, Json, Record
from hanse.table import Column, ColumnKind, label_values

MAX_WHOLE_CLASSES = 20  # a whole-number target with more distinct values is a quantity
MAX_CLASSES = 1000
MAX_CATEGORIES = 1000
MAX_WARNINGS = 100


# ---------------------------------------------------------------- node: what a site reports


def least(site: Site) -> int:
    """The fewest rows of which something is said, as the node's owner sets it."""
    return max(1, int(site.owner.get("minimum_count", 1)))


def report(site: Site) -> dict[str, Json]:
    """The target's labels and the features' kinds and categories, as far as the node names them."""
    name, atleast = site.config["target_column"], least(site)
    if name not in site.table.columns:
        raise DataError(f"the target column {name!r} is not in the dataset of this site")
    column = site.table[name]
    usable = ~column.missing if column.kind is ColumnKind.CATEGORICAL else np.isfinite(column.values)
    said: dict[str, Json] = {"rows": bool(usable.any()), "numeric": column.kind in _QUANTITIES, "many": False}
    labels: list[str] = []
    wanted = site.config["task_type"]
    if wanted != "regression" and said["rows"]:
        listed, codes = labelled(column.take(np.flatnonzero(usable)))
        whole = column.kind is not ColumnKind.NUMERIC or bool(np.all(column.values[usable] % 1 == 0))
        quantity = column.kind in _QUANTITIES and (not whole or len(listed) > MAX_WHOLE_CLASSES)
        said["many"] = (wanted == "auto" and quantity) or len(listed) > MAX_CLASSES
        if not said["many"]:
            counts = np.bincount(codes, minlength=len(listed))
            labels = [label for label, n in zip(listed, counts, strict=True) if n >= atleast]
    said["labels"] = labels
    barred = {name, site.config.get("sample_id_column")}
    features = site.table.take(np.flatnonzero(usable))
    columns = [_describe(n, c, atleast) for n, c in features.columns.items() if n not in barred]
    return {"target": said, "columns": columns}


_QUANTITIES = (ColumnKind.NUMERIC, ColumnKind.DATE)


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
    for answer in gathered.answers:
        try:
            reports[answer.node] = _checked(answer.data)
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
    kind, classes = settle(state.data["task_type"], state.data["target"], [said for said, _ in reports.values()])
    columns = [_union([columns[i] for _, columns in reports.values()]) for i in range(len(common))]
    if not columns:
        raise ConfigError("the sites have no feature columns besides the target")
    images = [c["name"] for c in columns if c["kind"] == ColumnKind.IMAGE]
    if images and len(columns) > 1:
        raise ConfigError(f"images ({', '.join(images)}) cannot be mixed with other features; choose one with features")
    told = {node: said["labels"] for node, (said, _) in reports.items()}
    odd = []
    if classes:
        comparison.shared(told, state.data["target"])
        odd = comparison.labels(told, state.data["target"])
    for i, column in enumerate(columns):
        if column["kind"] == ColumnKind.CATEGORICAL:
            own = {node: described[i]["categories"] for node, (_, described) in reports.items()}
            odd += comparison.spellings(own, column["name"])
    task = {"kind": kind, "features": feature_names(columns, state.data["needs"] == "standardised"), "classes": classes}
    if not task["features"]:
        raise ConfigError("no feature has a value at any site")
    warned = {"warnings": odd[:MAX_WARNINGS]} if odd else {}
    return Record({**state.data, "step": "sum", "task": task, "columns": columns, **warned})


def _checked(data: Mapping[str, Json]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    said, columns = data["target"], data["columns"]
    for flag in ("rows", "numeric", "many"):
        if not isinstance(said[flag], bool):
            raise TypeError(f"{flag} is not true or false")
    for texts in [said["labels"], *(c["categories"] for c in columns)]:
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise TypeError("labels and categories must be lists of text")
    if len(said["labels"]) > MAX_CLASSES or any(len(c["categories"]) > MAX_CATEGORIES + 1 for c in columns):
        raise ValueError("more labels or categories than a site tells")
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


def settle(wanted: str, target: str, said: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """The kind of task and its classes, from what the sites said about their target.

    Raises:
        ConfigError: nothing is known, only one class, or ``wanted`` contradicts the labels.
    """
    said = [s for s in said if s["rows"]]
    if not said:
        raise ConfigError(f"no site has a row with a value of the target {target!r}")
    text = not all(s["numeric"] for s in said)
    if wanted == "regression":
        if text:
            raise ConfigError(
                f"task_type is regression, but the target {target!r} is text or true/false at some site; "
                "use auto, binary or multiclass"
            )
        return "regression", []
    classes = order_labels({label for s in said for label in s["labels"]})
    many = any(s["many"] for s in said)
    if wanted == "auto" and not text and (many or len(classes) > MAX_WHOLE_CLASSES):
        return "regression", []
    if many or len(classes) > MAX_CLASSES:
        raise ConfigError(
            f"the target {target!r} has more than {MAX_CLASSES} classes, or is a number at some sites "
            "and text at others; is it the right column?"
        )
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    if len(classes) < 2:
        raise ConfigError(
            f"the target {target!r} has {len(classes)} classes over all sites ({shown or 'none named'}); "
            "at least two are needed to learn anything"
        )
    found = "binary" if len(classes) == 2 else "multiclass"
    if wanted not in ("auto", found):
        raise ConfigError(
            f"task_type is {wanted}, but the target {target!r} has {len(classes)} classes over all sites "
            f"({shown}); use {found} or auto"
        )
    return found, classes


def order_labels(labels: set[str]) -> list[str]:
    """Sorted; by value where all are distinct numbers.

    >>> order_labels({"10", "9", "-1"}), order_labels({"b", "a", "10"})
    (['-1', '9', '10'], ['10', 'a', 'b'])
    """
    listed = sorted(labels)
    values = label_values(listed)
    return listed if values.dtype.kind == "U" else [listed[i] for i in np.argsort(values)]


def sizes(state: State) -> dict[str, int]:
    """Lengths of the arrays that a site is asked for in this step."""
    columns = sum(c["kind"] not in (ColumnKind.CATEGORICAL, ColumnKind.IMAGE) for c in state.data["columns"])
    columns += kind_of(state) == "regression"
    squares = {"squares": columns} if state.data["step"] == "squares" else {}
    classes = {} if kind_of(state) == "regression" else {"classes": len(state.data["task"]["classes"])}
    return {"count": columns, "sum": columns, "rows": 3, **classes, **squares}


def check_sums(state: State, found: Mapping[str, Array], gathered: Gathered) -> None:
    if {n: a.shape for n, a in found.items()} != {n: (size,) for n, size in sizes(state).items()}:
        raise Unusable({a.node: "its sums are not of the columns that were agreed on" for a in gathered.answers})
    counts = [found[n] for n in ("count", "rows", "classes", "squares") if n in found]
    if any((a < 0).any() for a in counts) or any((found[n] >= 2**53).any() for n in ("count", "rows") if n in found):
        raise Unusable({a.node: "the sums over the sites are not counts of rows" for a in gathered.answers})
    if "classes" in found and found["classes"].sum() > found["rows"][0]:
        raise Unusable({a.node: "the classes are more than the training rows" for a in gathered.answers})
