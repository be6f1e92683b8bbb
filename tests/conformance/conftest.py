"""Real processes for the tests of conformance: a coordinator, and two nodes with patients like no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.federation import Federation, hanse
from hanse.identity import Authority, load_identity
from hanse.node.settings import CoordinatorAddress, NodeSettings
from tests.waiting import until

from .recorder import Recorder

TOWN, VALUE, PATIENT = "Zwentibold-Sentinel", 1234.5678901, "PATIENT-"
PROBE = {
    "federated_strategy": "probe",
    "num_rounds": 3,
    "sample_id_column": None,
    "min_available_nodes": 2,
    "min_completed": 2,
}
HEART = {"num_rounds": 2, "tags": ["heart"], "purpose": "conformance", "min_available_nodes": 2, "min_completed": 2}


@dataclass
class World:
    """The federation, its people's tokens, and what was read along on the nodes' connections."""

    federation: Federation
    scientist: str
    owners: dict[str, str]
    recorders: dict[str, Recorder] = field(default_factory=dict)

    def rest(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        return self.federation.rest(method, path, body, token or self.scientist)

    def propose(self, **settings: Any) -> str:
        return str(self.rest("POST", "/api/training/start", settings)["session_id"])

    def until(self, run: str, *states: str) -> dict[str, Any]:
        """The session, once the run is in one of these states."""

        def there() -> Any:
            session = self.rest("GET", f"/api/training/sessions/{run}")
            assert session["state"] in states or not session["ended_at"], (session["state"], session["reason"])
            return session["state"] in states and session

        return until(there)  # type: ignore[no-any-return]

    def data(self, node: str) -> Path:
        return self.federation.home / node / "visits.csv"


def write_csv(path: Path, seed: int, rows: int = 80) -> None:
    """Row 7 is a patient whose town and value stand out; the ids are like no others."""
    rng = np.random.default_rng(seed)
    lines = ["Sample,age,marker,town,disease"]
    for i in range(rows):
        town = TOWN if i == 7 else rng.choice(["Lübeck", "Bremen"])
        marker = VALUE if i == 7 else round(float(rng.normal(900, 300)), 6)
        age = int(rng.integers(20, 90))
        lines.append(f"{PATIENT}{i:04d},{age},{marker},{town},{('well', 'ill')[int(age + rng.normal(0, 12) > 55)]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Nodes ``lake`` and ``hill`` as processes; ``lake`` accepts what its rules allow, ``hill`` asks its owner."""
    home = tmp_path_factory.mktemp("world")
    with ExitStack() as stack:
        federation = stack.enter_context(Federation(home, "--heartbeat", "1"))
        it = World(federation, federation.account("Sina", "data_scientist"), {})
        authority = Authority.open(home / "coordinator" / "authority")
        for seed, (name, policy) in enumerate({"lake": "accept-allowed", "hill": "ask"}.items()):
            place = federation.enrol(name, standing=policy)
            it.owners[name] = federation.account(f"owner of {name}", "data_owner", [name])
            write_csv(it.data(name), seed)
            hanse("node", "dataset", "add", str(it.data(name)), "--tags", "heart", "--home", str(place))
            recorder = stack.enter_context(Recorder(authority, load_identity(place), home / f"recorder-{name}"))
            it.recorders[name] = recorder
            settings = NodeSettings.load(place)
            replace(settings, coordinator=CoordinatorAddress(recorder.address, settings.coordinator.url)).save(place)
        for name in it.owners:
            federation.start_node(name, wait=False)
        for name in it.owners:
            federation.nodes[name].wait_ready()
        yield it


def await_proposal(world: World, run: str, node: str = "hill") -> None:
    """Returns when the node has the proposal."""
    command = ["node", "proposals", "--json", "--home", str(world.federation.home / node)]
    until(lambda: run in [p["run"] for p in json.loads(hanse(*command))], 0.1)


def approve(world: World, run: str, node: str = "hill") -> None:
    """The owner decides at the node, once it has the proposal."""
    await_proposal(world, run, node)
    hanse("node", "approve", run, "--home", str(world.federation.home / node))
