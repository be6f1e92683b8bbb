"""Clients written from the documents alone, against a real coordinator: nothing that a document prints is refused.

What these clients send are the requests that the documents print, or what their prose names, with the one thing that
the documents do not have: an API token in a header. Whatever is weaker than Hanse would have it is accepted with a
sentence that says so.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from demo.federation import Federation, hanse
from hanse import connect, simulate
from tests.coordinator.live import Live
from tests.coordinator.test_training_config import PRINTED
from tests.waiting import PATIENCE, until

Json = Any


class Client:
    """What a script of the documents does with ``requests``: a method, a path, JSON; it sees status and body."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url, self.token = url, token

    def __call__(self, method: str, path: str, body: Json = None) -> tuple[int, Json]:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())

    def until(self, path: str, name: str, *wanted: str) -> Json:
        """The body at ``path`` once its ``name`` is one of these."""

        def there() -> Json:
            _, body = self("GET", path)
            return body.get(name) in wanted and body

        return until(there)


class Place:
    """A coordinator, nodes ``client-1`` and ``client-2`` with a table each, and people."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.anybody = Client(federation.url)
        self.scientist = Client(federation.url, federation.account("scientist", "data_scientist"))
        self.owners: dict[str, Client] = {}

    def owner(self, *nodes: str) -> Client:
        return Client(self.federation.url, self.federation.account(f"owner of {nodes[0]}", "data_owner", nodes))


def write_visits(path: Path, seed: int, rows: int = 60) -> None:
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 90, rows)
    ill = (age + rng.normal(0, 12, rows) > 55).astype(int)
    lines = ["Sample,age,marker,disease"]
    lines += [f"s{i},{age[i]},{rng.normal():.4f},{('well', 'ill')[ill[i]]}" for i in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("documented")
    with Federation(home, "--heartbeat", "1") as federation:
        found = Place(federation)
        for seed, name in enumerate(("client-1", "client-2")):
            folder = federation.enrol(name, consent="coordinator", allow_federated_analytics="true")
            found.owners[name] = found.owner(name)
            write_visits(folder / "visits.csv", seed)
            hanse("node", "dataset", "add", str(folder / "visits.csv"), "--tags", "visits", "--home", str(folder))
            federation.start_node(name, wait=False)
        for name in found.owners:
            federation.nodes[name].wait_ready()
        yield found


# ---------------------------------------------------------------- mllabiome

SESSION = {  # as printed, with the comments left out and True written as JSON has it
    "model_name": "xgboost",
    "task_type": "binary",
    "num_rounds": 10,
    "target_column": "disease",
    "feature_strategy": "intersection",
    "sample_id_column": "Sample",
    "federated_strategy": "model_aggregation",
    "auto_start": True,
}
FACTS = {"samples": 73, "features": 3, "class_distribution": {"CD": 30, "UC": 43}, "sparsity": 0.95}


def test_mllabiome_a_client_registers_with_four_facts(place: Place) -> None:
    """M7 to M13: number of samples, features, class distribution, sparsity, and signs of life after that."""
    browser = place.owner("browser-1")
    status, made = browser("POST", "/api/clients/register", {"client_id": "browser-1", **FACTS})
    assert (status, made["status"]) == (201, "registered")
    assert any("names of the features" in said for said in made["warnings"])
    names = {**FACTS, "features": ["a", "b", "c"]}
    status, again = browser("POST", "/api/clients/register", {"client_id": "browser-1", **names})
    assert (status, again["registered_at"]) == (200, made["registered_at"])
    assert not any("names of the features" in said for said in again["warnings"])
    _, listed = browser("GET", "/api/clients")
    own = {c["client_id"]: c for c in listed["clients"]}["browser-1"]["summary"]
    assert (own["num_samples"], own["num_features"], own["data_sparsity"]) == (73, 3, 0.95)
    assert browser("POST", "/api/clients/browser-1/heartbeat")[0] == 200
    for wrong in ({"samples": -1}, {"sparsity": 2}, {"num_samples": 1}, {"features": "a"}):
        assert browser("POST", "/api/clients/register", {"client_id": "browser-1", **FACTS, **wrong})[0] == 422, wrong


def test_mllabiome_a_session_from_the_proposal_to_the_analytics(place: Place) -> None:
    """M23 to M51 in the order of the document: analyze, start, review and consent, rounds, analytics."""
    status, found = place.scientist("GET", "/api/training/analyze?client_ids=client-1,client-2&include=features")
    assert status == 200
    assert found["intersection"]["features"] == found["union"]["features"]
    status, proposed = place.scientist("POST", "/api/training/start", SESSION)
    assert (status, proposed["state"]) == (201, "awaiting_consent")
    session = f"/api/training/sessions/{proposed['session_id']}"
    for name, owner in place.owners.items():
        _, read = owner("GET", session)
        assert "disease" in read["code_preview"]
        status, given = owner("POST", f"{session}/consent", {"client_id": name, "decision": "accept"})
        assert status == 200, given
        assert any("code_hash" in said for said in given["warnings"])
        assert given["code_hash"] == read["code_hash"]
    place.scientist.until(session, "state", "completed")
    _, told = place.scientist("GET", f"/api/analytics/session/{proposed['session_id']}")
    assert [r["round"] for r in told["rounds"]] == list(range(11))  # round 0: before training
    assert told["convergence"]["status"]
    assert told["rounds"][-1]["loss"] < told["rounds"][0]["loss"]
    assert {row["feature"] for row in told["feature_importance"]} <= {"age", "marker"}
    assert set(told["client_performance"]) == {"client-1", "client-2"}
    _, sessions = place.scientist("GET", "/api/training/sessions")
    assert proposed["session_id"] in [s["session_id"] for s in sessions["sessions"]]


def test_mllabiome_a_consent_that_names_the_code_needs_no_warning_and_a_reject_ends_it(place: Place) -> None:
    """M34, M72."""
    _, proposed = place.scientist("POST", "/api/training/start", {**SESSION, "auto_start": False})
    session, hash = f"/api/training/sessions/{proposed['session_id']}", proposed["code_hash"]
    first = {"client_id": "client-1", "decision": "accept", "code_hash": hash}
    assert place.owners["client-1"]("POST", f"{session}/consent", first)[1]["warnings"] == []
    other = {"client_id": "client-2", "decision": "accept", "code_hash": "0" * 64}
    assert place.owners["client-2"]("POST", f"{session}/consent", other)[0] == 409
    status, told = place.owners["client-2"](
        "POST", f"{session}/consent", {"client_id": "client-2", "decision": "reject"}
    )
    assert (status, told["state"], told["warnings"]) == (200, "rejected", [])
    assert place.scientist("POST", f"{session}/execute")[0] == 409


def test_mllabiome_the_state_is_a_file_beside_the_database(place: Place, tmp_path: Path) -> None:
    """M73 to M77: registry and sessions, kept as they change, and loaded by a coordinator that has nothing else."""
    path = place.federation.home / "coordinator" / "federated_state.json"
    _, sessions = place.scientist("GET", "/api/training/sessions")
    ended = {s["session_id"] for s in sessions["sessions"] if s["ended_at"]}

    def there() -> Json:
        state = json.loads(path.read_text())
        return ended <= {s["session_id"] for s in state["completed_sessions"]} and state

    state = until(there, 0.1)
    assert {"client-1", "client-2", "browser-1"} <= set(state["clients"])
    home = tmp_path / "coordinator"
    home.mkdir(mode=0o700)
    (home / path.name).write_bytes(path.read_bytes())
    moved = Live(home).start()
    try:
        there = Client(moved.url, moved.operator)
        assert {c["client_id"] for c in there("GET", "/api/clients")[1]["clients"]} == set(state["clients"])
        assert ended <= {s["session_id"] for s in there("GET", "/api/training/sessions")[1]["sessions"]}
    finally:
        moved.stop()


# ---------------------------------------------------------------- FLOPY-NET

CAPABILITIES = {  # what the printed get_capabilities() returns
    "model_types": ["pytorch"],
    "compute_power": "cpu",
    "data_samples": 1000,
    "memory_gb": 4,
    "network_bandwidth": "100mbps",
}


def test_flopynet_the_health_check_needs_no_token_and_learns_of_no_run(place: Place) -> None:
    """F27, F172: ``curl -f .../status``. Who shows a token that is none is refused all the same."""
    status, said = place.anybody("GET", "/status")
    assert status == 200
    assert set(said) == {"status", "timestamp", "checks", "warnings"}
    assert Client(place.federation.url, "hanse_" + "A" * 32)("GET", "/status")[0] == 401


def test_flopynet_a_client_registers_with_what_it_can_do(place: Place) -> None:
    """F25, F33 to F37, F49: the printed body and get_capabilities(). What the node measured is not overwritten."""
    printed = {"client_id": "client-9", "ip_address": "192.168.100.100", "capabilities": CAPABILITIES}
    status, made = place.owner("client-9")("POST", "/register", printed)
    assert status == 201
    assert any("ip_address" in said for said in made["warnings"])
    assert place.scientist("GET", "/clients/client-9")[1]["capabilities"] == CAPABILITIES
    before = place.scientist("GET", "/clients/client-1")[1]["capabilities"]
    status, told = place.owners["client-1"](
        "POST", "/register", {**printed, "client_id": "client-1", "capabilities": {**CAPABILITIES, "memory_gb": 0.001}}
    )
    assert status == 200
    after = place.scientist("GET", "/clients/client-1")[1]["capabilities"]
    assert after == {**before, "network_bandwidth": "100mbps"}  # nobody measured that
    assert any("memory_gb" in said for said in told["warnings"])
    assert after["data_samples"] == 60


def test_flopynet_the_status_of_a_run_says_why_it_stopped_and_only_then(place: Place) -> None:
    """F21, F28: no reason while it trains; cancelled is no error."""
    status, made = place.scientist("POST", "/start", {**SESSION, "num_rounds": 5000})
    assert status == 202, made
    run = f"/status?run={made['session_id']}"
    for name, owner in place.owners.items():
        given = {"client_id": name, "decision": "accept"}
        status, said = owner("POST", f"/api/training/sessions/{made['session_id']}/consent", given)
        assert status == 200, said
    told = place.scientist.until(run, "status", "training")
    assert told["stop_reason"] is None
    assert place.scientist("POST", "/start", SESSION)[0] == 409
    cancel = f"/api/training/sessions/{made['session_id']}/cancel"
    assert place.scientist("POST", cancel, {"reason": "wrong target"})[0] == 200
    told = place.scientist.until(run, "status", "cancelled")
    assert (told["stop_reason"], told["training_active"]) == ("wrong target", False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """As in the document's compose file: a server with its variables, and two clients, which have images of digits."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    shapes = rng.integers(0, 256, (10, 28, 28))
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in VARIABLES.items():
                patch.setenv(variable, value)
            federation = stack.enter_context(Federation(tmp_path_factory.mktemp("pictures"), "--heartbeat", "1"))
        found = Place(federation)
        for name in ("client-1", "client-2"):
            folder = federation.enrol(name, consent="coordinator")
            found.owners[name] = found.owner(name)
            for digit in range(10):
                (folder / "digits" / str(digit)).mkdir(parents=True)
                for i in range(12):  # a class of fewer than ten rows does not leave a site
                    drawn = np.clip(shapes[digit] + rng.normal(0, 20, (28, 28)), 0, 255).astype(np.uint8)
                    image.fromarray(drawn, "L").save(folder / "digits" / str(digit) / f"{i}.png")
            hanse("node", "dataset", "add", str(folder / "digits"), "--home", str(folder))
            federation.start_node(name, wait=False)
        for name in found.owners:
            federation.nodes[name].wait_ready()
        yield found


