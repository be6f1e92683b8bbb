"""Noise inside an answer: drawn as promised, the same when asked again, and never for more steps than are counted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hanse.errors import NotAllowed
from hanse.kinds import Combine, Contribution
from hanse.messages import Record
from hanse.privacy import guarantee, release
from hanse.privacy.drawing import key_for
from hanse.privacy.empirical import least_epsilon
from hanse.privacy.guarantee import Guarantee
from hanse.privacy.release import Key
from hanse.privacy.steps import Steps


def promised(epsilon: float = 1.0, steps: int = 5, sampling: float = 0.2, releases: int = 1) -> Guarantee:
    return guarantee.of(guarantee.settled({"epsilon": epsilon}), "row", releases, 1, steps, sampling)


def keyed(name: str) -> Key:
    secret = hashlib.sha256(name.encode()).digest()
    return lambda found: key_for(secret, found)


def test_each_row_is_in_a_step_by_a_coin_of_its_own() -> None:
    steps, taken = Steps(promised(steps=40), keyed("a")), []
    for _ in range(40):
        taken.append(steps.sample(500))
        steps.noised({"g": np.zeros(1)}, 1.0)
    found = np.array(taken)
    assert abs(found.mean() - 0.2) < 0.02  # of 20,000 coins; the key is given, so this is so in every run
    assert len({row.tobytes() for row in found}) == 40
    assert abs(np.corrcoef(found[0], found[1])[0, 1]) < 0.15
    assert Steps(promised(sampling=1.0), keyed("a")).sample(9).all()


def test_the_noise_of_a_step_is_as_large_as_was_promised() -> None:
    promise = promised(steps=3)
    steps = Steps(promise, keyed("b"))
    found = steps.noised({"g": np.zeros(40_000)}, 2.0)["g"]
    assert found.std() == pytest.approx(2.0 * promise.multiplier, rel=0.02)
    assert promise.multiplier < guarantee.of(guarantee.settled("local"), "row", 3, 1).multiplier  # it pays to sample


def test_asked_again_it_is_the_same_to_the_last_bit_and_of_other_numbers_another() -> None:
    def run(name: str, value: float) -> tuple[bytes, str]:
        steps = Steps(promised(), keyed(name))
        sample = steps.sample(50)
        found = steps.noised({"g": np.array([value, np.nan])}, 1.0)["g"]
        return sample.tobytes() + found.tobytes(), steps.name

    assert run("c", 0.5) == run("c", 0.5)
    assert run("c", 0.5)[1] != run("c", 0.25)[1]
    assert run("c", 0.5)[0] != run("d", 0.5)[0]


def test_more_steps_than_are_counted_are_refused() -> None:
    steps = Steps(promised(steps=2), keyed("e"))
    for _ in range(2):
        steps.noised({"g": np.zeros(2)}, 1.0)
    with pytest.raises(NotAllowed, match="at most 2 noised steps"):
        steps.noised({"g": np.zeros(2)}, 1.0)


def test_an_answer_without_noise_in_its_steps_does_not_leave() -> None:
    record = Record({}, {"g": np.ones(3)})
    bounded = Contribution(record, combine=Combine.SUM, sensitivity=1.0)
    with pytest.raises(NotAllowed, match="has its noise in each step"):
        release.released(bounded, Combine.SUM, promised(), keyed("f"))
    whole = guarantee.of(guarantee.settled("local"), "row", 1, 1)
    with pytest.raises(NotAllowed, match="nobody knows what one row can change"):  # and no run may say it of itself
        release.released(Contribution(record, noised=True), Combine.SUM, whole, keyed("f"))
    told, name = release.released(
        Contribution(record, 7.0, {"loss": np.ones(2)}, {"n": 12.0}, Combine.SUM, noised=True),
        Combine.SUM,
        promised(),
        keyed("f"),
        lambda: "named",
    )
    assert (told.weight, dict(told.metrics), name) == (1.0, {}, "named")
    assert not told.sums["loss"].any()


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_no_test_tells_a_row_that_is_there_from_one_that_is_not_by_more_than_epsilon(epsilon: float) -> None:
    """The worst row: nobody else has a gradient, and its own is as long as it may be, in every step. Each place of an
    array is a run of its own: its coins and its noise are drawn by themselves, and its row is bounded by 1."""
    promise = promised(epsilon, steps=4, sampling=0.5)
    sums = []
    for there in (0.0, 1.0):
        steps, seen = Steps(promise, keyed(f"{there}")), np.zeros(10_000)
        for _ in range(promise.steps):
            seen += steps.noised({"g": there * steps.sample(len(seen))}, 1.0)["g"]
        sums.append(seen)
    cuts = np.quantile(np.concatenate(sums), [0.05, 0.25, 0.5, 0.75, 0.95])
    assert least_epsilon(*sums, 1e-5, cuts, 0.999) <= epsilon
    assert sums[1].mean() - sums[0].mean() == pytest.approx(2.0, abs=0.5 if epsilon > 1 else 1.0)  # it is there
