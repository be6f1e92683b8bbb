"""Client updates per second of a simulation: 50 of 100 sites a round, 100 rows each, batches of 20, one pass; and its
memory with up to 10,000 sites.

By plain SGD. ``tab`` is a linear classifier of 30 columns and 2 classes (31 parameters), ``lr`` of 784 and 62 (48,670),
``cnn`` a small convolutional network of 28 x 28 images (110,485). ``alone``: each site trains by itself, in one thread;
``batched``: the sites of a round together (``hanse.simulate(batched=True)``), which convolutions do not gain by, in one
thread and in two; ``2 processes``: each site in one of two, and ``2 actors of Ray`` the same on a Ray cluster of this
machine. Rounds of ``tab`` are over in 2 ms where sites train together, so ten times as many of them are measured. The
first rounds are left out: most of what is set up for a site is done in them. ``updates_a_second`` is by the clock,
``updates_a_cpu_second`` by the processor time of the process and its children, which depends little on what else the
machine does.

``loop by hand`` is PyTorch without any framework, in one thread, measured in the same run; ``of_loop_by_hand`` is by
processor time. ``--flower-simulation`` and ``--pfl`` name the Pythons of environments with Flower and pfl-research,
which then run beside it: the same module, rows and steps, measured alike. ``peers_of_theirs`` are not measured here:
they are what Flower 1.42 with two Ray actors, pfl-research 0.6 in one process and in two, and FedJAX 0.0.17 did on one
idle machine of 2 cores in November 2026, over such a loop there, by the clock.

    python bench/simulation.py --rounds 30
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from _plans import KINDS, ROWS, SITES
from _processes import spent
from _report import Report

import hanse

BEFORE = 8  # rounds, after which nearly every site has been asked once
PEERS = {  # what they did over such a loop elsewhere
    "tab": {"loop": 4527, "flower": 159, "pfl": 1285, "pfl 2": 2232, "fedjax": 2645},
    "lr": {"loop": 1744, "flower": 121, "pfl": 915, "pfl 2": 1394, "fedjax": 1509},
    "cnn": {"loop": 47, "flower": 49, "pfl": 56, "pfl 2": 98, "fedjax": 86},
}


def sites(columns: int, classes: int) -> dict[str, dict[str, Any]]:
    rng, found = np.random.default_rng(0), {}
    for number in range(SITES):
        y = [f"c{v:02d}" for v in rng.integers(0, classes, ROWS)]
        if columns:
            X = rng.normal(size=(ROWS, columns))
            features: dict[str, Any] = {f"x{i:03d}": X[:, i] for i in range(columns)}
        else:
            features = {"image": rng.integers(0, 256, (ROWS, 28, 28, 1), dtype=np.uint8)}
        found[f"site-{number:03d}"] = {**features, "y": y}
    return found


def updates(federation: Any, source: str, rounds: int) -> tuple[float, float]:
    """Client updates a second and a CPU second, from the end of round BEFORE to that of ``rounds`` more, as their
    records have it; who listens hears of an end up to 20 ms later, and looks at the processor time then."""
    at: dict[int, tuple[float, float]] = {}

    def heard(update: Any) -> None:
        if update.step is not None and update.step.round in (BEFORE, BEFORE + rounds):
            at[update.step.round] = datetime.fromisoformat(update.step.ended).timestamp(), spent(os.getpid())

    experiment = federation.experiment(
        model="torch_module",
        plan={"source": source, "name": "bench"},
        target="y",
        sample_id_column=None,
        federated_strategy="fedavg",
        rounds=BEFORE + rounds + 1,  # the last one ends while it is measured
        fraction=0.5,
        evaluate_every=0,
        test_fraction=0.0,
        local_epochs=1,
        batch_size=20,
        learning_rate=0.1,
    )
    experiment.propose().wait(progress=False, on_update=heard)
    clock, cpu = (b - a for a, b in zip(at[BEFORE], at[BEFORE + rounds], strict=True))
    return rounds * SITES / 2 / clock, rounds * SITES / 2 / cpu


def by_hand(kind: str, rounds: int) -> tuple[float, float]:
    """Updates a second and a CPU second of a loop over PyTorch without any framework: what a simulation could save."""
    import torch

    source, columns, classes = KINDS[kind]
    rng, names = np.random.default_rng(0), dict[str, Any]()
    exec(source, names)
    outputs = 1 if classes == 2 else classes
    module = names["build"](types.SimpleNamespace(features=range(columns), outputs=outputs), {})
    shape = (SITES, ROWS, columns) if columns else (SITES, ROWS, 1, 28, 28)
    X = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, classes, (SITES, ROWS)))
    functional = torch.nn.functional
    theta = {name: p.clone() for name, p in module.state_dict().items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    clock, cpu = time.perf_counter(), spent(os.getpid())
    for _ in range(rounds):
        total = {name: torch.zeros_like(p) for name, p in theta.items()}
        for site in rng.choice(SITES, SITES // 2, replace=False):
            module.load_state_dict(theta)
            optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
            for at in torch.randperm(ROWS).split(20):
                optimizer.zero_grad()
                output = module(X[site, at])
                if outputs > 1:
                    loss = functional.cross_entropy(output, y[site, at])
                else:
                    loss = functional.binary_cross_entropy_with_logits(output[:, 0], y[site, at].float())
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                for name, p in module.state_dict().items():
                    total[name] += (p - theta[name]) / (SITES // 2)
        theta = {name: p + total[name] for name, p in theta.items()}
    done = rounds * SITES / 2
    found = done / (time.perf_counter() - clock), done / (spent(os.getpid()) - cpu)
    torch.set_num_threads(threads)
    return found


HOW: dict[str, dict[str, Any]] = {
    "alone": {"workers": 1},
    "batched": {"workers": 1, "batched": True},
    "batched, 2 threads": {"workers": 2, "batched": True},
    "2 processes": {"processes": 2},
    **({"2 actors of Ray": {"processes": 2, "cluster": "local"}} if find_spec("ray") else {}),
}


def peers_here(kind: str, rounds: int, flower: str | None, pfl: str | None) -> Iterator[tuple[str, float, float]]:
    """The same by peers, each in the environment of its Python: what it is, updates a second and a CPU second."""
    own, folder = [kind, str(rounds), str(BEFORE)], Path(__file__).parent
    programs: dict[str, list[str]] = {}
    if pfl is not None:
        script = str(folder / "_pfl_clients.py")
        programs["pfl-research"] = [pfl, script, *own]
        launched = [pfl, "-m", "torch.distributed.run", "--nproc-per-node", "2", script, *own]
        programs["pfl-research, 2 processes"] = launched
    if flower is not None:
        programs["Flower, 2 actors of Ray"] = [flower, str(folder / "_flower_clients.py"), *own, "2"]
    for name, program in programs.items():
        done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found = [line for line in done.stdout.splitlines() if "FOUND " in line]
        if not found:
            raise RuntimeError(f"{name} ended without figures: {done.stderr[-2000:]}")
        yield name, *json.loads(found[-1].partition("FOUND ")[2])


def speed(kind: str, rounds: int, flower: str | None, pfl: str | None) -> Iterator[dict[str, Any]]:
    """A line for each way to simulate, and for each peer that is here."""
    (source, columns, classes), peers = KINDS[kind], PEERS[kind]
    frames = sites(columns, classes)
    said = ", ".join(f"{name} {value / peers['loop']:.2f}" for name, value in peers.items() if name != "loop")
    by_hand(kind, 1)  # what is loaded first
    clock, base = by_hand(kind, rounds)
    yield _line(kind, "loop by hand", clock, base, base, said)
    for how, settings in HOW.items():
        if settings.get("batched") and kind == "cnn":
            continue
        quick = bool(settings.get("batched")) and kind == "tab"
        with hanse.simulate(frames, **settings) as federation:
            clock, cpu = updates(federation, source, 10 * rounds if quick else rounds)
        yield _line(kind, how, clock, cpu, base, said)
    for name, clock, cpu in peers_here(kind, rounds, flower, pfl):
        yield _line(kind, name, clock, cpu, base, said)


def _line(kind: str, how: str, clock: float, cpu: float, base: float, said: str) -> dict[str, Any]:
    rates = {"updates_a_second": clock, "updates_a_cpu_second": cpu, "of_loop_by_hand": cpu / base}
    return {"model": kind, "sites_train": how, **rates, "peers_of_theirs": said}


def memory(count: int) -> float:
    """Peak memory in MB of a process that simulates so many sites out of 60,000 rows of 30 columns."""
    code = (
        "import resource, numpy as np, hanse; rng = np.random.default_rng(0); X = rng.normal(size=(60_000, 30));"
        "rows = {**{f'x{i}': X[:, i] for i in range(30)}, 'y': np.where(X[:, 0] > 0, 'a', 'b')};"
        f"sites = hanse.virtual_sites(rows, {count}, by='y', alpha=0.5, rows_each=100);"
        "f = hanse.simulate(sites); f.experiment(model='sgd_classifier', target='y', sample_id_column=None, rounds=3,"
        f"fraction={50 / count}, evaluate_every=0).run(progress=False);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    return float(subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--kinds", default="tab,lr,cnn")
    parser.add_argument("--sites", default="100,1000,10000")
    parser.add_argument("--flower-simulation", metavar="PYTHON", help="of an environment with flwr[simulation], torch")
    parser.add_argument("--pfl", metavar="PYTHON", help="of an environment with pfl, torch, psutil")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rates = ["updates_a_second", "updates_a_cpu_second", "of_loop_by_hand"]
    report = Report(["model", "sites_train", *rates, "peers_of_theirs"], given.json)
    for kind in filter(None, given.kinds.split(",")):
        rounds = max(2, given.rounds // 6) if kind == "cnn" else given.rounds
        for row in speed(kind, rounds, given.flower_simulation, given.pfl):
            report.add(row)
    report = Report(["virtual_sites", "peak_memory_mb"], given.json)
    for count in filter(None, given.sites.split(",")):
        report.add({"virtual_sites": int(count), "peak_memory_mb": memory(int(count))})


if __name__ == "__main__":
    main()
