"""Totals at real nodes, over TLS: what was summed with whom outlives a killed node, and so does which sum was told."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from demo.federation import Federation

from .harness import ended, join, propose, session

QUESTION: dict[str, Any] = {
    "federated_strategy": "statistics_on_total",
    "model_options": {"items": [["mean", ["a"], {}, []]]},
    "target_column": "",
    "num_rounds": 1,
    "features": ["a"],
    "gathering": "secure",
    "max_failed_rounds": 0,
}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("totals") / "f") as federation:
        join(federation, 4, allow_federated_analytics="true", statistics_minimum="total")
        yield federation


def asked(federation: Federation, nodes: list[str], **more: Any) -> Any:
    of = {"expected_client_ids": nodes, "secure_threshold": len(nodes), "min_completed": len(nodes)}
    return ended(federation, propose(federation, **{**QUESTION, **of, **more}))


def test_a_node_that_was_killed_remembers_with_whom_it_was_summed(four: Federation) -> None:
    names = sorted(four.nodes)
    first = asked(four, names)
    assert first["state"] == "completed", first["reason"]
    for name in names:
        four.nodes[name].kill()
    for name in names:
        four.start_node(name)
        shown = json.loads((four.home / name / "shown.json").read_text())
        assert [found["peers"] for found in shown.values()] == [[names]]
    fewer = asked(four, names[:3])
    assert fewer["state"] in ("rejected", "failed")
    assert "was summed with those of site-a, site-b, site-c, site-d before" in fewer["reason"]
    again = asked(four, names)
    assert again["state"] == "completed", again["reason"]
    assert again["result"]["metrics"] == first["result"]["metrics"]


def test_which_sum_was_told_of_each_step_is_in_the_nodes_folder(four: Federation) -> None:
    names = sorted(four.nodes)
    run = propose(
        four, **{**QUESTION, "expected_client_ids": names, "secure_threshold": 4, "min_completed": 4}, purpose="again"
    )
    assert ended(four, run)["state"] == "completed"
    for name in names:
        database = sqlite3.connect(four.home / name / "sums.db")
        told = {step: json.loads(text) for step, text in database.execute("SELECT step, told FROM sums")}
        database.close()
        mine = {step: found for step, found in told.items() if step.startswith(f"{run} ")}
        assert [step.rsplit(" ", 1)[1] for step in mine] == ["1"]  # the first step is of words
        assert all(found["survivors"] == names for found in mine.values())
    assert session(four, run)["state"] == "completed"


def test_a_plain_question_is_refused_by_the_owners_setting(four: Federation) -> None:
    plain = {"federated_strategy": "statistics", "gathering": "plain"}
    said = ended(four, propose(four, **{**QUESTION, **plain, "expected_client_ids": sorted(four.nodes)}))
    assert said["state"] == "rejected"
    assert "could be taken off them" in json.dumps(said["consents"])
