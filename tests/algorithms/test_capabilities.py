"""Models and algorithms meet by what the one learns by and the other takes; neither knows the other by name."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from drive import Drive, shares, toy

import hanse
from hanse import algorithms
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.registry import every, find, names

ROOT = Path(hanse.__file__).parent


def taken(name: str) -> str | None:
    found: str | None = getattr(find("algorithms", name), "TAKES", None)
    return found


def test_every_capability_that_is_taken_has_one_default() -> None:
    for ability in {taken(name) for name in names("algorithms")} - {None}:
        defaults = [
            n for n in names("algorithms") if taken(n) == ability and getattr(find("algorithms", n), "DEFAULT", 0)
        ]
        assert len(defaults) == 1, f"{ability}: {defaults}"


@pytest.mark.parametrize("model", names("models"))
def test_auto_is_the_default_of_the_models_first_capability(model: str) -> None:
    chosen = algorithms.resolve(RunConfig.parse({"model_name": model}))
    assert taken(chosen) == find("models", model).LEARNS_BY[0]
    assert chosen in algorithms.fitting(model)


@pytest.mark.parametrize(("room", "other"), [("models", "algorithms"), ("algorithms", "models")])
def test_neither_room_names_a_file_of_the_other(room: str, other: str) -> None:
    """In code and in the text of messages; prose may mention one."""
    known = set(names(other)) - {"statistics"}  # a word of its own
    for path in sorted((ROOT / room).glob("*.py")):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                assert item.value not in known, f"{path.name}:{item.lineno} names {item.value}"


@pytest.mark.parametrize(
    ("model", "algorithm"),
    [
        ("sgd_classifier", "fedavg"),
        ("random_forest", "forest_union"),
        ("xgboost_bagging", "tree_bagging"),
        ("xgboost", "boosting"),
    ],
)
def test_a_result_names_the_algorithm_that_made_it(model: str, algorithm: str) -> None:
    result = Drive(shares(toy(80), 40, 40), model_name=model, num_rounds=1).run()
    assert result.data["algorithm"] == algorithm


def pretend(monkeypatch: pytest.MonkeyPatch, folder: str, name: str, **attributes: Any) -> None:
    """A module of a folder that is not there."""
    module = ModuleType(f"hanse.{folder}.{name}")
    vars(module).update(attributes)
    known, real = (*names(folder), name), algorithms.find
    monkeypatch.setattr(algorithms, "names", lambda f: known if f == folder else names(f))
    monkeypatch.setattr(algorithms, "find", lambda f, n: module if (f, n) == (folder, name) else real(f, n))
    monkeypatch.setattr(algorithms, "every", lambda f: {**every(f), **({name: module} if f == folder else {})})


def test_a_model_that_nothing_takes_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "models", "mine", LEARNS_BY=("dreams",))
    with pytest.raises(ConfigError, match="no algorithm is the default for mine"):
        algorithms.resolve(RunConfig.parse({"model_name": "mine"}))
    with pytest.raises(ConfigError, match="mine does not learn by fedavg; it learns by no algorithm"):
        algorithms.resolve(RunConfig.parse({"model_name": "mine", "federated_strategy": "fedavg"}))


def test_a_model_falls_back_to_a_capability_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "models", "mine", LEARNS_BY=("dreams", "parameters"))
    assert algorithms.resolve(RunConfig.parse({"model_name": "mine"})) == "fedavg"


def test_two_defaults_for_one_capability_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "algorithms", "mine", TAKES="parameters", DEFAULT=True)
    with pytest.raises(ConfigError, match="fedavg and mine are both the DEFAULT"):
        algorithms.resolve(RunConfig.parse({"model_name": "sgd_classifier"}))
