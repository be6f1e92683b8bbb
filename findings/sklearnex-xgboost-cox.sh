#!/usr/bin/env bash
# The Extension for Scikit-learn reads an XGBoost Cox model one too high on the scale of log hazards: each hazard ratio is
# 2.72 times what the model says.
#
# Versions: scikit-learn-intelex 2026.2.0 (daal4py is in it), xgboost-cpu 3.2.0, scikit-learn 1.8.0, numpy 2.4.6.
# Behaviour: `daal4py.mb.convert_model` promises margins (the scale of the link) for models of regression. XGBoost's file
#   has base_score on the scale of the answer; its logarithm is taken for count:poisson, reg:gamma, reg:tweedie and
#   survival:aft, and not for survival:cox, whose margins get base_score itself. The order of the rows stays, so a
#   C-index does not see it; hazards and survival that are computed from it are others. SHAP values
#   (pred_contribs) have it in their intercept.
# Seen: survival:cox 1.000 too high (base_score is 1), with base_score=2.5 by 2.5 - ln 2.5 = 1.584; their SHAP values add
#   up to the same; Poisson, gamma and Tweedie under 1e-5.
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check \
  scikit-learn-intelex==2026.2.0 xgboost-cpu==3.2.0 scikit-learn==1.8.0 numpy==2.4.6
env/bin/python -W ignore - <<'PYTHON'
import numpy as np
import xgboost
from daal4py.mb import convert_model

rng = np.random.default_rng(0)
X = rng.normal(size=(600, 4)).astype(np.float32)
times = rng.exponential(np.exp(-X[:, 0]))
labels = {
    "survival:cox": np.where(rng.random(600) < 0.6, times, -times),
    "count:poisson": rng.poisson(np.exp(X[:, 0] / 2)),
    "reg:gamma": times + 0.1,
    "reg:tweedie": times,
}


def higher(objective, **more):
    """How much higher the converted model's margins are: least, most, and the sum of SHAP values at most."""
    data = xgboost.DMatrix(X, labels[objective])
    model = xgboost.train({"objective": objective, "max_depth": 3, "nthread": 1, **more}, data, 5)
    margin, read = model.predict(data, output_margin=True), convert_model(model)
    found = read.predict(X) - margin
    return float(found.min()), float(found.max()), float((read.predict(X, pred_contribs=True).sum(1) - margin).max())


cox, told = higher("survival:cox"), higher("survival:cox", base_score=2.5)
print(f"xgboost {xgboost.__version__}: Cox {cox[0]:.4f} to {cox[1]:.4f}, SHAP {cox[2]:.4f}; of 2.5: {told[1]:.4f}")
assert all(abs(value - 1) < 1e-4 for value in cox)
assert all(abs(value - (2.5 - np.log(2.5))) < 1e-4 for value in told)
for objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
    assert max(map(abs, higher(objective))) < 1e-5, objective
PYTHON