VARIABLES = {"MIN_CLIENTS": "2", "MAX_ROUNDS": "50", "AGGREGATION_STRATEGY": "fedavg", "CLIENT_FRACTION": "0.8"}


@pytest.mark.torch
def test_flopynet_the_printed_training_configuration_trains(pictures: Place) -> None:
    """F154 to F165: as printed, but for the column that the digits stand in (the document names none) and fewer rounds;
    every other entry is a setting of the run that owners read, or a warning."""
    ours = {"target_column": "label", "num_rounds": 3, "sample_id_column": None}
    status, made = pictures.scientist("POST", "/start", {**PRINTED, **ours})
    assert status == 202, made
    told = " ".join(made["warnings"])
    for entry in ("convergence_threshold", "compression", "sdn_integration", "qos_enabled"):
        assert entry in told, entry
    session = f"/api/training/sessions/{made['session_id']}"
    for name, owner in pictures.owners.items():
        _, read = owner("GET", session)
        assert "def network(task" in read["code_preview"]
        status, given = owner("POST", f"{session}/consent", {"client_id": name, "decision": "accept"})
        assert status == 200, given
    done = pictures.scientist.until(session, "state", "completed", "failed", "rejected")
    assert done["state"] == "completed", done["reason"]
    config = done["config"]
    assert (config["model_name"], config["federated_strategy"], config["local_epochs"]) == ("cnn", "fedavg", 5)
    assert (config["fraction"], config["min_completed"], config["round_deadline_s"]) == (0.8, 2, 300)
    assert config["model_options"] == {"input_shape": [28, 28, 1], "num_classes": 10}
    _, measured = pictures.scientist("GET", "/metrics")
    assert measured["loss"][-1] < measured["loss"][0]
    assert measured["participants_per_round"] == [2, 2, 2]
    _, kept = pictures.scientist("GET", f"/api/models?run={made['session_id']}")
    assert [v["round"] for v in kept["models"]][:4] == [0, 1, 2, 3]  # "versioning": true
    pair = f"first={made['session_id']}:1&second={made['session_id']}:last"
    _, compared = pictures.scientist("GET", f"/api/models/compare?{pair}")
    assert compared["loss_diff"] > 0
    assert compared["round_diff"] == 3


