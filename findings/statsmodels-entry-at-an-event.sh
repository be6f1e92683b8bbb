#!/usr/bin/env bash
# Who enters at the time of an event is at risk of it in statsmodels' Cox regression and not in its survival curve, so
# rows that are cut in two at a time where somebody dies are at risk of that death twice.
#
# Versions: statsmodels 0.15.0, lifelines 0.30.3, numpy 2.4.6, pandas 2.3.3.
# Behaviour: `SurvfuncRight(entry=)` says that a subject is not in the risk set on or before its entry time, as in the
#   literature and in R's (start, stop]. `PHReg(entry=)` says nothing of it, and counts a row at risk from its entry
#   time on, this included. A patient whose covariates change is given as two rows, the second of which enters when the
#   first ends; where somebody dies then, both are at risk. lifelines' `CoxPHFitter(entry_col=)` leaves the second out.
# Seen: 300 rows with times of 1 to 12, each cut at every whole time before its end, covariate unchanged: lifelines'
#   coefficient stays 0.3563, and statsmodels' becomes 0.3727. Cut half-way between, where nobody dies, both stay.
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check \
  statsmodels==0.15.0 lifelines==0.30.3 numpy==2.4.6 pandas==2.3.3
env/bin/python -W ignore - <<'PYTHON'
import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from statsmodels.duration.hazard_regression import PHReg

rng = np.random.default_rng(0)
x = rng.normal(size=300)
time, status = np.ceil(12 * rng.random(300) ** np.exp(0.5 * x)), rng.integers(0, 2, 300)
whole = pd.DataFrame({"entry": 0.0, "time": time, "status": status, "x": x})


def cut(*at: float) -> pd.DataFrame:
    """The same rows, each in two where it goes on after such a time."""
    parts = []
    for begin, end in zip((0.0, *at), (*at, 13.0)):
        part = whole[whole["time"] > begin].assign(entry=begin)
        ends = part["time"] <= end
        parts.append(part.assign(time=part["time"].clip(upper=end), status=part["status"].where(ends, 0)))
    return pd.concat(parts, ignore_index=True)


def statsmodels(rows: pd.DataFrame) -> float:
    model = PHReg(rows["time"], rows[["x"]], status=rows["status"], entry=rows["entry"], ties="efron")
    return float(model.fit().params[0])


def lifelines(rows: pd.DataFrame) -> float:
    return float(CoxPHFitter().fit(rows, "time", "status", entry_col="entry").params_["x"])


found = {fit.__name__: [fit(rows) for rows in (whole, cut(*range(1, 12)), cut(*np.arange(1.5, 12)))] for fit in (statsmodels, lifelines)}
print(found)
assert np.ptp(found["lifelines"]) < 1e-6
assert abs(found["statsmodels"][2] - found["lifelines"][2]) < 1e-4
assert abs(found["statsmodels"][1] - found["statsmodels"][0]) > 0.01
PYTHON
