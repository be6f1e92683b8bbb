"""The same algorithms through the real loop, the real frames and the node half."""

from __future__ import annotations

from typing import Any

import pytest
from drive import Drive, same, shares, toy

from hanse import algorithms, features
from hanse.answers import Answerer
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.messages import Message, Record
from hanse.rounds import Forgetful, Loop, go
from hanse.transport import Progress
from hanse.transports.local import LocalTransport

CASES = [
    ("sgd_classifier", {}),
    ("xgboost", {"max_depth": 3}),
    ("xgboost_bagging", {"max_depth": 3}),
    ("random_forest", {"n_estimators": 12}),
]
EPOCHS: dict[str, dict[str, int]] = {"random_forest": {}, "xgboost": {}}  # all others train so many times per round


def federate(tables: Any, wire: str, **settings: Any) -> tuple[Record, Forgetful]:
    config = algorithms.settled(RunConfig.parse({"target_column": "y", "sample_id_column": None, **settings}))
    alignment = features.align({n: t.schema() for n, t in tables.items()}, "intersection", targets=["y"])
    bundle = freeze(config, alignment.to_json(), {})
    bundle.check_code()

    def handler(node: str) -> Any:
        answerer = Answerer(node, lambda content: tables[node])

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            return Message("reply", message.id, node, answerer.answer(message.body, bundle.content, progress))

        return handle

    journal = Forgetful()
    run = Loop(
        algorithms.build(config),
        config,
        sorted(tables),
        LocalTransport({n: handler(n) for n in tables}, wire),
        journal,
        bundle=bundle.sha256,
    )
    return run.algorithm.result(go(run)), journal


@pytest.mark.parametrize(("model", "options"), CASES)
def test_the_loop_and_the_wire_change_nothing(model: str, options: Any) -> None:
    tables = shares(toy(150), 60, 50, 40)
    given = {"model_name": model, "model_options": options, "num_rounds": 3, **EPOCHS.get(model, {"local_epochs": 2})}
    plain = Drive(tables, **given).run()
    for wire in ("references", "exact"):
        result, journal = federate(tables, wire, **given)
        assert same(result, plain)
    last = journal.steps[-1]
    assert (last.label, last.metrics["evaluated_round"], last.status) == ("evaluate", 3, "ok")
    assert journal.steps[2 if model != "sgd_classifier" else 3].participants["site-0"]["metrics"]["n"] == 45


@pytest.mark.parametrize(("model", "options"), CASES)
def test_a_run_goes_on_from_any_checkpoint_with_the_same_bytes(model: str, options: Any) -> None:
    tables = shares(toy(150), 60, 50, 40)
    drive = Drive(
        tables, model_name=model, model_options=options, num_rounds=3, **EPOCHS.get(model, {"local_epochs": 2})
    )
    expected = drive.run()
    for step, state in enumerate(drive.states):
        again = Drive(
            tables, model_name=model, model_options=options, num_rounds=3, **EPOCHS.get(model, {"local_epochs": 2})
        )
        again.algorithm.init = lambda config, previous=None, state=state: state  # type: ignore[method-assign,misc,assignment]
        assert same(again.run(), expected), f"from step {step}"


def test_no_row_leaves_a_site() -> None:
    """Values planted in one row do not appear in anything that is sent."""
    import numpy as np

    from hanse.table import Column, Table

    table = toy(100)
    planted = 123456.78125
    values = table["a"].values.copy()
    values[3] = planted
    tables = {"site-0": Table({**table.columns, "a": Column.numeric(values)}), "site-1": toy(80, seed=5)}
    for model, options in CASES:
        drive = Drive(tables, model_name=model, model_options=options, num_rounds=2)
        drive.run()
        for sent in drive.contributions:
            for name in sent["site-0"].arrays:
                array = np.asarray(sent["site-0"].arrays[name], np.float64)
                assert not (array == planted).any(), (model, name)
            assert str(planted) not in str(sent["site-0"].data)
