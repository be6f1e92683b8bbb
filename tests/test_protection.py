"""A differentially private run: what it promises, what it refuses, what leaves a node, and what nobody averages."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import hanse
from hanse import protection
from hanse.algorithms import settled
from hanse.answers import Answerer, ReadTask
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError, NotAllowed, Refused, RunFailed
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine, Contribution
from hanse.messages import Record
from hanse.privacy import concentrated
from hanse.privacy.central import NoisedSum
from hanse.privacy.guarantee import Guarantee, of
from hanse.privacy.guarantee import settled as agreed
from hanse.privacy.release import grid_of, released
from hanse.table import Table

RANGES = {"*": [-3, 3]}


def sites(count: int = 4, rows: int = 200) -> dict[str, Any]:
    rng, found = np.random.default_rng(5), {}
    for k in range(count):
        x = rng.normal(size=rows)
        found[f"s{k}"] = {
            "x": x,
            "z": rng.normal(size=rows),
            "y": np.where(x + 0.3 * rng.normal(size=rows) > 0, "a", "b"),
        }
    return found


def run(privacy: Any, federated_strategy: str = "fedavg", model: str = "logistic_regression", **more: Any) -> Any:
    given = {"mode": privacy} if isinstance(privacy, str) else privacy
    federation = hanse.simulate(sites(), **({"policy": more.pop("policy")} if "policy" in more else {}))
    return federation.experiment(
        model, target="y", federated_strategy=federated_strategy, privacy={"ranges": RANGES, **given}, rounds=3, **more
    ).run(progress=False)


def promised(mode: str = "local", unit: str = "site", releases: int = 1, fewest: int = 3, **more: Any) -> Guarantee:
    return of(agreed({"mode": mode, **more}), unit, releases, fewest)


def key(found: bytes) -> bytes:
    return (b"a secret of this node only" + found).ljust(64)[:64][-32:]


# ---------------------------------------------------------------- what is promised


def test_the_noise_is_that_of_all_planned_rounds() -> None:
    for mode, sharing in (("local", 1), ("distributed", 2)):
        found = promised(mode, releases=7)
        assert found.sharing == sharing
        one = found.deviation(2.0) * sharing**0.5  # as it is in what is seen
        assert concentrated.epsilon_of(7 * concentrated.rho_of_noise(2.0, one), 1e-5) == pytest.approx(1.0, rel=1e-6)
    assert promised().deviation(1.0) == pytest.approx(4.045, abs=1e-3)  # sigma 1, the naive formula, is 4.38 at least
    with pytest.raises(ConfigError, match="nobody's noise would hide the others"):
        promised("distributed", fewest=2, colluding=2)


def test_defaults_are_epsilon_1_and_delta_1e_5_and_no_privacy_at_all() -> None:
    assert RunConfig.parse({}).privacy is None
    found = settled(RunConfig.parse({"model_name": "logistic_regression", "privacy": "local"})).privacy
    assert found is not None
    assert (found["epsilon"], found["delta"], found["clip"]) == (1.0, 1e-5, 1.0)
    for wrong in ({"epsilon": 0}, {"delta": 1}, {"mode": "magic"}, {"ranges": {"x": [3, 1]}}, {"epsilom": 1}):
        with pytest.raises(ConfigError):
            settled(RunConfig.parse({"model_name": "logistic_regression", "privacy": wrong}))


# ---------------------------------------------------------------- what leaves


def update(*values: float, dtype: str = "f8") -> Contribution:
    return Contribution(
        Record({"secret": 7}, {"w": np.array(values, dtype)}), 90.0, {"s": np.ones(2)}, {"n": 90.0}, update=True
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_an_update_is_clipped_noised_and_counts_as_one(dtype: str) -> None:
    guarantee = promised(clip=0.5)
    many, none = np.full(20_000, 3.0), np.zeros(20_000)
    found, name = released(update(*many, dtype=dtype), Combine.SUM, guarantee, key)
    still, _ = released(update(*none, dtype=dtype), Combine.SUM, guarantee, key)
    assert name
    assert (found.weight, found.metrics, found.record.data) == (1.0, {}, {})
    assert not found.sums["s"].any()
    x = found.record.arrays["w"]
    assert x.dtype == np.dtype(dtype)
    noise = guarantee.deviation(0.5)
    assert still.record.arrays["w"].std() == pytest.approx(noise, rel=0.03)
    assert x.mean() == pytest.approx(0.5 / np.sqrt(20_000), abs=4 * noise / np.sqrt(20_000))
    steps = np.float64(x) / grid_of(guarantee, 0.5)
    assert np.array_equal(steps, np.rint(steps))  # no digit tells what the noise was added to


def test_the_same_answer_has_the_same_noise_and_any_other_has_another() -> None:
    guarantee = promised()
    first, name = released(update(0.1, 0.2), Combine.SUM, guarantee, key)
    again, same = released(update(0.1, 0.2), Combine.SUM, guarantee, key)
    other, differs = released(update(0.1, 0.2001), Combine.SUM, guarantee, key)
    assert name == same != differs
    assert np.array_equal(first.record.arrays["w"], again.record.arrays["w"])
    assert np.abs(first.record.arrays["w"] - other.record.arrays["w"]).max() > 0.01  # not their difference, 0.0001


def test_what_nobody_can_bound_does_not_leave() -> None:
    guarantee = promised()
    for wrong in (
        Contribution(Record({}, {"w": np.ones(3)})),
        Contribution(Record({}, {"w": np.ones(3)}), sensitivity=1.0),  # rows, where a site is promised
    ):
        with pytest.raises(NotAllowed, match="nobody knows what one site can change"):
            released(wrong, Combine.SUM, guarantee, key)
    with pytest.raises(NotAllowed, match="nobody knows what one row can change"):
        released(update(1.0), Combine.SUM, promised(unit="row"), key)
    empty = Contribution(Record({}, {"w": np.ones(3)}), sums={"s": np.ones(2)}, metrics={"n": 5.0}, sensitivity=0.0)
    found, name = released(empty, Combine.SUM, guarantee, key)
    assert not name
    assert found.record is empty.record
    assert not found.metrics
    assert not found.sums["s"].any()


def test_whole_numbers_are_an_error_and_what_is_no_number_counts_as_zero() -> None:
    """An error of a value would tell of the rows; that of a type tells of the model."""
    with pytest.raises(DataError, match="whole numbers"):
        released(Contribution(Record({}, {"w": np.array([1, 2])}), update=True), Combine.SUM, promised(), key)
    odd, _ = released(update(np.nan, np.inf, 0.25), Combine.SUM, promised(), key)
    fine, _ = released(update(0.0, 0.0, 0.25), Combine.SUM, promised(), key)
    assert np.array_equal(odd.record.arrays["w"], fine.record.arrays["w"])


# ---------------------------------------------------------------- in the whole, by a coordinator


def gathered(*contributions: Contribution) -> Any:
    answers = [
        (
            Answer(f"n{k}", c.weight, c.record.data, {}, 0, claimed=c.weight),
            Record({}, {f"a.{n}": c.record.arrays[n] for n in c.record.arrays}),
        )
        for k, c in enumerate(contributions)
    ]
    return Contributions(tuple(answers), {}, Combine.SUM)


def test_a_trusted_coordinator_adds_the_noise_of_one_to_the_sum_of_all() -> None:
    guarantee, many = promised("central"), 20_000
    bounded = [released(update(*np.full(many, v)), Combine.SUM, guarantee, key)[0] for v in (3.0, 0.0, -3.0, 0.0)]
    assert bounded[0].record.arrays["w"].std() < 1e-12  # none of it at a node
    assert np.linalg.norm(bounded[0].record.arrays["w"]) == pytest.approx(1.0, abs=1e-3)
    assert (bounded[0].weight, bounded[0].record.data, bounded[0].metrics) == (1.0, {"bound": 1.0}, {})
    found = NoisedSum(gathered(*bounded), guarantee, key)
    noise = found.sum()["w"]  # what they add up to is zero
    assert noise.std() == pytest.approx(guarantee.deviation(1.0), rel=0.03)
    assert np.array_equal(found.sum()["w"], noise)  # done again, it is the same
    assert np.array_equal(found.mean()["w"], noise / 4)
    other = NoisedSum(gathered(*bounded[:2]), guarantee, key).sum()["w"]
    assert np.abs(other - noise).max() > 1
    with pytest.raises(RunFailed, match="nobody is given them"):
        next(iter(found.each()))


def test_nodes_that_say_no_bound_get_no_sum_and_one_that_says_too_little_takes_no_noise_away() -> None:
    guarantee = promised("central")
    fine, _ = released(update(*np.zeros(5000)), Combine.SUM, guarantee, key)
    silent = dataclasses.replace(fine, record=Record({}, fine.record.arrays))
    with pytest.raises(RunFailed, match="did not say what one unit can change"):
        NoisedSum(gathered(fine, silent), guarantee, key).sum()
    little = dataclasses.replace(fine, record=Record({"bound": 1e-9}, fine.record.arrays))
    found = NoisedSum(gathered(fine, little), guarantee, key).sum()["w"]
    assert found.std() == pytest.approx(guarantee.deviation(1.0), rel=0.06)
    public = Contribution(Record({}, {"w": np.ones(3)}), sensitivity=0.0)
    said, name = released(public, Combine.SUM, guarantee, key)
    assert (said.record.data, name) == ({"bound": 0.0}, "")
    assert NoisedSum(gathered(said, said), guarantee, key).sum()["w"].tolist() == [2.0] * 3


# ---------------------------------------------------------------- runs


def test_a_run_learns_with_noise_and_tells_nothing_else() -> None:
    exact = (
        hanse.simulate(sites())
        .experiment("logistic_regression", target="y", federated_strategy="fedavg", rounds=3, test_fraction=0.0)
        .run(progress=False)
    )
    secure, largest = {"gathering": "secure"}, 0.0
    for mode, more in (("local", {}), ("distributed", secure), ("central", {}), ("central", secure)):
        loose = run({"mode": mode, "epsilon": 900.0, "clip": 3.0}, **more)
        tight = run({"mode": mode, "epsilon": 0.1}, **more)
        assert loose.evaluate(sites(1, 500)["s0"])["accuracy"] > 0.8
        again = run({"mode": mode, "epsilon": 0.1}, **more)
        first, other = (np.abs(found.record.arrays["model.coef"]) for found in (tight, again))
        assert np.abs(first - other).max() > 1e-3  # it is noise: by luck once in 10^9, and never without it
        largest = max(largest, first.max(), other.max())
        for step in loose.rounds:
            assert not any(p["metrics"] for p in step.participants.values())
        assert loose.record.arrays["prepared.mean"].tolist() == [0.0, 0.0]  # the middle of the ranges
        assert loose.record.arrays["prepared.scale"].tolist() == [3.0, 3.0]
        assert "rows" not in loose.rounds[1].metrics
    assert largest > 3  # as far as three rounds of changes that are cut to 1 can go
    assert abs(exact.record.arrays["prepared.mean"][0]) > 0


@pytest.mark.parametrize("mode", ["local", "central"])
def test_two_runs_have_different_noise(mode: str) -> None:
    one, other = (run(mode).record.arrays["model.coef"] for _ in range(2))
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "xgboost", "federated_strategy": "boosting"}, "what boosting tells of its rows has no bound"),
        ({"federated_strategy": "newton"}, "what newton tells of its rows has no bound"),
        ({"federated_strategy": "scaffold"}, "what scaffold tells of its rows has no bound"),
        ({"test_fraction": 0.25}, "leave test_fraction at 0"),
        (
            {"federated_strategy": "median", "privacy": {"mode": "central"}},
            "everything must add up, and this run combines by each",
        ),
        ({"max_weight_share": 0.5}, "every site counts the same"),
        ({"privacy": {"mode": "distributed"}}, "set gathering to secure, or mode to local"),
        ({"privacy": {"mode": "local", "ranges": {"x": [0, 1]}}}, "'z' has no range"),
        (
            {"privacy": {"mode": "distributed", "clip": 1e-9}, "gathering": "secure"},
            "finer than a secure sum of so many rows keeps",
        ),
        (
            {"federated_strategy": "noisy_gradients", "transforms": [{"name": "clip"}]},
            "a transform could change what one row was bounded to",
        ),
    ],
)
def test_what_cannot_be_protected_is_refused_before_an_owner_is_asked(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(more.pop("privacy", "local"), **more)


PLAN = "from torch import nn\n\ndef build(task, options):\n    return nn.Linear(len(task.features), task.outputs)\n"


@pytest.mark.parametrize("mode", ["local", "central", "distributed"])
@pytest.mark.parametrize("strategy", ["fedavg", "adaptive_clipping", "median"])
def test_no_epsilon_is_promised_for_code_that_could_leave_its_noise_out(mode: str, strategy: str) -> None:
    config = RunConfig.parse(
        {
            "model_name": "torch_module",
            "plan": {"name": "own", "source": PLAN},
            "federated_strategy": strategy,
            "target_column": "y",
            "gathering": "secure",
            "privacy": {"mode": mode},
        }
    )
    with pytest.raises(ConfigError, match="no epsilon holds for a training plan") as error:
        protection.of(config, 4)
    for able in ("dp_sgd", "dp_ftrl", "fedavg"):
        assert able in error.value.message


def test_the_owner_reads_what_is_promised_and_has_the_last_word() -> None:
    federation = hanse.simulate(sites())
    text = federation.experiment(
        "logistic_regression", target="y", federated_strategy="fedavg", privacy={"ranges": RANGES}, rounds=3
    ).preview()
    assert "# privacy: Differentially private with epsilon 1 and delta 1e-05 over all 3 releases" in text
    assert "(a whole site, not single rows)" in text
    assert "# ---- hanse.privacy.release" in text
    with pytest.raises(Refused, match="promises epsilon 1, and the owner of this node allows at most 0.5"):
        run("local", policy={"max_epsilon_per_run": 0.5})


def test_what_is_promised_follows_from_the_bundle_alone() -> None:
    config = {"model_name": "logistic_regression", "federated_strategy": "fedavg", "target_column": "y"}
    config |= {"privacy": {"ranges": RANGES}, "num_rounds": 5, "sample_id_column": None}
    datasets = {f"s{k}": {"name": "d", "version": "1", "most_rows": 100} for k in range(4)}
    frozen = freeze(RunConfig.parse(config), {"features": ["x"], "kinds": {"x": "numeric"}}, datasets)
    guarantee = frozen.guarantee()
    assert guarantee is not None
    assert guarantee == protection.of(frozen.config, 4)
    facts = frozen.facts("s0")["privacy"]
    assert (facts["epsilon"], facts["releases"], facts["unit"]) == (1.0, 5, "site")
    table = Table.of({"x": [1.0, 2.0], "y": ["a", "b"]})
    assert Answerer("s0", lambda bundle: table)._run("r", frozen.content).terms.guarantee == guarantee


def test_noise_follows_from_what_was_asked_also_where_the_answer_lies_over_it() -> None:
    config = {"model_name": "logistic_regression", "federated_strategy": "fedavg", "target_column": "y"}
    config |= {"privacy": {"ranges": RANGES}, "num_rounds": 2, "sample_id_column": None}
    datasets = {f"s{k}": {"name": "d", "version": "1", "most_rows": 100} for k in range(2)}
    bundle = freeze(RunConfig.parse(config), {"features": ["x"], "kinds": {"x": "numeric"}}, datasets).content
    table = Table.of({"x": [1.0, 2.0], "y": ["a", "b"]})
    answerer = Answerer("s0", lambda bundle: table, secret=lambda: b"k" * 32)
    data = {"run": "r", "step": 0, "exchange": 0, "op": "answer", "combine": "sum", "ask": {}}

    def told(first: float, over: bool) -> bytes:
        def answers(site: object, ask: Record) -> Contribution:
            if over:
                ask.arrays["x"][:] = 0.25
            return Contribution(Record({}, {"x": np.full(4, 0.25, np.float32)}), update=True)

        ask = Record(data, {"x": np.full(4, first, np.float32)})
        return answerer.reply(answerer.asked(ReadTask.of(ask), bundle), answers).arrays["a.x"].tobytes()

    assert told(1.0, over=True) == told(1.0, over=False) != told(2.0, over=True)
