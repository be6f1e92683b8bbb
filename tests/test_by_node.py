"""What is known of each of many nodes, made when it is looked at."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.by_node import ByNode, place_of
from hanse.messages import dumps, in_pieces

TEXT = st.text(max_size=4)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=9,
)


@given(st.dictionaries(TEXT, st.integers(), max_size=9), TEXT)
def test_it_is_what_a_dictionary_of_all_of_them_is(of: dict[str, int], other: str) -> None:
    made: list[str] = []

    def value(node: str) -> int:
        made.append(node)
        return of[node]

    found = ByNode(sorted(of), value)
    assert (other in found) is (other in of)
    assert list(found) == sorted(of)
    assert len(found) == len(of)
    assert not made
    assert found == of
    assert dumps(found) == dumps(of)
    strange: Any = 3
    assert strange not in found
    with pytest.raises(KeyError):
        found[other + "another"]
    assert [place_of(found.nodes, node) for node in found] == list(range(len(of)))


@given(st.dictionaries(TEXT, VALUE, max_size=5), st.integers(1, 4))
def test_json_in_pieces_is_the_canonical_one(value: dict[str, Any], depth: int) -> None:
    assert "".join(in_pieces(value, depth)) == dumps(value)
