"""What policies can ask about follows from the types of facts."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.cedar.vocabulary import Vocabulary
from hanse.facts import PER_BILLION, Data, Facts, Participation, Proposing, Reading
from tests.examples import examples
from tests.policy.some_facts import facts


@dataclasses.dataclass
class Numbers:
    share: float
    small: Annotated[float, PER_BILLION]
    count: int
    when: datetime
    free: dict[str, Any]
    maybe: str | None = None


TOLD = Vocabulary({"look": Numbers})
NODE = Vocabulary({"answer": Facts})
NOON = datetime(2026, 11, 29, 12, 34, 56, tzinfo=UTC)


def told(**changes: Any) -> dict[str, Any]:
    made = dataclasses.replace(Numbers(1.0, 1e-5, 3, NOON, {}), **changes)
    return TOLD.context("look", made)


def test_every_fact_of_a_task_can_be_asked_but_objects_of_anything() -> None:
    asked = {a.fact for a in Vocabulary({"answer": Facts}).actions["answer"]}
    assert {f.name for f in dataclasses.fields(Facts)} - asked == {"settings"}


@pytest.mark.parametrize("kind", [Facts, Proposing, Participation, Reading])
def test_cedar_takes_the_schema_of_all_facts_and_of_some(kind: Any) -> None:
    cedarpy = pytest.importorskip("cedarpy")
    vocabulary = Vocabulary({"look": kind})
    for asked in (vocabulary, vocabulary.naming({"nodes", "privacy", "hour"}), vocabulary.naming(set())):
        assert "look" in str(cedarpy.Schema.from_str(asked.schema()))


def test_what_may_be_none_may_be_absent() -> None:
    assert "maybe" not in told()
    assert told(maybe="x")["maybe"] == "x"
    schema = Vocabulary({"answer": Facts}).schema()
    for line in ("rows?: Long", "round?: Long", "dataset?: { name: String,", "privacy?: { mode: String"):
        assert f"  {line}" in schema
    assert "  nodes: Long" in schema


def test_a_number_is_never_told_smaller_than_it_is() -> None:
    assert told(share=0.30001)["share"]["__extn"]["arg"] == "0.3001"
    assert told(share=2)["share"]["__extn"]["arg"] == "2.0000"
    assert told(small=1e-5)["small_per_billion"] == 10_000
    assert told(small=1.00000001e-5)["small_per_billion"] == 10_001


def test_facts_of_one_minute_are_equal_whatever_their_zone() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=9)))
    assert told()["when"] == told(when=there)["when"] == told(when=NOON + timedelta(seconds=3))["when"]
    assert told()["when"]["hour"] == 12
    assert told()["when"]["weekday"] == 7  # a Sunday
    assert told(when=NOON + timedelta(minutes=1)) != told()


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": float("nan")},
        {"share": float("inf")},
        {"share": "1"},
        {"share": True},
        {"share": 1e16},
        {"share": -1e300},
        {"count": True},
        {"count": 1.0},
        {"count": 1 << 63},
        {"count": None},
        {"when": datetime(2026, 1, 1)},
        {"when": "noon"},
        {"maybe": 3},
    ],
)
def test_what_is_not_of_its_type_is_not_told(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        told(**wrong)


TEXTS = st.sampled_from(
    ["", "a", "ä\n", "\x00", '"', "\\u0000", '{"__extn": 1}', "__entity", "\U0001f600", 'Person::"a"']
)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 64), 1 << 64),
    st.floats(),
    TEXTS,
    st.tuples(TEXTS, TEXTS),
    st.just(()),
    st.datetimes(timezones=st.just(UTC)),
    st.builds(Data, name=TEXTS, version=TEXTS | st.none(), tags=st.just(()) | st.just(("a",)) | TEXTS),
    st.dictionaries(
        st.sampled_from(["mode", "unit", "epsilon", "delta", "releases", "sum", "each"]), TEXTS | st.floats()
    ),
)


@examples(80)
@given(changes=st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Facts)]), ANYTHING, max_size=4))
def test_what_is_told_is_of_the_schema_so_cedar_need_not_look_again(changes: dict[str, Any]) -> None:
    """A context of a shape that Cedar has found to be of the schema is decided alike with the schema and without."""
    cedarpy = pytest.importorskip("cedarpy")
    try:
        context = NODE.context("answer", dataclasses.replace(facts(), **changes))
    except (AttributeError, TypeError, ValueError, OverflowError):
        return  # it is not told
    names = {"principal": ("Person", "a"), "action": ("Action", "answer"), "resource": ("Run", "r")}
    request = {name: {"type": kind, "id": called} for name, (kind, called) in names.items()} | {"context": context}
    text = '@id("all") permit (principal, action, resource);'
    looked, not_looked = (
        cedarpy.is_authorized(request, text, [], schema=schema).decision for schema in (NODE.schema(), None)
    )
    assert looked is not_looked
    if not isinstance(changes.get("time"), datetime):  # Cedar's times have years of four digits
        assert looked is cedarpy.Decision.Allow


def test_shapes_differ_by_what_is_absent() -> None:
    shape, found = partial(NODE.shape, "answer"), partial(NODE.context, "answer")
    promised = {"mode": "local", "unit": "row", "epsilon": 1.0, "delta": 1e-5, "releases": 3}
    absent = [{}, {"rows": None}, {"privacy": promised}, {"gathering": {"each": "x"}}, {"dataset": None}]
    assert len({shape(found(facts(**changes))) for changes in absent}) == len(absent)
    assert shape(found(facts(nodes=9, purpose="other"))) == shape(found(facts()))


def test_facts_of_a_task_as_json() -> None:
    promised = {"mode": "local", "unit": "row", "epsilon": 1.0, "delta": 1e-5, "releases": 3, "rho": 0.1}
    one = facts(privacy=promised, gathering={"sum": "secure", "agree": "plain"})
    found = Vocabulary({"answer": Facts}).context("answer", one)
    assert json.loads(json.dumps(found)) == found
    assert found["privacy"]["delta_per_billion"] == 10_000
    assert found["gathering"] == {"sum": "secure", "agree": "plain"}
    narrow = Vocabulary({"answer": Facts}).naming({"rows", "privacy", "epsilon", "time", "dataset", "name"})
    some = {key: found[key] for key in ("rows", "privacy", "time", "dataset")}
    some |= {"privacy": {"epsilon": found["privacy"]["epsilon"]}, "time": {}, "dataset": {"name": "visits"}}
    assert narrow.context("answer", one) == some
    assert found["dataset"] == {"name": "visits", "version": "1", "tags": ["heart"]}


PARTS = dataclasses.make_dataclass(
    "Parts", [("flag", bool), ("count", int), ("names", tuple[str, ...]), ("when", datetime)]
)
ALIKE = Vocabulary({"look": PARTS})
SOME: dict[str, Any] = {"flag": True, "count": 1, "names": ("a",), "when": NOON}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"when": NOON + timedelta(seconds=3)}, True),  # of the same minute
        ({"when": NOON + timedelta(seconds=4)}, False),
        ({"count": 2}, False),
        ({"flag": False}, False),
        ({"flag": 1}, False),  # equal in Python, and no fact of its type
        ({"count": True}, False),
        ({"count": 1.0}, False),
        ({"names": ("a", "b")}, False),
    ],
)
def test_facts_are_alike_where_their_contexts_are_equal(changes: dict[str, Any], same: bool) -> None:
    first, second = PARTS(**SOME), PARTS(**{**SOME, **changes})
    assert (ALIKE.alike("look", first) == ALIKE.alike("look", second)) is same
    if same:
        assert ALIKE.context("look", first) == ALIKE.context("look", second)


def test_what_cannot_be_compared_is_made_into_a_context() -> None:
    for odd in (
        {"when": NOON.replace(tzinfo=None)},
        {"when": NOON.astimezone(timezone(timedelta(hours=1)))},
        {"when": 1},
    ):
        assert ALIKE.alike("look", PARTS(**{**SOME, **odd})) is None
    there = PARTS(**SOME)
    del there.count
    assert ALIKE.alike("look", there) is None
