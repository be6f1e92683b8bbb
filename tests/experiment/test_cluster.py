"""Sites in the actors of a real Ray on this machine: the bytes of threads, and an end in the middle of their work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
PROGRAM = """
import numpy as np, psutil
import hanse
from hanse.errors import RunFailed
from hanse.experiment import simulated_run
from hanse.messages import digest

simulated_run.AWAKE = 4
rng = np.random.default_rng(0)
x = rng.normal(size=240)
rows = {"x": x, "z": rng.normal(size=240), "y": np.where(x > 0, "ill", "well")}
sites = hanse.virtual_sites(rows, 12, "y", 0.5)
given = dict(model="logistic_regression", target="y", sample_id_column=None, rounds=3, fraction=0.5)

def learn(federation, **settings):
    return federation.experiment(**{**given, **settings}).run(progress=False)

with hanse.simulate(sites) as federation:
    alone = digest(learn(federation, federated_strategy="scaffold").record)
with hanse.simulate(sites, processes=2, cluster="local") as federation:
    for _ in range(2):  # one cluster for all runs
        result = learn(federation, federated_strategy="scaffold")
        assert not result.failures
        assert digest(result.record) == alone
    print("cancel")
    slow = federation.experiment(**{**given, "model": "mlp_classifier", "local_epochs": 10_000, "batch_size": 1})
    slow = slow.propose()
    for update in slow.watch():
        if update.step is not None:
            break
    slow.cancel()
    assert slow.status()["state"] == "cancelled"
    print("die")
    import ray
    slow = federation.experiment(
        **{**given, "model": "mlp_classifier", "local_epochs": 10_000, "batch_size": 1, "max_failed_rounds": 0}
    ).propose()
    for update in slow.watch():
        if update.step is not None:
            for child in psutil.Process().children(recursive=True):
                if "_Sites" in " ".join(child.cmdline()):
                    child.kill()
    try:
        slow.result()
        raise AssertionError("it has a result")
    except RunFailed as error:
        assert "the actor that this site is in has ended" in str(error), error
with hanse.simulate(sites, processes=1000, cluster="local") as federation:
    try:
        learn(federation, min_available_nodes=1)
        raise AssertionError("so many")
    except RunFailed as error:
        assert "processors, and processes is 12" in str(error), error
print("done")
"""


def test_a_cluster_gives_the_bytes_of_threads_and_says_what_fails(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=580
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.split()[-1] == "done"


def test_no_cluster_at_an_address(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        program = f"from hanse.experiment.cluster import Cluster; Cluster('127.0.0.1:{port}').actors(1)"
        ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert ran.returncode != 0
    assert f"there is no Ray cluster at '127.0.0.1:{port}'" in ran.stderr, ran.stderr
