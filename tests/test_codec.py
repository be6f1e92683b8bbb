"""Typed values over the wire: what goes in comes out, and what does not fit is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.codec import ArrayOf, Known, decode, encode
from hanse.errors import WireError
from hanse.messages import Array, Json, Record, dump, load


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Scale:
    mean: Annotated[Array, ArrayOf("float64", "features")]
    scale: Annotated[Array, ArrayOf("float64", "features")]
    unit: str | None = None


@dataclass(frozen=True)
class Everything:
    phase: Literal["train", "done"]
    colour: Colour
    round: int
    rate: float
    fine: bool
    names: tuple[str, ...]
    pair: tuple[int, float]
    history: tuple[Mapping[str, Json], ...]
    options: Mapping[str, Json]
    scale: Scale
    maybe: Scale | None
    by_site: Mapping[str, Scale]
    model: Mapping[str, Array]
    optimiser: Mapping[str, Mapping[str, Array]]
    parts: tuple[Array, ...]
    other: Record
    seen: Annotated[Array, ArrayOf("int64", None, 2)] | None
    kept: tuple[int, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
words = st.text("ab_.é ", min_size=1, max_size=5)
plain = st.text("ab_é", min_size=1, max_size=5)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | floats | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
arrays = st.sampled_from(["float64", "float32", "int64", "bool"]).flatmap(
    lambda dtype: st.lists(st.integers(0, 3), max_size=2).map(lambda shape: np.ones(shape, dtype))
)
scales = st.builds(Scale, st.just(np.arange(3.0)), st.just(np.ones(3)), st.none() | words)
everything = st.builds(
    Everything,
    phase=st.sampled_from(["train", "done"]),
    colour=st.sampled_from(Colour),
    round=st.integers(-(2**60), 2**60),
    rate=floats,
    fine=st.booleans(),
    names=st.lists(words, max_size=3).map(tuple),
    pair=st.tuples(st.integers(0, 9), floats),
    history=st.lists(st.dictionaries(words, json, max_size=2), max_size=2).map(tuple),
    options=st.dictionaries(words, json, max_size=2),
    scale=scales,
    maybe=st.none() | scales,
    by_site=st.dictionaries(plain, scales, max_size=2),
    model=st.dictionaries(words, arrays, max_size=3),
    optimiser=st.dictionaries(plain, st.dictionaries(words, arrays, min_size=1, max_size=2), max_size=2),
    parts=st.lists(arrays, max_size=2).map(tuple),
    other=st.builds(Record, st.dictionaries(words, json, max_size=2), st.dictionaries(words, arrays, max_size=2)),
    seen=st.none() | st.just(np.zeros((4, 2), np.int64)),
    kept=st.lists(st.integers(0, 9), max_size=2).map(tuple),
    counts=st.dictionaries(words, st.integers(), max_size=2),
)
A = Scale(np.zeros(3), np.ones(3))
ONE = Everything(
    "train",
    Colour.RED,
    1,
    0.5,
    True,
    ("a",),
    (1, 2.0),
    ({"loss": 1.0},),
    {"x": [1]},
    A,
    A,
    {"ulm": A},
    {"coef": np.zeros(2)},
    {"momentum": {"0.weight": np.zeros(2)}},
    (np.zeros(1),),
    Record({"a": [1]}, {"b": np.zeros(1)}),
    np.zeros((1, 2), np.int64),
)


def same(a: Any, b: Any) -> bool:
    """Equality that looks into arrays."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in a.__dataclass_fields__)
    return type(a) is type(b) and a == b


@settings(deadline=None)
@given(everything, everything, st.sets(st.sampled_from(sorted(Everything.__dataclass_fields__))))
def test_what_two_values_share_is_encoded_once_and_the_bytes_are_the_same(
    first: Everything, second: Everything, shared: set[str]
) -> None:
    value = replace(second, **{name: getattr(first, name) for name in shared})
    known: Known = {}
    one = encode(first, known)
    kept = dict(known)
    assert dump(one) == dump(encode(first))
    assert dump(encode(value, known)) == dump(encode(value))
    assert list(encode(value, known).arrays) == list(encode(value).arrays)
    assert all(known[name] is kept[name] for name in shared)
    assert dump(encode(first, known)) == dump(one)


def test_a_history_that_grows_is_encoded_once() -> None:
    """Each round's entry stands in the state of every later round."""
    looked: list[int] = []

    class Entry(dict[str, Json]):
        def __iter__(self) -> Any:
            looked.append(self["round"])
            return super().__iter__()

    known: Known = {}
    value = ONE
    for number in range(5):
        value = replace(value, history=(*value.history, Entry(round=number)))
        assert dump(encode(value, known)) == dump(encode(replace(value, history=tuple(map(dict, value.history)))))
    assert looked == [*range(5)]
    other = replace(value, history=(Entry(round=7), *value.history[1:]))  # another beginning, as long
    assert encode(other, known).data["history"][0] == {"round": 7}
    shorter = replace(value, history=value.history[:2])
    assert len(encode(shorter, known).data["history"]) == 2


def test_what_is_wrong_is_said_beside_what_is_known() -> None:
    known: Known = {}
    encode(ONE, known)
    with pytest.raises(TypeError, match=r"scale.unit of Everything is a whole number"):
        encode(replace(ONE, scale=replace(A, unit=3)), known)  # type: ignore[arg-type]


@settings(deadline=None)
@given(everything)
def test_what_goes_in_comes_out(value: Everything) -> None:
    assert same(decode(Everything, load(dump(encode(value)))), value)


