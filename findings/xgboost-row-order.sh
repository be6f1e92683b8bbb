#!/usr/bin/env bash
# The same rows in another order give another XGBoost model, on one thread, with the same seed and without sampling.
#
# Version: xgboost-cpu 3.2.0 (the same library as xgboost, without CUDA), numpy 2.4.6.
# Behaviour: tree_method "hist" sketches each column's quantiles as rows come, so the cuts depend on the order of rows. With
#   200,000 rows of 10 normal features, 20 rounds and default parameters, the predicted probabilities of the two models
#   differ by more than 0.1 for some rows. With 5,000 rows, all of which the sketch keeps, the cuts are alike, and only
#   the order of floating-point sums is left.
# Seen: largest difference 0.24 for 200,000 rows.
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check xgboost-cpu==3.2.0 numpy==2.4.6
env/bin/python -W ignore - <<'PYTHON'
import numpy as np
import xgboost

rng = np.random.default_rng(0)
rows = 200_000
X = rng.normal(size=(rows, 10))
y = (rng.random(rows) < 1 / (1 + np.exp(-(X[:, 0] + X[:, 1] * X[:, 2])))).astype(int)
order = rng.permutation(rows)
asked = xgboost.DMatrix(X[:5000])


def fit(X, y):
    settings = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "seed": 0}
    return xgboost.train(settings, xgboost.DMatrix(X, y), 20).predict(asked)


def apart(n):
    kept = order[order < n]
    return float(np.abs(fit(X[:n], y[:n]) - fit(X[kept], y[kept])).max())


large, small = apart(rows), apart(5000)
print(f"xgboost {xgboost.__version__}: {rows} rows {large:.3f} apart, 5000 rows {small:.6f} apart")
assert large > 0.1
PYTHON
