"""The strategy that docs/strategies.md writes as one file outside the package, used for real, as in a notebook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.waiting import PATIENCE

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
RUN = """
import json
import sys
import numpy as np
import hanse
from hanse.registry import extend
from scipy.optimize import minimize

extend(sys.argv[1])
rng = np.random.default_rng(1)
X = rng.normal(size=(300, 3))
y = X @ [1.0, -1.0, 0.5] + rng.logistic(size=300) > 0
order = np.argsort(~y, kind="stable")
rows = {"bonn": order[130:260], "kiel": order[220:], "ulm": order[:170]}
sites = {n: {"a": X[r, 0], "b": X[r, 1], "c": X[r, 2], "y": y[r]} for n, r in rows.items()}
given = {"model": "logistic_regression", "target": "y", "sample_id_column": None, "test_fraction": 0.0, "seed": 1}
with hanse.simulate(sites) as federation:
    result = federation.experiment(**given, rounds=6, local_epochs=3, federated_strategy="fedexp").run(progress=False)
record = result.record
mean, scale = record.arrays["prepared.mean"], record.arrays["prepared.scale"]
Z, Y = [(X[r] - mean) / scale for r in rows.values()], [y[r].astype(float) for r in rows.values()]
share = np.array([len(t) for t in Y]) / sum(len(t) for t in Y)
w, rates = np.zeros(4), []
for _ in range(6):
    changes = []
    for x, t in zip(Z, Y, strict=True):

        def objective(v):
            z = x @ v[:-1] + v[-1]
            slope = (1 / (1 + np.exp(-z)) - t) / len(t)
            value = (np.logaddexp(0, z) - t * z).mean() + (v[:-1] ** 2).sum() / (2 * len(t))
            return value, np.append(slope @ x + v[:-1] / len(t), slope.sum())

        changes.append(minimize(objective, w, jac=True, method="L-BFGS-B", options={"maxiter": 3}).x - w)
    step = share @ changes
    rates.append(max(1.0, share @ [(d**2).sum() for d in changes] / (2 * ((step**2).sum() + 1e-3))))
    w = w + rates[-1] * step
reached = np.append(record.arrays["model.coef"], record.arrays["model.intercept"])
print(json.dumps({"by": record.data["algorithm"], "off": float(np.abs(reached - w).max()), "rates": rates}))
"""


def test_fedexp_as_one_file_outside_is_its_papers_algorithm(tmp_path: Path) -> None:
    block = next(b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if b.startswith("# algorithms/"))
    file = tmp_path / block.splitlines()[0].removeprefix("# ")
    file.parent.mkdir()
    file.write_text(block)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["by"] == "fedexp"
    assert max(found["rates"]) > 1.1
    assert found["off"] < 1e-10
