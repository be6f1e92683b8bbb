"""How each site's change lay to that of all, against the definition, computed from what the sites sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drive import Drive, shares, toy

import hanse
from hanse.algorithms import settled
from hanse.config import RunConfig
from hanse.errors import ConfigError

LEARNS: dict[str, Any] = {"model_name": "sgd_classifier", "num_rounds": 3, "learning_rate": 0.05}


def flat(arrays: Any, prefix: str) -> Any:
    return np.concatenate([np.ravel(arrays[n]).astype(float) for n in sorted(arrays) if n.startswith(prefix)])


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "scaffold", "median"])
def test_they_are_what_the_definition_says(strategy: str) -> None:
    drive = Drive(
        shares(toy(150), 80, 40, 30, 0),
        federated_strategy=strategy,
        server_learning_rate=0.5,
        tell_contributions=True,
        **LEARNS,
    )
    drive.run()
    checked = 0
    for step, (label, record) in enumerate(zip(drive.labels, drive.records, strict=True)):
        assert ("contributions" in record) == (label == "train")
        if label != "train":
            continue
        sent = {n: b for n, b in drive.contributions[step].items() if b.data["weight"] > 0}
        assert set(record["contributions"]) == set(sent)  # who has no rows changes nothing
        change = {n: flat(b.arrays, "a.change.") for n, b in sent.items()}
        weight = {n: b.data["weight"] for n, b in sent.items()}
        total = sum(weight.values())
        mean = sum(weight[n] * change[n] for n in sent) / total
        whole = mean if strategy != "median" else np.median([change[n] for n in sent], axis=0)
        for n in sent:
            said = record["contributions"][n]
            cosine = change[n] @ whole / np.linalg.norm(change[n]) / np.linalg.norm(whole)
            assert said["cosine"] == pytest.approx(cosine, abs=1e-12)
            without = (total * mean - weight[n] * change[n]) / (total - weight[n])
            off = np.linalg.norm(mean - without) / np.linalg.norm(mean)
            assert said.get("left_out") == (None if strategy == "median" else pytest.approx(off, rel=1e-9))
            checked += 1
    assert checked == 9


def test_it_changes_no_byte_of_the_model_and_is_not_told_unless_it_is_asked_for() -> None:
    first = Drive(shares(toy(90), 50, 40), **LEARNS)
    other = Drive(shares(toy(90), 50, 40), tell_contributions=True, **LEARNS)
    plain, told = first.run(), other.run()
    assert {n: a.tobytes() for n, a in plain.arrays.items()} == {n: a.tobytes() for n, a in told.arrays.items()}
    assert not any("contributions" in record for record in first.records)


def test_one_site_alone_and_sites_that_do_not_move_have_nulls() -> None:
    drive = Drive(shares(toy(60), 60, 0), tell_contributions=True, **LEARNS)
    drive.run()
    told = [record["contributions"] for record in drive.records if "contributions" in record]
    assert [len(one) for one in told] == [1] * 3
    for one in told:
        (numbers,) = one.values()
        assert numbers["cosine"] == pytest.approx(1.0)
        assert numbers["left_out"] is None


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"gathering": "secure"}, "tell_contributions looks at single changes, which secure gathering hides"),
        ({"privacy": "local", "model_name": "logistic_regression"}, "exact figures of single changes"),
        ({"privacy": "central", "model_name": "logistic_regression"}, "exact figures of single changes"),
    ],
)
def test_what_protects_single_changes_refuses_it_at_the_proposal(more: dict[str, Any], why: str) -> None:
    given = {"federated_strategy": "fedavg", "tell_contributions": True, **LEARNS, **more}
    with pytest.raises(ConfigError, match=why):
        settled(RunConfig.parse(given))


def test_a_site_whose_labels_are_turned_round_lies_against_the_others() -> None:
    rng = np.random.default_rng(0)
    sites = {}
    for name in ("honest-1", "honest-2", "honest-3", "turned"):
        x = rng.normal(size=(120, 3))
        y = (x[:, 0] > 0) != (name == "turned")
        sites[name] = {**{f"x{i}": x[:, i] for i in range(3)}, "y": np.where(y, "a", "b")}
    with hanse.simulate(sites) as federation:
        result = federation.experiment(
            model="sgd_classifier", target="y", rounds=3, sample_id_column=None, tell_contributions=True
        ).run(progress=False)
    rows = {row["node"]: row for row in result.contributions}
    assert rows["turned"]["cosine"] < 0 < min(rows[f"honest-{i}"]["cosine"] for i in (1, 2, 3))
    assert rows["turned"]["left_out"] > max(rows[f"honest-{i}"]["left_out"] for i in (1, 2, 3))
