"""What sites mean by their labels."""

from __future__ import annotations

import pytest

from hanse import alignment, comparison
from hanse.config import RunConfig
from hanse.errors import ConfigError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["no", "yes"], ["0", "1"]),
        (["No", "Yes"], ["0.0", "1.0"]),
        (["female", "male"], ["f", "m"]),
        (["false", "true"], ["nein", "ja"]),
        (["1", "2"], ["0", "1"]),
    ],
)
def test_codings_are_named(one: list[str], other: list[str]) -> None:
    found = " ".join(comparison.labels({"a": one, "b": other}, "y"))
    assert "is coded in 2 ways" in found


@pytest.mark.parametrize("odd", ["Yes", "yes ", "YES", "'yes'", "yes."])
def test_spellings_are_named(odd: str) -> None:
    (said,) = comparison.labels({"a": ["no", "yes"], "b": ["no", odd]}, "y")
    assert "differ in case, blanks or signs alone" in said
    assert repr(odd) in said


@pytest.mark.parametrize(
    "sites",
    [
        {"a": ["no", "yes"], "b": ["no", "yes"], "c": []},
        {"a": ["0", "1"], "b": ["1"]},
        {"a": ["i", "ii", "iii"], "b": ["iii", "ii", "i"]},
    ],
)
def test_sites_that_agree_are_not_bothered(sites: dict[str, list[str]]) -> None:
    assert comparison.labels(sites, "y") == []
    comparison.shared(sites, "y")


@pytest.mark.parametrize(
    "sites",
    [
        {"a": ["x", "y"]},
        {"a": ["x", "y"], "b": ["y", "z"], "c": ["z"], "d": []},
        {"a": ["x"], "b": ["x", "rare"]},
        {},
    ],
)
def test_categories_that_some_sites_alone_have_are_nothing_odd(sites: dict[str, list[str]]) -> None:
    assert comparison.categories(sites, "ward") == []


def test_a_site_without_a_category_of_another_site_is_named() -> None:
    (said,) = comparison.categories({f"site-{i}": [f"ward {i}"] for i in range(9)}, "ward")
    assert "at site-0: ward 0; at site-1: ward 1" in said
    assert "nor at 3 more sites" in said
    (said,) = comparison.categories({"a": ["red"], "b": ["Red"]}, "colour")  # the likelier cause alone
    assert "differ in case" in said


def test_a_label_of_one_site_is_named() -> None:
    assert comparison.labels({"a": ["0", "1"], "b": ["0", "1", "9"]}, "y") == [
        "'y' has labels that no other site has: 9 only at b"
    ]


def test_what_no_two_sites_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="no two sites share a label of 'y'"):
        comparison.shared({"a": ["no", "yes"], "b": ["0", "1"], "c": ["x"]}, "y")
    comparison.shared({"a": ["no"], "b": ["yes"]}, "y")  # a site of the ill and a site of the well
    comparison.shared({"a": ["no", "yes"]}, "y")
    comparison.shared({"a": ["1", "2"], "b": ["10"]}, "y")
    comparison.shared({}, "y")


def test_many_labels_stay_readable() -> None:
    (said,) = comparison.labels({"a": ["x", *map(str, range(300))], "b": ["x"]}, "y")
    assert len(said) < 120
    assert "and 294 more" in said


def test_many_sites_and_spellings_stay_readable() -> None:
    (said,) = comparison.labels({f"site {n}": ["x", f"label {n}"] for n in range(100)}, "y")
    assert len(said) < 320
    assert said.endswith("and at 94 more sites")
    (said,) = comparison.spellings({"a": ["x" + "." * n for n in range(100)]}, "y")
    assert len(said) < 320
    assert "and 94 more differ in case, blanks or signs alone; they count as 100 labels" in said
    with pytest.raises(ConfigError, match="and others at 94 more sites") as found:
        comparison.shared({f"site {n}": [f"yes {n}", f"no {n}"] for n in range(100)}, "y")
    assert len(str(found.value)) < 320


def test_a_quantity_of_which_small_sites_have_few_values_is_not_compared_label_by_label() -> None:
    """A site of twelve rows told twelve whole numbers as its labels, and trees of a number were refused, as no two
    sites shared one."""
    few, many = [str(n) for n in range(12)], [str(n) for n in range(100, 112)]
    auto, classes = (RunConfig.parse({"target_column": "y", "task_type": kind}) for kind in ("auto", "multiclass"))
    for told in ({"a": few, "b": many}, {"a": few[:3], "b": many[:3], "c": []}):
        alignment.check_labels(auto, {"y": told})
        with pytest.raises(ConfigError, match="no two sites share a label of 'y'"):
            alignment.check_labels(classes, {"y": told})
    with pytest.raises(ConfigError, match="no two sites share a label of 'y'"):
        alignment.check_labels(auto, {"y": {"a": few[:3], "b": many[:3]}})
    schemas = {site: {"x": "numeric", "y": "numeric"} for site in "ab"}
    assert not alignment.of(auto, schemas, {"y": {"a": few, "b": many}})["warnings"]
    assert alignment.of(auto, schemas, {"y": {"a": few[:3], "b": few[:4]}})["warnings"]


def test_one_site_has_no_labels_that_no_other_has() -> None:
    assert comparison.labels({"a": ["x", "y", "z"], "b": []}, "grade") == []
