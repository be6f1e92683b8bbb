"""A model as a file that others read: it predicts there what it predicts here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hanse
from experiment import sites
from hanse.errors import ConfigError
from hanse.experiment.results import Result

# both are loaded by the test that needs them: skops loads all of scikit-learn, and PyTorch with it
pytestmark = pytest.mark.skipif(not (find_spec("skops") and find_spec("onnxruntime")), reason="needs hanse[export]")
CASES = [
    ("logistic_regression", "binary"),
    ("logistic_regression", "multiclass"),
    ("sgd_classifier", "binary"),
    ("mlp_classifier", "multiclass"),
    ("random_forest", "multiclass"),
    ("linear_regression", "regression"),
    ("random_forest", "regression"),
]


def learned(model: str, kind: str) -> tuple[Result, Any]:
    rng = np.random.default_rng(3)
    tables = {}
    for name, rows in (("a", 60), ("b", 45)):
        x, z = rng.normal(size=rows), rng.normal(size=rows)
        signal = x - 0.5 * z + rng.normal(0, 0.2, rows)
        y: Any = signal
        if kind != "regression":
            edges = [0.0] if kind == "binary" else [-0.5, 0.5]
            y = np.array(["low", "mid", "top"])[np.searchsorted(edges, signal)].tolist()
        tables[name] = {"x": x, "z": z, "colour": rng.choice(["red", "blue"], rows).tolist(), "y": y}
    made = hanse.simulate(tables).experiment(model=model, target="y", rounds=2, sample_id_column=None)
    return made.run(progress=False), tables["a"]


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_it_predicts_the_same_elsewhere(tmp_path: Path, model: str, kind: str) -> None:
    import onnxruntime
    import skops.io

    result, rows = learned(model, kind)
    X = result.predictor().design(rows)
    native = result.model()
    expected = native.predict(X) if kind == "regression" else native.predict_proba(X)
    path = result.export(tmp_path / "m.skops")
    there = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    assert np.array_equal(there.predict(X), native.predict(X))
    assert np.array_equal(there.predict(X) if kind == "regression" else there.predict_proba(X), expected)
    session = onnxruntime.InferenceSession(str(result.export(tmp_path / "m.onnx")))
    found = session.run(None, {"X": X.astype(np.float32)})
    np.testing.assert_allclose(np.squeeze(found[-1]), expected, rtol=1e-4, atol=1e-5)
    if kind != "regression":
        assert found[0].tolist() == native.predict(X).tolist()
    told = session.get_modelmeta().custom_metadata_map
    assert "colour=red" in told["hanse.columns"]
    assert told["hanse.target"] == '"y"'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.skops"]  # no draft is left


@pytest.mark.parametrize("ending", [".ubj", ".json"])
def test_a_booster_is_xgboosts_own_file(tmp_path: Path, ending: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    result = hanse.simulate(sites.cancer()).experiment(model="xgboost", target="disease", rounds=3).run(progress=False)
    there = xgboost.Booster(model_file=str(result.export(tmp_path / f"m{ending}")))
    assert there.save_raw("ubj") == result.model().save_raw("ubj")
    for other in (".skops", ".onnx"):
        with pytest.raises(ConfigError, match=r"write it as \.ubj"):
            result.export(tmp_path / f"m{other}")


def test_what_is_not_written_so_says_how_it_is(tmp_path: Path) -> None:
    result, _ = learned("sgd_classifier", "binary")
    for name in ("m.pkl", "m.pt", "model"):
        with pytest.raises(ConfigError, match="expected one of"):
            result.export(tmp_path / name)
    with pytest.raises(ConfigError, match="no booster"):
        result.export(tmp_path / "m.ubj")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_would_predict_other_numbers_is_not_written(tmp_path: Path) -> None:
    """findings/skl2onnx-lda-probabilities.sh: labels are right, odds are squared."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    from hanse.experiment.export import export

    result, rows = learned("logistic_regression", "binary")
    native = LinearDiscriminantAnalysis().fit(result.predictor().design(rows), rows["y"])
    with pytest.raises(ConfigError, match="by up to 0.*write it as .skops"):
        export(result.record, native, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
    assert export(result.record, native, tmp_path / "m.skops").exists()


@pytest.mark.parametrize(("library", "ending"), [("skops", ".skops"), ("skl2onnx", ".onnx")])
def test_a_missing_library_is_named(tmp_path: Path, library: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    result, _ = learned("sgd_classifier", "binary")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=r"hanse\[export\]"):
        result.export(tmp_path / f"m{ending}")


def test_numbers_that_float32_cannot_tell_apart_are_no_fault_of_the_converter(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx")
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    for far, said in ((1e4, None), (1e6, "vary too little beside their size")):
        run = hanse.simulate({"a": {"x": x, "y": far + x}}).experiment(
            "linear_regression", target="y", sample_id_column=None
        )
        result = run.run(progress=False)
        if said is None:
            result.export(tmp_path / "near.onnx")
        else:
            with pytest.raises(ConfigError, match=said):
                result.export(tmp_path / "far.onnx")
