"""Training plans: what of a module travels, adapters (LoRA), modules of Lightning and Hugging Face."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "algorithms"))
from drive import Drive, same, shares, toy  # noqa: E402

import hanse  # noqa: E402
from hanse.errors import ConfigError, RunFailed  # noqa: E402
from hanse.prediction import Predictor, native_model  # noqa: E402
from hanse.registry import find  # noqa: E402
from hanse.table import Table  # noqa: E402
from hanse.task import Task  # noqa: E402

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

FROZEN = """
from torch import nn

def build(task, options):
    body, head = nn.Linear(len(task.features), 6), nn.Linear(6, task.outputs)
    body.requires_grad_(False)
    return nn.Sequential(body, nn.Tanh(), head)
"""
HEAD = FROZEN + "\ndef sent(module):\n    return ['2.weight', '2.bias']\n"
# stands for a base model that differs from site to site, of another file or release: here from call to call
OTHER = HEAD.replace("body.requires_grad_(False)", "nn.init.constant_(body.requires_grad_(False).weight, next(CALLS))")
OTHER = OTHER.replace("from torch import nn", "import itertools\nfrom torch import nn\nimport hanse\n")
OTHER = OTHER.replace("def build", "CALLS = hanse.__dict__.setdefault('_calls', itertools.count())\n\ndef build", 1)
LIGHTNING = """
import torch
import pytorch_lightning

class Plan(pytorch_lightning.LightningModule):
    def __init__(self, features, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(features, outputs)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(self(x)[:, 0], y)}

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

def build(task, options):
    return Plan(len(task.features), task.outputs)
"""
PLAIN = """
import torch

def build(task, options):
    return torch.nn.Sequential(torch.nn.Linear(len(task.features), task.outputs))
"""
LANGUAGE = """
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

class Reader(torch.nn.Module):
    def __init__(self, labels):
        super().__init__()
        size = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
        config = BertConfig(vocab_size=12, max_position_embeddings=8, num_labels=labels, **size)
        adapter = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
        self.model = get_peft_model(BertForSequenceClassification(config), adapter)

    def forward(self, x):
        return self.model(input_ids=x.long())

def build(task, options):
    return Reader(task.outputs)

def sent(module):
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]

