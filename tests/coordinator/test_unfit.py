"""What cannot work is refused at the proposal: no owner is asked for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.table import Table

from .federation import Federation

START = "/api/training/start"
TABLE = Table.of(
    {
        "age": np.arange(60, dtype=np.float64),
        "town": [f"town {n % 3}" for n in range(60)],
        "ill": ["yes", "no"] * 30,
    }
)


def test_tags_that_nobody_has_are_said_beside_those_that_there_are(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", {"visits": TABLE}, tags={"visits": ["heart", "2024"]})
            answer = await f.call(
                "sci", "POST", START, {"tags": ["hert"], "model_name": "xgboost", "target_column": "ill"}
            )
            assert answer.status_code == 409, answer.text
            assert "the tags of their datasets are 2024, heart" in answer.text

    asyncio.run(body())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model_name": "sgd_classifier", "model_options": {"penalty": "l3"}}, "penalty"),
        ({"model_name": "logistic_regression", "model_options": {"C": -1}}, "C of logistic_regression is -1"),
        ({"model_name": "logistic_regression", "sample_id_column": "patient"}, "patient"),
        ({"model_name": "linear_regression", "task_type": "regression", "target_column": "town"}, "town"),
        (
            {"model_name": "logistic_regression", "target_column": "il"},
            "the target column 'il' is missing at a; did you mean 'ill'?",
        ),
        ({"model_name": "logistic_regression", "selection": "perfection"}, "perfection"),
    ],
)
def test_what_cannot_work_is_refused_before_anybody_is_asked(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            node = await f.node("a", {"visits": TABLE})
            asked = {"target_column": "ill", "sample_id_column": None, "num_rounds": 2, **given}
            answer = await f.call("sci", "POST", START, asked)
            assert answer.status_code == 422, answer.text
            assert says in answer.text
            assert f.store.runs.count() == 0
            assert not node.proposals

    asyncio.run(body())
