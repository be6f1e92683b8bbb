"""Transforms that make updates smaller on their way: what each leaves out, and that none of it is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hanse import simulate, transforms
from hanse.gather import Party
from hanse.kinds import Contribution
from hanse.messages import Packer, Record
from hanse.registry import find

LINKS: list[dict[str, Any]] = [
    {"name": "bfloat16"},
    {"name": "eight_bits"},
    {"name": "top_k", "share": 0.05},
]
NAMES = [link["name"] for link in LINKS]


def updates(seed: int, rounds: int, dtype: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "w": (rng.normal(size=(40, 50)) * 10.0 ** rng.integers(-3, 3)).astype(dtype),
            "b": rng.normal(size=70).astype(dtype),
            "small": rng.normal(size=3).astype(dtype),
            "steps": np.arange(100),
        }
        for _ in range(rounds)
    ]


def sent(chain: transforms.Chain, arrays: dict[str, Any], memory: dict[str, Any]) -> Contribution:
    return chain.apply(Contribution(Record({}, arrays), update=True), memory, Party("a"))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("link", LINKS, ids=NAMES)
def test_what_arrived_is_off_by_what_is_left_out_now_and_by_no_more(link: dict[str, Any], dtype: str) -> None:
    chain, memory = transforms.Chain([link]), dict[str, Any]()
    given = updates(1, 20, dtype)
    found = [sent(chain, arrays, memory) for arrays in given]
    left = memory[f"0 {link['name']}"]["left_out"]
    scale = sum(float(np.abs(arrays["w"]).max()) for arrays in given)
    for name in ("w", "b"):
        arrived = sum(one.record.arrays[name].astype("f8") for one in found)
        wanted = sum(arrays[name].astype("f8") for arrays in given)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(arrived + left[name], wanted, rtol=0, atol=20 * scale * eps)
    told = found[-1].metrics
    assert told["left_out"] == pytest.approx(np.sqrt(sum(float((a.astype("f8") ** 2).sum()) for a in left.values())))
    for one, arrays in zip(found, given, strict=True):
        assert np.array_equal(one.record.arrays["small"], arrays["small"])
        assert np.array_equal(one.record.arrays["steps"], arrays["steps"])
        assert {n: (a.dtype, a.shape) for n, a in one.record.arrays.items()} == {
            n: (a.dtype, a.shape) for n, a in arrays.items()
        }


@pytest.mark.parametrize("link", LINKS, ids=NAMES)
def test_an_exchange_that_is_asked_again_is_answered_alike_and_nothing_is_changed_in_place(
    link: dict[str, Any],
) -> None:
    chain, memory = transforms.Chain([link]), dict[str, Any]()
    first, second = updates(2, 2, "f4")
    copies = {name: array.copy() for name, array in second.items()}
    sent(chain, first, memory)
    before = {key: dict(state) for key, state in memory.items()}
    kept = {name: array.copy() for name, array in before[f"0 {link['name']}"]["left_out"].items()}
    once, again = sent(chain, second, memory), sent(chain, second, before)
    for name in second:
        assert np.array_equal(once.record.arrays[name], again.record.arrays[name])
        assert np.array_equal(second[name], copies[name])
    assert set(kept) == {"w", "b"}


@pytest.mark.parametrize("link", LINKS, ids=NAMES)
def test_without_error_feedback_nothing_is_kept(link: dict[str, Any]) -> None:
    chain, memory = transforms.Chain([{**link, "error_feedback": False}]), dict[str, Any]()
    given = updates(3, 1, "f4")[0]
    one, two = sent(chain, given, memory), sent(chain, given, memory)
    assert np.array_equal(one.record.arrays["w"], two.record.arrays["w"])
    assert memory == {f"0 {link['name']}": {}}
    assert one.metrics["left_out"] > 0


@pytest.mark.parametrize("link", LINKS, ids=NAMES)
def test_what_is_no_update_or_not_finite_stays(link: dict[str, Any]) -> None:
    chain = transforms.Chain([link])
    sums = Contribution(Record({}, updates(4, 1, "f4")[0]))
    assert chain.apply(sums, {}, Party("a")) is sums
    broken = {"w": np.full(100, np.nan)}
    assert np.isnan(sent(chain, broken, {}).record.arrays["w"]).all()  # the coordinator names it


def test_bfloat16_leaves_eight_bits_of_each_number() -> None:
    given = updates(5, 1, "f4")[0]
    found = sent(transforms.Chain([LINKS[0]]), given, {}).record.arrays["w"]
    assert not (found.view("u4") & 0xFFFF).any()
    assert np.all(np.abs(found - given["w"]) <= np.abs(given["w"]) * 2.0**-8)


@pytest.mark.parametrize("most", [1.0, 127.0, 128.0, 1e-44, 3e38])
def test_eight_bits_are_whole_multiples_of_a_power_of_two(most: float) -> None:
    given = (np.random.default_rng(6).uniform(-1, 1, size=1000) * most).astype("f4")
    given[0] = most
    found = sent(transforms.Chain([LINKS[1]]), {"w": given}, {}).record.arrays["w"]
    assert np.isfinite(found).all()
    assert np.all(np.abs(found.astype("f8") - given) <= most / 127)
    if most > 1e-40:
        assert len(np.unique(found)) <= 255


def test_top_k_sends_the_largest_of_all_arrays_and_the_others_when_they_have_added_up() -> None:
    chain, memory = transforms.Chain([{"name": "top_k", "share": 0.01}]), dict[str, Any]()
    given = {"w": np.linspace(1, 2, 900).astype("f4"), "b": np.linspace(0.1, 0.2, 100).astype("f4")}
    first = sent(chain, given, memory).record.arrays
    assert np.count_nonzero(first["w"]) == 10
    assert not first["b"].any()
    assert np.all(first["w"][-10:] > 0)
    reached = set[int]()
    for _ in range(3000):
        reached |= {*np.flatnonzero(sent(chain, given, memory).record.arrays["b"])}
    assert len(reached) == 100


@pytest.mark.parametrize(("link", "share"), [*zip(LINKS, (0.40, 0.30, 0.10), strict=True)], ids=NAMES)
def test_what_is_left_is_small_where_the_line_compresses(link: dict[str, Any], share: float) -> None:
    given = {"w": np.random.default_rng(7).normal(size=100_000).astype("f4")}
    raw = sent(transforms.Chain([link]), given, {}).record.arrays["w"].tobytes()
    packed = Packer(0.3)(raw, 4)
    assert packed is not None
    assert len(packed[1]) <= share * len(raw)


def test_a_step_says_the_most_that_is_left_out() -> None:
    report = find("transforms", "top_k").TRANSFORM.report
    assert report([]) == {}
    said = report([{"left_out": 1.0, "sent": 2.0}, {"left_out": 3.0, "sent": 12.0}, {"left_out": None, "sent": 1.0}])
    assert said == {"left_out": 3.0, "left_out_share": 0.5}
    assert report([{"left_out": 0.0, "sent": 0.0}]) == {"left_out": 0.0}


def sites() -> dict[str, dict[str, Any]]:
    rng, found = np.random.default_rng(3), dict[str, dict[str, Any]]()
    for k, n in enumerate((150, 200)):
        x, z = rng.normal(size=n), rng.normal(size=n)
        found[f"s{k}"] = {"x": x, "z": z, "y": np.where(x + z > 0, "yes", "no")}
    return found


@pytest.mark.parametrize("link", LINKS, ids=NAMES)
def test_a_run_of_compressed_updates_learns_and_says_how_far_it_may_be_off(link: dict[str, Any]) -> None:
    experiment = simulate(sites(), seed=1).experiment(
        model="mlp_classifier",
        federated_strategy="fedavg",
        target="y",
        rounds=4,
        sample_id_column=None,
        transforms=[link],
    )
    run = experiment.run(progress=False)
    trained = [step for step in run.rounds if step.round is not None]
    assert all(step.metrics["left_out"] > 0 for step in trained)
