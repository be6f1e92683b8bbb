"""The strategy that docs/strategies.md writes as one file outside the package, used for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
RUN = """
import json
import numpy as np
import hanse
from scipy.optimize import minimize

rng = np.random.default_rng(1)
X = rng.normal(size=(300, 3))
y = X @ [1.0, -1.0, 0.5] + rng.logistic(size=300) > 0
order = np.argsort(~y, kind="stable")
rows = {"ulm": order[:170], "bonn": order[130:260], "kiel": order[220:]}
sites = {n: {"a": X[r, 0], "b": X[r, 1], "c": X[r, 2], "y": y[r]} for n, r in rows.items()}
given = {"model": "logistic_regression", "target": "y", "sample_id_column": None, "test_fraction": 0.0, "seed": 1}
found = {}
for strategy in ("fedavg", "feddyn"):
    with hanse.simulate(sites) as federation:
        result = federation.experiment(**given, rounds=60, local_epochs=10, federated_strategy=strategy)
        record = result.run(progress=False).record
    assert record.data["algorithm"] == strategy
    mean, scale = record.arrays["prepared.mean"], record.arrays["prepared.scale"]
    Z, Y = [(X[r] - mean) / scale for r in rows.values()], [y[r].astype(float) for r in rows.values()]

    def whole(w):
        value, gradient = 0.0, np.zeros(4)
        for x, t in zip(Z, Y, strict=True):
            z = x @ w[:-1] + w[-1]
            slope = 1 / (1 + np.exp(-z)) - t
            value += (np.logaddexp(0, z) - t * z).sum() + (w[:-1] ** 2).sum() / 2
            gradient += np.append(slope @ x + w[:-1], slope.sum())
        return value, gradient

    best = minimize(whole, np.zeros(4), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9}).x
    reached = np.append(record.arrays["model.coef"], record.arrays["model.intercept"])
    found[strategy] = float(np.linalg.norm(reached - best))
print(json.dumps(found))
"""


def test_feddyn_as_one_file_outside_reaches_the_pooled_optimum(tmp_path: Path) -> None:
    block = next(b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if b.startswith("# algorithms/"))
    file = tmp_path / block.splitlines()[0].removeprefix("# ")
    file.parent.mkdir()
    file.write_text(block)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "HANSE_INGREDIENTS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["fedavg"] > 0.1
    assert found["feddyn"] < 0.02 * found["fedavg"]
