"""Answers that wait for those of many other sites lie in a file, and the result has the bytes that it has otherwise."""

from __future__ import annotations

import errno
import gc
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.experiment import simulated_run
from hanse.experiment.aside import Aside
from hanse.messages import Record, Spool, digest


def test_records_come_back_as_they_were_whatever_their_arrays() -> None:
    aside, rng = Aside(), np.random.default_rng(0)
    given = [
        Record(
            {"n": i},
            {
                "b": rng.normal(size=(3, i)).T,  # not as it lies in memory
                "a": rng.integers(0, 9, i).astype(np.int8),
                "c": np.array(i > 2),
            },
        )
        for i in range(5)
    ]
    kept = [aside.put(record) for record in given]
    assert [digest(record) for record in kept] == [digest(record) for record in given]


def test_its_room_is_written_over_when_all_of_it_is_free() -> None:
    aside, record = Aside(), Record({}, {"a": np.arange(1000)})
    gc.collect(1)
    for _ in range(3):
        kept = [aside.put(record) for _ in range(50)]
        assert aside.nbytes == 50 * 8000
        assert (kept[7].arrays["a"] == record.arrays["a"]).all()
        del kept
        gc.collect(1)


def test_room_that_could_not_be_written_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    aside, record = Aside(), Record({}, {"a": np.arange(1000)})
    aside.put(record)

    def full(spool: Spool, offset: int, chunk: memoryview) -> None:
        raise OSError(errno.ENOSPC, "no space left on the device")

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "write", full)
        with pytest.raises(OSError, match="no space left"):
            aside.put(record)
    gc.collect()
    kept = aside.put(record)
    assert aside.nbytes == kept.nbytes == 8000


@pytest.mark.parametrize("gathering", ["plain", "secure"])
def test_a_run_whose_answers_wait_in_the_file_has_the_same_bytes(
    gathering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[int] = []
    real = Aside.put

    def noted(aside: Aside, record: Record) -> Record:
        put.append(record.nbytes)
        return real(aside, record)

    monkeypatch.setattr(Aside, "put", noted)
    monkeypatch.setattr(simulated_run, "ASIDE_BYTES", 1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    rows = {**{f"x{i}": X[:, i] for i in range(3)}, "y": np.where(X[:, 0] > 0, "a", "b")}
    sites = hanse.virtual_sites(rows, 12, by="y", alpha=1.0, rows_each=40, seed=1)

    def run() -> Any:
        with hanse.simulate(sites) as federation:
            return federation.experiment(
                model="sgd_classifier", target="y", rounds=2, gathering=gathering, sample_id_column=None
            ).run(progress=False)

    usual = run()
    assert not put  # where few sites are asked, nothing is put anywhere
    monkeypatch.setattr(simulated_run, "AWAKE", 3)
    found = run()
    assert len(put) >= 9 * 3  # of twelve sites all but the last, in three steps at least
    assert digest(found.record) == digest(usual.record)
    assert found.metrics == usual.metrics


def test_what_many_sites_say_alike_is_kept_once_and_what_is_only_equal_is_not() -> None:
    aside = Aside()

    def said(*odd: float) -> Any:
        return aside.once(Record({"weight": 1.0, "data": {"odd": list(odd)}, "metrics": {}})).data["data"]["odd"]

    first, second, other = said(80.0), said(80.0), said(80)
    assert second is first
    assert [type(one[0]) for one in (first, other)] == [float, int]
