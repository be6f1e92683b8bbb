"""A training plan: runs from its source, averages parameters and buffers, leaks nothing in errors."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "algorithms"))

from drive import Drive, same, shares, toy  # noqa: E402

from hanse import shared_threads  # noqa: E402
from hanse.algorithms import build  # noqa: E402
from hanse.config import RunConfig  # noqa: E402
from hanse.errors import ConfigError, NodeFailed  # noqa: E402
from hanse.messages import dump, load  # noqa: E402
from hanse.models import _torch, _torch_many  # noqa: E402
from hanse.prediction import Predictor, native_model  # noqa: E402
from hanse.registry import find  # noqa: E402
from hanse.table import Table  # noqa: E402
from hanse.task import Task  # noqa: E402
from hanse.training import Training  # noqa: E402

pytestmark = pytest.mark.torch
PLAN = """
import torch
from torch import nn

def build(task, options):
    width = options.get("width", 8)
    return nn.Sequential(nn.Linear(len(task.features), width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1),
                         nn.Linear(width, task.outputs))
"""
CONVOLUTION = """
from torch import nn
def build(task, options):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1))
"""


def settings(source: str = PLAN, **more: Any) -> dict[str, Any]:
    return {
        "model_name": "torch_module",
        "plan": {"source": source, "name": "net"},
        "num_rounds": 5,
        "local_epochs": 3,
        "learning_rate": 0.1,
        **more,
    }


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_it_learns_and_the_module_comes_back(kind: str) -> None:
    drive = Drive(shares(toy(400, kind), 200, 150, 49, 1), **settings(model_options={"width": 12}))
    result = load(dump(drive.run()))
    assert drive.labels == ["prepare"] * 3 + ["initialise"] + ["train"] * 5 + ["evaluate"]
    history = result.data["history"]
    assert history[-1]["loss"] < (0.3 if kind == "regression" else 0.8) * history[0]["loss"]
    assert result.arrays["model.0.weight"].shape == (12, 7)
    assert result.arrays["model.1.num_batches_tracked"].dtype == np.int64
    assert int(result.arrays["model.1.num_batches_tracked"]) > 0
    module, table = native_model(result), toy(50, kind, seed=3)
    assert not module.training
    X = torch.from_numpy(Predictor(result).design(table).astype(np.float32))
    with torch.no_grad():
        output = module(X)
    theirs = {
        "binary": lambda: torch.sigmoid(output[:, 0]),
        "multiclass": lambda: torch.softmax(output, 1),
        "regression": lambda: output[:, 0],
    }[kind]().numpy()
    ours = Predictor(result).predict(table) if kind == "regression" else Predictor(result).predict_proba(table)
    np.testing.assert_allclose(ours[:, 1] if kind == "binary" else ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_coordinator_never_runs_the_plan() -> None:
    drive = Drive(shares(toy(60), 30, 30), **settings("raise SystemExit('executed')"))
    algorithm = build(RunConfig.parse({**drive.config.to_json()}))
    algorithm.init(drive.config.to_json())
    with pytest.raises(SystemExit):  # the first node does
        drive.run()


def test_the_same_bytes_twice_and_from_any_worker() -> None:
    tables = shares(toy(150, "multiclass"), 60, 50, 40)
    first = Drive(tables, **settings()).run()
    torch.manual_seed(99)
    assert same(first, Drive(tables, **settings()).run(reverse=True))
    assert same(first, Drive(tables, forgetful=True, **settings()).run())


def test_the_global_generator_is_left_alone() -> None:
    model = find("models", "torch_module").build(Task("regression", ("a",)), {"plan": {"source": PLAN}})
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model.init(np.random.default_rng(0))
    assert torch.equal(torch.rand(1), expected)


def test_a_plan_may_bring_its_loss_and_optimizer() -> None:
    source = (
        PLAN
        + """
def loss(output, y):
    return (output - y).abs().mean()

def optimizer(module, learning_rate):
    return torch.optim.Adam(module.parameters(), lr=learning_rate)
