"""A model of a site's own stays at its node, and is used there: in a simulation, and at nodes that are processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import hanse as package
from demo.federation import Federation, hanse
from hanse.errors import NotFound, WireError
from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.messages import Record, digest, pieces
from hanse.node import cli_models
from hanse.node.catalogue import Catalogue
from hanse.node.own_models import OwnModels
from hanse.prediction import Predictor
from hanse.table import Table
from tests.attacks.harness import SETTINGS, ended, join, propose, site_name, table

RUN: dict[str, Any] = {**SETTINGS, "federated_strategy": "ditto", "num_rounds": 3, "local_epochs": 2}


def rows_of(file: Path) -> dict[str, list[float]]:
    with file.open() as lines:
        read = list(csv.DictReader(lines))
    return {name: [float(row[name]) for row in read] for name in read[0]}


def sites(folder: Path, count: int = 2) -> dict[str, Any]:
    return {site_name(i): rows_of(table(folder / f"{site_name(i)}.csv", i)) for i in range(count)}


def simulated(tables: Any, **settings: Any) -> Any:
    given = {**RUN, **settings}
    for name in ("consent_timeout_s", "wait_timeout_s"):
        del given[name]
    with package.simulate(tables) as federation:
        return federation.experiment(**given).run(progress=False)


def own(record: Record) -> Record:
    """Its parameters alone."""
    return Record({}, {n: np.asarray(record.arrays[n]) for n in sorted(record.arrays) if n.startswith("model.")})


@pytest.mark.parametrize("held_out", [0.25, 0.0])
@pytest.mark.parametrize("strategy", ["ditto", "fedper", "fedrep"])
def test_a_simulation_gives_each_sites_own_model(strategy: str, held_out: float, tmp_path: Path) -> None:
    tables = sites(tmp_path, 3)
    layers = {} if strategy == "ditto" else {"own_layers": ["intercept"]}
    result = simulated(tables, federated_strategy=strategy, test_fraction=held_out, **layers)
    assert set(result.own_models) == set(tables)
    assert len({digest(own(record)) for record in result.own_models.values()}) == 3
    for node, rows in tables.items():
        predictor = result.personal(node)
        assert predictor.score(rows, rows["y"]) > 0.8
        if strategy != "ditto":  # the layers in common are those of the result
            np.testing.assert_array_equal(
                result.own_models[node].arrays["model.coef"], result.record.arrays["model.coef"]
            )
    with pytest.raises(NotFound, match="hanse node predict"):
        result.personal("nobody")


def test_what_is_measured_at_a_site_is_the_model_that_stays_there(tmp_path: Path) -> None:
    tables = sites(tmp_path)
    result = simulated(tables)
    last = result.rounds[-1]
    for node, rows in tables.items():
        told = last.participants[node]["metrics"]
        assert last.label == "evaluate"
        site = Site(node, Table.of(rows), result.config.to_json())
        held = preparation.targets(site, preparation.unpack(result.record)).test
        found = result.personal(node).evaluate(Table.of(rows).take(held))
        assert found["loss"] == pytest.approx(told["loss"], rel=1e-9)


def test_no_other_strategy_leaves_one(tmp_path: Path) -> None:
    assert simulated(sites(tmp_path), federated_strategy="fedavg").own_models == {}


def test_nodes_keep_theirs_and_predict_with_them(tmp_path: Path) -> None:
    """The same parameters as in a simulation, of the same seed, in a file that nobody else may read; nothing of it
    is at the coordinator, and it is there when the run and its worker are gone."""
    with Federation(tmp_path / "federation") as federation:
        names = join(federation, 2)
        run = propose(federation, **RUN)
        assert ended(federation, run)["state"] == "completed"
        homes = {name: federation.home / name for name in names}
        near = simulated(sites(tmp_path))
        for name, home in homes.items():
            [kept] = OwnModels(home).list()
            assert (kept.run, kept.record.data["round"]) == (run, 3)
            assert digest(own(kept.record)) == digest(own(near.own_models[name]))
            files = list((home / "models").iterdir())
            assert [file.stat().st_mode & 0o777 for file in files] == [0o600]
            secret = np.asarray(kept.record.arrays["model.coef"]).tobytes()
            for file in (federation.home / "coordinator").rglob("*"):
                assert not file.is_file() or secret not in file.read_bytes()
        home, rows = homes[names[0]], rows_of(federation.home / f"{names[0]}.csv")
        assert run in hanse("node", "models", "--home", str(home))
        out = tmp_path / "predicted.csv"
        said = hanse("node", "predict", run, "--dataset", "patients", "-o", str(out), "--home", str(home))
        assert "120 rows predicted by logistic_regression for 'y' by ditto" in said
        assert out.stat().st_mode & 0o777 == 0o600
        with out.open() as lines:
            found = list(csv.DictReader(lines))
        predictor = near.personal(names[0])
        assert [float(row["predicted y"]) for row in found] == predictor.predict(rows).tolist()
        assert [float(row["probability of 1"]) for row in found] == pytest.approx(predictor.predict_proba(rows)[:, 1])
        listed = json.loads(hanse("node", "models", "--json", "--home", str(home)))
        assert [one["run"] for one in listed] == [run]
        hanse("node", "models", "--remove", run, "--home", str(home))
        assert OwnModels(home).list() == []


def test_the_name_of_a_run_is_no_path(tmp_path: Path) -> None:
    kept, model = OwnModels(tmp_path), simulated(sites(tmp_path)).own_models["site-a"]
    for run in ("../../evil", "a/b", "", ".", "x" * 5000, "run-1"):
        kept.keep(run, model)
        assert kept.get(run).run == run
        assert Predictor(kept.get(run).record).task.classes == ("0", "1")
    assert {path.parent for path in tmp_path.rglob("*.safetensors")} == {tmp_path / "models"}
    assert len(kept.list()) == 6
    with pytest.raises(NotFound, match="there are"):
        kept.get("run-2")


def test_a_damaged_file_is_named_hides_no_other_and_can_be_removed(tmp_path: Path) -> None:
    """Cut off; no model; a model without what a list shows. All others are listed, used and removed as ever."""
    kept, model = OwnModels(tmp_path), simulated(sites(tmp_path)).own_models["site-a"]
    for run in ("whole", "cut", "of/a path", "foreign", "bare"):
        kept.keep(run, model)
    folder = tmp_path / "models"
    cut = folder / "cut.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5])
    hashed = next(path for path in folder.iterdir() if path.name.startswith("of-"))
    hashed.write_bytes(b"no model")
    (folder / "foreign.safetensors").write_bytes(b"".join(map(bytes, pieces(Record({"a": 1})))))
    (folder / "bare.safetensors").write_bytes(b"".join(map(bytes, pieces(Record({"run": "bare"})))))
    assert [one.run for one in kept.list()] == ["whole"]
    assert set(kept.damaged()) == {"cut", hashed.stem, "foreign", "bare"}
    assert all("remove it" in why for why in kept.damaged().values())
    with pytest.raises(WireError, match="cut.safetensors is no model"):
        kept.get("cut")
    with pytest.raises(NotFound, match="there are whole, bare, cut"):
        kept.get("another")
    for run in ("cut", hashed.stem, "foreign"):
        kept.remove(run)
    with pytest.raises(NotFound):
        kept.remove("of/a path")
    assert [path.name for path in sorted(folder.iterdir())] == ["bare.safetensors", "whole.safetensors"]


def test_predictions_are_their_owners_alone_where_a_file_is_there(tmp_path: Path, monkeypatch: Any) -> None:
    """The commands by themselves, in a folder that looks joined; a file that others could read is replaced."""
    table(tmp_path / "rows.csv", 0)
    OwnModels(tmp_path).keep("run-1", simulated(sites(tmp_path)).own_models["site-a"])
    OwnModels(tmp_path).keep("run-2", Record({"no": "model"}))
    Catalogue(tmp_path).add(tmp_path / "rows.csv", "patients")
    monkeypatch.setattr(cli_models, "joined", lambda home: home)
    run = CliRunner()
    shown = run.invoke(cli_models.models, ["--home", str(tmp_path)])
    assert shown.exit_code == 0
    assert "run-1" in shown.stdout
    assert "hanse node models --remove run-2" in shown.stderr
    listed = json.loads(run.invoke(cli_models.models, ["--json", "--home", str(tmp_path)]).stdout)
    assert [(one["run"], "damaged" in one) for one in listed] == [("run-1", False), ("run-2", True)]
    out = tmp_path / "predicted.csv"
    out.write_text("older")
    out.chmod(0o644)
    told = ["run-1", "--dataset", "patients", "-o", str(out), "--home", str(tmp_path)]
    assert run.invoke(cli_models.predict, told, catch_exceptions=False).exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text().startswith("row,predicted y,")
