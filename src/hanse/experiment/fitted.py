"""From a run's record to a normal model of scikit-learn, XGBoost or PyTorch, and to predictions.

The record holds the preparation that the sites agreed on, so raw rows are prepared here exactly as
they were there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.algorithms import evaluation, preparation
from hanse.errors import DataError, NotFound
from hanse.kinds import Task, find
from hanse.messages import Array, Record
from hanse.table import Table, label_values


def native(record: Record) -> Any:
    """The fitted model. It takes the design matrix, and knows the original labels."""
    return _module(record).native(record)


def _module(record: Record) -> Any:
    if "model_name" not in record.data or "prepared" not in record.data:
        raise NotFound("this run learned no model; what it gave is in result.record")
    return find("models", record.data["model_name"])


@dataclass(frozen=True, slots=True)
class Predictor:
    """Takes raw rows, prepares them as in training, predicts.

    Args:
        record: the model's record.
        prepared: the preparation that is in it.
        task: kind, features of the design matrix, classes.
    """

    record: Record
    prepared: Record
    task: Task

    @staticmethod
    def of(record: Record) -> Predictor:
        _module(record)
        prepared = preparation.unpack(record)
        return Predictor(record, prepared, preparation.task(prepared))

    @property
    def classes(self) -> Array:
        """Class labels in the order of the columns of :meth:`predict_proba`."""
        return label_values(self.task.classes)

    def design(self, rows: Any) -> Array:
        """(n, f) design matrix of raw rows: what :meth:`Result.model` takes. A feature that the
        rows lack counts as missing in all of them."""
        table = self._table(rows)
        return preparation.design(table, self.prepared, self.prepared.data["needs"] == "standardised")

    def predict(self, rows: Any) -> Array:
        """(n,) class labels, or values in the target's own units."""
        raw = self._raw(rows)
        if self.task.kind == "regression":
            return raw
        chosen = (raw > 0.5).astype(np.int64) if self.task.kind == "binary" else raw.argmax(1)
        return np.asarray(self.classes[chosen])

    def predict_proba(self, rows: Any) -> Array:
        """(n, k) probabilities of the classes. Raises ``DataError`` for a regression."""
        if self.task.kind == "regression":
            raise DataError("a regression has no probabilities; use predict")
        raw = self._raw(rows)
        return np.column_stack([1 - raw, raw]) if self.task.kind == "binary" else raw

    def _raw(self, rows: Any) -> Array:
        X = self.design(rows)
        if not len(X):
            return np.zeros((0, self.task.outputs)) if self.task.kind == "multiclass" else np.zeros(0)
        return np.asarray(_module(self.record).predict(self.record, X), np.float64)

    def _table(self, rows: Any) -> Table:
        from hanse import features

        table = Table.of(rows)
        columns = self.prepared.data["columns"]
        kinds = {c["name"]: c["kind"] for c in columns}
        if not set(features.canonical(table.names)) & set(kinds):
            raise DataError(f"the rows have none of the model's features ({', '.join(list(kinds)[:8])}); "
                            f"they have {', '.join(table.names[:8]) or 'no columns'}")  # fmt: skip
        return features.apply(table, list(kinds), kinds) if table.rows else _no_rows(kinds)


def _no_rows(kinds: dict[str, str]) -> Table:
    from hanse import features

    name = next(iter(kinds))
    return features.apply(Table.of({name + " ": np.zeros(0)}).drop([name + " "]), list(kinds), kinds)


def evaluate(record: Record, rows: Any, target: str) -> dict[str, float]:
    """Loss, accuracy, AUC (or RMSE, MAE, R²) on raw rows; rows without a known target are left out."""
    predictor = Predictor.of(record)
    table = Table.of(rows)
    kept, y = preparation.target(table, predictor.prepared)
    if not len(kept):
        raise DataError(f"no row has a value of {target!r} that the model knows")
    sums = evaluation.evaluate(predictor._raw(table.take(kept)), y, predictor.task)[0]
    report = evaluation.report(sums, predictor.task)
    return {k: float(v) for k, v in report.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def importance(record: Record) -> dict[str, float]:
    """Feature to its share of the model's importance, largest first; empty where it has none."""
    if "model_name" not in record.data or "prepared" not in record.data:
        return {}
    if "plan" in record.data.get("options", {}):  # a network has none, and a picture must not run its code
        return {}
    predictor = Predictor.of(record)
    try:
        weights = _weights(native(record), len(predictor.task.features))
    except ImportError:  # the model's library is not installed here: the rest of the result is still of use
        return {}
    if weights is None:
        return {}
    found: dict[str, float] = {}
    for name, weight in zip(_sources(predictor.prepared), weights, strict=True):
        found[name] = found.get(name, 0.0) + float(weight)
    total = sum(found.values())
    if not total > 0:
        return {}
    return dict(sorted(((n, w / total) for n, w in found.items()), key=lambda pair: (-pair[1], pair[0])))


def _sources(prepared: Record) -> list[str]:
    """The raw column that each column of the design matrix came from."""
    columns, standardised = prepared.data["columns"], prepared.data["needs"] == "standardised"
    return [c["name"] for c in columns for _ in preparation.feature_names([c], standardised)]


def _weights(model: Any, width: int) -> Array | None:
    """One number of at least 0 per column of the design matrix."""
    if hasattr(model, "get_booster"):
        model = model.get_booster()
    if hasattr(model, "get_score"):  # XGBoost names them f0, f1, ... or as the design matrix does
        names = model.feature_names or [f"f{i}" for i in range(width)]
        scores = model.get_score(importance_type="total_gain")
        return np.array([float(scores.get(n, 0.0)) for n in names])
    if hasattr(model, "feature_importances_"):
        return np.asarray(model.feature_importances_, np.float64)
    if hasattr(model, "coef_"):
        coefficients = np.abs(np.atleast_2d(np.asarray(model.coef_, np.float64)))
        return np.asarray(coefficients.mean(0))
    return None