@pytest.mark.torch
def test_flopynet_variables_hold_for_a_run_that_says_nothing(pictures: Place) -> None:
    """F149 to F152: MIN_CLIENTS, MAX_ROUNDS, AGGREGATION_STRATEGY, CLIENT_FRACTION of the coordinator's environment."""
    model = {"model_name": "cnn", "target_column": "label", "sample_id_column": None}
    _, made = pictures.scientist("POST", "/api/training/start", model)
    config = made["config"]
    assert (config["num_rounds"], config["fraction"], config["federated_strategy"]) == (50, 0.8, "fedavg")
    assert {config[n] for n in ("min_available_nodes", "min_fit_nodes", "min_completed")} == {2}
    status, refused = pictures.scientist("POST", "/api/training/start", {**model, "expected_client_ids": ["client-1"]})
    assert (status, "min_available_nodes is 2" in refused["error"]["message"]) == (422, True)


# ---------------------------------------------------------------- Fed-BioMed


def rows(place: Place) -> pandas.DataFrame:
    """Of all sites, as a test may see them."""
    return pandas.concat([pandas.read_csv(place.federation.home / name / "visits.csv") for name in place.owners])


def test_fedbiomed_the_calls_of_federated_analytics(place: Place) -> None:
    """A1 to A36: ``exp.analytics.mean()`` and the two ways to fetch, as printed; one run for each new question."""
    pooled = rows(place)[["age", "marker"]]
    with connect(place.federation.url, place.scientist.token) as federation:
        exp = federation.experiment(tags=["visits"])
        assert exp.analytics.mean(dataset_schema=None) == pytest.approx(pooled.mean().to_dict(), rel=1e-12)
        assert set(exp.analytics.mean(dataset_schema=["marker"])) == {"marker"}
        found = exp.analytics.fetch_stats(stats="variance", dataset_schema=["age", "marker"])
        assert found.global_stats("variance")["variance"] == pytest.approx(pooled.var().to_dict(), rel=1e-12)
        assert found.global_stats("std")["std"] == pytest.approx(pooled.std().to_dict(), rel=1e-12)
        asked = exp.analytics.requests
        exp.analytics.fetch_stats(stats="variance", dataset_schema=["age", "marker"])
        assert exp.analytics.requests == asked  # from the cache
        edges = [20, 55, 90]
        histogram = exp.analytics.fetch_stats_with_args({"age": {"histogram": {"bin_edges": edges}}})
        counted = np.histogram(pooled["age"], edges)[0].tolist()
        assert histogram.global_stats("histogram")["histogram"]["age"]["counts"] == counted