def optimizer(module, learning_rate):
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], learning_rate)
"""


def settings(source: str, **more: Any) -> dict[str, Any]:
    plan = {"source": source, "name": "net"}
    return {"model_name": "torch_module", "plan": plan, "num_rounds": 3, "learning_rate": 0.5, **more}


def test_what_is_not_sent_stays_and_the_rest_learns_the_same() -> None:
    whole = Drive(shares(toy(200), 120, 80), **settings(FROZEN))
    head = Drive(shares(toy(200), 120, 80), **settings(HEAD))
    whole.run()
    result = head.run()
    assert set(n for n in result.arrays if n.startswith("model.")) == {
        "model.2.weight",
        "model.2.bias",
        "model.stays.xxh3",
    }
    assert sum(a.nbytes for a in head.contributions[3]["site-0"].arrays.values()) < sum(
        a.nbytes for a in whole.contributions[3]["site-0"].arrays.values()
    )
    history = result.data["history"]
    assert history[-1]["loss"] < 0.95 * history[0]["loss"]
    module = native_model(result)
    again = native_model(result)
    assert torch.equal(module[0].weight, again[0].weight), "what stays is the same wherever the module is built"
    table = toy(40, seed=3)
    scores = module(torch.from_numpy(Predictor(result).design(table).astype(np.float32)))[:, 0]
    np.testing.assert_allclose(torch.sigmoid(scores).detach(), Predictor(result).predict_proba(table)[:, 1], atol=1e-6)


def test_another_base_model_at_a_site_is_an_error_and_no_average() -> None:
    with pytest.raises(AssertionError, match="site-0.*is another model here than where the run began.*site-1"):
        Drive(shares(toy(80), 40, 40), **settings(OTHER, num_rounds=1)).run()


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ("[]", "sent of the training plan names nothing"),
        ("['none']", "sent of the training plan names none"),
        ("['2.bias']", "trains 2.weight, which it does not send"),
    ],
)
def test_a_plan_that_sends_what_cannot_be(sent: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        Drive(shares(toy(80), 40, 40), **settings(FROZEN + f"\ndef sent(module):\n    return {sent}\n")).run()


def test_a_lightning_module_trains_by_its_own_step_and_optimiser() -> None:
    pytest.importorskip("pytorch_lightning")
    plain = Drive(shares(toy(200), 120, 80), **settings(PLAIN)).run()
    lightning = Drive(shares(toy(200), 120, 80), **settings(LIGHTNING, learning_rate=9.0)).run()
    np.testing.assert_array_equal(plain.arrays["model.0.weight"], lightning.arrays["model.layer.weight"])


def sentences(n: int, seed: int) -> Table:
    """Rows of six tokens; a text is of the class whose token it holds more often."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 12, (n, 6))
    y = (tokens == 3).sum(1) + (tokens == 4).sum(1) > (tokens == 7).sum(1) + (tokens == 8).sum(1)
    return Table.of({**{f"t{i}": tokens[:, i].astype(float) for i in range(6)}, "y": np.where(y, "a", "b").tolist()})


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_of_a_language_model_only_the_adapter_travels() -> None:
    pytest.importorskip("peft")
    drive = Drive(
        shares(sentences(400, 0), 250, 150),
        **settings(LANGUAGE, model_name="torch_raw", num_rounds=4, local_epochs=3, learning_rate=0.02),
    )
    result = drive.run()
    names = {n.removeprefix("model.") for n in result.arrays if n.startswith("model.")}
    assert all("lora_" in n or "classifier" in n or n == "stays.xxh3" for n in names)
    module = native_model(result)
    travels = sum(result.arrays[f"model.{n}"].nbytes for n in names)
    assert travels < sum(p.numel() * 4 for p in module.parameters()) / 4
    history = result.data["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["accuracy"] > 0.7


LOADS = (
    PLAIN
    + """
def training_data(X, y, batch_size):
    rows = torch.utils.data.TensorDataset(X + noise * torch.randn_like(X), y)
    return torch.utils.data.DataLoader(rows, batch_size, shuffle=True)
"""
)


def test_a_plan_loads_its_rows_itself() -> None:
    """In one batch the order does not count, so it is what the rows are without a loader; what a loader draws follows
    from run, site and round."""
    whole = {"batch_size": 1000, "local_epochs": 3, "num_rounds": 2}
    usual = Drive(shares(toy(200), 120, 80), **settings(PLAIN, **whole)).run()
    loaded = Drive(shares(toy(200), 120, 80), **settings("noise = 0.0\n" + LOADS, **whole)).run()
    for name, array in usual.arrays.items():
        np.testing.assert_allclose(loaded.arrays[name], array, rtol=0, atol=1e-5)
    noisy = [Drive(shares(toy(200), 120, 80), **settings("noise = 1.0\n" + LOADS, **whole)).run() for _ in range(2)]
    assert same(*noisy)
    assert np.abs(noisy[0].arrays["model.0.weight"] - usual.arrays["model.0.weight"]).max() > 1e-3


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        ("[]", "training_data of the training plan gave no batch of a pass"),
        ("[(X[:0], y[:0])]", "training_data of the training plan gave no batch of a pass"),
        ("[X]", "training_data of the training plan gave a Tensor; expected batches"),
        ("[(X, y[1:])]", "expected batches .x, y. of as many rows in both"),
    ],
)
def test_a_plan_that_loads_no_batches_is_told(gives: str, says: str) -> None:
    plan = PLAIN + f"\ndef training_data(X, y, batch_size):\n    return {gives}\n"
    with pytest.raises(AssertionError, match=says):
        Drive(shares(toy(80), 40, 40), **settings(plan)).run()


def test_noise_for_each_row_takes_no_rows_of_a_plans_own() -> None:
    model = find("models", "torch_module").build(
        Task("binary", ("a",), ("0", "1")), {"plan": {"source": "noise = 0\n" + LOADS}}
    )
    start = model.init(np.random.default_rng(0))
    with pytest.raises(ConfigError, match="leave training_data out"):
        model.clipped(start, np.zeros((3, 1)), np.zeros(3), 1.0)


def test_the_author_of_a_plan_sees_all_of_its_error_in_a_simulation() -> None:
    """Whose rows they are too; the message is as it is at a node, the cause is what the plan raised."""
    plan = PLAIN + "\ndef loss(output, y):\n    raise ValueError(f'{len(y)} rows of 4711')\n"
    rows = {"a": np.arange(40.0), "y": np.arange(40) % 2}
    with (
        hanse.simulate({"u": rows, "v": rows}) as federation,
        pytest.raises(RunFailed, match="ValueError in ") as found,
    ):
        federation.experiment(
            "torch_module", target="y", sample_id_column=None, rounds=1, plan={"source": plan, "name": "p"}
        ).run(progress=False)
    assert "4711" not in str(found.value).replace("rows of 4711')", "")  # but for the line, which is its own
    assert repr(found.value.__cause__) == "ValueError('30 rows of 4711')"
