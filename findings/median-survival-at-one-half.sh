#!/usr/bin/env bash
# Where a Kaplan-Meier curve is exactly 1/2 at an event, lifelines and statsmodels name different median survival times.
#
# Versions: lifelines 0.30.3, statsmodels 0.15.0, numpy 2.4.6.
# Behaviour: of the event times 1, 2, 3, 4 without censoring, S is 0.75, 0.5, 0.25, 0. lifelines gives the first time
#   with S(t) <= 1/2, which is 2; statsmodels' SurvfuncRight.quantile(0.5) gives the first time with S(t) < 1/2, which is
#   3. Neither gives the middle of the two, 2.5, which R's survival package is documented to give. For ten times 1 ... 10
#   the two differ at every tenth but 0.2, where 1 - 0.2 and the product 0.9 * (8/9) round to different numbers.
# Seen: "lifelines 2.0, statsmodels 3.0" and "equal at [0.2]".
# Fails if any of this changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check lifelines==0.30.3 statsmodels==0.15.0 numpy==2.4.6
env/bin/python -W ignore - <<'PYTHON'
import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.utils import qth_survival_time
from statsmodels.duration.survfunc import SurvfuncRight

times = np.arange(1.0, 5.0)
theirs = KaplanMeierFitter().fit(times, np.ones(4)).median_survival_time_
others = SurvfuncRight(times, np.ones(4)).quantile(0.5)
print(f"lifelines {theirs}, statsmodels {others}")
assert (theirs, others) == (2.0, 3.0)

times = np.arange(1.0, 11.0)
curve, other = KaplanMeierFitter().fit(times, np.ones(10)), SurvfuncRight(times, np.ones(10))
levels = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
equal = [p for p in levels if qth_survival_time(1 - p, curve) == other.quantile(p)]
print("equal at", equal)
assert equal == [0.2]
PYTHON
