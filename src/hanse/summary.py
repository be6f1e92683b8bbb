"""What a node says about its data when it registers, and no more.

It is what a federation of this node alone would be told: a query of :mod:`hanse.statistics`, computed
and protected by what answers every other query, with the owner's ``minimum_count`` as its smallest
cell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from hanse.errors import ConfigError, DataError
from hanse.features import SettledSource
from hanse.kinds import Source
from hanse.messages import Json
from hanse.queries import Item, TableSource, make_item
from hanse.table import ColumnKind, Table, canonical_name

MIN_COUNT = 10
CLASSES = 20  # a numeric target with more distinct values is a measurement, not a class


def summary(
    rows: Table | Source,
    target: str | None,
    min_count: int = MIN_COUNT,
    metadata_columns: Collection[str] = (),
    note: Callable[[float], None] = lambda done: None,
) -> dict[str, Any]:
    """The registration summary, in bounded memory where ``rows`` come in batches.

    - ``num_samples``: rows, rounded down to a multiple of ``min_count`` as those of the dataset are, so that one row
      more is not seen. ``num_features``, ``features``: the columns that are
      neither the target nor in ``metadata_columns``.
    - ``data_sparsity``: (zeros + missing) / cells of the features that are no images, in [0, 1], two
      decimals; see :mod:`hanse.statistics.sparsity`. 0 without cells.
    - ``feature_coverage``: the mean share of those features that a sample has, 1 - data_sparsity; 0
      without cells.
    - ``class_distribution``: label to count, see :mod:`hanse.statistics.value_counts`; what that keeps
      back or counts together is left out. Rows without a label count for nothing. Empty for a target
      that is a measurement, a date or an image, and without a target. ``target_columns`` names the target.

    >>> from hanse.table import Column
    >>> t = Table({"x": Column.numeric([0.0] * 10 + [1.0] * 10), "y": Column.categorical(["a", "b"] * 10)})
    >>> summary(t, "y")["class_distribution"], summary(t, "y")["data_sparsity"]
    ({'a': 10, 'b': 10}, 0.5)

    Raises:
        DataError: there is no column ``target``.
        ConfigError: ``min_count`` is below 1.
    """
    if min_count < 1:
        raise ConfigError(f"min_count is {min_count}; expected 1 or more")
    source = _Noted(_settled(rows), note)
    names = list(source.schema)
    if target is not None and target not in names:
        raise DataError(f"there is no column {target!r}; there are {', '.join(names[:50])}")
    not_features = {target, *map(canonical_name, metadata_columns)}
    features = [name for name in names if name not in not_features]
    flat = [name for name in names if source.schema[name] != ColumnKind.IMAGE]
    said = asked_here(source, _items(names, flat, features, target if _is_class(source, target) else None), min_count)
    sparsity: Any = said.get("sparsity")
    samples = int((said.get("missing") or {}).get("rows", 0)) if flat else int(said.get("count") or 0)
    return {
        "num_samples": samples // min_count * min_count,
        "num_features": len(features),
        "data_sparsity": 0.0 if sparsity is None else round(sparsity, 2),
        "class_distribution": _shown(said.get("value_counts")),
        "feature_coverage": 0.0 if sparsity is None else round(1.0 - round(sparsity, 2), 2),
        "features": features,
        "metadata_columns": [name for name in names if name in not_features],
        **({"target_columns": [target]} if target is not None else {}),
    }


def labels_here(rows: Table | Source, target: str, min_count: int) -> list[str]:
    """The labels of ``target`` that a :func:`summary` names; none where there is no such column.

    >>> from hanse.table import Column
    >>> labels_here(Table({"y": Column.categorical(["a", "b", "a"])}), "y", 2)
    []
    >>> labels_here(Table({"y": Column.categorical(["a", "b"] * 2)}), "y", 2)
    ['a', 'b']
    """
    source = _settled(rows)
    kind = source.schema.get(target)
    if kind in (None, ColumnKind.IMAGE, ColumnKind.DATE) or (
        kind == ColumnKind.NUMERIC and not _is_class(source, target)
    ):
        return []
    try:
        said = asked_here(source, [make_item("value_counts", [target], {})], min_count)
    except DataError:  # more labels than are counted one by one
        return []
    return sorted(_shown(said.get("value_counts")))


def labels_told(summary: Mapping[str, Any], dataset: str, target: str) -> list[str]:
    """The labels of ``target`` in what a node said of its datasets: those of ``dataset``, no other's. A node that
    registered by REST says one summary for itself.

    >>> said = {"class_distribution": {"yes": 5, "no": 7}, "target_columns": ["ill"]}
    >>> labels_told(said, "visits", "ill"), labels_told({"datasets": {"visits": said}}, "labs", "ill")
    (['no', 'yes'], [])
    """
    several = summary.get("datasets")
    said = several.get(dataset) if isinstance(several, Mapping) and several else summary
    if not isinstance(said, Mapping) or target not in (said.get("target_columns") or ()):
        return []
    counts = said.get("class_distribution")
    return sorted(map(str, counts)) if isinstance(counts, Mapping) else []


def _settled(rows: Table | Source) -> Source:
    """The rows with open columns as numbers, as in a survey of this node alone."""
    given = TableSource(rows) if isinstance(rows, Table) else rows
    opened = {n: ColumnKind.NUMERIC.value for n, k in given.schema.items() if k == ColumnKind.OPEN}
    return SettledSource(given, opened) if opened else given


class _Noted:
    """A source that says how far each pass over it is."""

    def __init__(self, source: Source, note: Callable[[float], None]) -> None:
        self._source, self._note = source, note
        self.schema, self.rows, self.memory = source.schema, source.rows, source.memory

    def batches(self, columns: Sequence[str]) -> Iterator[Table]:
        done = 0
        for batch in self._source.batches(columns):
            yield batch
            done += batch.rows
            self._note(done / max(self.rows, 1))


def _items(names: Sequence[str], flat: Sequence[str], features: Sequence[str], target: str | None) -> list[Item]:
    """One item of each statistic; the rows are counted with any column's missing values, or as images."""
    found = [make_item("missing", flat[:1], {})] if flat else []
    found += [make_item("count", [f"{names[0]}[shape]"], {})] if names and not flat else []
    plain = set(flat)
    cells = [name for name in features if name in plain]
    found += [make_item("sparsity", cells, {})] if cells else []
    return found + ([make_item("value_counts", [target], {})] if target is not None else [])


