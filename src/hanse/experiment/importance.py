"""Which features a model leans on, as far as a model of its kind tells."""

from __future__ import annotations

from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.learning import rows as preparation
from hanse.messages import Array, Record
from hanse.prediction import native_model
from hanse.registry import find


def importance(record: Record) -> dict[str, float]:
    """Feature to its share of the model's importance, largest first; empty where it has none."""
    if "model_name" not in record.data or "prepared" not in record.data:
        return {}
    prepared = preparation.unpack(record)
    try:
        module = find("models", str(record.data["model_name"]))
        if getattr(module, "INITIALISED_BY", "") == "nodes":
            return {}  # a network has none, and a picture must not run its code
        weights = module.importance(record) if hasattr(module, "importance") else _weights(native_model(record))
    except (ConfigError, ImportError):  # its library is not installed here; the rest of the result is of use
        return {}
    if weights is None:
        return {}
    found: dict[str, float] = {}
    for name, weight in zip(_sources(prepared), weights, strict=True):
        found[name] = found.get(name, 0.0) + float(weight)
    total = sum(found.values())
    if not total > 0:
        return {}
    return dict(sorted(((n, w / total) for n, w in found.items()), key=lambda pair: (-pair[1], pair[0])))


def _sources(prepared: Record) -> list[str]:
    """The raw column that each column of the design matrix came from."""
    agreed = preparation.Agreed.of(prepared)
    return [c.name for c in agreed.columns for _ in preparation.feature_names([c], agreed.needs)]


def _weights(model: Any) -> Array | None:
    """One number of at least 0 per column of the design matrix."""
    if hasattr(model, "feature_importances_"):
        return np.asarray(model.feature_importances_, np.float64)
    if hasattr(model, "coef_"):
        coefficients = np.abs(np.atleast_2d(np.asarray(model.coef_, np.float64)))
        return np.asarray(coefficients.mean(0))
    return None
