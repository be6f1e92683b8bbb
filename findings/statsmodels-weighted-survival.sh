#!/usr/bin/env bash
# The standard error of a survival curve of weighted rows is, in statsmodels, that of its cumulative hazard: of a curve
# that has fallen to a tenth it is ten times too large.
#
# Versions: statsmodels 0.15.0, lifelines 0.30.3, numpy 2.4.6, pandas 2.3.3.
# Behaviour: `SurvfuncRight(time, status, freq_weights=w)` says of `surv_prob_se` that it is the standard error of
#   `surv_prob`. Without weights it is Greenwood's formula times S(t). With them it is the root of the sum of d/n^2
#   (Tsiatis), which is the error of the logarithm of S(t), and is not multiplied by S(t). `surv_prob` itself is right.
#   `quantile_ci`, which divides by it, follows: intervals of a median are wider than those of the same rows, repeated.
#   lifelines (`KaplanMeierFitter.fit(weights=)`) has the same interval for weighted rows and for repeated ones.
# Seen: 200 rows that weigh 2 each, and the same 400 rows: the curve is the same. The ratio of the standard errors is
#   1 / S(t) to 5 %, from 1.0 at the first event to 16.1 at the end. The
#   interval of the median is 6.4 to 60.6 for the weighted rows and 7.1 to 8.9 for the repeated ones.
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check \
  statsmodels==0.15.0 lifelines==0.30.3 numpy==2.4.6 pandas==2.3.3
env/bin/python -W ignore - <<'PYTHON'
import numpy as np
from lifelines import KaplanMeierFitter
from statsmodels.duration.survfunc import SurvfuncRight

rng = np.random.default_rng(0)
true, censored = rng.exponential(10, 200), rng.exponential(40, 200)
time, status, weights = np.minimum(true, censored), (true <= censored).astype(int), np.full(200, 2)
weighted = SurvfuncRight(time, status, freq_weights=weights)
repeated = SurvfuncRight(np.repeat(time, 2), np.repeat(status, 2))
assert np.allclose(weighted.surv_prob, repeated.surv_prob)
told = repeated.surv_prob > 0.05
ratio, expected = (weighted.surv_prob_se / repeated.surv_prob_se)[told], 1 / repeated.surv_prob[told]
print("S(t)", repeated.surv_prob[told][[0, 50, -1]].round(3), "ratio", ratio[[0, 50, -1]].round(2))
assert np.abs(ratio / expected - 1).max() < 0.05, np.abs(ratio / expected - 1).max()
assert ratio[-1] > 10, ratio[-1]
medians = [curve.quantile_ci(0.5) for curve in (weighted, repeated)]
print("interval of the median: weighted", np.round(medians[0], 2), "repeated", np.round(medians[1], 2))
assert np.diff(medians[0])[0] > 1.2 * np.diff(medians[1])[0], medians
own = [
    KaplanMeierFitter().fit(time, status, weights=weights),
    KaplanMeierFitter().fit(np.repeat(time, 2), np.repeat(status, 2)),
]
assert np.allclose(*(curve.confidence_interval_survival_function_ for curve in own))
PYTHON
