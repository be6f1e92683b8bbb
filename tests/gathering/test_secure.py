"""Secure sums: the same as plain ones, whoever is lost and when, and nothing of a single node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering.nodes import ASK, Nodes, exact, whole
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.errors import ConfigError, NodeFailed, RunFailed
from hanse.gathering._keys import LOST
from hanse.gathering._session import commitment
from hanse.gathering.secure import Secure
from hanse.kinds import Ask, Combine, Contribution, Gathered
from hanse.messages import Record
from hanse.privacy import neighbours
from hanse.privacy.keystream import PART_BYTES
from tests.examples import examples

DIED = NodeFailed("the worker ran out of memory")
OPS = ("keys", "answer", "agree", "unmask")


def equals(found: Gathered, contributions: Mapping[str, Contribution]) -> None:
    """The sum is that of these nodes: whole numbers exactly, the others within the stated error."""
    assert [a.node for a in found.answers] == sorted(contributions)
    parts = [contributions[node] for node in sorted(contributions)]
    got, sums = found.sum(), found.sums()
    np.testing.assert_array_equal(got["i"], sum(p.record.arrays["i"] for p in parts))
    assert got["i"].dtype == np.int64
    wanted = np.sum([p.record.arrays["x"] for p in parts], 0)
    largest = np.abs([p.record.arrays["x"] for p in parts]).sum(0)
    assert np.all(np.abs(got["x"] - wanted) <= found.told["error"] + largest * len(parts) * 2**-52)
    np.testing.assert_allclose(sums["loss"], np.sum([p.sums["loss"] for p in parts], 0), rtol=1e-11)


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_the_sum_is_the_plain_one(n: int) -> None:
    contributions = whole(n)
    nodes = Nodes.signed(contributions)
    gather = Secure()
    for _ in range(2):
        found = nodes.sum(gather)
        equals(found, contributions)
        assert not found.failures
        assert found.unchecked == ("counts", "weights")
        assert found.told["of"] == n


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("needed", [3, 2])
def test_every_word_is_masked_where_a_part_of_the_keystream_ends(more: int, needed: int) -> None:
    size = PART_BYTES // 8 - 2 - 6 + more  # two rows and the weight stand behind them
    contributions, ask = exact(3, size, fewest=needed)
    nodes = Nodes.signed(contributions)
    found = nodes.sum(Secure(), ask)
    np.testing.assert_array_equal(found.sum()["i"], sum(c.record.arrays["i"] for c in contributions.values()))
    words = {node: np.asarray(nodes.seen[node, "answer"].arrays["64"]) for node in contributions}
    for node, contribution in contributions.items():
        own = [contribution.record.arrays["i"], contribution.sums["rows"]]
        assert words[node].size == size + 8
        assert not (words[node][:-6] == np.concatenate(own).view(np.uint64)).any()
        assert not any((words[node] == words[other]).any() for other in words if other != node)  # all weigh the same


@pytest.mark.parametrize("most", [1 << 19, 0])
def test_words_are_added_as_they_come_unless_they_are_many(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(size: int, dtype: np.dtype[Any]) -> Any:
        made.append(size)
        return np.empty(size, dtype)

    monkeypatch.setattr("hanse.gathering._masked_sum._MEANWHILE", most)
    monkeypatch.setattr("hanse.gathering.secure.empty", counted)
    contributions = whole(4)
    nodes = Nodes.signed(contributions)
    equals(nodes.sum(), contributions)
    assert bool(made) == (not most)  # room for a sum of what waited until all were in
    made.clear()
    nodes = Nodes.signed(contributions, after={("n001", "answer"): DIED})
    equals(nodes.sum(), {n: c for n, c in contributions.items() if n != "n001"})
    assert bool(made) == (not most)


@pytest.mark.parametrize("odd", ["n000", "n001", "n003"])
def test_who_sends_another_form_is_not_in_the_sum_whenever_it_comes(odd: str) -> None:
    contributions = whole(4)
    record = contributions[odd].record
    other = replace(contributions[odd], record=Record(record.data, {**record.arrays, "more": np.arange(3)}))
    found = Nodes.signed({**contributions, odd: other}).sum()
    equals(found, {n: c for n, c in contributions.items() if n != odd})
    assert "others than those" in found.failures[odd]


@pytest.mark.parametrize("n", [110, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_many_nodes_with_neighbours_and_losses_in_every_exchange(n: int) -> None:
    contributions = whole(n, 3)
    gone = {
        **{f"n{k:03}": "keys" for k in range(0, n // 25)},
        **{f"n{k:03}": "answer" for k in range(40, 40 + n // 20)},
        **{f"n{k:03}": "agree" for k in range(80, 80 + n // 40)},
        **{f"n{k:03}": "unmask" for k in range(90, 90 + n // 20)},
    }
    nodes = Nodes(contributions, before={place: DIED for place in gone.items()})
    found = nodes.sum()
    in_it = {n: c for n, c in contributions.items() if gone.get(n) not in ("keys", "answer")}
    equals(found, in_it)
    assert set(found.failures) == set(gone)
    shares = nodes.seen[f"n{n - 1:03}", "answer"].arrays["shares"]
    assert len(shares) == neighbours.degree(n - n // 25)[0] < n - n // 25 - 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("n", "lost"), [(3, 1), (10, 1), (10, 4), pytest.param(50, 24, marks=pytest.mark.long)])
def test_nodes_that_are_lost_in_any_exchange_down_to_the_threshold(n: int, lost: int, op: str, when: str) -> None:
    """``after``: the node has answered, and nobody hears of it. The thresholds are 2, 6 and 26. A list is signed only
    where somebody is lost before, n002 then."""
    contributions = whole(n)
    nodes = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0))
    gone = dict.fromkeys(sorted(contributions)[2 : 2 + lost], op)
    if op == "agree":
        gone = {**dict.fromkeys(sorted(contributions)[3 : 2 + lost], op), "n002": "answer"}
    getattr(nodes, when).update({place: DIED for place in gone.items()})
    gather = Secure()
    found = nodes.sum(gather)
    left = {n: c for n, c in contributions.items() if gone.get(n) not in ("keys", "answer")}
    equals(found, left)
    assert {n: found.failures[n] for n in gone} == dict.fromkeys(gone, DIED.message)
    getattr(nodes, when).clear()
    equals(nodes.sum(gather), contributions)  # and the round after that is one of all


@pytest.mark.parametrize("op", OPS)
def test_below_the_threshold_there_is_no_sum_and_nothing_can_be_made_of_what_came(op: str) -> None:
    contributions = whole(10)
    nodes = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0))
    gone = sorted(contributions)[:5]
    nodes.before.update({(node, op): DIED for node in gone})
    if op == "agree":  # somebody was lost before
        nodes.before["n000", "answer"] = DIED
    found = nodes.sum()
    assert not found.answers
    assert not found.sum()
    said = "fewer than 6 nodes that have shares" if op == "unmask" else "5 of"
    for node in set(contributions) - set(gone):
        assert found.failures[node].startswith("no sum was made: ")
        assert said in found.failures[node]
    if op != "unmask":  # nobody has told a secret of a mask
        assert not any(seen == "unmask" for _, seen in nodes.seen)
    nodes.before.clear()
    equals(nodes.sum(), contributions)


def test_losses_in_every_exchange_at_once() -> None:
    contributions = whole(13)
    gone = {"n001": "keys", "n003": "answer", "n004": "agree", "n005": "unmask", "n009": "unmask", "n012": "answer"}
    nodes = Nodes.signed(contributions, before={place: DIED for place in gone.items()})
    equals(nodes.sum(), {n: c for n, c in contributions.items() if gone.get(n) not in ("keys", "answer")})


@examples(15)
@given(st.integers(2, 8), st.integers(0, 40), st.dictionaries(st.integers(0, 7), st.sampled_from(OPS)), st.randoms())
def test_whoever_is_lost_the_sum_is_right_or_there_is_none(
    n: int, size: int, lost: dict[int, str], random: object
) -> None:
    contributions = whole(n, size, random.randrange(1000))  # type: ignore[attr-defined]
    gone = {f"n{k:03}": op for k, op in lost.items() if k < n}
    nodes = Nodes(contributions, before={place: DIED for place in gone.items()})
    found = nodes.sum()
    in_it = {k: c for k, c in contributions.items() if gone.get(k) not in ("keys", "answer")}
    keyed = n - sum(op == "keys" for op in gone.values())
    signs = "answer" in gone.values()  # else nobody is asked to
    left = n - sum(op != "agree" or signs for op in gone.values())
    if left >= max(2, keyed // 2 + 1):
        equals(found, in_it)
    else:
        assert not found.answers


# ---------------------------------------------------------------- of all or none


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_a_sum_of_whole_numbers_that_needs_everybody_takes_one_exchange(n: int) -> None:
    contributions, ask = exact(n, 1000)
    nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), Secure()
    for _ in range(2):
        nodes.seen.clear()
        found = nodes.sum(gather, ask)
        np.testing.assert_array_equal(found.sum()["i"], sum(c.record.arrays["i"] for c in contributions.values()))
        np.testing.assert_array_equal(found.sums()["rows"], sum(c.sums["rows"] for c in contributions.values()))
        assert (found.told["of"], found.told["threshold"], found.told["error"]) == (n, n, 0.0)
        assert {op for _, op in nodes.seen} - {"keys"} == {"answer"}
        sent = [record.arrays for (_, op), record in nodes.seen.items() if op == "answer"]
        assert all(set(arrays) == {"64"} for arrays in sent)  # no share of a secret and no hash of one
        for one in range(min(n, 3)):  # without one of them it is no sum
            rest = sum((a["64"] for k, a in enumerate(sent) if k != one), np.zeros_like(sent[0]["64"]))
            counts = np.bincount(rest.view(np.uint8), minlength=256)
            assert ((counts - counts.mean()) ** 2).sum() / counts.mean() < 400  # χ² of 255 degrees of freedom


@pytest.mark.parametrize(
    "more",
    [
        {"fewest": 3},
        {"arrays": None},
        {"sums": None},
        {"arrays": {"i": ("float64", (5,))}},
        {"sums": {"rows": ("float32", (2,))}},
    ],
)
def test_what_may_lack_a_node_or_be_other_numbers_when_it_is_made_again_takes_two(more: dict[str, Any]) -> None:
    contributions, ask = exact(4, **more)
    kinds = {"i": (ask.arrays or {}).get("i", ("int64",))[0], "rows": (ask.sums or {}).get("rows", ("int64",))[0]}
    contributions = {
        node: Contribution(
            Record({}, {"i": np.asarray(c.record.arrays["i"]).astype(kinds["i"])}),
            sums={"rows": np.asarray(c.sums["rows"]).astype(kinds["rows"])},
        )
        for node, c in contributions.items()
    }
    nodes = Nodes.signed(contributions)
    assert len(nodes.sum(ask=ask).answers) == 4
    assert {op for _, op in nodes.seen} == {"keys", "answer", "unmask"}


def test_the_threshold_may_need_everybody_too_and_many_nodes_take_three() -> None:
    contributions, ask = exact(4, fewest=1)
    nodes = Nodes.signed(contributions, settings={"secure_threshold": 4})
    assert len(nodes.sum(ask=ask).answers) == 4
    assert {op for _, op in nodes.seen} == {"keys", "answer"}
    contributions, ask = exact(110)
    nodes = Nodes(contributions)
    assert len(nodes.sum(ask=ask).answers) == 110
    assert {op for _, op in nodes.seen} == {"keys", "answer", "agree", "unmask"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_node_that_is_lost_leaves_no_sum_of_all_and_the_next_attempt_is_it(when: str) -> None:
    contributions, ask = exact(4)
    nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), Secure()
    getattr(nodes, when)["n002", "answer"] = DIED
    found = nodes.sum(gather, ask)
    assert not found.answers
    assert found.failures["n002"] == DIED.message
    assert "3 of 4 nodes were left" in found.failures["n000"]
    assert not any(op in ("agree", "unmask") for _, op in nodes.seen)
    getattr(nodes, when).clear()
    nodes.step -= 1
    again = nodes.sum(gather, ask)
    np.testing.assert_array_equal(again.sum()["i"], sum(c.record.arrays["i"] for c in contributions.values()))


@pytest.mark.parametrize("rows", [True, False])
def test_who_has_told_no_key_leaves_the_others_free_to_make_the_sum_of_all_later(rows: bool) -> None:
    """Else those that answered would stand by a sum that is of too few for the run, and could never make another."""
    contributions, ask = exact(4)
    nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0) if rows else {}), Secure()
    nodes.before["n002", "keys"] = DIED
    assert "at least 4 (min_completed)" in nodes.sum(gather, ask).failures["n000"]
    nodes.before.clear()
    nodes.step -= 1
    assert len(nodes.sum(gather, ask).answers) == 4


@pytest.mark.parametrize("settings", [{}, {"secure_threshold": 3}])
def test_where_others_may_take_part_in_the_next_attempt_nobody_stands_by_its_numbers(settings: dict[str, Any]) -> None:
    """Three of four nodes are needed and asked; one of them is lost, and the fourth is there instead."""
    contributions, ask = exact(4, fewest=3)
    rows = dict.fromkeys(contributions, 100.0)
    nodes = Nodes.signed(contributions, rows=rows, settings=settings)
    gather = Secure(**settings)
    nodes.after["n002", "answer"] = DIED
    assert not nodes.sum(gather, ask, only=["n000", "n001", "n002"]).answers
    nodes.step -= 1
    assert [a.node for a in nodes.sum(gather, ask, only=["n000", "n001", "n003"]).answers] == ["n000", "n001", "n003"]


def test_a_sum_of_all_or_none_may_be_wanted_where_a_node_may_be_lost_and_leaves_the_step_then() -> None:
    """It takes one exchange. Of a step that is left behind nothing is told, and the next is of those that are left."""
    contributions, ask = exact(4, fewest=1, whole=True)
    nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), Secure()
    assert len(nodes.sum(gather, ask).answers) == 4
    nodes.after["n002", "answer"] = DIED
    found = nodes.sum(gather, ask)
    assert not found.answers
    assert found.failures["n002"] == DIED.message
    assert found.told == {"over": 0, "left": ["n000", "n001", "n003"]}
    left = nodes.sum(gather, ask, only=["n000", "n001", "n003"])
    assert left.told["threshold"] == 3
    wanted = sum(c.record.arrays["i"] for n, c in contributions.items() if n != "n002")
    np.testing.assert_array_equal(left.sum()["i"], wanted)
    assert {op for _, op in nodes.seen} == {"keys", "answer"}


def test_where_too_few_are_left_a_sum_of_all_or_none_is_tried_again() -> None:
    contributions, ask = exact(4, fewest=1, whole=True)
    nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), Secure()
    nodes.before = {(node, "answer"): DIED for node in ("n001", "n002")}
    assert not nodes.sum(gather, ask).told
    nodes.before.clear()
    nodes.step -= 1
    assert len(nodes.sum(gather, ask).answers) == 4
    assert {op for _, op in nodes.seen} == {"keys", "answer"}


def test_groups_and_numbers_that_are_not_whole_take_two_exchanges_though_a_sum_of_all_or_none_is_wanted() -> None:
    contributions, ask = exact(6, fewest=1, whole=True)
    nodes = Nodes.signed(contributions, settings={"secure_group": 2}, rows=dict.fromkeys(contributions, 100.0))
    nodes.after["n002", "answer"] = DIED
    assert [a.node for a in nodes.sum(ask=ask).answers] == ["n000", "n001", "n004", "n005"]
    floats = whole(4)
    shapes = {"arrays": {"x": ("float64", (5,)), "i": ("int64", (5,))}, "sums": {"loss": ("float64", (2,))}}
    nodes = Nodes.signed(floats)
    equals(nodes.sum(ask=replace(ASK, whole=True, **shapes)), floats)  # type: ignore[arg-type]
    assert {op for _, op in nodes.seen} == {"keys", "answer", "unmask"}


def test_a_sum_of_all_or_none_that_was_made_of_fewer_is_made_again_of_these() -> None:
    """A coordinator was killed, and since then a node is back. Where one of them is away they are waited for: after
    this step may have come others, whose sums are known."""
    contributions, ask = exact(4, fewest=1, whole=True)
    nodes, some = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), ["n000", "n001", "n003"]
    first = nodes.sum(Secure(), ask, only=some)
    nodes.step = 0
    again = nodes.sum(Secure(), ask)
    assert [a.node for a in again.answers] == some
    np.testing.assert_array_equal(again.sum()["i"], first.sum()["i"])
    assert again.failures == {"n002": "the sum of this step was told before without it, and is told of no others"}
    for gone in ("n001", "n002"):
        nodes.before = {(gone, "answer"): DIED}
        nodes.step = 0
        assert ("over" in (found := nodes.sum(Secure(), ask)).told) is False
        assert bool(found.answers) is (gone == "n002")


def test_whole_numbers_of_which_it_is_known_how_large_they_can_be_travel_in_fewer_bytes() -> None:
    rng, size = np.random.default_rng(0), 20_000
    for most, names in ((1 << 28, {"32"}), (1 << 36, {"40", "40.above"}), (1 << 44, {"48", "48.above"})):
        parts = {
            f"n{k}": Contribution(Record({}, {"i": rng.integers(-most, most + 1, size)}), combine=Combine.SUM)
            for k in range(4)
        }
        parts["n1"].record.arrays["i"][:4] = [most, -most, 0, -1]  # type: ignore[index]
        for fewest, lost in ((4, ""), (1, ""), (1, "n3")):
            nodes = Nodes.signed(parts)
            nodes.after = {(lost, "answer"): DIED} if lost else {}
            ask = replace(ASK, arrays={"i": ("int64", (size,))}, sums={}, most={"i": most}, fewest=fewest)
            found = nodes.sum(ask=ask).sum()["i"]
            assert found.dtype == np.int64
            there = [c.record.arrays["i"] for n, c in parts.items() if n != lost]
            np.testing.assert_array_equal(found, np.sum(there, axis=0))
            sent = nodes.seen["n0", "answer"].arrays
            assert {name for name in sent if name[0] in "34"} == names
            for name in names:  # what travels of a node looks drawn
                counts = np.bincount(np.asarray(sent[name]).view(np.uint8), minlength=256)
                assert ((counts - counts.mean()) ** 2).sum() / counts.mean() < 400  # χ² of 255 degrees of freedom
    parts["n1"].record.arrays["i"][0] = most + 1  # type: ignore[index]
    assert "beyond ±1.75922e+13" in Nodes.signed(parts).sum(ask=replace(ask, fewest=1)).failures["n1"]


def test_a_step_that_was_told_before_is_not_left_behind_where_a_node_has_lost_its_keys() -> None:
    """A coordinator was killed before its state was kept, so it asks again what was told, and a worker is restarted
    meanwhile. The others have told of the step, so perhaps of the next, which was asked anew: all refused for good."""
    contributions, ask = exact(4, fewest=1, whole=True)
    nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), Secure()
    first = nodes.sum(Secure(), ask)
    nodes.step = 0
    nodes.before["n002", "answer"] = NodeFailed(LOST)
    found = nodes.sum(gather, ask)
    assert not found.answers
    assert "over" not in found.told
    nodes.before.clear()
    nodes.step = 0
    np.testing.assert_array_equal(nodes.sum(gather, ask).sum()["i"], first.sum()["i"])


@pytest.mark.parametrize("steps", [2, 40])
def test_a_killed_coordinator_learns_how_far_it_had_come_from_those_who_make_a_sum_again(steps: int) -> None:
    """One was restarted and knows of the first step alone; of the others, all but one have nothing to show of it, so
    the same numbers again. The tree began anew in a step that was told, or the one was left out as a liar."""
    contributions, ask = exact(4, fewest=1, whole=True)
    for other in ("n002", "n003"):
        nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), Secure()
        for _ in range(steps):
            nodes.sum(gather, ask)
        nodes.step = 0
        if other == "n002":  # restarted before it told of the others
            nodes.promises[other] = {place: said for place, said in nodes.promises[other].items() if place[-2:] == " 0"}
        nodes.contributions = {**contributions, other: exact(5)[0][other]}
        found = nodes.sum(gather := Secure(), ask)
        assert found.told == {"over": steps - 1, "left": sorted(contributions)}
        assert other in found.failures
        nodes.step, nodes.contributions = steps, contributions
        assert len(nodes.sum(gather, ask).answers) == 4


def test_nobody_is_cancelled_who_may_have_to_contribute_the_same_again() -> None:
    """A worker that is cancelled forgets all; who stands by its numbers could not make them again."""
    contributions, ask = exact(4)
    nodes, gather = Nodes.signed(contributions, rows=dict.fromkeys(contributions, 100.0)), Secure()
    nodes.sum(gather, ask)
    del nodes.memories["n001"]
    nodes.seen.clear()
    assert nodes.sum(gather, ask).failures["n001"] == LOST
    assert {node for node, _ in nodes.seen} == {"n000", "n002", "n003"}  # all of them were waited for
    nodes.step -= 1
    assert len(nodes.sum(gather, ask).answers) == 4


# ---------------------------------------------------------------- weights and types


def weighted(rows: Mapping[str, float], dtype: str = "float32", size: int = 7) -> dict[str, Contribution]:
    rng = np.random.default_rng(3)
    return {
        node: Contribution(Record({}, {"x": rng.normal(size=size).astype(dtype)}), float(w)) for node, w in rows.items()
    }


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("size", [7, 2000, 70_000])
def test_means_are_weighted_inside_the_sum(size: int, bits: int) -> None:
    rows = {"a": 10, "b": 2000, "c": 0, "d": 777}
    contributions = weighted(rows, size=size)
    found = Nodes(
        contributions,
        rows={n: max(r, 1) for n, r in rows.items()},
        settings={"secure_bits": bits, "secure_range": 16.0},
    ).sum()
    total = sum(rows.values())
    wanted = sum(rows[n] * c.record.arrays["x"].astype(np.float64) for n, c in contributions.items()) / total
    mean = found.mean()["x"]
    assert mean.dtype == np.float32
    assert found.weight == total
    assert np.abs(mean - wanted).max() <= found.told["error_of_mean"] + np.abs(wanted).max() * 2**-23
    assert found.told["error_of_mean"] < (1e-6 if bits == 32 else 1e-12)
    # of single weights nothing is known but who counts for something
    assert [a.weight for a in found.answers] == [total / 3, total / 3, 0.0, total / 3]
    assert all(not a.metrics for a in found.answers)


def test_weights_of_zero_have_no_mean_and_nobody_can_be_taken_out() -> None:
    found = Nodes(weighted({"a": 0, "b": 0, "c": 0})).sum()
    with pytest.raises(RunFailed, match="weights of all contributions are zero"):
        found.mean()
    with pytest.raises(RunFailed, match="max_weight_share"):
        found.weighted([1, 2, 3])
    with pytest.raises(RunFailed, match="nobody sees"):
        found.each()
    none = found.without({"b": "its sums are not of the task"})
    assert not none.answers
    assert all("its sums are not of the task" in said for said in none.failures.values())


def test_what_came_together_counts_no_more_rows_than_were_declared_together() -> None:
    parts = {n: Contribution(Record({}, {"rows": np.array([5.0])})) for n in "abc"}
    found = Nodes(parts).sum()
    assert not found.beyond({"rows": None}, {"a": 5, "b": 5, "c": 5})
    assert set(found.beyond({"rows": None}, {"a": 5, "b": 5, "c": 4})) == set("abc")


def test_a_node_checks_itself_what_nobody_else_can() -> None:
    x = np.ones(7, np.float32)

    def answered(contribution: Contribution, ask: Ask = ASK) -> str:
        parts = {"a": Contribution(Record({}, {"x": x})), "b": Contribution(Record({}, {"x": x})), "c": contribution}
        found = Nodes(parts, rows={"a": 10.0, "b": 10.0, "c": 10.0}).sum(ask=ask)
        assert [a.node for a in found.answers] == ["a", "b"]
        return found.failures["c"]

    shaped = Ask(Record(), Combine.SUM, "x", arrays={"x": ("float32", (7,))}, sums={}, counts={"x": None})
    assert "weight is more than the rows" in answered(Contribution(Record({}, {"x": x}), 11.0))
    assert "weight is nan" in answered(Contribution(Record({}, {"x": x}), float("nan")))
    assert "NaN" in answered(Contribution(Record({}, {"x": x * np.nan})))
    assert "secure_range" in answered(Contribution(Record({}, {"x": np.full(7, 1e60)})))
    assert "others than those of the other nodes" in answered(Contribution(Record({}, {"x": x[:3]})))
    assert "expected float32 (7)" in answered(Contribution(Record({}, {"x": x[:3]})), shaped)
    assert "counts rows" in answered(Contribution(Record({}, {"x": x * -1})), shaped)


def test_what_a_node_sends_is_drawn_anew_each_time_and_looks_drawn() -> None:
    contributions = {f"n{k}": Contribution(Record({}, {"x": np.zeros(40_000)})) for k in range(4)}
    nodes, gather = Nodes(contributions), Secure()
    sent = []
    for _ in range(2):
        nodes.sum(gather)
        sent += [nodes.seen[node, "answer"].arrays["64"] for node in contributions]
    for words in sent:
        counts = np.bincount(words.view(np.uint8), minlength=256)
        assert ((counts - counts.mean()) ** 2).sum() / counts.mean() < 400  # χ² of 255 degrees of freedom
    for one in range(len(sent)):
        for two in range(one):
            assert not np.isin(sent[one][:1000], sent[two][:1000]).any()
    assert len(np.unique(sum(sent[:4], np.zeros_like(sent[0])))) > 39_000  # nor does it come off by adding all


# ---------------------------------------------------------------- keys and memory


def test_keys_are_told_once_in_a_run() -> None:
    contributions, gather = whole(5), Secure()
    nodes = Nodes.signed(contributions)
    ops: list[list[str]] = []
    for _ in range(3):
        nodes.seen.clear()
        nodes.sum(gather)
        ops.append(sorted({op for _, op in nodes.seen}))
    assert ops == [["answer", "keys", "unmask"], *[["answer", "unmask"]] * 2]  # two exchanges a round
    assert "keys" not in nodes.asked["n000", "answer"].data


def test_a_round_takes_a_third_exchange_where_a_node_was_lost_and_needs_no_new_keys_then() -> None:
    contributions, gather = whole(5), Secure()
    nodes = Nodes.signed(contributions)
    nodes.sum(gather)
    nodes.seen.clear()
    nodes.before["n002", "answer"] = DIED
    equals(nodes.sum(gather), {n: c for n, c in contributions.items() if n != "n002"})
    assert {op for _, op in nodes.seen} == {"answer", "agree", "unmask"}
    nodes.seen.clear()
    nodes.before.clear()
    equals(nodes.sum(gather), contributions)  # the lost one too, with the keys that it had
    assert {op for _, op in nodes.seen} == {"answer", "unmask"}


def test_what_a_round_reveals_of_a_lost_node_opens_nothing_of_the_next_one() -> None:
    """The seeds of its pairs are told, and are those of no other sum, nor are any others."""
    contributions, gather = whole(5), Secure()
    nodes = Nodes.signed(contributions)
    told: list[set[bytes]] = []
    hashes: list[tuple[bytes, set[bytes]]] = []
    for lost in ("n002", None, "n002"):
        nodes.seen.clear()
        nodes.before = {("n002", "unmask" if lost is None else "agree"): DIED} if lost is None else {}
        nodes.after = {("n002", "answer"): DIED} if lost else {}
        nodes.sum(gather)
        shown = [record for (_, op), record in nodes.seen.items() if op == "unmask"]
        told.append({row.tobytes() for record in shown for row in record.arrays.get("own", ())})
        answers = [record for (_, op), record in nodes.seen.items() if op == "answer"]
        [session] = {record.data["session"] for record in answers}
        hashes.append(
            (bytes.fromhex(session), {row.tobytes() for record in answers for row in record.arrays["commitments"]})
        )
    assert len(told[0]) == 4 + 4  # of each survivor its own, and of its pair with the lost one
    assert not told[1]  # of all, nothing but shares
    for at, (session, of_session) in enumerate(hashes):
        for seeds in (told[0], told[2]):
            fits = {commitment(session, seed) for seed in seeds} & of_session
            assert len(fits) == (8 if seeds is told[at] else 0)


def test_many_nodes_sign_the_list_in_every_round() -> None:
    """Of more than 100, shares are with neighbours, and enough of these are not enough of all."""
    contributions = whole(110, 2)
    nodes = Nodes(contributions)
    equals(nodes.sum(), contributions)
    assert {op for _, op in nodes.seen} == {"keys", "answer", "agree", "unmask"}


@pytest.mark.parametrize("lost", [["n001"], ["n001", "n002"], ["n001", "n009"]])
def test_a_lost_node_takes_its_group_with_it(lost: list[str]) -> None:
    """Ten nodes in groups of three, the first of four: n000 to n003, n004 to n006, n007 to n009."""
    contributions, gather = whole(10), Secure(secure_threshold=3, secure_group=3)
    nodes = Nodes.signed(
        contributions,
        rows=dict.fromkeys(contributions, 100.0),
        settings={"secure_threshold": 3, "secure_group": 3},
    )
    equals(nodes.sum(gather), contributions)
    nodes.before = {(node, "answer"): DIED for node in lost}
    found = nodes.sum(gather)
    out = [f"n{k:03}" for k in (range(4) if "n009" not in lost else [*range(4), 7, 8, 9])]
    equals(found, {n: c for n, c in contributions.items() if n not in out})
    assert (
        found.failures["n000"]
        == f"it is in sums only together with {', '.join(n for n in lost if n != 'n009')} (secure_group)"
    )
    nodes.before.clear()
    equals(nodes.sum(gather), contributions)


def test_a_node_that_comes_later_tells_its_key_then() -> None:
    contributions, gather = whole(6), Secure(secure_threshold=2)
    nodes = Nodes.signed(contributions, settings={"secure_threshold": 2})
    for some in (["n000", "n001", "n002"], ["n001", "n004", "n005"], ["n000", "n003", "n005"]):
        found = nodes.sum(gather, only=some)
        equals(found, {n: contributions[n] for n in some})
    public = {row[1] for row in nodes.asked["n003", "answer"].data["keys"]}
    assert len(public) == 6


def test_a_worker_that_was_restarted_has_its_keys_told_anew_in_the_next_attempt() -> None:
    contributions, gather = whole(5), Secure()
    nodes = Nodes.signed(contributions)
    nodes.sum(gather)
    del nodes.memories["n002"]
    failed = nodes.sum(gather)
    assert not failed.answers
    assert failed.failures["n002"] == LOST
    nodes.step -= 1
    equals(nodes.sum(gather), contributions)


def test_a_step_of_another_kind_of_ask_is_refused_and_late_answers_cannot_be_added() -> None:
    nodes = Nodes(whole(3))
    with pytest.raises(NodeFailed, match="no operation 'reveal'"):
        nodes.ask("n000", "reveal", Record())
    with pytest.raises(RunFailed, match="late answers"):
        nodes.sum(ask=Ask(Record(), Combine.SUM, "x", late="keep"))


def test_enough_answers_are_enough() -> None:
    contributions = whole(5)
    found = Nodes(contributions).sum(ask=Ask(Record(), Combine.SUM, "x", need=5))
    equals(found, contributions)


@pytest.mark.parametrize("reply", [{}, {"layout": 3}, {"layout": [], "among": [], "beside": []}])
def test_a_reply_that_is_none_is_its_nodes_failure(reply: dict[str, object]) -> None:
    contributions = whole(5)
    nodes = Nodes(contributions, after={("n001", "answer"): lambda record: Record(reply)})
    found = nodes.sum()
    assert "its reply is not one of a secure sum" in found.failures["n001"]
    equals(found, {n: c for n, c in contributions.items() if n != "n001"})


def test_wrong_shares_of_a_node_that_lies_are_left_out_where_there_are_others() -> None:
    """One node is lost after it masked, another gives shares of nothing; 8 others have those that are needed."""
    contributions = whole(10)

    def lie(record: Record) -> Record:
        return Record(record.data, {**record.arrays, "shares": np.array(record.arrays["shares"]) ^ 1})

    nodes = Nodes(contributions, before={("n004", "unmask"): DIED}, after={("n000", "unmask"): lie})
    equals(nodes.sum(), contributions)
    nodes = Nodes(
        contributions,
        after={("n000", "unmask"): lambda r: Record(r.data, {**r.arrays, "own": np.zeros((1, 16), np.uint8)})},
    )
    found = nodes.sum()
    equals(found, contributions)
    assert "not those of its masks" in found.failures["n000"]


# ---------------------------------------------------------------- what is refused at the proposal


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_weight_share": 0.5}, "max_weight_share could lower"),
        ({"plan": {"source": "x", "name": "X"}, "model_name": "torch_module"}, "training plan"),
        ({"fraction": 0.5}, "5 of 10 nodes are asked in a round, and a sum is of at least 6"),
        ({"fraction": 0.5, "selection": "highest_loss", "secure_threshold": 3}, "nobody knows the loss"),
        ({"secure_threshold": 11}, "10 of 10 nodes are asked"),
        ({"secure_threshold": 1}, "secure_threshold is 1"),
        ({"secure_bits": 16}, "secure_bits is 16"),
        ({"fraction": 0.6, "secure_group": 2}, "need all"),
        ({"model_name": "random_forest", "gathering_fallback": ""}, "gathers only sum"),
        ({"model_name": "xgboost_bagging"}, "gathers only sum"),  # nobody asked for single contributions in the clear
    ],
)
def test_what_does_not_fit_is_refused_at_the_proposal(wrong: dict[str, object], said: str) -> None:
    datasets = {f"n{k}": {"name": "x", "version": "1", "most_rows": 9} for k in range(10)}
    given = {"model_name": "sgd_classifier", "gathering": "secure"} | wrong
    with pytest.raises(ConfigError, match=said):
        freeze(RunConfig.parse(given), {"features": [], "kinds": {}}, datasets)
    for fine in ({}, {"fraction": 0.5, "secure_threshold": 4}):
        found = freeze(
            RunConfig.parse({"model_name": "sgd_classifier", "gathering": "secure"} | fine),
            {"features": [], "kinds": {}},
            datasets,
        )
        assert found.content["gathering"] == {"agree": "plain", "sum": "secure"}
        assert {"hanse.gathering.secure", "hanse.gathering._session", "hanse.privacy.shamir"} <= set(
            found.content["code"]
        )
