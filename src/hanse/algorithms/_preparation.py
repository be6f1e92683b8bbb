"""Preparation: what all sites must agree on before they learn one model. Three small exchanges.

1. *merge*: the classes of the target, the categories of each text feature, and which features have
   missing values anywhere (unions, so MERGE).
2. *sum*: count and sum of each numeric column, class counts, rows (SUM).
3. *squares*: the sum of squares about the global mean (SUM). Two passes, so nothing cancels.
   Models that take raw values (trees) do without it.

The result is the same as on pooled rows, for every split over sites. Means, scales and class counts
are those of the **training** rows (:func:`split`); what is held out for evaluation is not in them.
Infinite numbers count as missing.

With ``min_count`` (a node's own setting), a class, a category or a missing value that occurs in
fewer rows of a site does not leave that site; rows of a class that no site named are not used. Class
counts only set where an ensemble begins, so a site keeps back those below ``min_count``, and so many
more that its rows do not give them away (:func:`hanse.suppression.hidden`); they are 0 in the sum. So
is the number of its rows that are not used. A site with fewer usable rows than that refuses.
A site that is asked to settle a numeric target (``task_type`` "auto") names its values only if they
are at most twenty whole numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError, Unusable
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State, Task, find
from hanse.messages import Array, Json, Record, digest
from hanse.suppression import hidden
from hanse.table import Column, ColumnKind, Table, label_values

MAX_WHOLE_CLASSES = 20  # a whole-number target with more distinct values is a quantity
MAX_CLASSES = 1000
MAX_CATEGORIES = 1000


class Preparation:
    combines = frozenset({Combine.MERGE, Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        needs = str(find("models", config["model_name"]).NEEDS)
        return Record({"step": "merge", "task_type": config["task_type"], "target": config["target_column"],
                       "needs": needs})  # fmt: skip

    def ask(self, state: State) -> Ask | Done:
        step = state.data["step"]
        if step == "merge":
            return Ask(Record({"step": step}), Combine.MERGE, "prepare")
        if step == "done":
            return Done("the sites agree on classes, categories and scales")
        return Ask(state, Combine.SUM, "prepare", counts={"count": None, "rows": None, "classes": None},
                   arrays={name: ("float64", (size,)) for name, size in _sizes(state).items()}, sums={})  # fmt: skip

    def answer(self, site: Site, ask: Record) -> Contribution:
        step = ask.data["step"]
        if step == "merge":
            return Contribution(Record(_report(site)))
        kept, y = target(site.table, ask)
        train, _ = split(y, site.rng("split"), float(site.config["test_fraction"]))
        atleast = _atleast(site)
        if 0 < len(kept) < atleast:
            raise DataError(f"fewer rows with a usable target than this node's minimum of {atleast}")
        values = _numeric(site.table.take(kept[train]), ask)
        if _kind(ask) == "regression":
            values = np.column_stack([values, y[train]])
        present = np.isfinite(values)
        if step == "squares":
            centred = np.where(present, values - ask.arrays["mean"], 0.0)
            return Contribution(Record({}, {"squares": (centred**2).sum(0)}))
        dropped = site.table.rows - len(kept)
        arrays: dict[str, Array] = {
            "count": present.sum(0).astype(np.float64),
            "sum": np.where(present, values, 0.0).sum(0),
            "rows": np.array([len(train), len(kept) - len(train), dropped if dropped >= atleast else 0], np.float64),
        }
        if _kind(ask) != "regression":
            counts = np.bincount(y[train], minlength=len(ask.data["task"]["classes"]))
            arrays["classes"] = np.where(hidden(counts, atleast), 0, counts).astype(np.float64)
        return Contribution(Record({}, arrays), metrics={"n": float(len(train)), "dropped": float(arrays["rows"][2])})

    def tell(self, state: State, gathered: Gathered) -> State:
        step = state.data["step"]
        if step == "merge":
            return _merged(state, gathered)
        found = gathered.sum()
        _check_shapes(state, found, gathered)
        if step == "sum":
            count = np.asarray(found["count"], np.float64)
            mean = np.divide(found["sum"], count, out=np.zeros_like(count), where=count > 0)
            rows = [int(v) for v in found["rows"]]
            if rows[0] == 0:
                raise ConfigError(f"no site has a training row with a value of {state.data['target']!r}")
            data = {**state.data, "rows": rows[0], "held_out": rows[1], "dropped": rows[2]}
            if "classes" in found:
                data["class_counts"] = [int(v) for v in found["classes"]]
            done = state.data["needs"] == "raw"
            data["step"] = "done" if done else "squares"
            return Record(data, {"count": count, "mean": mean, "scale": np.ones_like(mean)})
        count, mean = state.arrays["count"], state.arrays["mean"]
        variance = np.divide(found["squares"], count, out=np.zeros_like(mean), where=count > 0)
        # a constant column has variance zero up to the rounding of its mean
        rounding = (count * mean * np.finfo(float).eps) ** 2 + count * np.finfo(float).eps * variance
        scale = np.where(variance > rounding, np.sqrt(variance), 1.0)
        return Record({**state.data, "step": "done"}, {"count": count, "mean": mean, "scale": scale})

    def result(self, state: State) -> Record:
        """Data ``{task: {kind, features, classes}, target, columns, needs, rows, ...}``; arrays
        ``mean`` and ``scale`` of the numeric columns in order, ``target_mean`` and ``target_scale``
        (1,) (0 and 1 for classes)."""
        data = {k: v for k, v in state.data.items() if k not in ("step", "task_type")}
        mean, scale = state.arrays["mean"], state.arrays["scale"]
        if _kind(state) == "regression":
            arrays = {"mean": mean[:-1], "scale": scale[:-1], "target_mean": mean[-1:], "target_scale": scale[-1:]}
        else:
            arrays = {"mean": mean, "scale": scale, "target_mean": np.zeros(1), "target_scale": np.ones(1)}
        return Record(data, arrays)

    def metrics(self, state: State) -> Mapping[str, Json]:
        return {k: state.data[k] for k in ("rows", "held_out", "dropped", "class_counts") if k in state.data}


ALGORITHM = Preparation


# ---------------------------------------------------------------- what others use


def task(prepared: Record) -> Task:
    """The task that was settled."""
    found = prepared.data["task"]
    return Task(found["kind"], tuple(found["features"]), tuple(found["classes"]))


def feature_names(columns: Sequence[Mapping[str, Json]], standardise: bool) -> list[str]:
    """Names of the design matrix: ``age``, ``age is missing``, ``cp=typical angina``."""
    names: list[str] = []
    for column in columns:
        if column["kind"] == ColumnKind.CATEGORICAL:
            names += [f"{column['name']}={c}" for c in column["categories"]]
        else:
            names.append(column["name"])
            if standardise and column["missing"]:
                names.append(f"{column['name']} is missing")
    return names


def design(table: Table, prepared: Record, standardise: bool) -> Array:
    """The design matrix of a table.

    Args:
        table: has the features; further columns are ignored, rows are kept as they are.
        prepared: the result of the preparation.
        standardise: numbers and dates minus the mean over the scale, what is missing at the mean,
            marked in a column of its own if any site has missing values there; else raw values with
            NaN for what is missing. Booleans are 0 and 1, dates days since 1970, categories one
            column each (an unknown one is 0 in all).

    Returns:
        (n, f) float64; for images (n, height, width, channels) float32 in [0, 1].
    """
    columns = prepared.data["columns"]
    if any(c["kind"] == ColumnKind.IMAGE for c in columns):
        image = _column(table, columns[0])
        return np.asarray(image.values, np.float32) / np.float32(255)
    parts: list[Array] = []
    place = 0
    for entry in columns:
        column = _column(table, entry)
        if column.kind is ColumnKind.CATEGORICAL:
            parts.append(_one_hot(column, entry["categories"], standardise))
            continue
        values = np.where(np.isfinite(column.values), column.values, np.nan)
        if standardise:
            mean, scale = prepared.arrays["mean"][place], prepared.arrays["scale"][place]
            missing = np.isnan(values)
            values = np.where(missing, mean, values)
            if entry["kind"] != ColumnKind.BOOLEAN:
                values = (values - mean) / scale
            parts.append(values[:, None])
            if entry["missing"]:
                parts.append(missing[:, None])
        else:
            parts.append(values[:, None])
        place += 1
    return np.concatenate(parts, axis=1, dtype=np.float64)


def target(table: Table, prepared: Record) -> tuple[Array, Array]:
    """The rows that have a usable target, (m,) int64, and their targets (m,): class indices
    (int64), or numbers (float64)."""
    name = prepared.data["target"]
    if name not in table.columns:
        raise DataError(f"the target column {name!r} is not in the dataset of this site")
    column = table[name]
    if _kind(prepared) == "regression":
        if column.kind is ColumnKind.CATEGORICAL:
            if np.all(column.values < 0):
                return np.zeros(0, np.int64), np.zeros(0)
            raise DataError(f"the target {name!r} is text at this site; a regression needs numbers")
        kept = np.flatnonzero(np.isfinite(column.values))
        return kept, column.values[kept]
    index = {label: i for i, label in enumerate(prepared.data["task"]["classes"])}
    labels, codes = _labels(column)
    known = np.array([index.get(label, -1) for label in labels] + [-1], np.int64)
    y = known[codes]
    kept = np.flatnonzero(y >= 0)
    return kept, y[kept]


def split(y: Array, rng: np.random.Generator, test_fraction: float) -> tuple[Array, Array]:
    """Positions for training and for evaluation, each sorted.

    Args:
        y: (n,) targets. Whole numbers (class indices) are stratified: each class is held out in
            the same proportion, to the nearest row over all classes.
        rng: ``site.rng("split")``: keyed by seed and node, so a site splits alike in every run step.
        test_fraction: in [0, 1). At least one row is left for training, if there is any.

    >>> train, test = split(np.array([0] * 8 + [1] * 4), np.random.default_rng(0), 0.25)
    >>> len(train), len(test), int((test >= 8).sum())
    (9, 3, 1)
    """
    order = rng.permutation(len(y))
    if y.dtype.kind in "iub":
        order = order[np.argsort(y[order], kind="stable")]
    steps = np.floor(np.arange(len(y) + 1) * test_fraction + 0.5)
    held = np.diff(steps) > 0
    if len(y) and held.all():
        held[0] = False
    return np.sort(order[~held]), np.sort(order[held])


@dataclass(frozen=True, slots=True)
class Rows:
    """A site's rows, ready for a model: ``X`` and ``y`` of all usable rows, the positions for
    ``train`` and ``test``, and how many rows were ``dropped`` for want of a target."""

    X: Array
    y: Array
    train: Array
    test: Array
    dropped: int


def rows(site: Site, prepared: Record) -> Rows:
    """The site's rows as this preparation sees them; made once and kept in the site's cache."""
    key = digest(prepared)
    found: tuple[str, Rows] | None = site.cache.get("rows")
    if found is not None and found[0] == key:
        return found[1]
    kept, y = target(site.table, prepared)
    train, test = split(y, site.rng("split"), float(site.config["test_fraction"]))
    X = design(site.table.take(kept), prepared, prepared.data["needs"] == "standardised")
    made = Rows(X, y, train, test, site.table.rows - len(kept))
    site.cache["rows"] = (key, made)
    return made


def pack(prepared: Record) -> tuple[dict[str, Json], dict[str, Array]]:
    """A prepared record as part of another one: ``data["prepared"]`` and arrays ``prepared.*``."""
    return {"prepared": dict(prepared.data)}, {f"prepared.{n}": prepared.arrays[n] for n in prepared.arrays}


def unpack(record: Record) -> Record:
    """The prepared record that stands in another one (:func:`pack`)."""
    arrays = {n.removeprefix("prepared."): record.arrays[n] for n in record.arrays if n.startswith("prepared.")}
    return Record(record.data["prepared"], arrays)


# ---------------------------------------------------------------- node: what a site reports


def _atleast(site: Site) -> int:
    return max(1, int(site.config.get("min_count", 1)))


def _report(site: Site) -> dict[str, Json]:
    name, atleast = site.config["target_column"], _atleast(site)
    if name not in site.table.columns:
        raise DataError(f"the target column {name!r} is not in the dataset of this site")
    column = site.table[name]
    usable = ~column.missing if column.kind is ColumnKind.CATEGORICAL else np.isfinite(column.values)
    said: dict[str, Json] = {"rows": bool(usable.any()), "numeric": column.kind in _QUANTITIES, "many": False}
    labels: list[str] = []
    wanted = site.config["task_type"]
    if wanted != "regression" and said["rows"]:
        listed, codes = _labels(column.take(np.flatnonzero(usable)))
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


def _labels(column: Column) -> tuple[list[str], Array]:
    """The distinct labels of a column, and each row's index among them (-1: missing)."""
    if column.kind is ColumnKind.CATEGORICAL:
        used = np.unique(column.values[column.values >= 0])
        index = np.full(len(column.categories) + 1, -1, np.int64)
        index[used] = np.arange(len(used))
        return [column.categories[c] for c in used], index[column.values]
    finite = np.isfinite(column.values)
    distinct, inverse = np.unique(column.values[finite], return_inverse=True)
    codes = np.full(len(column), -1, np.int64)
    codes[finite] = inverse
    return [str(label) for label in Column(ColumnKind.NUMERIC, distinct).labels()], codes


