"""The convolutional network: learns digits over sites, and says what does not fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "algorithms"))

from drive import Drive, same  # noqa: E402

from hanse.algorithms import settled  # noqa: E402
from hanse.bundle import node_code  # noqa: E402
from hanse.config import RunConfig  # noqa: E402
from hanse.coordinator.importance import importance  # noqa: E402
from hanse.errors import ConfigError  # noqa: E402
from hanse.messages import dump, load  # noqa: E402
from hanse.prediction import Predictor, native_model  # noqa: E402
from hanse.registry import find  # noqa: E402
from hanse.table import Column, ColumnKind, Table  # noqa: E402
from hanse.task import Task  # noqa: E402

pytestmark = pytest.mark.torch
SHAPE = (8, 8, 1)
SETTINGS: dict[str, Any] = {
    "model_name": "cnn",
    "model_options": {"input_shape": list(SHAPE), "channels": 4, "hidden": 16},
    "num_rounds": 6,
    "local_epochs": 4,
    "learning_rate": 0.1,
    "batch_size": 8,
}


def digits(seed: int, rows: int = 48, classes: int = 3, shape: tuple[int, ...] = SHAPE) -> Table:
    """Noisy pictures of a bar, whose place is the label."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    images = rng.integers(0, 60, (rows, *shape))
    for i, label in enumerate(y):
        images[i, :, 2 * label : 2 * label + 2] += 150
    labels = [f"d{label}" for label in y]
    return Table({"image": Column(ColumnKind.IMAGE, images.astype(np.uint8)), "y": Column.categorical(labels)})


def drive(tables: dict[str, Table], **more: Any) -> Drive:
    return Drive(tables, **{**SETTINGS, **more})


def test_it_learns_and_comes_back_as_a_module() -> None:
    sites = {"a": digits(1), "b": digits(2), "c": digits(3, rows=12)}
    result = load(dump(drive(sites).run()))
    history = result.data["history"]
    assert history[-1]["accuracy"] > 0.9 > history[0]["accuracy"]
    table = digits(9)
    module, X = native_model(result), Predictor(result).design(table)
    with torch.no_grad():
        theirs = torch.softmax(module(torch.from_numpy(X.transpose(0, 3, 1, 2).copy())), 1).numpy()
    np.testing.assert_allclose(Predictor(result).predict_proba(table), theirs, rtol=1e-4, atol=1e-6)
    assert same(drive(sites).run(), drive(sites).run())


def test_the_coordinator_does_not_run_it_and_owners_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result = drive({"a": digits(1)}, num_rounds=1).run()
    monkeypatch.setattr("hanse.models.cnn.native", lambda result: pytest.fail("the coordinator built the network"))
    assert importance(result) == {}
    code = node_code(RunConfig.parse({"model_name": "cnn"}))
    assert {"hanse.models.cnn", "hanse.models._torch"} <= set(code)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"input_shape": [8, 8]}, "height and width"),
        ({"input_shape": [3, 8, 1]}, "at least 4"),
        ({"input_shape": [8, 8, "1"]}, "input_shape"),
        ({"num_classes": 1}, "num_classes"),
        ({"filters": 3}, "filters"),
    ],
)
def test_wrong_options_are_refused_before_an_owner_is_asked(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settled(RunConfig.parse({"model_name": "cnn", "model_options": options}))


def test_data_that_do_not_fit_say_what_was_expected() -> None:
    """F156, F157."""
    task = Task("multiclass", ("image",), ("d0", "d1", "d2"))
    model = find("models", "cnn").build(task, {**SETTINGS["model_options"], "num_classes": 10})
    with pytest.raises(ConfigError, match="num_classes of cnn is 10, and the sites have 3"):
        model.init(np.random.default_rng(0))
    small = find("models", "cnn").build(task, {"input_shape": [28, 28, 1]})
    parameters = small.init(np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"input_shape of cnn is \[28, 28, 1\], and the rows have \[8, 8, 1\]"):
        small.predict(parameters, np.zeros((2, *SHAPE), np.float32))
