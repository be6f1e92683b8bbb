"""Outgoing transforms: the list, what it refuses, and its place between an answer and a reply."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hanse import features, simulate, transforms
from hanse.answers import Answerer
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.gather import Party
from hanse.kinds import Contribution
from hanse.messages import Record
from hanse.policy import transforms as rule
from hanse.transforms.clip import Clip


def update(*arrays: Any, update: bool = True) -> Contribution:
    return Contribution(Record({}, {f"w{k}": np.asarray(a) for k, a in enumerate(arrays)}), update=update)


def flat(contribution: Contribution) -> np.ndarray:
    arrays = contribution.record.arrays
    return np.concatenate([np.asarray(arrays[n], np.float64).reshape(-1) for n in sorted(arrays)])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_clipping_is_what_its_definition_says(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    x = update(rng.normal(size=(70, 1001)).astype(dtype), rng.normal(size=3).astype(dtype), np.zeros(0, dtype))
    norm = float(np.linalg.norm(flat(x)))
    for bound in (norm * 0.3, norm * 1.001):
        found, state = Clip(bound).apply(x, Clip(bound).init(), Party("a"))
        np.testing.assert_allclose(flat(found), flat(x) * min(1.0, bound / norm), rtol=2e-7 if dtype == "f4" else 1e-15)
        assert found.metrics["clip_norm"] == pytest.approx(norm, rel=1e-12)
        assert state == {"updates": 1, "clipped": int(bound < norm)}
        assert {n: a.dtype for n, a in found.record.arrays.items()} == {n: a.dtype for n, a in x.record.arrays.items()}


def test_what_is_no_update_and_what_is_within_the_bound_stays_bit_for_bit() -> None:
    for x in (update([3.0, 4.0], update=False), update([3.0, 4.0])):
        found, _ = Clip(5.0).apply(x, Clip(5.0).init(), Party("a"))
        assert found.record is x.record
    broken, _ = Clip(1.0).apply(update([np.nan, 1.0]), Clip(1.0).init(), Party("a"))
    assert np.isnan(broken.record.arrays["w0"][0])  # the coordinator names it
    zero, _ = Clip(0.0).apply(update([3.0, 4.0]), Clip(0.0).init(), Party("a"))
    assert not zero.record.arrays["w0"].any()


def test_the_links_are_applied_in_their_order_and_keep_their_own_state() -> None:
    chain, memory = transforms.Chain([{"name": "clip", "norm": 4.0}, {"name": "clip", "norm": 2.0}]), {}
    for _ in range(3):
        out = chain.apply(update([0.0, 3.0]), memory, Party("a"))
    assert flat(out).tolist() == [0.0, 2.0]
    assert memory == {"0 clip": {"updates": 3, "clipped": 0}, "1 clip": {"updates": 3, "clipped": 3}}


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ([{"name": "clop"}], "there is no 'clop' in transforms"),
        ([{"name": "clip", "nrom": 1}], "no setting 'nrom' of the transform 'clip'; did you mean 'norm'"),
        ([{"name": "clip", "norm": -1}], "norm of the transform 'clip' is -1"),
        ([{"name": "clip", "norm": True}], "norm of the transform 'clip' is True"),
        ([{"norm": 1}], "with its name"),
    ],
)
def test_a_wrong_list_is_refused_when_it_is_proposed(links: list[Any], said: str) -> None:
    config = RunConfig.parse({"model_name": "logistic_regression", "federated_strategy": "fedavg", "transforms": links})
    with pytest.raises(ConfigError, match=said):
        freeze(config, {"features": [], "kinds": {}}, {})


def test_a_transform_that_would_change_nothing_is_refused() -> None:
    config = RunConfig.parse({"model_name": "random_forest", "transforms": [{"name": "clip"}]})
    with pytest.raises(ConfigError, match="forest_union sends no updates"):
        freeze(config, {"features": [], "kinds": {}}, {})


def test_they_stand_in_the_bundle_with_their_code() -> None:
    config = RunConfig.parse(
        {
            "model_name": "logistic_regression",
            "federated_strategy": "fedavg",
            "transforms": [{"name": "clip", "norm": 2}],
        }
    )
    frozen = freeze(config, {"features": [], "kinds": {}}, {})
    assert frozen.content["transforms"] == [{"name": "clip", "norm": 2}]
    assert "hanse.transforms.clip" in frozen.content["code"]
    assert "# before it leaves: clip norm=2" in frozen.preview()


def sites() -> dict[str, dict[str, Any]]:
    rng, found = np.random.default_rng(3), {}
    for k, n in enumerate((40, 300, 80)):
        x = rng.normal(size=n) * (1 + 3 * k)
        found[f"s{k}"] = {"x": x, "z": rng.normal(size=n), "y": np.where(x + rng.normal(size=n) > k, "yes", "no")}
    return found


def learn(**more: Any) -> Any:
    experiment = simulate(sites(), seed=1).experiment(
        model="logistic_regression", federated_strategy="fedavg", target="y", rounds=3, sample_id_column=None, **more
    )
    return experiment.run(progress=False)


def test_a_run_clips_and_says_what_share_was_clipped() -> None:
    free, clipped, loose = (
        learn(),
        learn(transforms=[{"name": "clip", "norm": 1e-3}]),
        learn(transforms=[{"name": "clip", "norm": 1e9}]),
    )
    trained = [step for step in clipped.rounds if step.round is not None]
    assert [step.metrics["clipped_share"] for step in trained] == [1.0] * 3
    assert all(p["metrics"]["clip_norm"] > 1e-3 for step in trained for p in step.participants.values())
    names = [n for n in free.record.arrays if n.startswith("model.")]
    assert 0 < np.sqrt(sum(float((clipped.record.arrays[n] ** 2).sum()) for n in names)) <= 3e-3
    assert all(np.array_equal(loose.record.arrays[n], free.record.arrays[n]) for n in names)
    assert [s.metrics["clipped_share"] for s in loose.rounds if s.round is not None] == [0.0] * 3
    assert not any("clipped_share" in s.metrics for s in free.rounds)


FACTS: Any = SimpleNamespace(transforms=())


def test_the_owner_may_demand_more() -> None:
    config = RunConfig.parse(
        {
            "model_name": "logistic_regression",
            "federated_strategy": "fedavg",
            "target_column": "y",
            "sample_id_column": None,
        }
    )
    assert transforms.parse("clip norm=0.5") == {"name": "clip", "norm": 0.5}
    with pytest.raises(ConfigError, match="no transform; expected its name and settings"):
        transforms.parse("clip norm")
    policy = rule.RULE({"transforms": ("clip norm=0.5",)})
    assert policy.decide(FACTS).allowed
    assert not rule.RULE({"transforms": ("clip norm=0.5", "")}).decide(FACTS).allowed
    frozen = freeze(config, features.survey({"a": {"y": "categorical"}}).to_json(), {})
    run = Answerer("a", lambda bundle: _table(), {"transforms": ["clip norm=0.5"]})._run("r", frozen.content)
    assert flat(run.transforms.apply(update([3.0, 4.0]), {}, Party("a"))).tolist() == pytest.approx([0.3, 0.4])


def _table() -> Any:
    from hanse.table import Table

    return Table.of({"y": ["a", "b"]})
