"""Boosted trees as a model file of XGBoost: what ``xgboost.Booster.load_model`` reads, without XGBoost to write it.

The booster predicts the bits that :func:`hanse.boosting.trees.margins` says, in every release from 3.0 on:

- ``base_score`` is text, in the objective's own units (a probability of ``binary:logistic``). Releases from 3.1 on also
  read one for each output, as a list; 3.0 does not, so for it a first round of trees that are one leaf each adds them
  to a base score of 0, which changes no bit.
- Of a split on categories the listed ones go right. The names of categories stand in a container of their own, so that
  from 3.1 on a frame with fewer of them, or in another order, is read by their names.

References: XGBoost 3.2, ``doc/model.schema``, ``src/gbm/gbtree_model.cc``, ``src/data/cat_container.cc``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.boosting._ubjson import dumps as ubjson
from hanse.boosting.trees import LEAF, Trees, fault, join, leaf
from hanse.errors import WireError
from hanse.messages import Array, Json

_NO_PARENT = 2**31 - 1


def dumps(
    trees: Trees,
    base: Array,
    objective: Mapping[str, Json],
    features: int,
    names: Sequence[str] = (),
    categories: Sequence[Sequence[str]] = (),
    attributes: Mapping[str, str] | None = None,
    lists: bool = True,
    parallel: int = 1,
) -> bytes:
    """The model in Universal Binary JSON; numbers keep their bits.

    Args:
        base: (outputs,) float32, base scores in the objective's own units.
        objective: :attr:`hanse.boosting.objective.Objective.document`.
        features: columns of the design matrix.
        names: theirs; none: XGBoost calls them f0, f1, ...
        categories: of each column, in the order of their codes; none of a number. Empty: all columns are numbers.
        attributes: further text, which ``Booster.attributes`` gives.
        lists: whether the reader takes several base scores: XGBoost from 3.1 on.
        parallel: trees of each output in a round.

    Raises:
        WireError: for arrays that are not trees, which a library would walk without a look.
    """
    wrong = fault(trees, features, len(base))
    if wrong:
        raise WireError(f"the trees of the model are not usable: {wrong}")
    begin = 0
    if not lists and len(set(base.tolist())) > 1:
        trees = join([*(leaf(group, value) for group, value in enumerate(base)), trees])
        base, begin = np.zeros(len(base), np.float32), len(base)
    if (len(trees) - begin) % (len(base) * parallel):  # what another run began has other rounds
        parallel = 1
    rounds = list(range(begin, len(trees) + 1, len(base) * parallel))
    rounds = [0, *rounds] if begin else rounds
    return ubjson(
        {
            "learner": {
                "attributes": dict(attributes or {}),
                "feature_names": list(names),
                "feature_types": ["c" if c else "float" for c in categories] or ["float"] * len(names),
                "gradient_booster": {"model": _model(trees, rounds, parallel, features, categories), "name": "gbtree"},
                "learner_model_param": {
                    "base_score": _score(base),
                    "boost_from_average": "0",
                    "num_target": "1",
                    "num_class": str(len(base) if len(base) > 1 else 0),
                    "num_feature": str(features),
                },
                "objective": dict(objective),
            },
            "version": [3, 1, 0],
        }
    )


def _score(base: Array) -> str:
    """One number where it is the same for all outputs, which every release reads."""
    said = [f"{value:.9g}" for value in base.tolist()]
    return said[0] if len(set(said)) == 1 else f"[{','.join(said)}]"


def _model(
    trees: Trees, rounds: list[int], parallel: int, features: int, categories: Sequence[Sequence[str]]
) -> dict[str, Any]:
    edges = trees.starts
    starts = np.concatenate([[0], np.cumsum(trees.listed, dtype=np.int64)])
    return {
        "cats": _container(categories),
        "gbtree_model_param": {"num_parallel_tree": str(parallel), "num_trees": str(len(trees))},
        "iteration_indptr": rounds,
        "tree_info": trees.group.tolist(),
        "trees": [
            _tree(i, trees, int(low), int(high), trees.categories[starts[low] : starts[high]], features)
            for i, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True))
        ],
    }


def _tree(index: int, trees: Trees, low: int, high: int, categories: Array, features: int) -> dict[str, Any]:
    left, right, listed = (getattr(trees, name)[low:high] for name in ("left", "right", "listed"))
    parents = np.full(high - low, _NO_PARENT, np.int32)
    for child in (left, right):
        inner = np.flatnonzero(child != LEAF)
        parents[child[inner]] = inner
    lists = np.flatnonzero(listed)
    sizes = listed[lists].astype(np.int64)
    return {
        "base_weights": trees.weight[low:high],
        "categories": categories,
        "categories_nodes": lists.astype(np.int32),
        "categories_segments": np.cumsum(sizes, dtype=np.int64) - sizes,
        "categories_sizes": sizes,
        "default_left": trees.default_left[low:high],
        "id": index,
        "left_children": left,
        "loss_changes": trees.gain[low:high],
        "parents": parents,
        "right_children": right,
        "split_conditions": trees.value[low:high],
        "split_indices": trees.feature[low:high],
        "split_type": (listed > 0).astype(np.uint8),
        "sum_hessian": trees.cover[low:high],
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(features),
            "num_nodes": str(high - low),
            "size_leaf_vector": "1",
        },
    }


def _container(categories: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The names of categories, as UTF-8 one after the other, and the order in which XGBoost searches them: by signed
    bytes."""
    if not any(categories):
        return {"enc": [], "feature_segments": np.zeros(0, np.int32), "sorted_idx": np.zeros(0, np.int32)}
    written, order = [], [np.zeros(0, np.int32)]
    for column in categories:
        raw = [name.encode() for name in column]
        edges = np.cumsum([0, *map(len, raw)], dtype=np.int32) if raw else np.zeros(0, np.int32)
        written.append({"offsets": edges, "values": np.frombuffer(b"".join(raw), np.int8)})
        signed = [np.frombuffer(name, np.int8).tolist() for name in raw]
        order.append(np.array(sorted(range(len(raw)), key=signed.__getitem__), np.int32))
    counts = np.cumsum([0, *map(len, categories)], dtype=np.int32)
    return {"enc": written, "feature_segments": counts, "sorted_idx": np.concatenate(order)}
