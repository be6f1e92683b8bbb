"""Sites of a simulation that come into being when they are asked: as few as can be, and nobody forgets anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hanse
from hanse.answers import Answerer
from hanse.experiment import simulated_run
from hanse.experiment.answerers import Answerers
from hanse.messages import digest
from hanse.table import Table


def test_a_site_goes_when_it_has_nothing_to_remember() -> None:
    made: list[str] = []

    def make(node: str) -> Answerer:
        made.append(node)
        return Answerer(node, lambda bundle: Table())

    sites = Answerers("run", make, kept=2)
    for node in "abcd":
        with sites.at_work([node]):
            pass
    assert (made, len(sites)) == ([*"abcd"], 2)
    with sites.at_work(["d", "a"]) as (d, a):  # d is there still, a is made anew
        assert made == [*"abcda"]
        with sites.at_work(["a"]) as (again,):  # of an answer that nobody waits for any more
            assert again is a
        assert d.node == "d"
    assert len(sites) == 2


def test_what_sites_promised_stays() -> None:
    sites = Answerers("run", lambda node: Answerer(node, lambda bundle: Table()), kept=1)
    with sites.at_work(["a"]) as (a,):
        a._promises["told"] = 1
    for node in "bc":
        with sites.at_work([node]):
            pass
    assert len(sites) == 2  # c, and what a promised
    with sites.at_work(["a"]) as (again,):
        assert again is a


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "fedbuff"])
@pytest.mark.parametrize("how", [{}, {"batched": True}, {"processes": 2}])
def test_few_at_a_time_give_the_bytes_of_all_at_once(
    strategy: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    rows = {**{f"x{i}": X[:, i] for i in range(3)}, "y": np.where(X[:, 0] > 0, "a", "b")}
    sites = hanse.virtual_sites(rows, 30, by="y", alpha=1.0, rows_each=20, seed=1)
    alive: list[int] = []
    real = Answerers.at_work

    def noted(self: Answerers, nodes: Any) -> Any:
        alive.append(len(self))
        return real(self, nodes)

    monkeypatch.setattr(Answerers, "at_work", noted)

    def run(**how: Any) -> Any:
        settings: dict[str, Any] = {"rounds": 3, "fraction": 1.0, "federated_strategy": strategy}
        if strategy == "fedbuff":
            settings |= {"buffer_size": 30}
        with hanse.simulate(sites, workers=1, **how) as federation:
            asked = federation.experiment(model="logistic_regression", target="y", sample_id_column=None, **settings)
            return asked.run(progress=False)

    usual = run(
        **{name: value for name, value in how.items() if name != "processes"}
    )  # which give the bytes of threads
    alive.clear()
    for name, most in (("AWAKE", 4), ("ABREAST", 25)):
        monkeypatch.setattr(simulated_run, name, most)
    found = run(**how)
    assert digest(found.record) == digest(usual.record)
    assert not found.failures
    if strategy == "fedavg" and "processes" not in how:
        assert max(alive) == 4  # while a site is at work, others may be there
