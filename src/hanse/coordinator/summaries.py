"""What nodes said of their data, as others may see it: small cells hidden, and of one shape for any number of datasets.

The fields of mllabiome's registration are those of all datasets of a node together; ``datasets`` has those of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.messages import Json
from hanse.store.nodes import Node
from hanse.suppression import hidden

_NAMES = ("features", "metadata_columns", "target_columns")
_Summary = Mapping[str, Json]


def hide_small(counts: Mapping[str, Json], below: int) -> dict[str, int | None]:
    """Counts with None for small cells, and for those that go along so that the total gives none of them
    away (:func:`hanse.suppression.hidden`); for what a node kept back as well.

    >>> hide_small({"a": 100, "b": 3, "c": 40}, 5)
    {'a': 100, 'b': None, 'c': None}
    >>> hide_small({"a": 100, "b": 0}, 5)
    {'a': 100, 'b': 0}
    """
    shown: dict[str, int | None] = {k: v if isinstance(v, int) else None for k, v in counts.items()}
    labels = sorted(label for label, count in shown.items() if count is not None)
    back = hidden(np.array([shown[label] for label in labels], np.int64), below)
    return shown | {label: None for label, gone in zip(labels, back, strict=True) if gone}


def shown(node: Node, small_cell: int, columns: bool) -> dict[str, Json]:
    """The summary of a node, and of each of its datasets; {} where nothing was told.

    Args:
        small_cell: class counts below it are None.
        columns: with the names of the features.
    """
    if not node.summary:
        return {}
    each = {name: _shown(said, small_cell, columns) for name, said in of_datasets(node).items()}
    whole = _shown(_own(node), small_cell, columns) or together(list(each.values()))
    return {**whole, "datasets": each}


def of_datasets(node: Node) -> dict[str, _Summary]:
    """Dataset to what the node said of it."""
    several, names = node.summary.get("datasets"), [str(d.get("name")) for d in node.datasets]
    if isinstance(several, Mapping):
        return {name: several[name] for name in names if isinstance(several.get(name), Mapping)}
    return {names[0]: node.summary} if len(names) == 1 else {}


def of_all(node: Node) -> list[_Summary]:
    """What was said of the node as one, and of each of its datasets."""
    return [one for one in (_own(node), *of_datasets(node).values()) if one]


def _own(node: Node) -> _Summary:
    return {} if isinstance(node.summary.get("datasets"), Mapping) else node.summary


def together(summaries: Sequence[_Summary]) -> dict[str, Json]:
    """The summaries of several datasets as one.

    Samples add up; features are counted once by their name; sparsity and coverage are means over cells (samples x
    features); a class has the sum of its counts, None where a dataset does not tell it, and there are none at all
    where the datasets have different targets.

    >>> a = {"num_samples": 10, "num_features": 2, "data_sparsity": 0.5, "class_distribution": {"ill": 6, "well": 4}}
    >>> b = {"num_samples": 20, "num_features": 3, "data_sparsity": 0.0, "class_distribution": {"ill": 20}}
    >>> together([a, b])
    {'num_samples': 30, 'num_features': None, 'data_sparsity': 0.12, 'feature_coverage': 0.88, \
'class_distribution': {'ill': 26, 'well': None}}
    """
    if len(summaries) == 1:
        return dict(summaries[0])
    names = {name: sorted({str(v) for s in summaries for v in _texts(s.get(name))}) for name in _NAMES}
    named = all(isinstance(s.get("features"), list) for s in summaries)
    samples = [_number(s.get("num_samples")) for s in summaries]
    sparsity = _mean(
        [_number(s.get("data_sparsity")) for s in summaries],
        samples,
        [_number(s.get("num_features")) for s in summaries],
    )
    targets = {tuple(_texts(s.get("target_columns"))) for s in summaries}
    return {
        "num_samples": None if None in samples else int(sum(n for n in samples if n is not None)),
        "num_features": len(names["features"]) if named else None,
        "data_sparsity": sparsity,
        "feature_coverage": None if sparsity is None else round(1.0 - sparsity, 2),
        "class_distribution": _added([s.get("class_distribution") for s in summaries]) if len(targets) == 1 else {},
        **{name: found for name, found in names.items() if found},
    }


def _mean(
    values: Sequence[float | None], samples: Sequence[float | None], width: Sequence[float | None]
) -> float | None:
    """Over cells, to two decimals; None where a number is unknown, or there are no cells."""
    total = weight = 0.0
    for value, n, p in zip(values, samples, width, strict=True):
        if value is None or n is None or p is None:
            return None
        total, weight = total + n * p * value, weight + n * p
    return round(total / weight, 2) if weight else None


def _added(counts: Sequence[Json]) -> dict[str, Json]:
    known = [c for c in counts if isinstance(c, Mapping)]
    added: dict[str, Json] = {}
    for label in sorted({str(label) for c in known for label in c}):
        told = [v for v in (c.get(label) for c in known) if type(v) is int]
        added[label] = sum(told) if len(told) == len(known) else None
    return added


def _shown(summary: _Summary, small_cell: int, columns: bool) -> dict[str, Json]:
    found = {k: v for k, v in summary.items() if columns or k != "features"}
    if isinstance(found.get("class_distribution"), Mapping):
        found["class_distribution"] = hide_small(found["class_distribution"], small_cell)
    return found


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _texts(value: Json) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
