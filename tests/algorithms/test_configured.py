"""A strategy that gives sites settings of their own: each trains with what a function of its file gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.algorithms import fedavg
from hanse.errors import RunFailed
from hanse.experiment.results import Result
from hanse.messages import Json, digest

PLAN = "import torch\n\ndef build(task, options):\n    return torch.nn.Linear(len(task.features), task.outputs)\n"
Configured = Callable[[str, int, int, Mapping[str, Json]], Mapping[str, Json]]


@pytest.fixture
def configured() -> Iterator[Callable[[Configured], None]]:
    """Federated averaging with another function, as a file that calls ``averaging`` with it is."""
    strategy: Any = fedavg.ALGORITHM.inner
    before = strategy.local
    yield lambda function: object.__setattr__(strategy, "local", replace(before, configured=function))
    object.__setattr__(strategy, "local", before)


def fit(model: str = "sgd_classifier", batched: bool = False, **settings: Any) -> Result:
    rng = np.random.default_rng(0)
    sites = {}
    for name, rows in {"kiel": 60, "bonn": 60, "ulm": 120, "trier": 120}.items():
        X = rng.normal(size=(rows, 2))
        sites[name] = {"a": X[:, 0], "b": X[:, 1], "y": np.where(X[:, 0] + rng.normal(size=rows) > 0, "u", "v")}
    with hanse.simulate(sites, seed=1, batched=batched) as federation:
        experiment = federation.experiment(
            model,
            target="y",
            sample_id_column=None,
            federated_strategy="fedavg",
            rounds=2,
            **({"plan": {"source": PLAN, "name": "p"}} if model == "torch_module" else {}),
            **settings,
        )
        return experiment.run(progress=False)


def passes(result: Result) -> list[dict[str, int]]:
    """So many passes each site made, by round."""
    return [
        {
            node: sum(name.startswith("train_loss_") for name in said["metrics"])
            for node, said in step.participants.items()
        }
        for step in result.rounds
        if step.label == "train"
    ]


def more_for_few(node: str, round: int, rows: int, settings: Mapping[str, Json]) -> Mapping[str, Json]:
    return {"local_epochs": 2 + round} if rows < 60 else {}


def test_each_site_trains_with_the_settings_that_it_is_given(configured: Callable[[Configured], None]) -> None:
    usual = fit()
    configured(more_for_few)
    assert passes(fit()) == [{"bonn": p, "kiel": p, "trier": 1, "ulm": 1} for p in (3, 4)]
    configured(lambda node, round, rows, settings: {"learning_rate": 0.01, "batch_size": settings["batch_size"]})
    assert digest(fit().record) == digest(usual.record)  # the same numbers in other words


@pytest.mark.torch
def test_sites_that_train_together_have_their_own_settings(configured: Callable[[Configured], None]) -> None:
    pytest.importorskip("torch")

    def rates(node: str, round: int, rows: int, settings: Mapping[str, Json]) -> Mapping[str, Json]:
        return {"local_epochs": 3, "learning_rate": 0.5} if node < "l" else {"batch_size": 7, "learning_rate": 0.1}

    configured(rates)
    alone, together = (fit("torch_module", batched) for batched in (False, True))
    assert passes(together) == passes(alone) == [{"bonn": 3, "kiel": 3, "trier": 1, "ulm": 1}] * 2
    for name, array in alone.record.arrays.items():
        np.testing.assert_allclose(together.record.arrays[name], array, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"local_epochs": 0}, "fedavg gives .* local_epochs = 0; expected"),
        ({"epochs": 2}, "expected one of local_ep"),
        ({"by_round": {"local_epochs": {"1": 5}}}, "expected one of local_ep"),
        ({"early_stopping_rounds": 3}, "expected one of local_ep"),
    ],
)
def test_what_is_no_setting_is_refused(
    given: Mapping[str, Json], says: str, configured: Callable[[Configured], None]
) -> None:
    configured(lambda node, round, rows, settings: given)
    with pytest.raises(RunFailed, match=says):
        fit()


def test_the_settings_of_a_run_are_not_changed_in_passing(configured: Callable[[Configured], None]) -> None:
    """They are those of other sites, too, and nobody would check what came of them."""

    def changes(node: str, round: int, rows: int, settings: Any) -> Mapping[str, Json]:
        settings["local_epochs"] = 0
        return {}

    configured(changes)
    with pytest.raises(RunFailed, match="TypeError"):
        fit()
