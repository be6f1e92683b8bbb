"""What is believed of nodes that say which steps they have told before."""

from __future__ import annotations

from hanse.gathering._bound import _NOT_KNOWN, _OTHERS
from hanse.gathering._claims import AHEAD, Claims
from hanse.node.promises import BLOCK


def said(**steps: int) -> dict[str, str]:
    """What nodes answer that have told of these steps."""
    return {node: _OTHERS.format(step) for node, step in steps.items()}


def here(nodes: str, step: int) -> dict[str, int]:
    """Who contributes to a step, and has told of none after it."""
    return dict.fromkeys(nodes, step)


def test_a_coordinator_that_was_killed_learns_how_far_it_had_come() -> None:
    claims = Claims()
    assert claims.last(said(a=57, b=56, c=57, d=12), {}, 12) == 57
    assert claims.last({"a": "it has lost its keys", "b": "it is away"}, {}, 58) is None
    assert not claims.out


def test_a_node_may_say_as_many_steps_more_as_it_writes_down_at_once() -> None:
    assert BLOCK - 1 < AHEAD
    claims, restarted = Claims(), {"a": _NOT_KNOWN.format(20 + BLOCK - 1)}
    claims.summed("abc", fresh=True)
    assert claims.last(restarted, here("bc", 20), 20) == 20 + BLOCK - 1
    assert not claims.out


def test_who_makes_a_sum_again_says_how_far_it_has_come_too() -> None:
    """It has nothing to show of the step, such as rows in the nodes of a tree, and so the same numbers again. Who had
    others and told of the last step was left out as a liar."""
    claims = Claims()
    assert claims.last(said(a=70), {"b": 70, "c": 69}, 9) == 70
    assert claims.last(said(a=9), {"b": 11, "c": 11}, 9) == 11
    assert not claims.out
    claims = Claims()
    assert claims.last(said(a=9), {"b": 4000, "c": 11}, 9) == 11  # nor is this one believed
    assert claims.last({"a": "it has lost its keys"}, {"b": 11, "c": 11}, 9) is None


def test_nobody_is_believed_who_says_more_than_all_others() -> None:
    for others in ({}, said(b=40, c=39)):
        claims, failures = Claims(), {**said(a=4000), **others}
        found = claims.last(failures, {} if others else here("bc", 38), 38)
        assert found == (40 if others else None)
        assert [*claims.out] == ["a"]
        assert "of step 4000, where none after step" in failures["a"]


def test_who_alone_is_heard_after_a_restart_is_neither_believed_nor_left_out() -> None:
    """The run had failed where a worker and the coordinator were killed, and one node was slow to come back."""
    claims = Claims()
    assert claims.last({**said(a=31), "b": "the sum of this step was told before, of a, b, c"}, {}, 6) is None
    assert not claims.out
    assert claims.last(said(a=6 + AHEAD), {}, 6) == 6 + AHEAD
    assert claims.last(said(a=31, b=29, c=29), {}, 6) == 31
    claims.summed("abc", fresh=True)
    assert claims.last(said(a=400), {}, 32) is None
    assert [*claims.out] == ["a"]


def test_once_there_was_a_sum_of_ones_own_no_later_step_was_asked() -> None:
    """Nor is who agrees with another about it."""
    lie = said(a=4000, b=4000)
    claims = Claims()
    assert claims.last(dict(lie), here("cd", 38), 38) == 4000
    claims = Claims()
    claims.summed("abcd", fresh=False)
    assert claims.last(dict(lie), here("cd", 38), 38) == 4000
    claims = Claims()
    claims.summed("abcd", fresh=True)
    assert claims.last(dict(lie), here("cd", 38), 38) is None
    assert {*claims.out} == {"a", "b"}


def test_who_says_it_thrice_in_a_row_or_too_often_is_left_out() -> None:
    claims = Claims()
    claims.summed("ab", fresh=True)
    assert [claims.last(said(a=5), here("b", 5), 5) for _ in range(3)] == [5, 5, None]
    assert "with no sum in between" in claims.out["a"]
    claims = Claims()
    for step in range(5):
        claims.summed("ab", fresh=True)
        assert claims.last(said(a=step), here("b", step), step) == (step if step < 4 else None)
    assert "5 times" in claims.out["a"]
    claims = Claims()
    for step in range(1_000):  # once in fifty sums
        claims.summed("ab", fresh=True)
        assert step % 50 or claims.last(said(a=step), here("b", step), step) == step