def changed(data: dict[str, Any], **more: Any) -> Record:
    """The record of ``ONE`` with a change at a path of its JSON."""
    record = encode(ONE)
    new = copy.deepcopy(dict(record.data))
    for path, value in {**data, **more}.items():
        place: Any = new
        *way, last = path.split("/")
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return Record(new, record.arrays)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (changed({"round": "one"}), "round of Everything is text; expected a whole number"),
        (changed({"round": 1.5}), "round of Everything is a number; expected a whole number"),
        (changed({"round": True}), "round of Everything is true or false"),
        (changed({"round": ...}), "round of Everything is missing"),
        (changed({"rounds": 1}), "rounds of Everything is not known; expected one of phase, colour"),
        (changed({"phase": "prepare"}), "expected one of train, done"),
        (changed({"colour": "green"}), "expected one of red, blue"),
        (changed({"colour": ["red"]}), "expected one of red, blue"),
        (changed({"rate": "1"}), "rate of Everything is text; expected a finite number"),
        (changed({"names": "a"}), "names of Everything is text; expected a list"),
        (changed({"names": [1]}), r"names\.0 of Everything is a whole number; expected text"),
        (changed({"pair": [1]}), "pair of Everything is a list of 1; expected one of 2"),
        (changed({"options": None}), "options of Everything is null; expected an object"),
        (changed({"scale/unit": 3}), r"scale\.unit of Everything is a whole number; expected text"),
        (changed({"by_site/ulm": []}), r"by_site\.ulm of Everything is a list; expected an object"),
        (changed({"by_site/bonn": {"unit": None}}), r"by_site\.bonn\.mean of Everything is missing"),
        (changed({"model": {}}), "model of Everything is not known"),
        (changed({"parts": [None, None]}), r"parts\.1 of Everything is missing; expected an array"),
    ],
)
def test_json_that_does_not_fit_is_refused_by_its_path(record: Record, says: str) -> None:
    with pytest.raises(WireError, match=says):
        decode(Everything, load(dump(record)))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"scale.mean": None}, r"scale\.mean of Everything is missing; expected an array"),
        (
            {"scale.mean": np.zeros(3, "f4")},
            r"scale\.mean of Everything is float32 of shape \(3,\); expected float64",
        ),
        ({"scale.mean": np.zeros((3, 1))}, r"float64 of shape \(3, 1\); expected float64 of shape"),
        ({"scale.scale": np.zeros(4)}, r"scale\.scale .* float64 of shape \(4,\); expected float64 of shape \(3,\)"),
        ({"seen": np.zeros((1, 3), "i8")}, r"seen of Everything is int64 of shape \(1, 3\)"),
        ({"stray": np.zeros(1)}, "stray of Everything is not known; expected no array of this name"),
        ({"parts.7": np.zeros(1)}, r"parts\.7 of Everything is not known"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_their_path(arrays: dict[str, Any], says: str) -> None:
    record = encode(ONE)
    new = {n: a for n, a in {**record.arrays, **arrays}.items() if a is not None}
    with pytest.raises(WireError, match=says):
        decode(Everything, load(dump(Record(record.data, new))))


@settings(deadline=None)
@given(st.data())
def test_whatever_comes_in_is_a_value_or_a_wire_error(data: st.DataObject) -> None:
    record = encode(ONE)
    fields = {**record.data}
    for name in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        fields[name] = data.draw(json)
    named = dict(record.arrays)
    for name in data.draw(st.lists(st.sampled_from(sorted(named)), max_size=2)):
        named[name] = data.draw(arrays)
    try:
        found = decode(Everything, load(dump(Record(fields, named))))
    except WireError:
        return
    assert same(decode(Everything, encode(found)), found)


def test_an_error_tells_nothing_of_what_was_found() -> None:
    with pytest.raises(WireError) as error:
        decode(Everything, changed({"round": "Jane Doe, HIV positive"}))
    assert "Jane" not in str(error.value)


def test_missing_fields_have_their_defaults() -> None:
    found = decode(Everything, changed({"kept": ..., "counts": ...}))
    assert found.kept == ()
    assert found.counts == {}


def test_what_is_none_unless_it_is_said_is_not_said() -> None:
    """An ask of boosting says one of a dozen things, and each node reads it twice."""
    known: Known = {}
    for unit in ("cm", None):
        value = Scale(np.zeros(1), np.ones(1), unit)
        for record in (encode(value), encode(value, known)):
            assert record.data == ({} if unit is None else {"unit": "cm"})
            assert decode(Scale, record).unit == unit
    assert decode(Scale, Record({"unit": None}, encode(value).arrays)).unit is None  # as an earlier release writes it


def test_what_cannot_travel_is_an_error_of_the_programmer() -> None:
    @dataclass
    class Changing:
        a: int

    with pytest.raises(TypeError, match="not frozen"):
        encode(Changing(1))
    with pytest.raises(TypeError, match="round of Everything is text"):
        encode(Everything(**{**{f: getattr(ONE, f) for f in ONE.__dataclass_fields__}, "round": "x"}))
    with pytest.raises(TypeError, match="named twice"):
        encode(Twice({"a": Inner(np.zeros(1), {"b": np.zeros(1)}), "a.c": Inner(np.zeros(1), {})}))
    with pytest.raises(TypeError, match="does not travel"):
        encode(Odd(set()))


@dataclass(frozen=True)
class Inner:
    b: Array
    c: Mapping[str, Array]


@dataclass(frozen=True)
class Twice:
    x: Mapping[str, Inner]


@dataclass(frozen=True)
class Odd:
    x: set[int]


def test_arrays_are_not_copied() -> None:
    array = np.zeros(3)
    record = encode(Scale(array, array))
    assert record.arrays["mean"] is array
    assert decode(Scale, record).mean is array
