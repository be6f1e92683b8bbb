"""A model as a file that others read, by the file's ending: for use where there is no Hanse.

============== =========================================================== ==========================================
``.skops``     scikit-learn's estimator, without pickle                    ``hanse[export]``, and skops to read it
``.onnx``      scikit-learn's estimator for any ONNX runtime, in float32   ``hanse[export]``
``.ubj``       XGBoost's own format, exact; ``.json``: the same as text    XGBoost
============== =========================================================== ==========================================

What is written takes the design matrix, prepared rows, as :meth:`Result.model` does: of raw rows
:meth:`Predictor.design` makes it, and its columns stand, in order, in an ONNX file's metadata. A network is
written with PyTorch's own tools from :meth:`Result.model`. Hanse's own file is :meth:`Result.save`.

An ONNX file is asked about some rows before it is kept: a converter may be wrong about a model
(``findings/skl2onnx-lda-probabilities.sh``), and who reads the file has nothing to compare it with.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.learning.results import task_of
from hanse.messages import Record

ROWS = 200  # that an ONNX file is asked about
MOST = 0.95  # of them must be predicted alike
NEAR = 1e-3  # float32 where the model has float64
_DIGITS = 8  # units of the last place of float32 that additions may be off


def export(record: Record, native: Any, path: str | os.PathLike[str]) -> Path:
    """Writes the model to ``path``; whole, or what was there stays.

    Args:
        record: of a run's result.
        native: its library's model (:func:`hanse.prediction.native_model`).

    Raises:
        ConfigError: no model is written with that ending, this one is not, or a library is missing.
    """
    target = Path(path)
    write = _FORMATS.get(target.suffix)
    if write is None:
        raise ConfigError(
            f"a model is not written as {target.suffix or target.name!r}; expected one of {', '.join(_FORMATS)} (or "
            "Result.save for Hanse's own file)"
        )
    # the library that writes looks at the ending, so that stays
    draft = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        write(record, native, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _skops(record: Record, native: Any, path: Path) -> None:
    _must_be_estimator(record, native, path)
    try:
        from skops import io
    except ImportError:
        raise _missing("skops") from None
    io.dump(native, path)


def _onnx(record: Record, native: Any, path: Path) -> None:
    _must_be_estimator(record, native, path)
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError:
        raise _missing("skl2onnx") from None
    task = task_of(record)
    options = {id(native): {"zipmap": False}} if task.classes else None
    rows = [("X", FloatTensorType([None, len(task.features)]))]
    made = to_onnx(native, initial_types=rows, options=options)
    told = {"columns": list(task.features), "classes": list(task.classes), "target": record.data["prepared"]["target"]}
    for name, value in told.items():
        entry = made.metadata_props.add()
        entry.key, entry.value = f"hanse.{name}", json.dumps(value, ensure_ascii=False)
    apart, rounding = _furthest(native, made, len(task.features))
    if not apart <= NEAR:
        why = "skl2onnx converts it wrongly"
        if apart <= rounding:
            why = "they vary too little beside their size for the 24 bits of its numbers (float32)"
        raise ConfigError(
            f"as ONNX, {type(native).__name__} would predict other numbers than now, by up to {apart:.3g}: {why}; "
            "write it as .skops"
        )
    path.write_bytes(made.SerializeToString())


def _furthest(native: Any, made: Any, features: int) -> tuple[float, float]:
    """How far the ONNX model's probabilities (or numbers, relative to their spread) are from the model's, for most of
    ``ROWS`` drawn prepared rows; infinite where a label is another one. And how far numbers may be by rounding alone.

    One row in 20 may differ: float32 puts a row beside a tree's threshold to its other side.
    """
    from onnx.reference import ReferenceEvaluator

    X = np.random.default_rng(0).normal(size=(ROWS, features)).astype(np.float32)
    found = [np.asarray(values) for values in ReferenceEvaluator(made).run(None, {"X": X})]
    if hasattr(native, "classes_"):
        if np.mean(np.ravel(found[0]) == native.predict(X)) < MOST:
            return math.inf, 0.0
        expected = native.predict_proba(X) if hasattr(native, "predict_proba") else None
    else:
        expected = native.predict(X)
    if expected is None:
        return 0.0, 0.0
    spread = 1.0 if hasattr(native, "classes_") else float(np.std(expected)) or 1.0
    apart = np.abs(np.reshape(found[-1], np.shape(expected)) - expected).reshape(ROWS, -1).max(axis=1)
    rounding = _DIGITS * float(np.finfo(np.float32).eps) * float(np.abs(expected).max())
    return float(np.quantile(apart, MOST)) / spread, rounding / spread


def _xgboost(record: Record, native: Any, path: Path) -> None:
    if not hasattr(native, "save_model"):
        raise ConfigError(f"{record.data['model_name']} is no booster; write it as .skops or .onnx")
    native.save_model(path)


def _must_be_estimator(record: Record, native: Any, path: Path) -> None:
    if not hasattr(native, "get_params") or hasattr(native, "save_model"):
        instead = ".ubj" if hasattr(native, "save_model") else "PyTorch's own tools, from Result.model()"
        raise ConfigError(f"{record.data['model_name']} is no estimator of scikit-learn's; write it as {instead}")


def _missing(library: str) -> ConfigError:
    return ConfigError(f"{library} is not installed here; pip install 'hanse[export]'")


_FORMATS: Mapping[str, Callable[[Record, Any, Path], None]] = {
    ".skops": _skops,
    ".onnx": _onnx,
    ".ubj": _xgboost,
    ".json": _xgboost,
}
ENDINGS = frozenset(_FORMATS)
