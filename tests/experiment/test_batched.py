"""Sites of a simulation that train together learn what each would by itself, to the last digits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.experiment import crew
from hanse.experiment.simulated_run import SimulatedRun
from hanse.kinds import generator
from hanse.learning.local import Visit, training
from hanse.learning.local_training import LocalTraining
from hanse.learning.results import pass_seed, seed_of
from hanse.messages import Record, digest
from hanse.models import _torch_many

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

PLAIN = """
import torch

def build(task, options):
    first = torch.nn.Linear(len(task.features), 5)
    return torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(5, task.outputs))
"""
OPTIMISER = (
    PLAIN
    + """
def optimizer(module, learning_rate):
    return torch.optim.Adam(module.parameters(), learning_rate)
"""
)
DROPOUT = PLAIN.replace("torch.nn.Tanh()", "torch.nn.Dropout(0.5)")
BUFFERS = PLAIN.replace("torch.nn.Tanh()", "torch.nn.BatchNorm1d(5)")
GRADIENT_HOOK = PLAIN.replace(
    "    return", "    first.weight.register_hook(lambda gradient: 0.1 * gradient)\n    return"
)
FORWARD_HOOK = PLAIN.replace("    return", "    first.register_forward_hook(lambda part, x, out: 2 * out)\n    return")
OWN_FORWARD = PLAIN.replace(
    "    return", "    usual = first.forward\n    first.forward = lambda x: 2 * usual(x)\n    return"
)
COUNTING = """
import torch