"""
    )
    history = Drive(shares(toy(300, "regression"), 200, 100), **settings(source)).run().data["history"]
    assert history[-1]["mae"] < 0.5 * history[0]["mae"]


def test_images() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    pixels = rng.integers(0, 60, (120, 8, 8, 1), dtype=np.uint8) + (y * 120).astype(np.uint8)[:, None, None, None]
    table = Table.of({"scan": pixels, "y": y})
    result = Drive(shares(table, 70, 50), **settings(CONVOLUTION, local_epochs=5)).run()
    assert result.data["history"][-1]["auc"] > 0.9
    assert Predictor(result).score(table, y) > 0.85


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def build(task, options):\n    raise ValueError(f'patient {4700 + 11}')", r"ValueError in line 2: raise"),
        (
            "def build(task, options):\n    raise type(f'Patient{4700 + 11}', (KeyError,), {})",
            r"failed: KeyError in line 2: raise type",
        ),
        (
            "def build(task, options):\n    exec(compile('\\n' * 4710 + '1 / 0', '<training plan>', 'exec'))",
            r"ZeroDivisionError in line 2: exec",
        ),
        (
            "def build(task, options):\n    raise SyntaxError('x', ('', 4700 + 11, 1, ''))",
            r"SyntaxError in line 2: raise",
        ),
        (
            "from hanse.errors import ConfigError\ndef build(task, options):\n    raise ConfigError(f'{4700 + 11}')",
            r"failed: ConfigError in line 3: raise",
        ),
        (
            "def build(task, options):\n    return type(f'Patient{4700 + 11}', (dict,), {})()",
            "returned dict; expected an nn.Module",
        ),
        ("x = '\x0c\u2028'\ndef build(task, options):\n    return 1 / 0", "ZeroDivisionError in line 3: return 1 / 0"),
        (
            "from torch import nn\ndef build(task, options):\n    return nn.Linear(97, 1)",
            r"RuntimeError in none of its own lines \(raised in torch\.nn\.modules\.linear\)",
        ),
        ("x = (", r"is no Python that runs here: '\(' was never closed in line 1"),
        ("x = 1", "no function build"),
        ("def build(task, options):\n    return 3", "returned int; expected an nn.Module"),
        ("import not_there", "ModuleNotFoundError in line 1"),
        ("from torch import nn\ndef build(task, options):\n    return nn.Linear(len(task.features), 5)", "gives shape"),
        (
            "from torch import nn\nimport torch\n"
            "def build(task, options):\n    return nn.Linear(1, 1).to(torch.bfloat16)",
            "use float32",
        ),
    ],
)
def test_a_broken_plan_says_where_and_never_what(source: str, says: str) -> None:
    with pytest.raises((AssertionError, ConfigError, NodeFailed), match=says) as caught:
        Drive(shares(toy(60), 30, 30), **settings(source)).run()
    assert "4711" not in str(caught.value)


def test_what_normalises_batches_of_one_row_learns_nothing_and_says_so() -> None:
    """All of them are left out, and the loss of none was told as 0."""
    with pytest.raises(AssertionError, match="each had one row, of which nothing is learned; use a larger batch_size"):
        Drive(shares(toy(60), 30, 30), **settings(batch_size=1)).run()


def test_a_run_without_a_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a training plan"):
        Drive(shares(toy(60), 30, 30), model_name="torch_module").run()
    with pytest.raises(ConfigError, match="source and name, not file"):
        find("models", "torch_module").build(Task("binary", ("a",), ("0", "1")), {"plan": {"source": "", "file": ""}})


SCALED = """
import torch
class Scaled(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.line, self.scale = torch.nn.Linear(features, 1), torch.nn.Parameter(torch.tensor(1.5))
    def forward(self, x):
        return self.line(x) * self.scale
def build(task, options):
    return Scaled(len(task.features))
"""


def test_a_parameter_that_is_one_number_is_learned_at_many_sites_as_at_each() -> None:
    rng = np.random.default_rng(0)
    model = find("models", "torch_module").build(Task("regression", ("a", "b")), {"plan": {"source": SCALED}})
    start, how = model.init(rng), Training(epochs=2, batch_size=5, learning_rate=0.1)
    rows = [(rng.normal(size=(20, 2)), rng.normal(size=20)) for _ in range(3)]

    def given() -> list[Any]:
        return [(start, X, y, np.random.default_rng(site), how) for site, (X, y) in enumerate(rows)]

    for found, arguments in zip(model.train_many(given()), given(), strict=True):
        alone = model.train(*arguments)
        assert found.together == 3
        assert np.shape(found.moved["scale"]) == ()
        for name, array in alone.parameters.items():
            assert isinstance(found.parameters[name], np.ndarray)
            np.testing.assert_allclose(found.parameters[name], array, rtol=1e-5, atol=1e-6)
        off = [np.ravel(array - start[name]) for name, array in alone.parameters.items()]
        assert found.length == pytest.approx(np.linalg.norm(np.concatenate(off)), rel=1e-4)


WIDE = """
import torch
def build(task, options):
    first = torch.nn.Linear(len(task.features), options["width"])
    return torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(options["width"], 1))
