"""The commands, against a real coordinator."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import hanse
from experiment import sites
from experiment.federation import Living, living
from hanse.cli import group
from hanse.errors import ConfigError, Conflict, HanseError, NotAuthenticated
from hanse.experiment import credentials
from hanse.experiment.cli_propose import gathered
from hanse.experiment.configuring import configure
from hanse.experiment.connection import Connection
from hanse.messages import load
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with living(tmp_path_factory.mktemp("coordinator"), sites.cancer()) as found:
        yield found


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("HANSE_URL", "HANSE_TOKEN", "HANSE_CA"):
        monkeypatch.delenv(name, raising=False)


def call(real: Living, *arguments: str, by: str = "scientist", **more: Any) -> Result:
    environment = {"HANSE_URL": real.url, "HANSE_TOKEN": real.tokens[by]}
    result = CliRunner().invoke(group, list(arguments), env=environment, **more)
    if isinstance(result.exception, HanseError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def propose(real: Living, *more: str) -> str:
    said = call(
        real,
        "run",
        "propose",
        "--model",
        "logistic_regression",
        "--target",
        "disease",
        "--rounds",
        "3",
        "--set",
        "sample_id_column=null",
        "--set",
        "federated_strategy=fedavg",
        *more,
    )
    assert "awaiting consent of site1, site2, site3" in said.stderr
    return said.stdout.strip()


def accept(real: Living, run_id: str) -> None:
    for name in real.hospitals:
        call(real, "run", "consent", run_id, "accept", by=name, input="y\n")


def test_logout_forgets_also_where_the_coordinator_does_not_answer(real: Living) -> None:
    runner = CliRunner()
    assert "Nobody is logged in here." in runner.invoke(group, ["logout"]).output
    runner.invoke(group, ["login", real.url], input=real.tokens["scientist"] + "\n")
    said = runner.invoke(group, ["logout"])
    assert said.exit_code == 0, said.output
    assert f"The token for {real.url} is no longer kept here." in said.output  # an API token is no session that ends
    assert credentials.saved() is None
    with hanse.connect(real.url, real.tokens["scientist"]) as federation:
        assert federation.nodes()
    credentials.save(credentials.Credentials("http://127.0.0.1:9", "hanse_" + "a" * 32))
    said = runner.invoke(group, ["logout"])
    assert said.exit_code == 0, said.output
    assert "the coordinator was not told" in said.output
    assert credentials.saved() is None


def test_login_remembers(real: Living) -> None:
    runner = CliRunner()
    said = runner.invoke(group, ["login", real.url + "/"], input=real.tokens["scientist"] + "\n")
    assert said.exit_code == 0, said.output
    assert "You are Ada (data scientist)" in said.output
    assert real.tokens["scientist"] not in said.output
    assert credentials.path().stat().st_mode & 0o777 == 0o600
    assert "site1" in runner.invoke(group, ["nodes"]).output
    with hanse.connect() as federation:
        assert len(federation.nodes()) == 3
    before = credentials.path().read_text()
    wrong = runner.invoke(group, ["login", real.url, "--token", "hanse_wrong"])
    assert isinstance(wrong.exception, NotAuthenticated)
    assert credentials.path().read_text() == before


def test_a_run_by_commands_alone(real: Living, tmp_path: Path) -> None:
    assert "patients" in call(real, "nodes", "--datasets").stdout
    said = call(real, "run", "analyze", "--target", "disease", "--set", "sample_id_column=null").stdout
    assert "10 features" in said
    assert "11 columns at all sites" in call(real, "run", "analyze").stdout  # no target is guessed
    with pytest.raises(ConfigError, match="name the column to be predicted"):
        call(real, "run", "propose", "--model", "logistic_regression")
    assert json.loads(call(real, "run", "analyze", "--json").stdout)["union"]["count"] > 0
    run_id = propose(real, "--purpose", "find out", "--name", "first")
    assert "class LogisticRegression" in call(real, "run", "preview", run_id).stdout
    text = call(real, "run", "preview", run_id, "--bundle").stdout
    code_hash = json.loads(call(real, "run", "show", run_id, "--json").stdout)["code_hash"]
    assert hashlib.sha256(text.encode()).hexdigest() == code_hash
    shown = call(real, "run", "consent", run_id, "accept", by="site1", input="y\n").stdout
    assert code_hash in shown
    assert "Purpose: find out" in shown
    assert "awaiting consent of site2, site3" in shown
    call(real, "run", "consent", run_id, "accept", "--node", "site2", "--hash", code_hash, by="site2")
    listed = call(real, "run", "list", "--state", "awaiting_consent").stdout
    assert run_id in listed
    assert "site3" in listed
    third = Connection(credentials.Credentials(real.url, real.tokens["site3"]))  # CliRunner is not for threads
    watcher = threading.Timer(0.3, lambda: third.consent(run_id, "site3", "accept", code_hash))
    watcher.start()
    assert "3 rounds over 3 sites" in call(real, "run", "watch", run_id).stdout
    watcher.join()
    third.close()
    show = call(real, "run", "show", run_id).stdout
    for words in ("completed", code_hash, "accept", "owner of site3", "find out"):
        assert words in show
    rounds = call(real, "run", "rounds", run_id).stdout
    assert rounds.splitlines()[0].split()[:4] == ["step", "phase", "round", "status"]
    assert "evaluate" in rounds
    table = [line.split() for line in rounds.splitlines()[:-1]]
    measured = table[0].index("measured")  # rounds of the model that the loss is of
    assert [int(row[measured]) for row in table if row[1] == "train"] == [0, 1, 2]
    assert len(json.loads(call(real, "run", "rounds", run_id, "--json").stdout)) == len(rounds.splitlines()) - 2
    assert rounds.splitlines()[-1] == "gathered: plain: the coordinator saw what each site contributed"
    analytics = call(real, "run", "analytics", run_id).stdout
    assert "round 3 of 3" in analytics
    assert "site2" in analytics
    assert json.loads(call(real, "run", "analytics", run_id, "--json").stdout)["num_rounds"] == 3
    assert "SHA-256" in call(real, "run", "model", run_id, "-o", str(tmp_path / "m.safetensors")).stdout
    record = load((tmp_path / "m.safetensors").read_bytes())
    assert record.data["model_name"] == "logistic_regression"
    call(real, "run", "model", run_id, "--result", "-o", str(tmp_path / "r.safetensors"))
    assert hanse.load_result(tmp_path / "r.safetensors").metrics["auc"] > 0.95
    assert json.loads(call(real, "run", "list", "--json").stdout)[0]["session_id"] == run_id


def test_looking_around_by_commands(real: Living, tmp_path: Path) -> None:
    run_id = propose(real, "--set", "keep_models=true")
    accept(real, run_id)
    call(real, "run", "watch", run_id)
    versions = json.loads(call(real, "run", "models", run_id, "--json").stdout)
    assert [v["round"] for v in versions] == [0, 1, 2, 3, 3]
    assert versions[0]["sha"][:12] in call(real, "run", "models", run_id).stdout
    assert run_id in call(real, "run", "models").stdout
    compared = json.loads(call(real, "run", "compare", f"{run_id}:1", f"{run_id}:4", "--json").stdout)
    told = [line.split() for line in call(real, "run", "compare", f"{run_id}:1", f"{run_id}:4").stdout.splitlines()]
    assert told[0] == [f"{run_id}:1", f"{run_id}:4", "better"]
    assert [f"{run_id}:4" for name in ("accuracy", "loss")] == [
        line[-1] for line in told if line[0] in ("accuracy", "loss")
    ]
    assert compared["round_diff"] == 3
    assert compared["loss_diff"] > 0  # F113, F114: what was measured of each round stands with its version
    assert compared["accuracy_diff"] > 0
    assert [v["best"] for v in versions].count(True) == [v["last"] for v in versions].count(True) == 1
    best = json.loads(call(real, "run", "compare", f"{run_id}:1", f"{run_id}:best", "--json").stdout)
    assert best["second"]["metrics"]["loss"] == min(v["metrics"]["loss"] for v in versions)
    assert "xgboost" in call(real, "run", "settings").stdout
    known = json.loads(call(real, "run", "settings", "--json").stdout)["settings"]
    here = CliRunner().invoke(group, ["run", "settings", "--installed", "--json"], env={"HANSE_URL": None})
    assert json.loads(here.stdout)["settings"] == known  # with no coordinator
    nowhere = {"HANSE_URL": None, "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    alone = CliRunner().invoke(group, ["run", "settings", "--json"], env=nowhere)
    assert "no coordinator is known, so this is what is installed here" in alone.stderr
    assert json.loads(alone.stdout)["settings"] == known
    assert {"num_rounds", "initial_model"} <= {s["name"] for s in known}
    assert "columns" in json.loads(call(real, "nodes", "site1").stdout)["datasets"][0]
    shown = call(real, "events", "--run", run_id, "--limit", "1000").stdout
    assert "run.created" in shown
    assert "consent" in shown
    told = [json.loads(line) for line in call(real, "events", "--run", run_id, "--json").stdout.splitlines()]
    assert [e["run"] for e in told] == [run_id] * len(told)


def test_what_is_no_address_or_no_model_is_said_before_anything_is_asked(real: Living, tmp_path: Path) -> None:
    asked = CliRunner().invoke(group, ["login", "nonsense"], input="token\n", env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert isinstance(asked.exception, ConfigError)
    assert "API token" not in asked.output  # nobody types a token for nothing
    (tmp_path / "rows.csv").write_text("age,sex\n60,f\n")
    with pytest.raises(ConfigError, match=r"rows.csv is no safetensors file; expected what result.save"):
        call(real, "run", "bring-in", str(tmp_path / "rows.csv"))


def test_an_owner_who_hesitates_decides_nothing(real: Living) -> None:
    run_id = propose(real)
    runner = CliRunner(env={"HANSE_URL": real.url, "HANSE_TOKEN": real.tokens["site1"]})
    assert runner.invoke(group, ["run", "consent", run_id, "accept"], input="n\n").exit_code == 1
    assert json.loads(call(real, "run", "show", run_id, "--json").stdout)["consents"] == {}
    with pytest.raises(HanseError):
        call(real, "run", "consent", run_id, "accept", "--hash", "0" * 64, by="site1")
    other = runner.invoke(group, ["run", "consent", run_id, "accept", "--node", "site2", "--hash", "0" * 64])
    assert isinstance(other.exception, HanseError)
    foreign = CliRunner(env={"HANSE_URL": real.url, "HANSE_TOKEN": real.tokens["scientist"]})
    none = foreign.invoke(group, ["run", "consent", run_id, "accept"])
    assert none.exit_code == 2
    assert "of yours are asked: none" in none.output
    assert call(real, "run", "cancel", run_id, "--reason", "no need").stdout.strip() == "cancelled"
    late = runner.invoke(group, ["run", "consent", run_id, "accept"])
    assert isinstance(late.exception, Conflict)


def test_a_run_started_by_hand(real: Living) -> None:
    run_id = propose(real, "--set", "auto_start=false")
    accept(real, run_id)
    assert call(real, "run", "start", run_id).stdout.strip() == "running"
    assert "3 rounds" in call(real, "run", "watch", run_id).stdout


def test_settings_from_files(real: Living, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('model_name = "sgd_classifier"\nnum_rounds = 7\ntarget_column = "disease"\n')
    (tmp_path / "b.json").write_text('{"model": "sgd_classifier", "target": "disease", "rounds": 7}')
    for name in ("a.toml", "b.json"):
        more = ("--rounds", "2") if name == "a.toml" else ()
        said = call(real, "run", "propose", "--config", str(tmp_path / name), "--json", *more)
        config = json.loads(said.stdout)["config"]
        assert (config["model_name"], config["num_rounds"]) == ("sgd_classifier", 2 if more else 7)
    for name, content in (("c.json", "{"), ("c.toml", "= 3"), ("d.json", "[1]")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError):
            call(real, "run", "propose", "--config", str(tmp_path / name))
    for wrong in ("nothing", "roundz=3", "num_rounds=many"):
        with pytest.raises(ConfigError):
            call(real, "run", "propose", "--set", wrong)


def test_probe(real: Living) -> None:
    done = threading.Event()

    def quietly() -> None:
        here = Connection(credentials.Credentials(real.url, real.tokens["scientist"]))
        while not done.is_set():
            waiting = [s for s in here.sessions("awaiting_consent") if s["name"] == "probe"]
            if waiting:
                for name in real.hospitals:
                    mine = Connection(credentials.Credentials(real.url, real.tokens[name]))
                    mine.consent(waiting[0]["session_id"], name, "accept", waiting[0]["code_hash"])
                    mine.close()
                break
            time.sleep(0.05)
        here.close()

    thread = threading.Thread(target=quietly)
    thread.start()
    try:
        rows = json.loads(call(real, "probe", "--rounds", "5", "--bytes", "4096", "--json").stdout)
    finally:
        done.set()
        thread.join()
    assert [r["node"] for r in rows] == ["all", "site1", "site2", "site3"]
    assert all(r["rounds"] == 5 and 0 < r["fastest s"] <= r["median s"] <= r["slowest s"] for r in rows)


def test_credentials_go_only_where_they_belong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no coordinator is known"):
        credentials.resolve(None, None)
    credentials.save(credentials.Credentials("https://a.example", "token-a", "/ca.pem"))
    kept = credentials.resolve(None, None)
    assert (kept.url, kept.token, kept.authority) == ("https://a.example", "token-a", "/ca.pem")
    assert "token-a" not in repr(kept)
    with pytest.raises(NotAuthenticated, match=r"https://b\.example"):
        credentials.resolve("https://b.example", None)
    monkeypatch.setenv("HANSE_URL", "https://c.example")
    monkeypatch.setenv("HANSE_TOKEN", "token-c")
    assert credentials.resolve(None, None).token == "token-c"
    assert credentials.resolve("https://a.example/", None).token == "token-a"
    with pytest.raises(NotAuthenticated):
        credentials.resolve("https://b.example", None)
    assert credentials.resolve("https://b.example", "given").token == "given"
    assert credentials.resolve("https://b.example", "given").authority == ""
    monkeypatch.delenv("HANSE_URL")
    assert credentials.resolve("https://b.example", None).token == "token-c"
    credentials.path().chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        credentials.resolve(None, None)
    credentials.path().chmod(0o600)
    credentials.path().write_text("url = ")
    with pytest.raises(ConfigError, match="damaged"):
        credentials.resolve(None, None)


def test_a_token_with_odd_letters_survives() -> None:
    odd = credentials.Credentials("https://a.example", 'a"b\\c\té\u2028', "")
    credentials.save(odd)
    assert credentials.saved() == odd


def test_help_is_quick_and_loads_little() -> None:
    code = (
        "import sys\nfrom hanse.cli import group\n"
        "group(['run', '--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'httpx', 'rich', 'pandas', 'polars', 'sklearn', 'matplotlib', 'grpc'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=True, capture_output=True)
    code = (
        "import sys, hanse\nhanse.simulate, hanse.connect\n"
        "heavy = {'httpx', 'rich', 'pandas', 'polars', 'sklearn', 'matplotlib', 'grpc', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=True, capture_output=True)


def test_a_training_plan_is_named_by_its_file(tmp_path: Path) -> None:
    """As in Python: the command wanted it as an object of JSON, whose shape stands nowhere."""
    plan = tmp_path / "small.py"
    plan.write_text("def build(task, options): ...\n")
    found = configure(gathered(model="torch_module", target="y", more=(f"plan={plan}",))).plan
    assert found == {"name": "small", "source": plan.read_text()}
    with pytest.raises(ConfigError, match="cannot be read"):
        configure(gathered(model="torch_module", target="y", more=(f"plan={tmp_path / 'none.py'}",)))
