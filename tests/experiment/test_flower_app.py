"""A Flower app under consent: a coordinator and nodes as processes, a ServerApp here, ClientApps in their cages.

``make flower`` runs these: ``HANSE_FLOWER`` names an environment with Flower.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import hanse
from demo.federation import Failed, Federation
from demo.federation import hanse as command
from hanse.errors import NotApproved
from hanse.experiment.flower_app import FlowerExperiment
from hanse.node import cage

APPS = Path(__file__).parents[1] / "flower_apps"
NODES = ("node-a", "node-b")

pytestmark = [
    pytest.mark.flower,
    pytest.mark.timeout(250),
    pytest.mark.skipif(not cage.abi(), reason="this kernel has no Landlock; apps are refused here"),
    pytest.mark.filterwarnings("ignore"),  # of Flower
]


def data(path: Path, seed: int, rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    x, z = np.random.default_rng(seed).normal(size=(2, rows)).round(6)
    y = np.where(x + z > 0, "ill", "well")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["x", "z", "y"], *zip(x, z, y, strict=True)])
    return np.column_stack([np.ones(rows), x, z]), (y == "ill").astype(float)


@pytest.fixture(scope="module")
def sites() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, sites: dict[str, Any]) -> Iterator[Federation]:
    home = tmp_path_factory.mktemp("flower")
    with Federation(home) as it:
        for seed, name in enumerate(NODES):
            place = str(it.enrol(name, standing="accept-allowed"))
            file = home / f"{name}.csv"
            sites[name] = data(file, seed, 40 + 30 * seed)
            command("node", "dataset", "add", str(file), "--name", "d", "--tags", "d", "--home", place)
            command("node", "policy", "set", "allow_training_plans", "true", "--home", place)
            it.start_node(name)
        yield it


@pytest.fixture(scope="module")
def connection(federation: Federation) -> Iterator[Any]:
    with hanse.connect(federation.url, federation.account("scientist", "data_scientist")) as it:
        yield it


def test_a_quickstart_app_runs_unmodified(connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = connection.flower_app(APPS / "quickstart-numpy", tags=["d"])
    read = made.preview()
    for path in (APPS / "quickstart-numpy").rglob("*.*"):
        if "__pycache__" not in path.parts:
            assert path.read_text() in read
    result = made.run(progress=False)
    assert [step.label for step in result.rounds] == ["train", "evaluate"] * 3
    assert [step.round for step in result.rounds] == [1, None, 2, None, 3, None]
    assert all(sorted(step.participants) == list(NODES) for step in result.rounds)
    with np.load("final_model.npz") as model:
        assert model["arr_0"].shape == (1, 1)
        assert 1 < model["arr_0"][0, 0] < 4  # each of three rounds adds from 0 to 1
    session = connection.run(made.run_id).status()
    assert session["state"] == "completed"


def learned(sites: dict[str, Any], rounds: int, rate: float, without: tuple[int, str] = (0, "")) -> list[float]:
    """What FedAvg gives, computed here."""
    w = np.zeros(3)
    for number in range(1, rounds + 1):
        there = [site for name, site in sites.items() if (number, name) != without]
        new = [w - rate * X.T @ (1 / (1 + np.exp(-X @ w)) - y) / len(y) for X, y in there]
        w = np.average(new, axis=0, weights=[len(y) for _, y in there])
    return list(w)


def test_a_strategy_with_callbacks_configuration_evaluation_and_state(
    connection: Any, sites: dict[str, Any], tmp_path: Path
) -> None:
    given = {"num-server-rounds": 3, "learning-rate": 0.25, "written": str(tmp_path / "found.json")}
    made = connection.flower_app(APPS / "hospitals", given, tags=["d"], purpose="to learn")
    result = made.run(progress=False)
    found = json.loads((tmp_path / "found.json").read_text())
    np.testing.assert_allclose(found["w"], learned(sites, 3, 0.25), rtol=1e-12)
    assert len(found["central"]) == 4  # before the first round too
    assert found["central"][-1] < found["central"][0]
    assert len(found["evaluated"]) == 3
    assert [one["seen"] for told in found["told"] for one in told["metrics"]] == [1, 1, 2, 2, 3, 3]
    assert [one["round"] for told in found["told"] for one in told["metrics"]] == [1, 1, 2, 2, 3, 3]
    assert {one["num-examples"] for told in found["told"] for one in told["metrics"]} == {40, 70}
    train = [step for step in result.rounds if step.label == "train"]
    assert train[0].participants["node-a"]["metrics"]["num-examples"] == 40  # in the records of the run, too


def test_a_client_that_fails_is_a_failure_of_the_strategy_and_tells_nothing_of_its_data(
    connection: Any, sites: dict[str, Any], tmp_path: Path
) -> None:
    given = {"written": str(tmp_path / "found.json"), "fails": "2"}  # node-a in the order of names, after the ServerApp
    result = connection.flower_app(APPS / "hospitals", given, tags=["d"]).run(progress=False)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [len(told["failed"]) for told in found["told"]] == [1, 0]
    assert "ValueError" in found["told"][0]["failed"][0]
    assert "a row of the data" not in json.dumps(found["told"])
    np.testing.assert_allclose(found["w"], learned(sites, 2, 0.5, (1, "node-a")), rtol=1e-12)
    assert list(result.rounds[0].failures) == ["node-a"]


def test_a_client_app_that_takes_long_is_not_late(connection: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(APPS / "hospitals", tmp_path / "app"))
    file = folder / "hospitals" / "task.py"
    file.write_text(
        file.read_text().replace("    return w - rate", "    import time; time.sleep(9)\n    return w - rate")
    )
    given = {"num-server-rounds": 1, "written": str(tmp_path / "found.json")}
    result = connection.flower_app(folder, given, tags=["d"], round_timeout_s=6).run(progress=False)
    assert all(step.failures == {} for step in result.rounds)


def test_one_changed_byte_is_refused_before_anything_is_sent(connection: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(APPS / "hospitals", tmp_path / "app"))
    made = connection.flower_app(folder, tags=["d"]).propose()
    file = folder / "hospitals" / "task.py"
    file.write_bytes(file.read_bytes().replace(b"- rate", b"+ rate"))
    with pytest.raises(NotApproved, match=r"hospitals/task.py of this Flower app is not what the owners agreed to"):
        made.run(progress=False)
    again = FlowerExperiment.resumed(made.connection, folder, made.run_id)
    with pytest.raises(NotApproved, match=r"hospitals/task.py"):
        again.run(progress=False)
    made.experiment.cancel()


def test_a_client_app_sees_the_approved_data_set_and_nothing_else(
    federation: Federation, connection: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(APPS / "hospitals", tmp_path / "app"))
    other = tmp_path / "other.csv"
    other.write_text("x\n1\n")
    home = federation.home / "node-a"
    tried = [str(other), str(home / "node.toml"), str(home), str(home / "audit.jsonl"), "/etc/passwd", "/root"]
    file = folder / "hospitals" / "client_app.py"
    file.write_text(f"""import os, socket
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
TRIED = {tried!r}


