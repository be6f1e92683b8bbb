"""The same experiments in one process, in actors of Ray, over gRPC, through a folder, over Flower: the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
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


SHORT = {  # over Flower each exchange takes seconds
    "fedavg": {"rounds": 1},
    "exact boosting": {"rounds": 1, "model_options": {"max_depth": 2}},
    "in secure sums": {"rounds": 1},
}
ON_RAY = """
import json, sys
from pathlib import Path
import hanse
from tests.conformance.test_every_way import outcomes, tables
with hanse.simulate(tables(Path(sys.argv[1])), processes=2, cluster="local") as federation:
    print(json.dumps(outcomes(federation)))
"""


def outcomes(federation: Federation, other: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """What comes of each experiment: a model by the hash of its bytes, a statistic as it is printed."""
    found: dict[str, Any] = {}
    for name, settings in LEARNED.items():
        chosen = {"target": "y", "seed": 5, "sample_id_column": None, "consent_timeout_s": 600.0, **settings}
        chosen |= (other or {}).get(name, {})
        result = federation.experiment(**chosen).run(progress=False)
        assert not any(step.failures for step in result.rounds)
        found[name] = digest(result.record)
    found["mean"] = _said(federation.analytics().mean(["a", "b"]))
    return found


def tables(folder: Path) -> dict[str, Any]:
    return {f"site-{'abc'[i]}": pandas.read_csv(table(folder / f"{i}.csv", i)) for i in range(NODES)}


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with hanse.simulate(tables(tmp_path_factory.mktemp("near"))) as federation:
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


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_same_bytes_in_actors_of_ray(tmp_path: Path, near: dict[str, Any]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", ON_RAY, str(tmp_path)]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=580)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == json.loads(json.dumps(near))


@pytest.mark.flower
@pytest.mark.timeout(1700)
def test_the_same_bytes_over_flower(tmp_path: Path) -> None:
    from demo.federation import Federation as Processes

    (tmp_path / "near").mkdir()
    with hanse.simulate(tables(tmp_path / "near")) as federation:
        near = outcomes(federation, SHORT)
    processes = Processes(tmp_path / "f", "--listen", "flower://127.0.0.1:0")
    processes.coordinator.start_timeout = 900.0  # on a busy machine Flower's version alone takes a minute to say
    with processes:
        names = join(processes, NODES, start=False, allow_federated_analytics="true")
        for name in names:
            processes.start_node(name, wait=False)
        for name in names:
            processes.nodes[name].wait_ready(900)
        with hanse.connect(processes.url, processes.account("ada", "data_scientist")) as federation:
            assert outcomes(federation, SHORT) == near
