"""Using a result: a normal model of its library, or a predictor for raw tables.

A library's model wants the design matrix; :class:`Predictor` makes it from a raw table with the
same preparation that the sites used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse import features
from hanse.errors import DataError, NotFound
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.rough import some
from hanse.table import Column, ColumnKind, Table, canonical_name


def native_model(result: Record) -> Any:
    """A fitted scikit-learn estimator, an XGBoost ``Booster`` or a PyTorch module."""
    return find("models", _whole(result)).native(result)


class Unfamiliar(UserWarning):
    """Rows differ from those that a model learned from in a way that its predictions may not survive."""


class Predictor:
    """A fitted model for raw tables, in scikit-learn's manner.

    Args:
        result: what a run gives.

    Tables may be a :class:`hanse.table.Table`, a pandas or Polars frame, or a mapping of sequences. Columns that
    the model does not know are ignored. Columns that it misses count as missing values, and categories that it does not
    know as none, with a warning (:class:`Unfamiliar`); a table with none of the model's columns raises ``DataError``.
    """

    def __init__(self, result: Record) -> None:
        self.result, self.prepared = result, preparation.unpack(result)
        self.task = preparation.task(self.prepared)
        self._model = find("models", _whole(result))
        self.feature_names_in_: Array = np.array([c["name"] for c in self.prepared.data["columns"]], object)
        self.n_features_in_ = len(self.feature_names_in_)
        if self.task.classes:
            self.classes_: Array = self.task.labels

    def predict(self, table: Any) -> Array:
        """(n,) class labels, or values."""
        return self.task.of.answer(self._predict(table), self.task)

    def predict_proba(self, table: Any) -> Array:
        """(n, k) probabilities in the order of ``classes_``."""
        return self.task.of.probabilities(self._predict(table), self.task)

    def score(self, table: Any, y: Any) -> float:
        """Accuracy, or R² for a regression, as scikit-learn's ``score``; a target of several columns is a table. Rows
        without a target are left out."""
        if len(self.task.of.columns(self.prepared.data["target"])) > 1:
            columns = preparation.target_columns(Table.of(y), self.task.of, self.prepared.data["target"])
        else:
            columns = list(Table.of({"y": y} if not isinstance(y, Mapping) else y).columns.values())
        return self.task.of.score(self._predict(table), columns, self.task)

    def design(self, table: Any) -> Array:
        """The design matrix that the native model wants."""
        columns = self.prepared.data["columns"]
        raw = Table.of(table)
        kinds = {c["name"]: c["kind"] for c in columns}
        if raw.names and not set(features.canonical(raw.names)) & set(kinds):
            raise DataError(
                f"the rows have none of the model's features ({', '.join(list(kinds)[:8])}); "
                f"they have {', '.join(raw.names[:8])}"
            )
        fill = self.prepared.data.get("union_fill", features.MISSING)
        aligned = features.apply(_kinds(raw, columns), list(kinds), kinds, fill)
        odd = [*_lacking(raw, list(kinds), fill), *_unknown(aligned, columns)] if raw.rows else []
        if odd:
            warnings.warn("; ".join(odd), Unfamiliar, stacklevel=_callers())
        return preparation.design(aligned, self.prepared)

    def evaluate(self, table: Any) -> dict[str, float]:
        """Loss, accuracy, AUC (or RMSE, MAE, R²) on raw rows; rows without a known target are left out."""
        rows = Table.of(table)
        kept, y = preparation.target(rows, self.prepared)
        if not len(kept):
            raise DataError("no row has a value of the target that the model knows")
        center = self.prepared.arrays["target_mean"]  # near which nothing cancels, and by which times are cut
        sums = evaluation.evaluate(self._predict(rows.take(kept)), y, self.task, center)[0]
        report = evaluation.report(sums, self.task)
        return {k: float(v) for k, v in report.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}

    def _predict(self, table: Any) -> Array:
        X = self.design(table)
        if len(X):
            return np.asarray(self._model.predict(self.result, X), np.float64)
        return np.zeros(self.task.shape(0))


def _lacking(table: Table, wanted: Sequence[str], fill: str) -> list[str]:
    """What to say of features that the rows have no column of."""
    have = features.canonical(table.names)
    lacks = [repr(name) for name in wanted if name not in have]
    as_what = "missing, or as 0 where it is a number," if fill == features.ZERO else "missing"
    return [f"the rows have no column {some(lacks)}, which counts as {as_what} in all of them"] if lacks else []


def _unknown(table: Table, columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to say of categories that the model has no column or code of."""
    said = []
    for entry in columns:
        column = table[entry["name"]]
        if column.kind is not ColumnKind.CATEGORICAL:
            continue
        known = set(entry["categories"])
        new = [place for place, label in enumerate(column.categories) if label not in known]
        rows = int(np.isin(column.values, new).sum()) if new else 0
        if rows:
            held = [repr(str(column.categories[place])) for place in new if (column.values == place).any()]
            said.append(
                f"{entry['name']!r} of {rows} of {table.rows} rows is {some(held, 5)}, which the model does not know "
                f"and takes for none of {some([repr(str(label)) for label in entry['categories']], 5)}"
            )
    return said


def _callers() -> int:
    """How far up the stack they are who called this module."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame, depth = frame.f_back, depth + 1
    return depth


def _kinds(table: Table, columns: list[dict[str, Json]]) -> Table:
    """A column with nothing in it has no kind of its own; it takes the model's."""
    wanted = {c["name"]: c["kind"] for c in columns}
    keep: dict[str, Column] = {}
    for name, column in table.columns.items():
        clean = canonical_name(name)
        if clean in wanted and not (column.kind is not ColumnKind.IMAGE and len(column) and column.missing.all()):
            keep[name] = column
    if not keep and table.rows:  # keeps the number of rows where no known column is left
        first = columns[0]
        keep[first["name"]] = (
            Column(ColumnKind.CATEGORICAL, np.full(table.rows, -1, np.int32))
            if first["kind"] == ColumnKind.CATEGORICAL
            else Column(ColumnKind(first["kind"]), np.full(table.rows, np.nan))
        )
    return Table(keep)


def _whole(result: Record) -> str:
    """The name of its model. Raises ``NotFound`` where a part of the model stands at the sites alone."""
    name, own = _name(result), result.data.get("own_layers")
    if own:
        raise NotFound(
            f"{', '.join(own)} of this model stand at each site and never left it, so that it predicts for nobody "
            "here; the run's metrics are those of the sites' own models"
        )
    return name


def _name(result: Record) -> str:
    data: Mapping[str, Json] = result.data
    if "model_name" not in data or "prepared" not in data:
        raise NotFound("this run learned no model; what it gave is in result.record")
    return str(data["model_name"])
