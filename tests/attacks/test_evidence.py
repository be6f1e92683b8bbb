"""Evidence of real processes: nodes with certificates sign, the file is checked by the command, without the server."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from demo.federation import Federation, hanse
from hanse.evidence.archive import unpack
from hanse.experiment.cli import run as run_commands
from hanse.experiment.cli_audit import audit

from .harness import ended, join, propose, rounds


def test_what_a_federation_of_processes_did_is_proven_without_it(tmp_path: Path) -> None:
    place = tmp_path / "run.zip"
    with Federation(tmp_path / "f") as federation:
        join(federation, 2)
        run = propose(federation, num_rounds=3, purpose="research")
        done = ended(federation, run)
        assert done["state"] == "completed", done
        assert {c["signed"] for c in done["consents"].values()} == {True}
        env = {"HANSE_URL": federation.url, "HANSE_TOKEN": federation.operator_token}

        fetched = CliRunner().invoke(run_commands, ["evidence", run, "-o", str(place)], env=env)
        assert fetched.exit_code == 0, fetched.output
        model = tmp_path / "m.safetensors"
        fetched = CliRunner().invoke(run_commands, ["model", run, "-o", str(model)], env=env)
        assert fetched.exit_code == 0, fetched.output
        own = federation.home / "site-a" / "authority.crt"
        token = federation.account("owner-a", "data_owner", ["site-a"])
        proof, env = tmp_path / "proof.json", {**env, "HANSE_TOKEN": token}
        fetched = CliRunner().invoke(run_commands, ["inclusion", run, "--node", "site-a", "-o", str(proof)], env=env)
        assert fetched.exit_code == 0, fetched.output
        said = hanse("node", "included", str(place), str(proof), "--home", str(federation.home / "site-a"))
        assert f"{len(rounds(federation, run))} steps counted what this node sent" in said
    checked = CliRunner().invoke(
        audit, ["verify", str(place), "--authority", str(own), "--model", str(model), "--json"]
    )
    assert checked.exit_code == 0, checked.output
    said = json.loads(checked.output)
    assert any("signed by their nodes: site-a, site-b" in note for note in said["notes"]), said
    assert b"PRIVATE" not in b"".join(unpack(place.read_bytes()).values())
