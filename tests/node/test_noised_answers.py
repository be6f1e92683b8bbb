"""A node with a worker that answers with noise: the same for the same ask, and booked before it leaves."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from one_node import Node, running

from hanse import features
from hanse.bundle import Bundle, freeze
from hanse.cli import group
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError, NotAllowed
from hanse.messages import Json
from hanse.node.catalogue import Catalogue
from hanse.node.settings import Policy
from hanse.privacy.noise_secret import FILE, noise_secret

ITEMS: list[Json] = [{"stat": "count"}, {"stat": "mean", "column": "age", "range": [0, 120]}]


def with_data(home: Path) -> None:
    ages = np.random.default_rng(5).integers(20, 90, 60)
    (home / "visits.csv").write_text("\n".join(["age,sex", *(f"{age},{'fm'[age % 2]}" for age in ages)]) + "\n")
    Catalogue(home).add(home / "visits.csv", "visits")


def question(home: Path, epsilon: float = 1.0, items: list[Json] = ITEMS) -> Bundle:
    dataset = Catalogue(home).get("visits")
    config = {"federated_strategy": "noisy_statistics", "model_options": {"items": items}, "features": ["age"]}
    config |= {"privacy": {"epsilon": epsilon}, "target_column": "", "num_rounds": 1, "sample_id_column": None}
    alignment = features.survey({"alpha": dict(dataset.schema)}, ["age"]).to_json()
    return freeze(RunConfig.parse(config), alignment, {"alpha": {"name": "visits", "version": dataset.version}})


def owner(**policy: Any) -> Any:
    return Policy(allow_federated_analytics=True, allow_node_statistics=True, **policy)


async def sums(node: Node, bundle: Bundle, run: str = "run-1", **more: Any) -> list[float]:
    reply = await node.task(bundle, {"ask": 0}, run=run, **more)
    return [float(v) for v in np.asarray(reply.arrays["a.sums"])]


def test_the_same_ask_has_the_same_noise_also_after_a_restart_and_costs_once(tmp_path: Path) -> None:
    async def go() -> None:
        home = tmp_path / "node"
        home.mkdir()
        with_data(home)
        bundle = question(home)
        async with running(home, policy=owner(epsilon_budget=2.0)) as node:
            await node.propose(bundle)  # accepted at once, by the owner's settings
            first = await sums(node, bundle)
            again = await sums(node, bundle)
            await node.agent.worker.plain.restart()
            afresh = await sums(node, bundle)
        async with running(home, policy=owner(epsilon_budget=2.0)) as node:
            restarted = await sums(node, bundle)
            [line] = [line for line in node.agent.book.lines("visits") if line.ledger == "privacy"]
            assert "50 % of the year, epsilon 1 of 2" in line.said
            assert "Ada 1 (run-1 1)" in line.said
        assert first == again == afresh == restarted
        assert first[0] != 60.0
        assert abs(first[0] - 60.0) < 80.0
        assert os.stat(home / FILE).st_mode & 0o077 == 0

    asyncio.run(go())


def test_what_is_beyond_the_budget_does_not_leave_and_both_sides_hear_why(tmp_path: Path) -> None:
    async def go() -> None:
        home = tmp_path / "node"
        home.mkdir()
        with_data(home)
        async with running(home, policy=owner(epsilon_budgets=["visits=1.2"])) as node:
            one, other, third = question(home), question(home, 0.9), question(home, 0.8)
            await node.propose(one, "run-1")
            await node.propose(other, "run-2")  # each has room by itself
            await sums(node, one)
            await node.propose(third, "run-3")  # and this one has none any more: it is refused at once
            found = node.agent.approvals.get("run-3", third.sha256)
            assert found.state == "rejected"
            assert "privacy budget of this data set is used up for this year" in found.reason
            left = len(node.coordinator.left)
            with pytest.raises(NotAllowed, match="epsilon 1.2, and this answer would make it 1.3"):
                await sums(node, other, "run-2")
            told = bytes(node.coordinator.left[left:])
            assert b"safetensors" not in told
            assert node.audit()[-1].action == "task.refused"
            assert node.audit()[-1].detail["stage"] == "settle"

    asyncio.run(go())


def test_a_lying_coordinator_gets_no_second_noise(tmp_path: Path) -> None:
    """The same question as another step, exchange or with other words in it is refused, or the same release."""

    async def go() -> None:
        home = tmp_path / "node"
        home.mkdir()
        with_data(home)
        bundle = question(home)
        async with running(home, policy=owner()) as node:
            await node.propose(bundle)
            await sums(node, bundle)
            with pytest.raises(NotAllowed, match="at most 1 noised answers of this node, and they are given"):
                reply = await node.task(bundle, {"ask": 1})
                assert reply is None
            with pytest.raises(NotAllowed, match="step 1 was not consented to"):
                await sums(node, bundle, step=1)

    asyncio.run(go())


def test_exchanges_that_tell_nothing_of_rows_cost_nothing(tmp_path: Path) -> None:
    """Of a secure sum the keys, the list of survivors and the unmasking; of training its preparation."""

    async def go() -> None:
        home = tmp_path / "node"
        home.mkdir()
        with_data(home)
        dataset = Catalogue(home).get("visits")
        config = {"federated_strategy": "noisy_gradients", "model_name": "logistic_regression", "target_column": "sex"}
        config |= {"privacy": {"mode": "distributed", "ranges": {"*": [0, 120]}}, "gathering": "secure"}
        found = features.align({"alpha": dict(dataset.schema)}, "intersection", targets=["sex"], not_features=[])
        bound = {node: {"name": "visits", "version": dataset.version, "most_rows": 60} for node in ("alpha", "b", "c")}
        bundle = freeze(RunConfig.parse({**config, "sample_id_column": None}), found.to_json(), bound)
        async with running(home) as node:
            await node.approved(bundle)
            keys = await node.task(bundle, {}, op="keys")
            assert "key" in keys.data
            await node.task(bundle, {"step": "merge"}, step=0)
            assert not [line for line in node.agent.book.lines("visits") if line.ledger == "privacy"]

    asyncio.run(go())


def test_columns_that_were_not_proposed_are_not_looked_at(tmp_path: Path) -> None:
    async def go() -> None:
        home = tmp_path / "node"
        home.mkdir()
        with_data(home)
        bundle = question(home, items=[{"stat": "labels", "column": "sex", "values": ["f"]}])
        async with running(home, policy=owner()) as node:
            await node.propose(bundle)
            with pytest.raises(NotAllowed, match="is of sex, which the proposal does not name"):
                await sums(node, bundle)

    asyncio.run(go())


def test_the_secret_is_made_once_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    first = noise_secret(tmp_path)
    assert len(first) == 32
    assert noise_secret(tmp_path) == first
    assert [p.name for p in tmp_path.iterdir()] == [FILE]
    (tmp_path / FILE).write_bytes(first[:31])
    with pytest.raises(ConfigError, match="restore it from a backup"):
        noise_secret(tmp_path)


def test_the_owner_sets_the_budget_of_a_data_set_in_one_command(tmp_path: Path) -> None:
    from hanse.node.settings import NodeSettings

    NodeSettings("alpha").save(tmp_path)
    with_data(tmp_path)

    def hanse(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(group, ["node", "budget", *words, "--home", str(tmp_path)])
        return done.exit_code, done.output + str(done.exception or "")

    code, said = hanse("visits", "--epsilon", "3", "--queries", "100", "--cells", "0")
    assert code == 0
    assert "budget of visits: epsilon 3, queries 100, cells without a limit" in said
    hanse("visits", "--cells", "5000")
    found = NodeSettings.load(tmp_path).policy
    assert found.epsilon_budgets == ("visits=3",)
    assert found.query_budgets == ("visits=100",)
    assert found.cell_budgets == ("visits=5000",)
    hanse("visits", "--epsilon", "0.5")
    assert NodeSettings.load(tmp_path).policy.epsilon_budgets == ("visits=0.5",)
    assert "there is no dataset 'visit' here; there are visits" in hanse("visit", "--epsilon", "1")[1]
    assert "name the dataset" in hanse("--epsilon", "1")[1]
    assert "at least 0" in hanse("visits", "--epsilon", "-1")[1]
    assert (tmp_path / "audit.jsonl").read_text().count("settings.changed") == 3


def test_persons_are_counted_where_the_owner_says_whose_rows_they_are(tmp_path: Path) -> None:
    """Sixty rows of twelve patients, told with nearly no noise; of too few nothing is told, with however many rows."""

    async def go() -> None:
        home = tmp_path / "node"
        home.mkdir()
        rows = [f"p{k % 12},{20 + k}" for k in range(60)]
        (home / "visits.csv").write_text("\n".join(["patient,age", *rows]) + "\n")
        found = Catalogue(home).add(home / "visits.csv", "visits", subject="patient")
        assert (found.subjects, found.most_rows_of_subject, found.units) == (12, 5, 12)
        assert found.public(10)["rows"] == 50  # multiples of five times ten
        assert found.public(10)["metadata_columns"] == ["patient"]
        bundle = question(home, 900.0)
        async with running(home, policy=owner(max_epsilon_per_run=1000.0)) as node:
            await node.propose(bundle)
            count, _, _ = await sums(node, bundle)
            assert abs(count - 12) < 1
        async with running(home, policy=owner(max_epsilon_per_run=1000.0, minimum_samples=13)) as node:
            await node.propose(bundle, "run-2")
            refused = node.agent.approvals.get("run-2", bundle.sha256)
            assert "fewer rows than this node's minimum of 13" in refused.reason

    asyncio.run(go())


@pytest.mark.parametrize(
    ("column", "said"), [("who", "no column 'who'"), ("age", "1 rows have no value in the subject column")]
)
def test_a_subject_column_that_does_not_say_whose_rows_they_are(tmp_path: Path, column: str, said: str) -> None:
    (tmp_path / "visits.csv").write_text("patient,age\na,1\nb,\nc,3\n")
    with pytest.raises(DataError, match=said):
        Catalogue(tmp_path / "home").add(tmp_path / "visits.csv", "visits", subject=column)
    assert not Catalogue(tmp_path / "home").list()