"""
LOSS = (
    WIDE
    + """
def loss(output, y):
    return ((output - y) ** 2).mean()
"""
)


@pytest.mark.parametrize(("source", "first", "again"), [(WIDE, 1, 0), (LOSS, 3, 9)])  # the latter for its steps too
def test_a_plan_of_plain_layers_is_run_once_for_each_of_its_options(
    source: str, first: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_torch, "_WRITTEN_OUT", {})
    rng, how, made = np.random.default_rng(0), Training(epochs=1, batch_size=5), []
    real = _torch.TorchModule._build
    monkeypatch.setattr(_torch.TorchModule, "_build", lambda self, plan: made.append(1) or real(self, plan))
    rows = [(rng.normal(size=(20, 2)), rng.normal(size=20)) for _ in range(2)]

    def learned(width: int) -> None:
        options = {"plan": {"source": source}, "width": width}
        model = find("models", "torch_module").build(Task("regression", ("a", "b")), options)
        start = model.init(rng)

        def given() -> list[Any]:
            return [(start, X, y, np.random.default_rng(site), how) for site, (X, y) in enumerate(rows)]

        made.clear()
        together = model.train_many(given())
        times.append(len(made))
        for found, arguments in zip(together, given(), strict=True):
            assert found.together == 2
            for name, array in model.train(*arguments).parameters.items():
                np.testing.assert_allclose(found.parameters[name], array, rtol=1e-5, atol=1e-6)

    times: list[int] = []
    for width in (3, 5, 3, 5, 3):
        learned(width)
    assert times[:2] == [first, first]
    assert sum(times[2:]) == again


ONE_AT_A_TIME = """
import time
import torch
class Watched(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.line, self.inside = torch.nn.Linear(features, 1), False
    def forward(self, x):
        if self.inside:
            raise RuntimeError("two threads are in one module")
        self.inside = True
        time.sleep(0.001)
        found = torch.tanh(self.line(x))
        self.inside = False
        return found
def build(task, options):
    return Watched(len(task.features))
"""


def test_no_two_threads_compute_with_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters of those who train lie in it meanwhile: another thread's would be learned from."""
    monkeypatch.setattr(_torch_many, "_CACHED", 1)  # each site is a part by itself
    rng = np.random.default_rng(0)
    model = find("models", "torch_module").build(Task("regression", ("a", "b")), {"plan": {"source": ONE_AT_A_TIME}})
    start, how = model.init(rng), Training(epochs=2, batch_size=5, learning_rate=0.1)
    rows = [(rng.normal(size=(10, 2)), rng.normal(size=10)) for _ in range(4)]

    def learned() -> list[Any]:
        return [
            found.parameters["line.weight"]
            for found in model.train_many(
                [(start, X, y, np.random.default_rng(site), how) for site, (X, y) in enumerate(rows)]
            )
        ]

    alone = learned()
    with ThreadPoolExecutor(4) as pool:
        shared_threads.lend(pool)
        try:
            assert all(map(np.array_equal, learned(), alone))
        finally:
            shared_threads.lend(None)