# ---------------------------------------------------------------- coordinator: what they agree on


def _merged(state: State, gathered: Gathered) -> State:
    reports: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    unusable: dict[str, str] = {}
    for answer in gathered.answers:
        try:
            reports[answer.node] = _checked(answer.data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            unusable[answer.node] = f"its report on its columns is not usable: {error}"
    layouts = {node: tuple((c["name"], c["kind"], tuple(c.get("shape", ()))) for c in columns)
               for node, (_, columns) in reports.items()}  # fmt: skip
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
    task = {"kind": kind, "features": feature_names(columns, state.data["needs"] == "standardised"), "classes": classes}
    if not task["features"]:
        raise ConfigError("no feature has a value at any site")
    return Record({**state.data, "step": "sum", "task": task, "columns": columns})


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
        raise ConfigError(f"feature {entries[0]['name']!r} has more than {MAX_CATEGORIES} categories; "
                          "is it an identifier? Leave it out with features")  # fmt: skip
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
            raise ConfigError(f"task_type is regression, but the target {target!r} is text or true/false at some site; "
                              "use auto, binary or multiclass")  # fmt: skip
        return "regression", []
    classes = order_labels({label for s in said for label in s["labels"]})
    many = any(s["many"] for s in said)
    if wanted == "auto" and not text and (many or len(classes) > MAX_WHOLE_CLASSES):
        return "regression", []
    if many or len(classes) > MAX_CLASSES:
        raise ConfigError(f"the target {target!r} has more than {MAX_CLASSES} classes, or is a number at some sites "
                          "and text at others; is it the right column?")  # fmt: skip
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    if len(classes) < 2:
        raise ConfigError(f"the target {target!r} has {len(classes)} classes over all sites ({shown or 'none named'}); "
                          "at least two are needed to learn anything")  # fmt: skip
    found = "binary" if len(classes) == 2 else "multiclass"
    if wanted not in ("auto", found):
        raise ConfigError(f"task_type is {wanted}, but the target {target!r} has {len(classes)} classes over all sites "
                          f"({shown}); use {found} or auto")  # fmt: skip
    return found, classes


def order_labels(labels: set[str]) -> list[str]:
    """Sorted; by value where all are distinct numbers.

    >>> order_labels({"10", "9", "-1"}), order_labels({"b", "a", "10"})
    (['-1', '9', '10'], ['10', 'a', 'b'])
    """
    listed = sorted(labels)
    values = label_values(listed)
    return listed if values.dtype.kind == "U" else [listed[i] for i in np.argsort(values)]


def _sizes(state: State) -> dict[str, int]:
    """Lengths of the arrays that a site is asked for in this step."""
    columns = sum(c["kind"] not in (ColumnKind.CATEGORICAL, ColumnKind.IMAGE) for c in state.data["columns"])
    columns += _kind(state) == "regression"
    if state.data["step"] == "squares":
        return {"squares": columns}
    classes = {} if _kind(state) == "regression" else {"classes": len(state.data["task"]["classes"])}
    return {"count": columns, "sum": columns, "rows": 3, **classes}


def _check_shapes(state: State, found: Mapping[str, Array], gathered: Gathered) -> None:
    if {n: a.shape for n, a in found.items()} != {n: (size,) for n, size in _sizes(state).items()}:
        raise Unusable({a.node: "its sums are not of the columns that were agreed on" for a in gathered.answers})
    counts = [found[n] for n in ("count", "rows", "classes", "squares") if n in found]
    if any((a < 0).any() for a in counts) or any((found[n] >= 2**53).any() for n in ("count", "rows") if n in found):
        raise Unusable({a.node: "the sums over the sites are not counts of rows" for a in gathered.answers})
    if "classes" in found and found["classes"].sum() > found["rows"][0]:
        raise Unusable({a.node: "the classes are more than the training rows" for a in gathered.answers})


# ---------------------------------------------------------------- columns to numbers


def _kind(record: Record) -> str:
    return str(record.data["task"]["kind"])


def _column(table: Table, entry: Mapping[str, Json]) -> Column:
    column = table[entry["name"]]
    numeric = (ColumnKind.NUMERIC, ColumnKind.BOOLEAN)
    if column.kind != entry["kind"] and not (column.kind in numeric and entry["kind"] in numeric):
        raise DataError(f"column {entry['name']!r} is {column.kind} here; the model was prepared for {entry['kind']}")
    if column.kind is ColumnKind.IMAGE and list(column.values.shape[1:]) != entry["shape"]:
        raise DataError(f"images {entry['name']!r} have shape {column.values.shape[1:]}, expected {entry['shape']}")
    return column


def _numeric(table: Table, prepared: Record) -> Array:
    """(n, c) numeric, boolean and date columns as they are."""
    wanted = [c for c in prepared.data["columns"] if c["kind"] not in (ColumnKind.CATEGORICAL, ColumnKind.IMAGE)]
    columns = [_column(table, entry).values for entry in wanted]
    return np.column_stack(columns) if columns else np.zeros((table.rows, 0))


def _one_hot(column: Column, categories: Sequence[str], standardise: bool) -> Array:
    index = {c: i for i, c in enumerate(categories)}
    common = np.array([index.get(c, -1) for c in column.categories] + [-1], np.int64)
    hot: Array = (common[column.values][:, None] == np.arange(len(categories))).astype(np.float64)
    if not standardise:
        hot[column.values < 0] = np.nan
    return hot
