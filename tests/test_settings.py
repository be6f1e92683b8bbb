"""One noun for what people set, and one way to check it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.errors import ConfigError
from hanse.settings import (
    Check,
    Setting,
    boolean,
    checked,
    either,
    mapping,
    maybe,
    number,
    one_of,
    sha256,
    text,
    texts,
    whole,
    wholes,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (number(0, 1), [0, 1, 0.5], [-0.1, 1.1, NAN, INF, True, "1", None, [1]]),
        (number(0, 1, above=True, below=True), [0.5], [0, 1]),
        (number(), [-1e300, 0], [INF, -INF, NAN]),
        (whole(1, 3), [1, 3], [0, 4, 2.0, True, "2"]),
        (one_of("a", None, 1), ["a", None, 1], ["b", True, 1.0, 0, []]),
        (text(3), ["abc"], ["", "  ", "abcd", 1, None]),
        (text(3, empty=True), [""], ["abcd"]),
        (texts(), [[], ["a", "b"], ("a",)], [["a", "a"], [""], "a", [1], None]),
        (maybe(whole(1)), [None, 1], [0, "null"]),
        (either(one_of("balanced"), whole(1)), ["balanced", 7], ["other", 0]),
        (boolean, [True, False], [0, 1, "true", None]),
        (mapping, [{}, {"a": 1}], [[], {1: 2}, "{}"]),
        (sha256, ["0" * 64], ["0" * 63, "G" * 64, "0" * 64 + "\n", None]),
        (wholes(1, 10, 2), [[], [1, 10]], [[0], [1, 2, 3], [1.5], 3]),
    ],
)
def test_what_a_check_takes(check: Check, good: list[Any], bad: list[Any]) -> None:
    assert all(check.fits(value) for value in good), [v for v in good if not check.fits(v)]
    assert not any(check.fits(value) for value in bad), [v for v in bad if check.fits(v)]


def test_a_default_must_fit_its_own_check() -> None:
    with pytest.raises(ConfigError, match="the default 2 is not a number from 0 to 1"):
        Setting(2, "too much", number(0, 1))
    with pytest.raises(ConfigError, match="give it a check"):
        Setting(None, "of what kind?")


def test_a_default_is_nobodys_to_change() -> None:
    known = {"layers": Setting([100], "widths", wholes(1, 1000, 5))}
    checked({}, known)["layers"].append(3)
    assert checked({}, known) == {"layers": [100]}


def test_what_is_said_of_a_wrong_one_names_whose_it_is() -> None:
    known = {"C": Setting(1.0, "inverse of the penalty")}
    with pytest.raises(ConfigError, match="C of logistic_regression is -1; expected a number above 0"):
        checked({"C": -1}, known, of="logistic_regression")
    with pytest.raises(ConfigError, match=r"there is no setting 'policy\.c'; did you mean 'policy\.C'"):
        checked({"c": 1}, known, prefix="policy.")


@given(st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.booleans(), st.none()))
def test_a_value_written_on_a_command_line_is_read_back(value: Any) -> None:
    import json

    setting = Setting(None, "any", Check("anything", lambda v: True, {}))
    assert setting.read("any", json.dumps(value)) == value


def test_a_text_is_read_as_what_the_setting_takes() -> None:
    assert Setting("", "x").read("x", "5") == "5"
    assert Setting(5, "x").read("x", "5") == 5
    assert Setting(False, "x").read("x", "TRUE") is True
    assert Setting(("*",), "x").read("x", "*") == ["*"]
    assert Setting((), "x").read("x", "") == []
    assert Setting((), "x").read("x", '["a,b"]') == ["a,b"]
    with pytest.raises(ConfigError, match="x is 'many'; expected a whole number"):
        Setting(5, "x").read("x", "many")


def test_an_alias_is_as_good_as_the_name() -> None:
    known = {"learning_rate": Setting(0.3, "shrinkage", number(0), aliases=("eta",)), "depth": Setting(6, "levels")}
    assert checked({"eta": 0.1}, known) == {"learning_rate": 0.1, "depth": 6}
    assert known["learning_rate"].describe("learning_rate")["aliases"] == ["eta"]
    with pytest.raises(ConfigError, match="^eta is -1; expected a number from 0$"):
        checked({"eta": -1}, known)
    with pytest.raises(
        ConfigError, match="^learning_rate of a is given twice, as eta and learning_rate; leave one out"
    ):
        checked({"eta": 0.1, "learning_rate": 0.1}, known, of="a")
    with pytest.raises(ConfigError, match="no setting 'etaa'; did you mean 'eta'"):
        checked({"etaa": 0.1}, known)


def test_what_people_try_and_is_none_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="^seed of a cannot be set: set the run's own$"):
        checked({"seed": 1}, {}, of="a", instead={"seed": "set the run's own"})
