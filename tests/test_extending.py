"""The stopwatch: each example of docs/extending.md is one new file, no other file changes, and it works.

``python tests/test_extending.py`` writes the table of the page.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from click.testing import CliRunner
from scipy.stats import gmean
from sklearn.linear_model import GammaRegressor

import hanse
from hanse import algorithms, gathering, queries, registry
from hanse.boosting.objective import chosen
from hanse.cli import group
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.messages import Record, digest
from hanse.task import Task

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.extending import PAGE, files, write
from tests.waiting import PATIENCE

SOURCE = Path(hanse.__file__).parent
TABLE = re.compile(r"(?<=extending\.py -->\n).*?(?=<!-- end of table)", re.S)
Add = Callable[..., None]


def table() -> str:
    """What each example takes."""
    rows = ["| example | new files | changed files | lines |", "|---|---|---|---|"]
    for path, source in files().items():
        rows.append(f"| `{path}` | 1 | 0 | {len(source.splitlines())} |")
    return "\n".join(rows) + "\n"


def shipped() -> dict[str, int]:
    """Hanse as it is installed: each file and when it was changed."""
    return {str(p): p.stat().st_mtime_ns for p in SOURCE.rglob("*.py")}


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Adds files of the page to this process, until the test is over. Nothing of Hanse changes meanwhile."""
    before, packages = shipped(), [importlib.import_module(f"hanse.{folder}") for folder in registry.FOLDERS]
    monkeypatch.setattr(registry, "_EXTENSIONS", list(registry._EXTENSIONS))
    for package in packages:
        monkeypatch.setattr(package, "__path__", list(package.__path__))

    def one(path: str) -> None:
        write(path, tmp_path)
        assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.py")] == [path]
        registry.extend(tmp_path)

    yield one
    queries.statistic.cache_clear()
    for name in [n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(str(tmp_path))]:
        package, _, file = name.rpartition(".")
        vars(sys.modules[package]).pop(file, None)
        del sys.modules[name]
    assert shipped() == before