def reached(do) -> int:
    try:
        do()
        return 1
    except OSError:
        return 0


@app.train()
def train(message: Message, context: Context) -> Message:
    place = context.node_config["data-path"]
    found = {{"own": reached(lambda: open(place)), "num-examples": 1, "loss": 0.0, "seen": 1, "round": 1}}
    found["write"] = reached(lambda: open(place, "a"))
    found["files"] = sum(reached(lambda: open(path)) + reached(lambda: os.listdir(path)) for path in TRIED)
    found["network"] = reached(lambda: socket.create_connection(("127.0.0.1", {urlsplit(federation.url).port}), 1))
    found["process"] = reached(os.fork)
    found["secrets"] = sum("TOKEN" in name or "PROXY" in name for name in os.environ)
    back = {{"arrays": message.content["arrays"], "metrics": MetricRecord(found)}}
    return Message(RecordDict(back), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    return Message(RecordDict({{"metrics": MetricRecord({{"num-examples": 1, "loss": 0.0}})}}), reply_to=message)
""")
    given = {"num-server-rounds": 1, "written": str(tmp_path / "found.json")}
    connection.flower_app(folder, given, tags=["d"]).run(progress=False)
    (told,) = json.loads((tmp_path / "found.json").read_text())["told"]
    assert len(told["metrics"]) == 2
    for found in told["metrics"]:
        assert {name: found[name] for name in ("own", "write", "files", "network", "process", "secrets")} == {
            "own": 1,
            "write": 0,
            "files": 0,
            "network": 0,
            "process": 0,
            "secrets": 0,
        }


def test_more_messages_than_owners_agreed_to_are_not_sent(connection: Any, tmp_path: Path) -> None:
    given = {"written": str(tmp_path / "found.json")}
    made = connection.flower_app(APPS / "hospitals", given, tags=["d"], most_messages=3)
    with pytest.raises(hanse.errors.ConfigError, match="agreed to messages at most 3 times"):
        made.run(progress=False)
    assert connection.run(made.run_id).status()["state"] == "cancelled"


def test_the_command_line_proposes_and_leads(federation: Federation, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HANSE_URL", federation.url)
    monkeypatch.setenv("HANSE_TOKEN", federation.account("another", "data_scientist"))
    config = f'num-server-rounds=1 written="{tmp_path}/found.json"'
    folder = str(APPS / "hospitals")
    id = command("flower", "propose", folder, "--tag", "d", "--run-config", config).split()[-1]
    said = command("flower", "run", folder, "--id", id)
    assert id in said
    assert len(json.loads((tmp_path / "found.json").read_text())["evaluated"]) == 1
    with pytest.raises(Failed, match="has no 'rounds' in"):
        command("flower", "propose", folder, "--tag", "d", "--run-config", "rounds=1")
