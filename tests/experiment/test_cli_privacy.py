"""``hanse privacy``: numbers to plan with, the same that runs are noised by."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from hanse.cli import group
from hanse.privacy.guarantee import of, settled


def told(*words: str) -> Any:
    done = CliRunner().invoke(group, ["privacy", *words, "--json"])
    assert done.exit_code == 0, done.output + str(done.exception)
    return json.loads(done.output)


def test_the_noise_is_what_runs_have() -> None:
    runs, least = told("noise", "--epsilon", "2", "--rounds", "20")
    promised = of(settled({"epsilon": 2.0}), "site", 20, 3)
    assert runs["noise"] == pytest.approx(promised.multiplier, rel=1e-12)
    assert 0.8 * runs["noise"] < least["noise"] < runs["noise"]
    assert "expected at least 1" in str(CliRunner().invoke(group, ["privacy", "noise", "--rounds", "0"]).exception)


def test_each_accountant_says_what_noise_is_worth() -> None:
    pytest.importorskip("dp_accounting")
    found = {row["accountant"].partition(",")[0]: row["epsilon"] for row in told("epsilon", "--noise", "1")}
    assert found["exact"] == pytest.approx(4.377, abs=1e-3)
    assert found["pld"] == pytest.approx(found["exact"], rel=2e-3)
    assert found["concentrated"] == pytest.approx(found["rdp"], rel=2e-2)
    sampled = told("epsilon", "--noise", "4", "--rounds", "10000", "--sampling", "0.01")
    assert [row["accountant"].partition(",")[0] for row in sampled] == ["pld", "rdp", "sampled"]
    assert max(row["epsilon"] for row in sampled) < 1.26
    [least] = told("noise", "--epsilon", f"{sampled[2]['epsilon']}", "--rounds", "10000", "--sampling", "0.01")
    assert least["noise"] == pytest.approx(4.0, rel=1e-6)