def patients(n: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    days = rng.gamma(3.0, np.exp(1.0 + 0.4 * x - 0.3 * z) / 3.0)
    return {"x": x, "z": z, "days": days, "ill": np.where(x + z + rng.logistic(0, 1, n) > 0, "yes", "no")}


SITES = {
    "ulm": patients(300, 0),
    "bonn": patients(160, 1, 0.7),
    "kiel": patients(80, 2, -0.7),
    "mainz": patients(60, 3),
}
POOLED = pd.concat([pd.DataFrame(site) for site in SITES.values()])
ILL = {"model": "logistic_regression", "target": "ill", "features": ["x", "z"], "sample_id_column": None}
DAYS = {"target": "days", "features": ["x", "z"], "sample_id_column": None}


def learn(policy: dict[str, Any] | None = None, **settings: Any) -> Any:
    with hanse.simulate(SITES, wire="exact", policy=policy) as federation:
        return federation.experiment(**settings).run(progress=False)


def test_a_statistic(add: Add) -> None:
    add("statistics/geometric_mean.py")
    exp = hanse.simulate(SITES).experiment(target="days")
    assert exp.analytics.geometric_mean("days") == {"days": pytest.approx(gmean(POOLED["days"]), rel=1e-12)}
    by_group = repr(hanse.simulate(SITES).analytics(by="ill").ask("geometric_mean", ["days"]))
    for label, days in POOLED.groupby("ill")["days"]:
        assert re.search(rf"days +{label} +{gmean(days):.4g}", by_group)


def test_a_statistic_is_a_command_and_few_rows_are_kept_back_of_it(add: Add) -> None:
    add("statistics/geometric_mean.py")
    with hanse.simulate(SITES, policy={"minimum_cell": 100}) as federation:
        found = federation.analytics().fetch_stats("geometric_mean", ["days"])
    value = found.values("geometric_mean")["days"]
    assert float(value) == pytest.approx(gmean(POOLED["days"][:460]), rel=1e-12)
    assert repr(value).endswith("(of 460 of at most 600 rows, without kiel, mainz)")
    said = CliRunner().invoke(group, ["stats", "geometric-mean", "--help"])
    assert "Geometric mean of the positive values." in said.output


@pytest.mark.parametrize(
    ("path", "setting", "built_in"),
    [
        ("algorithms/held_back.py", {"hold": 0.7}, {"federated_strategy": "fedprox", "proximal_mu": 0.7}),
        ("algorithms/middle.py", {}, {"federated_strategy": "median"}),
    ],
)
def test_a_strategy(path: str, setting: dict[str, Any], built_in: dict[str, Any], add: Add) -> None:
    add(path)
    given = {**ILL, "rounds": 4, "local_epochs": 3}
    found = learn(federated_strategy=Path(path).stem, **given, **setting).record
    known = learn(**given, **built_in).record
    for name in ("model.coef", "model.intercept"):
        np.testing.assert_array_equal(found.arrays[name], known.arrays[name])
    assert found.data["algorithm"] == Path(path).stem
    plain = learn(federated_strategy="fedavg", **given).record
    assert not np.array_equal(found.arrays["model.coef"], plain.arrays["model.coef"])
    with pytest.raises(ConfigError, match="local_epoch'; did you mean 'local_epochs'"):
        learn(federated_strategy=Path(path).stem, local_epoch=3, **ILL)


def test_a_rule_with_a_setting_that_is_checked(add: Add) -> None:
    add("policy/most_columns.py")
    assert learn(policy={"most_columns": 2}, rounds=1, **ILL).record.arrays["model.coef"].size == 2
    with pytest.raises(Exception, match="2 columns are asked for; this node shows at most 1 to one run"):
        learn(policy={"most_columns": 1}, rounds=1, **ILL)
    with pytest.raises(ConfigError, match="most_columns of a policy is -1; expected a whole number of at least 0"):
        hanse.simulate(SITES, policy={"most_columns": -1})


def test_a_selection_by_loss_with_history(add: Add) -> None:
    add("selection/slowest.py")
    result = learn(federated_strategy="fedavg", selection="slowest", fraction=0.5, rounds=6, local_epochs=2, **ILL)
    losses: dict[str, list[float]] = {name: [] for name in SITES}
    trained = 0
    for step in result.rounds:
        asked = sorted(step.asked)
        if step.label == "train":
            trained += 1
            fell = {n: seen[-2] - seen[-1] if len(seen) > 1 else -np.inf for n, seen in losses.items()}
            assert asked == sorted(sorted(SITES, key=lambda n: (fell[n], len(losses[n]), n))[:2])
        for node, part in step.participants.items():
            if part["metrics"].get("loss") is not None:
                losses[node].append(part["metrics"]["loss"])
    assert trained == 6


def test_a_task_with_its_metrics(add: Add) -> None:
    add("tasks/durations.py")
    result = learn(model="linear_regression", task_type="durations", test_fraction=0.0, **DAYS)
    predicted = result.predictor().predict(POOLED)
    error = np.abs(predicted - POOLED["days"])
    measured = result.evaluate(POOLED)
    assert measured["loss"] == pytest.approx(error.mean(), rel=1e-9)
    assert measured["close"] == pytest.approx((error <= POOLED["days"] / 5).mean(), rel=1e-9)
    assert result.record.data["task"]["kind"] == "durations"
    with pytest.raises(Exception, match="no times above 0"):
        learn(model="linear_regression", task_type="durations", target="x", sample_id_column=None)


def test_a_model(add: Add) -> None:
    add("models/gamma_regression.py")
    result = learn(model="gamma_regression", test_fraction=0.0, **DAYS)
    X = result.predictor().design(POOLED)
    pooled = GammaRegressor(alpha=0, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, POOLED["days"])
    assert result.model().coef_ == pytest.approx(pooled.coef_, abs=1e-8)
    assert result.model().intercept_ == pytest.approx(pooled.intercept_, abs=1e-8)
    assert result.predictor().predict(POOLED) == pytest.approx(pooled.predict(X), rel=1e-7)


def test_a_measure(add: Add) -> None:
    add("measures/brier.py")
    result = learn(measures=["brier"], test_fraction=0.25, **ILL)
    told = result.record.data["measured"]["brier"]
    assert told["rows"] == result.metrics["n"]
    assert 0 < told["score"] < 0.25
    assert result.rounds[-1].metrics["measured"] == {"brier": told}


def test_an_objective(add: Add) -> None:
    """Its gradient is the slope of its loss, and its base score XGBoost's."""
    add("objectives/reg_pseudohubererror.py")
    own = chosen(Task("regression", ("x",)), {"objective": "reg:pseudohubererror", "huber_slope": 2.0})
    run = {"model_name": "xgboost", "num_rounds": 2, "model_options": {"objective": own.name}}
    assert algorithms.most_steps(RunConfig.parse(run)) > 10
    y = np.random.default_rng(0).normal(3, 5, 200)
    margin = np.zeros((200, 1), np.float32) + 1
    g, h = own.gradients(margin, y)
    loss = [4 * (np.sqrt(1 + ((1 + step - y) / 2) ** 2) - 1) for step in (-1e-4, 0, 1e-4)]
    assert g[:, 0] == pytest.approx((loss[2] - loss[0]) / 2e-4, abs=1e-4)
    assert h[:, 0] == pytest.approx((loss[2] - 2 * loss[1] + loss[0]) / 1e-8, abs=1e-4)
    settings = {"objective": own.name, "huber_slope": 2.0, "max_depth": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(np.zeros((200, 1)), y), 1)
    theirs = json.loads(booster.save_config())["learner"]["learner_model_param"]["base_score"]
    assert own.base(own.begin(y).sum(0), 200) == pytest.approx(json.loads(theirs), rel=1e-5)


def test_an_outgoing_transform_that_clips(add: Add) -> None:
    add("transforms/clip_values.py")
    given = {**ILL, "federated_strategy": "fedavg", "rounds": 3, "local_epochs": 5}
    for bounded in (
        learn(transforms=[{"name": "clip_values", "most": 0.01}], **given),
        learn(policy={"transforms": ["clip_values most=0.01"]}, **given),  # an owner demands it
    ):
        assert np.abs(bounded.record.arrays["model.coef"]).max() == pytest.approx(0.03)
    free = learn(transforms=[{"name": "clip_values", "most": 100.0}], **given).record
    assert np.abs(free.arrays["model.coef"]).max() > 0.1
    np.testing.assert_array_equal(free.arrays["model.coef"], learn(**given).record.arrays["model.coef"])


def test_a_gather_of_two_exchanges(add: Add) -> None:
    add("gathering/committed.py")
    given = {**ILL, "federated_strategy": "fedavg", "rounds": 3}
    found, plain = learn(gathering="committed", **given), learn(**given)
    assert found.record.data["algorithm"] == "fedavg"
    for name in plain.record.arrays:
        np.testing.assert_array_equal(found.record.arrays[name], plain.record.arrays[name])


def test_who_says_something_else_than_it_had_committed_itself_to_is_left_out(add: Add) -> None:
    add("gathering/committed.py")
    import asyncio

    from hanse.gather import Party, Reply
    from hanse.kinds import Ask, Combine, Contribution

    way = registry.find("gathering", "committed").GATHER()
    parties = {name: Party(name) for name in ("fair", "liar", "lost")}

    async def exchange(asks: Any, op: str = "answer", need: int | None = None) -> Any:
        for node in asks:
            if node == "lost" and op == "open":
                yield Reply(node, 0, None, "lost its connection")
                continue
            said = way.reply(op, asks[node], lambda ask: Contribution(Record({}, {"x": np.ones(2)})), parties[node])
            if node == "liar" and op == "open":
                said = Record(said.data, {**said.arrays, "a.x": np.full(2, 9.0)})
            yield Reply(node, 0, said)

    ask = Ask(Record(), Combine.SUM, "sum")
    found = asyncio.run(way.collect(ask, {name: Record() for name in parties}, exchange))
    assert [answer.node for answer in found.answers] == ["fair"]
    assert set(found.failures) == {"liar", "lost"}
    assert "had committed itself" in found.failures["liar"]
    assert digest(Record({}, found.sum())) == digest(Record({}, {"x": np.ones(2)}))
    assert isinstance(gathering.build({"sum": "committed"}, RunConfig().to_json()), dict)


AT_A_NODE = """
import asyncio, sys
from pathlib import Path
from click.testing import CliRunner
from hanse.cli import group
from hanse.errors import NotAllowed
from hanse.node.settings import Policy, NodeSettings
from one_node import probe, running
import numpy as np

async def main(home):
    async with running(home, policy=Policy(most_per_person=2)) as node:
        bundle = probe()
        for run, asks in (("run-1", 1), ("run-2", 1), ("run-3", 0)):
            await node.approved(bundle, run)
            for _ in range(2 * asks):  # the second time its reply was lost
                await node.task(bundle, {"round": 1}, {"x": np.zeros(16, np.float32)}, run=run)
        try:
            await node.task(bundle, {"round": 1}, {"x": np.zeros(16, np.float32)}, run="run-3")
        except NotAllowed as error:
            print(error.message)
    done = CliRunner().invoke(group, ["node", "policy", "set", "most_per_person", "7", "--home", str(home)])
    assert done.exit_code == 0, done.output
    print(NodeSettings.load(home).policy.most_per_person)
    done = CliRunner().invoke(group, ["node", "policy", "set", "most_per_person", "few", "--home", str(home)])
    print(done.exception)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_ledger(tmp_path: Path) -> None:
    """At a real node, in a process of its own, where the environment names the folder."""
    write("ledgers/per_person.py", tmp_path / "own")
    done = subprocess.run(
        [sys.executable, "-c", AT_A_NODE, str(tmp_path / "home")],
        env={
            **os.environ,
            "HANSE_INGREDIENTS": str(tmp_path / "own"),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "node"), str(SOURCE.parent)]),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    refused, kept, wrong = done.stdout.splitlines()
    assert "this node answers at most 2 asks of one person" in refused
    assert kept == "7"
    assert "most_per_person is 'few'; expected a whole number" in wrong


def test_a_statistic_with_noise(add: Add) -> None:
    add("noised_statistics/share_above.py")
    rng = np.random.default_rng(4)
    sites = {f"s{k}": {"price": rng.gamma(2.0, 60.0, 400)} for k in range(3)}
    true = np.mean(np.concatenate([s["price"] for s in sites.values()]) > 100)
    asked: Any = {"price": {"share_above": {"threshold": 100}}}
    [found] = hanse.simulate(sites).analytics().noisy(asked, epsilon=100.0)
    low, high = found["interval"]
    assert 0 < high - low < 0.05
    assert abs(found["value"] - true) < 3 * (high - low)
    with pytest.raises(ConfigError, match="no setting 'above'"):
        hanse.simulate(sites).analytics().noisy({"price": {"share_above": {"above": 1}}})


def test_an_attack(add: Add) -> None:
    from hanse.experiment.privacy_audit import audit

    add("attacks/smallest_losses.py")
    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(size=90), "ill": rng.integers(0, 2, 90).astype(str)}
    asked = {"model": "logistic_regression", "target": "ill", "rounds": 2}
    [row] = audit(rows, asked, sites=3, attacks=["smallest_losses"])
    assert 0 <= row["proposed"] <= 1
    assert 0.3 < row["chance"] < 0.7
    assert "best fitted tenth" in row["measure"]


def test_where_the_other_examples_are_used() -> None:
    """Two are used where a coordinator is, by the suites of their kind."""
    for path, suite in {
        "engines/counted.py": "coordinator/test_driving.py",
        "network/announced.py": "coordinator/test_network_service.py",
        "transports/inbox.py": "contracts/test_transport.py",
    }.items():
        assert f'install("{path}")' in (Path(__file__).parent / suite).read_text()


def test_every_example_is_used_and_every_kind_has_one() -> None:
    here = Path(__file__).read_text()
    assert [path for path in files() if f'"{path}"' not in here] == []
    assert {path.partition("/")[0] for path in files()} == set(registry.FOLDERS)


@pytest.mark.parametrize("path", files())
def test_no_example_needs_what_is_private_to_hanse(path: str) -> None:
    assert not re.search(r"^(?:from|import) hanse\S*\._|^from hanse\S* import .*\b_", files()[path], re.M)


def test_the_table_of_the_page_is_what_was_measured() -> None:
    found = TABLE.search(PAGE.read_text())
    assert found is not None
    assert found.group() == table(), "run: python tests/test_extending.py"


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text()))
    print(table())
