"""What was measured of a model, at a coordinator: the same as in a simulation, on the page's route and by command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from experiment.federation import living

import hanse
from hanse.cli import group
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials

from .test_groups import GROUPS, patients

SITES = {"ulm": patients(1, 700), "bonn": patients(2, 600), "kiel": patients(3, 61)}
RUN: dict[str, Any] = {
    "model": "logistic_regression",
    "target": "disease",
    "features": ["age", "pressure"],
    "rounds": 2,
    "sample_id_column": None,
    "measures": ["groups", "cross_site"],
    "group_by": GROUPS,
    "keep_models": True,
}


def test_a_federation_tells_what_a_simulation_does(tmp_path: Path) -> None:
    with living(tmp_path, SITES) as real, hanse.connect(real.url, real.tokens["scientist"]) as federation:
        experiment = federation.experiment(**RUN).propose()
        for name in real.hospitals:
            here = Connection(Credentials(real.url, real.tokens[name]))
            session = here.session(experiment.run_id)
            here.consent(experiment.run_id, name, "accept", session["code_hash"])
            here.close()
        assert {"hanse.measures.groups", "hanse.measures.cross_site", "hanse.learning.measuring"} <= {
            line.removeprefix("# ---- ") for line in session["code_preview"].splitlines()
        }
        far = experiment.wait(progress=False)
        # the nodes of this coordinator have no gate: their owners' minimum is the default, ten rows
        with hanse.simulate(SITES) as simulated:
            near = simulated.experiment(**RUN).run(progress=False)
        told = near.record.data["measured"]
        assert far.record.data["measured"] == told
        assert len(far.groups) >= 6
        assert {row["sites"] for row in far.groups} <= {1, 2}
        assert list(far.cross_site("loss")) == list(near.cross_site("loss"))
        scientist = Connection(Credentials(real.url, real.tokens["scientist"]))
        assert scientist.analytics(experiment.run_id)["measured"] == told
        versions = scientist.versions(experiment.run_id)
        assert all("measured" not in version["metrics"] for version in versions)
        assert versions[-1]["metrics"]["loss"] == far.metrics["loss"]
        kept = [number for number, _ in federation._backend.models(experiment.run_id, -1)]
        assert kept == list(range(max(kept) + 1))  # one of each round, none more of the measures
        scientist.close()
        said = {"HANSE_URL": real.url, "HANSE_TOKEN": real.tokens["scientist"]}
        shown = CliRunner().invoke(group, ["run", "measured", experiment.run_id], env=said)
        assert shown.exit_code == 0, shown.output
        assert "50 to below 65" in shown.output
        assert "! auc on the held-out rows of each site" in shown.output
        by_loss = CliRunner().invoke(group, ["run", "measured", experiment.run_id, "--metric", "loss"], env=said)
        assert "! loss on the held-out rows" in by_loss.output
        raw = CliRunner().invoke(group, ["run", "measured", experiment.run_id, "--json"], env=said)
        assert json.loads(raw.output) == told
