"""Clients and coordinators of other releases: what both know works, and what one lacks is said with both names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import hanse
from experiment import sites
from experiment.federation import Living, living
from hanse.errors import ConfigError
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials
from hanse.experiment.federation import Federation

OTHER = "7.3.1"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with living(tmp_path_factory.mktemp("coordinator"), sites.cancer()) as found:
        yield found


class Other(httpx.BaseTransport):
    """The real coordinator, as one of another release would answer."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.sent: list[dict[str, Any]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/training/start"):
            self.sent.append(json.loads(request.read()))
            if "proximal_mu" in self.sent[-1]:
                error = {"error": {"code": "config", "message": "there is no setting 'proximal_mu'"}}
                return httpx.Response(422, json=error, request=request)
        answer = self.inner.handle_request(request)
        answer.read()
        try:
            body = self.changed(request.url.path, json.loads(answer.content))
        except ValueError:
            return answer
        return httpx.Response(answer.status_code, json=body, request=request)

    def close(self) -> None:
        self.inner.close()

    def changed(self, path: str, body: Any) -> Any:
        if path == "/api/me":
            body["coordinator"]["version"] = OTHER
        if "config" in body:
            body["config"] |= {"federated_strategy": "of_tomorrow", "warmth": 0.5}
            body["quorum"] = {"of": 3}
        for row in body.get("rounds", ()):
            row |= {"carbon_g": 3.5, "cohort": ["a"]}
            row["metrics"] = {**row["metrics"], "calibration": 0.25}
        return body


def of(real: Living) -> Connection:
    return Connection(Credentials(real.url, real.tokens["scientist"]), Other())


def test_connecting_says_both_releases(real: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    hanse.connect(real.url, real.tokens["scientist"]).close()  # of one release: without a word
    monkeypatch.setattr(hanse, "__version__", "0.0.9")  # the coordinator is in this process and says the same
    monkeypatch.setattr("hanse.experiment.connection.Connection.me", lambda self: setattr(self, "release", OTHER) or {})
    with pytest.warns(UserWarning, match=f"this is hanse 0.0.9, and the coordinator at .* is hanse {OTHER}"):
        hanse.connect(real.url, real.tokens["scientist"]).close()


def test_a_refused_proposal_names_both_releases(real: Living) -> None:
    here = of(real)
    with Federation(here) as federation:
        experiment = federation.experiment(
            "logistic_regression", federated_strategy="fedprox", proximal_mu=0.1, target="disease"
        )
        with pytest.raises(ConfigError, match=f"proximal_mu.*this is hanse {hanse.__version__}, .* is hanse {OTHER}"):
            experiment.propose()
        given = {"model_name", "federated_strategy", "proximal_mu", "target_column"}
        assert set(here._http._transport.sent[0]) == given  # type: ignore[attr-defined]


def test_a_finished_run_of_a_newer_coordinator_is_read(real: Living, tmp_path: Path) -> None:
    with hanse.connect(real.url, real.tokens["scientist"]) as federation:
        settings: dict[str, Any] = {"rounds": 2, "target": "disease", "sample_id_column": None}
        settings["federated_strategy"] = "fedavg"
        experiment = federation.experiment("logistic_regression", **settings).propose()
        for name in real.hospitals:
            owner = Connection(Credentials(real.url, real.tokens[name]))
            owner.consent(experiment.run_id, name, "accept", owner.session(experiment.run_id)["code_hash"])
            owner.close()
        known = experiment.wait(progress=False)
    with Federation(of(real)) as later:
        found = later.run(experiment.run_id)
        assert found.config.ingredient_settings["warmth"] == 0.5
        assert found.config.federated_strategy == "of_tomorrow"
        result = found.result()
        assert result.config.to_json()["warmth"] == 0.5
        assert len(result.rounds) == len(known.rounds)
        assert result.rounds[-1].metrics["calibration"] == 0.25
        assert result.metrics["accuracy"] == known.metrics["accuracy"]
        rows = sites.cancer()["site1"]
        assert result.evaluate(rows) == known.evaluate(rows)
        result.save(tmp_path / "run.hanse")
        assert hanse.load_result(tmp_path / "run.hanse").config.to_json()["warmth"] == 0.5