def _is_class(source: Source, target: str | None) -> bool:
    kind = None if target is None else source.schema[target]
    if target is None or kind in (ColumnKind.IMAGE, ColumnKind.DATE):
        return False
    try:
        known = asked_here(source, [make_item(s, [target], {}) for s in ("levels", "missing")], 1)  # not told
    except DataError:  # more labels than are counted one by one
        return False
    labels, missing = known["levels"], known["missing"]
    few = labels is not None and len(labels) <= CLASSES  # None: more than are counted one by one
    return kind != ColumnKind.NUMERIC or (few and not missing["infinite"])


def _shown(counts: Mapping[str, int | None] | None) -> dict[str, int]:
    from hanse.statistics.value_counts import OTHER

    return {label: count for label, count in (counts or {}).items() if label != OTHER and count is not None}


def asked_here(source: Source, items: Sequence[Item], minimum: int) -> dict[str, Any]:
    """Statistic to value: the answer to a query for which this node is all nodes."""
    from hanse.algorithms import statistics
    from hanse.gather import Party
    from hanse.gathering.plain import Contributions, Plain, came
    from hanse.kinds import Answer, Ask, Site

    if not items:
        return {}
    config: dict[str, Json] = {"model_options": {"items": [i.to_json() for i in items]}}
    owner: dict[str, Json] = {"minimum_cell": minimum}
    algorithm, here = statistics.ALGORITHM, Site("here", Table(), config, source=source, owner=owner)
    state = algorithm.init(config)
    while isinstance(ask := algorithm.ask(state), Ask):
        reply = Plain().reply("answer", ask.record, lambda a: algorithm.answer(here, a), Party(here.node))
        answer, (_, body) = Answer(here.node, 1.0, reply.data["data"], {}, 0), came(here.node, 0, reply)
        state = algorithm.tell(state, Contributions(((answer, body),), {}, ask.combine))
    plan, found = statistics.Query.of(state.data["query"]).plan, algorithm.result(state).arrays
    return {i.stat: statistics.value(plan, found, i) for i in items}
