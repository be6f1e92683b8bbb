"""The same experiments in one process, over gRPC and through a folder, by real processes: the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

import hanse
from hanse.experiment.federation import Federation
from hanse.messages import digest
from tests.attacks.harness import join, table

from .test_same_everywhere import _said

Way = Callable[[Path], str]
NODES = 3
LEARNED: dict[str, dict[str, Any]] = {
    "fedavg": {"model": "logistic_regression", "federated_strategy": "fedavg", "rounds": 3},
    "exact boosting": {"model": "xgboost", "rounds": 4},
    "in secure sums": {
        "model": "logistic_regression",
        "federated_strategy": "fedavg",
        "rounds": 2,
        "gathering": "secure",
    },
}


def outcomes(federation: Federation) -> dict[str, Any]:
    """What comes of each experiment: a model by the hash of its bytes, a statistic as it is printed."""
    found: dict[str, Any] = {}
    for name, settings in LEARNED.items():
        chosen = {"target": "y", "seed": 5, "sample_id_column": None, "consent_timeout_s": 60.0, **settings}
        result = federation.experiment(**chosen).run(progress=False)
        assert not any(step.failures for step in result.rounds)
        found[name] = digest(result.record)
    found["mean"] = _said(federation.analytics().mean(["a", "b"]))
    return found


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("near")
    sites = {f"site-{'abc'[i]}": pandas.read_csv(table(folder / f"{i}.csv", i)) for i in range(NODES)}
    with hanse.simulate(sites) as federation:
        return outcomes(federation)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["grpc", "folder"])
def test_the_same_bytes_on_every_way(tmp_path: Path, near: dict[str, Any], way: str) -> None:
    from demo.federation import Federation as Processes

    address = f"folder://{tmp_path}/shared"
    with Processes(tmp_path / "f", *(("--listen", address) if way == "folder" else ())) as processes:
        processes.joining = ("--address", address) if way == "folder" else ()  # enrolled through it too
        names = join(processes, NODES, allow_federated_analytics="true")
        if way == "folder":
            assert sorted(path.name for path in (tmp_path / "shared" / "to-coordinator").iterdir()) == names
        token = processes.account("ada", "data_scientist")
        with hanse.connect(processes.url, token) as federation:
            assert outcomes(federation) == near
