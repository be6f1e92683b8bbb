#!/usr/bin/env bash
# XGBoost's survival:cox does not take a weight of 2 for what it takes two equal rows for; its other objectives do.
#
# Versions: xgboost-cpu 3.2.0, numpy 2.4.6.
# Behaviour: weights multiply the gradients and Hessians of rows, as everywhere, but not the rows' part in the risk sets:
#   a row of weight w has g = w * (-event + exp(F) * sum over deaths up to its time of 1 / sum over who is at risk of
#   exp(F)), where the weighted partial likelihood (Binder 1992; coxph of R) has w inside both sums. So a model that was
#   trained on weights is not the one that was trained on repeated rows, and with weights that differ much from each
#   other it fits another likelihood than the survival packages do.
# Seen, for one stump of 40 rows, every other one of weight 2 or twice there: equal margins for binary:logistic,
#   reg:squarederror and count:poisson; for survival:cox margins up to 0.29 apart; the split's sums are those of risk
#   sets that count each row once.
# Fails if any of this changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check xgboost-cpu==3.2.0 numpy==2.4.6
env/bin/python -W ignore - <<'PYTHON'
import json

import numpy as np
import xgboost as xgb

rng = np.random.default_rng(0)
x = rng.normal(size=(40, 1)).astype(np.float32)
time, event = rng.permutation(40) + 1.0, rng.random(40) < 0.7
weight = np.where(np.arange(40) % 2 == 0, 2.0, 1.0)
once, twice = np.arange(40), np.repeat(np.arange(40), weight.astype(int))
STUMP = {"max_depth": 1, "eta": 1.0, "lambda": 0.0, "min_child_weight": 0, "base_score": 0.5, "tree_method": "exact"}


def stump(objective, label, weights, rows):
    data = xgb.DMatrix(x[rows], label[rows], weight=None if weights is None else weights[rows])
    return xgb.train({"objective": objective, **STUMP}, data, 1)


labels = {
    "binary:logistic": event.astype(float),
    "reg:squarederror": time,
    "count:poisson": time,
    "survival:cox": np.where(event, time, -time),
}
apart = {}
for objective, label in labels.items():
    margins = [
        stump(objective, label, weights, rows).predict(xgb.DMatrix(x), output_margin=True)
        for weights, rows in ((weight, once), (None, twice))
    ]
    apart[objective] = float(np.abs(margins[0] - margins[1]).max())
    print(f"{objective}: weights and repeated rows are {apart[objective]:.2f} apart")
assert [objective for objective, far in apart.items() if far > 1e-6] == ["survival:cox"], apart
assert 0.28 < apart["survival:cox"] < 0.31

# the sum of Hessians at the root tells which risk sets were summed; exp(F) is 0.5 for all
tree = json.loads(stump("survival:cox", labels["survival:cox"], weight, once).save_raw("json"))
found = float(tree["learner"]["gradient_booster"]["model"]["trees"][0]["sum_hessian"][0])


def hessians(inside):
    order = np.argsort(time)
    at_risk = np.cumsum(inside[order][::-1])[::-1]
    first, second = np.cumsum(event[order] / at_risk), np.cumsum(event[order] / at_risk**2)
    return float((weight[order] * (first - second * inside[order])).sum())


unweighted, weighted = hessians(np.ones(40)), hessians(weight)
print(f"sum of Hessians {found:.4f}; risk sets of rows {unweighted:.4f}, of weights {weighted:.4f}")
assert abs(found - unweighted) < 1e-4 < abs(found - weighted)
PYTHON