class Network(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer, self.steps = torch.nn.Linear(inputs, outputs), 0

    def forward(self, x):
        self.steps += self.training
        return self.layer(x) / (self.steps if self.training else 1)

def build(task, options):
    return Network(len(task.features), task.outputs).eval()
"""
BROKEN = (
    PLAIN
    + """
def loss(output, y):
    if len(y) == 7:
        raise ValueError("seven rows")
    return ((output - y) ** 2).mean()
"""
)
STRATEGIES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedprox": {"proximal_mu": 0.5},
    "scaffold": {},
    "fednova": {},
    "feddyn": {"feddyn_alpha": 0.5},
    "median": {},
    "krum": {},
    "fedavg of clipped updates": {"federated_strategy": "fedavg", "transforms": [{"name": "clip", "norm": 0.1}]},
    "fedavg of a sample": {"federated_strategy": "fedavg", "fraction": 0.5},
}


def sites(classes: int = 2) -> dict[str, dict[str, Any]]:
    """Thirteen sites, of three sizes, and one without a row that counts."""
    found = {}
    for number in range(13):
        rng = np.random.default_rng(number)
        n = (40, 25, 12)[number % 3]
        X = rng.normal(size=(n, 4))
        y = np.digitize(X[:, 0] + 0.3 * rng.normal(size=n), np.linspace(-0.5, 0.5, classes - 1))
        labels: list[str | None] = [f"c{v}" for v in y]
        if number == 11:
            labels = [None] * n
        found[f"site-{number:02d}"] = {**{f"x{i}": X[:, i] for i in range(4)}, "y": labels}
    return found


def run(batched: bool, source: str = PLAIN, classes: int = 2, frames: Any = None, **settings: Any) -> Any:
    given: dict[str, Any] = {
        "model": "torch_module",
        "plan": {"source": source, "name": "plan"},
        "target": "y",
        "sample_id_column": None,
        "rounds": 3,
        "local_epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.2,
        **settings,
    }
    how = {name: given.pop(name) for name in ("workers", "wire") if name in given}
    with hanse.simulate(frames or sites(classes), batched=batched, **how) as federation:
        return federation.experiment(**given).run(progress=False)


CUSTOM = (
    PLAIN
    + """
def loss(output, y):
    return torch.nn.functional.binary_cross_entropy_with_logits(output, y) + 0.1 * output.square().mean()
"""
)
NORMALISED = PLAIN.replace("torch.nn.Tanh()", "torch.nn.LayerNorm(5)")


def near(one: Any, other: Any) -> None:
    assert list(one.record.arrays) == list(other.record.arrays)
    for name, array in one.record.arrays.items():
        np.testing.assert_allclose(other.record.arrays[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", STRATEGIES)
def test_sites_that_train_together_learn_what_each_would_by_itself(name: str) -> None:
    settings = {"federated_strategy": name, **STRATEGIES[name]}
    alone, together = run(False, **settings), run(True, **settings)
    near(alone, together)
    assert not alone.warnings
    said = next(w for w in together.warnings if "trained together" in w)
    assert 0 <= float(said.partition("first round, by ")[2].split()[0]) < 1e-5
    for before, after in zip(alone.rounds, together.rounds, strict=True):
        assert before.asked == after.asked
        assert before.failures == after.failures
        for node, part in before.participants.items():
            assert part["weight"] == after.participants[node]["weight"]
            for metric, value in part["metrics"].items():
                assert after.participants[node]["metrics"][metric] == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_several_classes() -> None:
    near(run(False, classes=3), run(True, classes=3))


@pytest.mark.parametrize("source", [CUSTOM, NORMALISED, COUNTING], ids=["loss", "layers", "counting"])
def test_any_loss_and_any_layer(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_many, "_CACHED", 100)  # of few parameters, in several parts
    together = run(True, source)
    near(run(False, source), together)
    assert any("trained together" in warning for warning in together.warnings)


def test_neither_threads_nor_the_wire_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_many, "_CACHED", 400)  # of 31 parameters each: three sites at a time
    records = [run(True, workers=1), run(True, workers=3), run(True, wire="exact")]
    assert len({digest(result.record) for result in records}) == 1


@pytest.mark.parametrize("late", [False, True])
def test_sites_are_asked_in_one_call_where_none_can_be_late(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself or all at once, what comes of it is the same."""
    asked: list[int] = []
    many = SimulatedRun._handle_many

    async def counted(self: Any, crew: Any, peer: str, nodes: Any, task: Any) -> Any:
        asked.append(len(nodes))
        return await many(self, crew, peer, nodes, task)

    monkeypatch.setattr(SimulatedRun, "_handle_many", counted)
    expected = run(True, wire="exact")
    assert not asked
    found = run(True, **({"round_deadline_s": 600} if late else {}))
    assert set(asked) == (set() if late else {13})
    for name, array in expected.record.arrays.items():
        assert np.array_equal(found.record.arrays[name], array), name
    for before, after in zip(expected.rounds, found.rounds, strict=True):
        assert (before.asked, before.failures, before.bytes_down, before.bytes_up) == (
            after.asked,
            after.failures,
            after.bytes_down,
            after.bytes_up,
        )


@pytest.mark.parametrize(
    "source",
    [OPTIMISER, DROPOUT, BUFFERS, GRADIENT_HOOK, FORWARD_HOOK, OWN_FORWARD],
    ids=["optimiser", "dropout", "buffers", "gradient hook", "forward hook", "own forward"],
)
def test_what_cannot_be_stacked_is_trained_site_by_site(source: str) -> None:
    assert digest(run(False, source).record) == digest(run(True, source).record)


@pytest.mark.parametrize("model", ["mlp_classifier", "sgd_classifier", "xgboost_bagging"])
def test_other_models_are_not_touched(model: str) -> None:
    records = []
    for batched in (False, True):
        with hanse.simulate(sites(), batched=batched) as federation:
            given: dict[str, Any] = {"target": "y", "sample_id_column": None, "rounds": 2, "model": model}
            records.append(federation.experiment(**given).run(progress=False).record)
    assert digest(records[0]) == digest(records[1])


def test_a_site_that_fails_is_named_and_no_other() -> None:
    """A batch of seven rows fails: the rest of 15 training rows in batches of 8."""
    frames = sites()
    for name in ("site-03", "site-10"):
        frames[name] = {column: values[:20] for column, values in frames["site-00"].items()}  # 15 of them train
    for name in [n for n in frames if n not in ("site-03", "site-10")]:
        frames[name] = {column: values[:11] for column, values in frames["site-00"].items()}  # 8
    failures = []
    for batched in (False, True):
        with hanse.simulate(frames, batched=batched) as federation:
            result = federation.experiment(
                model="torch_module",
                plan={"source": BROKEN, "name": "broken"},
                target="y",
                sample_id_column=None,
                rounds=2,
                batch_size=8,
            ).run(progress=False)
        failures.append([sorted(step.failures) for step in result.rounds if step.round is not None])
    assert failures[0] == failures[1] == [["site-03", "site-10"]] * 2


ASTRAY = (
    PLAIN
    + """
def loss(output, y):
    return (((output * 1e30 if len(y) == 7 else output) - y) ** 2).mean()
"""
)


def test_sites_of_other_sizes_and_one_that_leaves_the_range_of_numbers() -> None:
    """In one cohort: sites of 8 training rows, one of 15 whose second batch has seven, one of a single row, and one
    without any."""
    frames, whole = {}, sites()["site-00"]
    for place, rows in enumerate((11, 20, 11, 1, 11, 11)):
        frames[f"site-{place}"] = {column: values[:rows] for column, values in whole.items()}
    frames["site-5"] = {**frames["site-5"], "y": [None] * 11}
    told = []
    for batched in (False, True):
        with hanse.simulate(frames, batched=batched) as federation:
            result = federation.experiment(
                model="torch_module",
                plan={"source": ASTRAY, "name": "astray"},
                target="y",
                sample_id_column=None,
                rounds=2,
                batch_size=8,
                learning_rate=0.1,
            ).run(progress=False)
        steps = [step for step in result.rounds if step.round is not None]
        assert [sorted(step.failures) for step in steps] == [["site-1"]] * 2
        assert all("left the range of numbers" in step.failures["site-1"] for step in steps)
        told.append([{n: part["weight"] for n, part in step.participants.items()} for step in steps])
        assert told[-1][0] == {"site-0": 8, "site-2": 8, "site-3": 1, "site-4": 8, "site-5": 0}
    assert told[0] == told[1]


def test_of_replies_that_are_made_at_once_none_holds_what_left_the_range_of_numbers() -> None:
    """Two sites of eight rows, and two of 15, whose second batch has seven."""
    whole = sites()["site-00"]
    frames = {f"site-{n}": {c: values[: (8, 15)[n % 2]] for c, values in whole.items()} for n in range(4)}
    found = run(True, ASTRAY, frames=frames, evaluate_every=0, test_fraction=0.0, local_epochs=1)
    for step in (step for step in found.rounds if step.round is not None):
        assert sorted(step.failures) == ["site-1", "site-3"]
        assert all("left the range of numbers" in why for why in step.failures.values())
        assert sorted(step.participants) == ["site-0", "site-2"]


def test_a_plan_that_fails_everywhere_is_told_of_every_site_that_trains() -> None:
    result = run(True, PLAIN + "\n\ndef loss(output, y):\n    raise ValueError\n", rounds=1)
    failures = next(step.failures for step in result.rounds if step.round is not None)
    assert sorted(failures) == sorted(set(sites()) - {"site-11"})
    assert all("the training plan failed: ValueError in line" in why for why in failures.values())


@pytest.mark.parametrize(
    ("settings", "at_once"),
    [
        ({}, True),
        ({"federated_strategy": "median"}, True),
        ({"federated_strategy": "krum"}, True),
        ({"federated_strategy": "fedprox", "proximal_mu": 0.5}, True),
        ({"fraction": 0.5}, True),
        ({"test_fraction": 0.2}, False),
        ({"transforms": [{"name": "clip", "norm": 0.01}]}, False),
        ({"federated_strategy": "scaffold"}, False),
        ({"federated_strategy": "fednova"}, False),
        ({"federated_strategy": "fedper", "own_layers": ["2"]}, False),
    ],
    ids=str,
)
def test_replies_that_are_made_at_once_are_those_that_each_site_gives(
    settings: dict[str, Any], at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where something is done to single ones, it is done."""
    frames = {name: rows for name, rows in sites().items() if name != "site-11"}
    whole, made = crew._Cohort.replies, list[bool]()

    def counted(self: Any, answerers: Any, asked: Any) -> Any:
        found = whole(self, answerers, asked)
        made.append(found is not None)
        return found

    results = []
    for how in (counted, lambda self, answerers, asked: None):
        monkeypatch.setattr(crew._Cohort, "replies", how)
        results.append(run(True, frames=frames, **{"evaluate_every": 0, "test_fraction": 0.0, **settings}))
    assert any(made) is at_once
    assert digest(results[0].record) == digest(results[1].record)
    for before, after in zip(results[0].rounds, results[1].rounds, strict=True):
        assert (before.asked, before.failures, before.bytes_up) == (after.asked, after.failures, after.bytes_up)
        for node, part in before.participants.items():
            other = after.participants[node]
            assert part["weight"] == other["weight"]
            assert [*part["metrics"].items()] == [*other["metrics"].items()]


def test_whatever_fails_at_one_site_is_that_sites() -> None:
    """What is computed for several sites at once and fails is answered by each alone, whatever kind of error it was."""

    class Fails:
        def answer(self, site: Any, ask: Record) -> str:
            if site.node == "b":
                raise ValueError("a fault of b")
            return f"of {site.node}"

        def answer_many(self, sites: Any, ask: Record) -> list[str]:
            return [self.answer(site, ask) for site in sites]

    ask, sites = Record(), [SimpleNamespace(node=name) for name in "abc"]
    terms = SimpleNamespace(algorithm=Fails())
    cohort = crew._Cohort([SimpleNamespace(site=site, task=SimpleNamespace(ask=ask), terms=terms) for site in sites])  # type: ignore[misc]
    assert cohort.answer(sites[0], ask) == "of a"  # type: ignore[arg-type, comparison-overlap]
    with pytest.raises(ValueError, match="of b"):
        cohort.answer(sites[1], ask)  # type: ignore[arg-type]
    assert cohort.answer(sites[2], ask) == "of c"  # type: ignore[arg-type, comparison-overlap]


def test_random_numbers_of_sites_that_train_together_are_those_that_each_has_by_itself() -> None:
    """Also where a site is at work in two threads, as nobody waits for what it was asked first."""
    site = SimpleNamespace(node="a", config={"seed": 5}, cache={}, progress=lambda: None)
    visit = Visit({}, {}, {}, {}, {"learning_rate": 0.1, "local_epochs": 1, "batch_size": 2})

    def drawn(round: int) -> tuple[list[int], Any]:
        one = LocalTraining(site, None, training, visit, round, {}, np.zeros((9, 1)), np.zeros(9))  # type: ignore[arg-type]
        rng = LocalTraining.given_together([one])[0][3]
        pass_seed(rng)
        return rng.permutation(9).tolist(), rng

    for round in (1, 2, 7, 2):
        alone = generator(5, "a", "train", round)
        seed_of(alone)
        assert drawn(round)[0] == alone.permutation(9).tolist()
    with ThreadPoolExecutor(1) as pool:
        order, rng = pool.submit(drawn, 2).result()
    assert order == drawn(2)[0]
    assert rng is not drawn(2)[1]
    assert drawn(3)[1] is drawn(2)[1]


def test_cancel_stops_sites_that_train_together_in_the_middle_of_it() -> None:
    """Their ten thousand passes would take longer than any test may."""
    with hanse.simulate(sites(), batched=True) as federation:
        experiment = federation.experiment(
            model="torch_module",
            plan={"source": PLAIN, "name": "cancelled"},
            target="y",
            sample_id_column=None,
            rounds=1,
            local_epochs=10_000,
            batch_size=1,
        ).propose()
        for update in experiment.watch():
            if update.step is not None:
                break
        experiment.cancel()
        assert experiment.status()["state"] == "cancelled"
