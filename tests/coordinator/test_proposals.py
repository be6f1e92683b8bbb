"""What is compared when a run is proposed, before any owner is asked."""

from __future__ import annotations

from typing import Any

import pytest

from hanse import features
from hanse.config import RunConfig
from hanse.coordinator import proposals, registry
from hanse.errors import ConfigError
from hanse.store.nodes import ENROLLED, Node

COLUMNS = {"age": "numeric", "disease": "categorical"}


def node(name: str, labels: dict[str, int], columns: dict[str, str] = COLUMNS, **summary: Any) -> Node:
    told = {"class_distribution": labels, "target_columns": ["disease"], **summary}
    dataset = {"name": "d", "version": "v" * 32, "rows": 100, "columns": columns, "tags": []}
    return Node(name, ENROLLED, None, "", "", 0.0, None, "", {}, told, [dataset], "node", 0.0)


def freeze(*nodes: Node, **settings: Any) -> proposals.FrozenProposal:
    return proposals.freeze(RunConfig.parse({"model_name": "logistic_regression", **settings}), nodes, [])


def test_labels_that_no_two_sites_share_are_refused() -> None:
    with pytest.raises(ConfigError, match="no two sites share a label of 'disease': no, yes at a; 0, 1 at b"):
        freeze(node("a", {"no": 50, "yes": 50}), node("b", {"0": 50, "1": 50}))


def test_an_odd_spelling_is_a_warning() -> None:
    found = freeze(node("a", {"no": 50, "yes": 50}), node("b", {"no": 50, "Yes": 50}))
    assert any("'Yes' at b and 'yes' at a differ in case" in w for w in found.warnings)


def test_labels_of_another_target_say_nothing() -> None:
    found = freeze(node("a", {"no": 50, "yes": 50}), node("b", {"x": 50, "z": 50}, target_columns=["other"]))
    assert not any("label" in w for w in found.warnings)


def test_a_column_of_two_kinds_is_named_with_its_sites() -> None:
    columns = {"age": "categorical", "bmi": "numeric", "disease": "categorical"}
    nodes = [node("a", {}, {**COLUMNS, "bmi": "numeric"}), node("b", {}, columns)]
    said = f"'age' was left out: it is categorical at b; numeric at a; it is one where {features.ALIKE}"
    assert said in freeze(*nodes).warnings
    said = registry.analyze(nodes, None, [], True)["warnings"]
    assert "'age' is categorical at b; numeric at a" in said


def test_an_open_column_takes_nothing_from_the_others() -> None:
    nodes = [node("a", {}, {**COLUMNS, "sex": "categorical"}), node("b", {}, {**COLUMNS, "sex": "open"})]
    assert freeze(*nodes).bundle.content["alignment"]["kinds"] == {"age": "numeric", "sex": "categorical"}
    assert registry.analyze(nodes, None, [], True)["warnings"] == []
