#!/usr/bin/env bash
# After a Cox regression with Efron's ties, three packages give Breslow's baseline hazard, and statsmodels gives it a step late.
#
# Versions: lifelines 0.30.3, scikit-survival 0.28.0, statsmodels 0.15.0, numpy 2.4.6, pandas 2.3.3.
# Behaviour: of 60 rows at 8 times, many tied, with ties="efron" the three agree in the coefficient (0.605), and so they
#   would be expected to agree in Efron's baseline: at a time with d events, the sum over k = 0 ... d - 1 of
#   1 / (sum of risks - k/d * sum of the events' risks). All three use d / (sum of risks), as with Breslow's ties, without
#   saying so; the options of the fit do not reach the baseline. At the last time, where all who are left have the
#   event, the cumulative hazard is 1.417 for the 2.086 of Efron's. lifelines gives it at the mean of the covariates,
#   the other two at zero. statsmodels' baseline_cumulative_hazard gives at each time the hazard of the times before it,
#   so it begins with 0 and the last step is in none of its numbers.
# Seen: "coefficients 0.605 0.605 0.605", "Efron 2.086, Breslow 1.417", "lifelines 1.417, scikit-survival 1.417",
#   "statsmodels first 0.000, last 0.567, which is the last but one of the others 0.567".
# Fails if any of this changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check \
  lifelines==0.30.3 scikit-survival==0.28.0 statsmodels==0.15.0 numpy==2.4.6 pandas==2.3.3
env/bin/python -W ignore - <<'PYTHON'
import numpy as np
import pandas as pd
import statsmodels.api as sm
from lifelines import CoxPHFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis

rng = np.random.default_rng(0)
x = rng.normal(size=60)
t = np.ceil(rng.exponential(5, 60) * np.exp(-0.7 * x)).clip(1, 8)
e = rng.random(60) < 0.8
one = CoxPHFitter().fit(pd.DataFrame({"t": t, "e": e, "x": x}), "t", "e")  # its ties are Efron's
two = CoxPHSurvivalAnalysis(ties="efron").fit(x[:, None], np.array(list(zip(e, t)), [("e", bool), ("t", float)]))
three = sm.PHReg(t, x[:, None], status=e.astype(int), ties="efron").fit()
b = float(one.params_["x"])
print(f"coefficients {b:.3f} {two.coef_[0]:.3f} {three.params[0]:.3f}")
assert np.allclose([two.coef_[0], three.params[0]], b, atol=1e-5)


def cumulative(efron):
    total, found = 0.0, []
    for time in np.unique(t):
        risks, events = np.exp(b * x[t >= time]).sum(), np.exp(b * x[(t == time) & e])
        d = len(events)
        total += sum(1 / (risks - efron * k / d * events.sum()) for k in range(d))
        found.append(total)
    return np.array(found)


breslow, efron = cumulative(0), cumulative(1)
print(f"Efron {efron[-1]:.3f}, Breslow {breslow[-1]:.3f}")
first = one.baseline_cumulative_hazard_.to_numpy()[:, 0] * np.exp(-b * x.mean())  # from the mean to zero
second = two.cum_baseline_hazard_.y
print(f"lifelines {first[-1]:.3f}, scikit-survival {second[-1]:.3f}")
assert np.allclose(first, breslow, rtol=1e-4) and np.allclose(second, breslow, rtol=1e-4)
times, late, _ = three.baseline_cumulative_hazard[0]
order = np.unique(times, return_index=True)
late = np.asarray(late)[order[1]]
print(f"statsmodels first {late[0]:.3f}, last {late[-1]:.3f}, which is the last but one of the others {second[-2]:.3f}")
assert np.array_equal(order[0], np.unique(t)) and np.allclose(late, [0.0, *breslow[:-1]], rtol=1e-4)
PYTHON
