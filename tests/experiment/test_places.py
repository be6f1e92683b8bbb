"""What is sent to a place: rows once, what all sites are asked once, and no place has much more to do than others."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.errors import ConfigError, NodeFailed, RunFailed
from hanse.experiment import simulation
from hanse.experiment.site_process import Sites
from hanse.messages import Record, digest, dump, load


class Here:
    """A place in this process that notes what it is told. Records pass as bytes, as to any other."""

    def __init__(self) -> None:
        self.heard: list[Record] = []
        self.closed = False
        self._sites = Sites()

    def told(self, request: Record) -> Record:
        self.heard.append(request)
        return load(dump(self._sites.told(load(dump(request)))))

    def close(self) -> None:
        self.closed = True

    def of(self, what: str) -> list[Record]:
        return [request for request in self.heard if request.data["do"] == what]


def learn(sites: Any, places: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[Any, list[Here]]:
    made: list[Here] = []

    def one() -> Here:
        made.append(Here())
        return made[-1]

    monkeypatch.setattr(simulation, "SiteProcess", one)
    given = {"model": "sgd_classifier", "target": "y", "sample_id_column": None, "rounds": 3, **settings}
    with hanse.simulate(sites, processes=places) as federation:
        return federation.experiment(**given).run(progress=False), made


def rows(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    x = rng.normal(size=count)
    return {"x": x, "z": rng.normal(size=count), "y": np.where(x > 0, "ill", "well")}


def test_what_all_are_asked_goes_to_each_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = {f"s{n}": rows(30) for n in range(6)}
    result, places = learn(sites, 2, monkeypatch)
    with hanse.simulate(sites) as federation:
        alone = federation.experiment(model="sgd_classifier", target="y", sample_id_column=None, rounds=3)
        assert digest(alone.run(progress=False).record) == digest(result.record)
    for place in places:
        assert len(place.of("begin")) == 1
        assert len({str(request.data["node"]) for request in place.of("rows")}) == len(place.of("rows")) == 3
        answers = [request for request in place.of("answer") if request.arrays or request.data["again"]]
        assert sum(bool(request.data["again"]) for request in answers) == len(answers) * 2 // 3  # of three sites, two
        assert place.closed


def test_sites_are_placed_by_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = {"a": rows(600), **{f"s{n}": rows(100) for n in range(6)}}
    _, places = learn(sites, 2, monkeypatch, rounds=1)
    shares = sorted(sorted(str(request.data["node"]) for request in place.of("rows")) for place in places)
    assert shares == [["a"], [f"s{n}" for n in range(6)]]


def test_after_an_error_all_of_a_task_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Here.told

    def broken(self: Here, request: Record) -> Record:
        if request.data["do"] == "answer" and request.arrays and not getattr(self, "failed", False):
            self.failed = True  # type: ignore[attr-defined]
            told(self, request)
            raise NodeFailed("its reply was lost")
        return told(self, request)

    monkeypatch.setattr(Here, "told", broken)
    result, [place] = learn({f"s{n}": rows(30) for n in range(3)}, 1, monkeypatch, max_failed_rounds=3)
    assert len(result.failures) == 1
    first = [request for request in place.of("answer") if request.arrays][:2]
    assert len(first) == 2  # the one that failed, and the next site's: not "again"


def test_a_cluster_needs_processes() -> None:
    with pytest.raises(ConfigError, match="processes is 0; say how many"):
        hanse.simulate({"a": rows(3)}, cluster="local")


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with hanse.simulate({"a": rows(30), "b": rows(30)}, processes=1, cluster="auto") as federation:
        experiment = federation.experiment(model="sgd_classifier", target="y", sample_id_column=None, rounds=1)
        with pytest.raises(RunFailed, match=r"pip install 'hanse\[ray\]'"):
            experiment.run(progress=False)
