"""Sites that answer in processes give the same bytes as in threads, and end with their run."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
import psutil
import pytest

import hanse
from hanse.errors import ConfigError, RunFailed
from hanse.experiment import simulated_run
from hanse.experiment.virtual import virtual_sites
from hanse.messages import digest
from tests.waiting import PATIENCE


def rows(n: int = 240) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return {"x": x, "z": rng.normal(size=n), "sex": ["f", "m", None] * (n // 3), "y": np.where(x > 0, "ill", "well")}


def learn(sites: Any, how: dict[str, Any], **settings: Any) -> Any:
    given = {"model": "sgd_classifier", "target": "y", "sample_id_column": None, "rounds": 3, **settings}
    with hanse.simulate(sites, **how) as federation:
        return federation.experiment(**given).run(progress=False)


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that was killed and not waited for yet has no command line
            if "hanse.experiment.site_process" in child.cmdline():
                found.append(child)
    return found


def test_processes_give_the_bytes_of_threads_and_keep_what_sites_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_run, "AWAKE", 4)  # rows come and go; what SCAFFOLD keeps stays
    sites = virtual_sites(rows(), 12, "y", 0.5)
    settings = {"federated_strategy": "scaffold", "fraction": 0.5, "model": "logistic_regression"}
    alone, apart = learn(sites, {}, **settings), learn(sites, {"processes": 2}, **settings)
    assert not apart.failures
    assert digest(alone.record) == digest(apart.record)
    assert not children()


def test_what_a_site_says_is_an_error_here_as_there() -> None:
    settings = {"federated_strategy": "fedper", "own_layers": ["no"], "model": "mlp_classifier"}
    said = []
    for how in ({}, {"processes": 1}):
        with pytest.raises(RunFailed) as error:
            learn(dict(virtual_sites(rows(), 3)), how, max_failed_rounds=0, **settings)
        said.append(str(error.value))
    for text in said:
        assert all(f"site-{i}: own_layers names no, which fits none" in text for i in range(3))


def test_a_cancelled_run_ends_its_processes_in_the_middle_of_their_work() -> None:
    with hanse.simulate(dict(virtual_sites(rows(), 2)), processes=2) as federation:
        experiment = federation.experiment(
            model="mlp_classifier", target="y", sample_id_column=None, rounds=1, local_epochs=10_000, batch_size=1
        ).propose()
        began = threading.Event()

        def watch() -> None:
            for update in experiment.watch():
                if update.step is not None:
                    began.set()
            began.set()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        assert began.wait(PATIENCE), "the preparation is over, and sites train"
        assert len(children()) == 2
        experiment.cancel()
        assert experiment.status()["state"] == "cancelled"
        assert not children()


def test_a_process_that_is_killed_is_said_so() -> None:
    with hanse.simulate(dict(virtual_sites(rows(), 2)), processes=2) as federation:
        experiment = federation.experiment(
            model="mlp_classifier",
            target="y",
            sample_id_column=None,
            rounds=2,
            local_epochs=10_000,
            batch_size=1,
            max_failed_rounds=0,
        ).propose()
        for update in experiment.watch():
            if update.step is not None:
                for child in children():
                    child.kill()
        with pytest.raises(RunFailed, match="the process that this site is in has ended"):
            experiment.result()


def test_statistics_and_what_does_not_go_together() -> None:
    sites = dict(virtual_sites(rows(), 2))
    with hanse.simulate(sites, processes=2) as federation:
        assert federation.analytics().count(["x"])["x"] == 240
        assert not children()
    with pytest.raises(ConfigError, match="0 where sites train together"):
        hanse.simulate(sites, processes=2, batched=True)
    with pytest.raises(ConfigError, match="from 0"):
        hanse.simulate(sites, processes=-1)