# ---------------------------------------------------------------- syft-flwr


def test_syft_a_server_of_the_document(place: Place, tmp_path: Path) -> None:
    """S10 to S26: rounds, hyper-parameters, initial weights from a checkpoint of elsewhere, least nodes, a time-out, an
    evaluation on central rows after each round."""
    seen: list[int] = []
    write_visits(tmp_path / "public.csv", 99)
    with simulate({"public": pandas.read_csv(tmp_path / "public.csv")}) as elsewhere:
        learned = elsewhere.experiment("sgd_classifier", target="disease", rounds=1).run(progress=False)
    checkpoint = learned.save(tmp_path / "checkpoint.safetensors")

    def global_evaluate(server_round: int, result: Any) -> dict[str, float]:
        seen.append(server_round)
        return dict(result.evaluate(rows(place)))

    with connect(place.federation.url, place.scientist.token) as federation:
        experiment = federation.experiment(
            "sgd_classifier",
            target="disease",
            tags=["visits"],
            num_rounds=3,
            batch_size=16,
            learning_rate=0.05,
            min_available_nodes=2,
            round_timeout_s=30,
            keep_models=True,
            initial_model=checkpoint,
        )
        experiment.propose()
        session = f"/api/training/sessions/{experiment.run_id}"
        for name, owner in place.owners.items():
            _, read = owner("GET", session)
            agreed = {"client_id": name, "decision": "accept", "code_hash": read["code_hash"]}
            assert owner("POST", f"{session}/consent", agreed)[1]["warnings"] == []
        result = experiment.wait(progress=False, global_evaluate=global_evaluate)
    assert seen == [0, 1, 2, 3]
    first = {name: value for name, value in result.central[0].items() if name != "round"}
    assert first == pytest.approx(learned.evaluate(rows(place)))  # round 0 is the checkpoint
    assert result.central[-1]["loss"] != first["loss"]
    assert [(row["answered"], row["failed"]) for row in result.participation] == [(3, 0), (3, 0)]
    assert (result.config.ingredient_settings["batch_size"], result.config.round_timeout_s) == (16, 30)
