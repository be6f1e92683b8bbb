"""Compact JSON, written quickly: the same as the standard library writes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.json_writer import flat, writer

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(value=st.dictionaries(st.text() | st.sampled_from(["%s", "%", "a b", '"']), PLAIN, max_size=6))
def test_a_flat_object_is_written_as_any_other(value: dict[str, object]) -> None:
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert flat(value) == expected
    assert writer(sort_keys=True, ensure_ascii=True)(value) == expected


class Text(str):
    """A text that is another kind of value."""


@pytest.mark.parametrize("inside", [[], {}, (), Text("x"), b"", object()])
def test_what_is_not_flat_is_for_another_writer(inside: object) -> None:
    assert flat({"a": 1, "b": inside}) is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_of_json_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        flat({"a": number})
