"""How much each column counts in a model that a run is learning, from the model alone.

Linear models: the mean absolute coefficient on standardised columns. Others: what their model's file says
(``importance``, of boosted trees the total gain), or the library (impurity). The columns that one raw column was
encoded into are added up.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from hanse.learning import rows as preparation
from hanse.messages import Array, Record
from hanse.registry import find

_log = logging.getLogger(__name__)
LARGEST = 8 << 20  # bytes of a model; above, it would cost more than it tells
SHOWN = 200  # features per round


def importance(result: Record) -> dict[str, float]:
    """Raw column to its share, in (0, 1], largest first, at most :data:`SHOWN`; {} where the model has none.

    Never raises: this is for people to look at, and no round fails for it.
    """
    about = result.data
    if "model_name" not in about or "prepared" not in about or result.nbytes > LARGEST:
        return {}
    try:
        if getattr(find("models", str(about["model_name"])), "INITIALISED_BY", "") == "nodes":
            return {}  # a network, whose code does not run here
        weights = _linear(result) if "model.coef" in result.arrays else _trees(result)
        if weights is None:
            return {}
        prepared = preparation.unpack(result)
        agreed = preparation.Agreed.of(prepared)
        sources = [c.name for c in agreed.columns for _ in preparation.feature_names([c], agreed.needs)]
        return shares(sources, [float(w) for w in weights])
    except Exception as error:
        _log.debug("no feature importance: %s", error)
        return {}


def shares(sources: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """The weights added up by source, as shares.

    >>> shares(["age", "sex", "sex"], [3.0, 0.5, 0.5])
    {'age': 0.75, 'sex': 0.25}
    """
    total: dict[str, float] = {}
    for name, weight in zip(sources, weights, strict=True):
        total[name] = total.get(name, 0.0) + weight
    whole = sum(total.values())
    if not whole > 0 or not np.isfinite(whole):
        return {}
    ranked = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))
    return {name: weight / whole for name, weight in ranked[:SHOWN] if weight > 0}


def _linear(result: Record) -> Array:
    found: Array = np.abs(np.atleast_2d(np.asarray(result.arrays["model.coef"], np.float64))).mean(0)
    return found


def _trees(result: Record) -> Array | None:
    module = find("models", str(result.data["model_name"]))
    if hasattr(module, "importance"):
        return np.asarray(module.importance(result), np.float64)
    model: Any = module.native(result)
    found = getattr(model, "feature_importances_", None)
    return None if found is None else np.asarray(found, np.float64)
