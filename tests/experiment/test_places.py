"""What is sent to a place: rows once, what all sites are asked once, and no place has much more to do than others."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.answers import Answerer
from hanse.errors import ConfigError, NodeFailed, RunFailed
from hanse.experiment import places, simulated_run, simulation
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


def nodes(requests: list[Record]) -> list[str]:
    """Of whom they are, in their order."""
    return [str(node) for request in requests for node in request.data["nodes"]]  # type: ignore[union-attr]


def learn(sites: Any, count: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[Any, list[Here]]:
    made: list[Here] = []

    def one() -> Here:
        made.append(Here())
        return made[-1]

    monkeypatch.setattr(simulation, "SiteProcess", one)
    given = {"model": "sgd_classifier", "target": "y", "sample_id_column": None, "rounds": 3, **settings}
    with hanse.simulate(sites, processes=count) as federation:
        return federation.experiment(**given).run(progress=False), made


def rows(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    x = rng.normal(size=count)
    return {"x": x, "z": rng.normal(size=count), "y": np.where(x > 0, "ill", "well")}


def test_what_all_are_asked_goes_to_each_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = {f"s{n}": rows(30) for n in range(6)}
    result, made = learn(sites, 2, monkeypatch)
    with hanse.simulate(sites) as federation:
        alone = federation.experiment(model="sgd_classifier", target="y", sample_id_column=None, rounds=3)
        assert digest(alone.run(progress=False).record) == digest(result.record)
    for place in made:
        assert len(place.of("begin")) == 1
        assert len(nodes(place.of("rows"))) == len({*nodes(place.of("rows"))}) == 3
        assert all(len(nodes([request])) == 3 for request in place.of("answer"))  # all of a place in one message
        assert place.closed


def test_a_probe_measures_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was answered in threads of this process, and said nothing of what the places cost."""
    made: list[Here] = []
    monkeypatch.setattr(simulation, "SiteProcess", lambda: made.append(Here()) or made[-1])
    asked = {"federated_strategy": "probe", "rounds": 2, "model_options": {"bytes": 800}, "target": ""}
    with hanse.simulate({f"s{n}": rows(3) for n in range(4)}, processes=2) as federation:
        result = federation.experiment(**asked).run(progress=False)
    with hanse.simulate({f"s{n}": rows(3) for n in range(4)}) as federation:
        alone = federation.experiment(**asked).run(progress=False)
    assert digest(alone.record) == digest(result.record)
    assert [len(nodes(place.of("answer"))) for place in made] == [4, 4]  # two sites, two rounds


def test_many_sites_take_few_messages_and_what_all_are_asked_goes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = {f"s{n:02}": rows(20 + n % 3) for n in range(60)}
    result, [place] = learn(sites, 1, monkeypatch)
    assert len(place.of("rows")) == 3  # 25, 25 and 10 of them
    steps = len(result.rounds)
    assert len(place.of("answer")) == 3 * steps
    asked = [request for request in place.of("answer") if request.arrays or request.data["again"]]
    assert sum(bool(request.data["again"]) for request in asked) == len(asked) * 2 // 3
    with hanse.simulate(sites) as federation:
        alone = federation.experiment(model="sgd_classifier", target="y", sample_id_column=None, rounds=3)
        assert digest(alone.run(progress=False).record) == digest(result.record)


def test_a_message_holds_no_more_answers_than_a_few_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_MESSAGE_BYTES", 60)  # the model is of 24 bytes, and preparation asks with less
    _, [place] = learn({f"s{n}": rows(30) for n in range(5)}, 1, monkeypatch)
    trained = [request for request in place.of("answer") if "train" in str(request.data["task"])]
    assert trained
    assert {len(nodes([request])) for request in trained} <= {1, 2}
    assert len(place.of("rows")) == 5


def test_a_site_that_fails_takes_no_answers_of_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answerer.answer

    def fails(self: Answerer, task: Record, *more: Any) -> Record:
        if self.node == "s3" and "train" in str(task.data):
            raise ValueError("not this one")
        return answer(self, task, *more)

    monkeypatch.setattr(Answerer, "answer", fails)
    result, _ = learn({f"s{n}": rows(30) for n in range(6)}, 1, monkeypatch, rounds=1, min_available_nodes=5)
    trained = [step for step in result.rounds if step.round == 1]
    assert [sorted(step.participants) for step in trained] == [["s0", "s1", "s2", "s4", "s5"]]
    assert "not this one" in trained[0].failures["s3"]


def test_a_place_keeps_the_rows_of_so_many_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_run, "AWAKE", 4)
    sites = hanse.virtual_sites(rows(300), 10, seed=1)
    result, [place] = learn(sites, 1, monkeypatch)
    there: list[str] = []
    for request in place.heard:
        if request.data["do"] == "rows":
            there = [node for node in there if node not in request.data["forget"]] + nodes([request])
            assert len(there) <= 4
        elif request.data["do"] == "answer":
            assert {*nodes([request])} <= {*there}
    with hanse.simulate(sites) as federation:
        alone = federation.experiment(model="sgd_classifier", target="y", sample_id_column=None, rounds=3)
        assert digest(alone.run(progress=False).record) == digest(result.record)


def test_sites_are_placed_by_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = {"a": rows(600), **{f"s{n}": rows(100) for n in range(6)}}
    _, made = learn(sites, 2, monkeypatch, rounds=1)
    shares = sorted(sorted(nodes(place.of("rows"))) for place in made)
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
    result, [place] = learn({f"s{n:02}": rows(30) for n in range(30)}, 1, monkeypatch, max_failed_rounds=3)
    assert len(result.failures) == 25  # all whose answers were in that message
    first = [request for request in place.of("answer") if request.arrays][:2]
    assert [len(nodes([request])) for request in first] == [25, 5]  # the one that failed; the next is not "again"


def test_a_cluster_needs_processes() -> None:
    with pytest.raises(ConfigError, match="processes is 0; say how many"):
        hanse.simulate({"a": rows(3)}, cluster="local")


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with hanse.simulate({"a": rows(30), "b": rows(30)}, processes=1, cluster="auto") as federation:
        experiment = federation.experiment(model="sgd_classifier", target="y", sample_id_column=None, rounds=1)
        with pytest.raises(RunFailed, match=r"pip install 'hanse\[ray\]'"):
            experiment.run(progress=False)
