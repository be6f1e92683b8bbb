#!/usr/bin/env bash
# The variance that lifelines gives beside a restricted mean survival time is that of one person's time, not that of the
# estimate, and does not fall with the number of persons.
#
# Versions: lifelines 0.30.3, numpy 2.4.6, Python 3.11.
# Behaviour: `lifelines.utils.restricted_mean_survival_time(fitted, t, return_variance=True)` is (mean, variance), and the
#   docstring does not say of what. It is E[min(T, t)^2] - E[min(T, t)]^2. The square of the estimate's standard error,
#   which a confidence interval or a comparison of two groups needs, is about 1/n of it, and depends on the censoring.
# Seen: of 50 rows and of the same rows 100 times, the same variance (8.2), where the estimates of 40 fresh samples of 50
#   rows have a variance of 0.18.
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check lifelines==0.30.3 numpy==2.4.6
env/bin/python -W ignore - <<'PYTHON'
import lifelines
import numpy as np
from lifelines.utils import restricted_mean_survival_time

rng = np.random.default_rng(0)


def sample(n):
    times, censored = rng.exponential(5.0, n), rng.exponential(15.0, n)
    return np.minimum(times, censored), times <= censored


def told(times, events):
    return restricted_mean_survival_time(lifelines.KaplanMeierFitter().fit(times, events), t=8.0, return_variance=True)


times, events = sample(50)
(_, once), (_, often) = told(times, events), told(np.tile(times, 100), np.tile(events, 100))
spread = np.var([told(*sample(50))[0] for _ in range(40)])
print(f"lifelines {lifelines.__version__}: variance told of 50 rows {once:.2f}, of 5,000 {often:.2f}; of the estimate {spread:.2f}")
assert abs(once / often - 1) < 1e-9 and once > 20 * spread
PYTHON
