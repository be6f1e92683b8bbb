#!/usr/bin/env bash
# SciPy's L-BFGS-B takes many times the processor time with two BLAS threads that it takes with one, for four parameters.
#
# Versions: scipy 1.17.1, numpy 2.4.6 (the wheels, each with an OpenBLAS of its own), two processors or more.
# Behaviour: the port of L-BFGS-B to C calls BLAS for matrices of twice the corrections that it keeps (20 x 20). OpenBLAS
#   gives such products to its threads, which then wait for each other by spinning. The results are the same bits.
#   Nothing of it is in the documentation of scipy.optimize.minimize; OPENBLAS_NUM_THREADS=1, or threadpoolctl, help.
# Seen: 0.03 ms of processor time for an evaluation with one thread, 1.16 ms with two.
# Fails if that changes: less than 3 times the processor time, or other results.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > measure.py <<'PYTHON'
import time

import numpy as np
from scipy.optimize import minimize


def objective(w):
    return float(((w - 1) ** 4).sum()), 4 * (w - 1) ** 3


def fit(k):
    return minimize(objective, np.full(4, k / 10 + 3.0), jac=True, method="L-BFGS-B", options={"maxiter": 30})


fit(0)
begun = time.process_time()
found = [fit(k) for k in range(60)]
spent, evaluations = time.process_time() - begun, sum(f.nfev for f in found)
print(1e3 * spent / evaluations, np.concatenate([f.x for f in found]).tobytes().hex())
PYTHON
one=$(OPENBLAS_NUM_THREADS=1 env/bin/python measure.py)
two=$(OPENBLAS_NUM_THREADS=2 env/bin/python measure.py)
env/bin/python - "$one" "$two" <<'PYTHON'
import sys

(one, first), (two, second) = (text.split() for text in sys.argv[1:])
print(f"an evaluation takes {float(one):.3f} ms of processor time with one thread, {float(two):.3f} ms with two")
assert first == second, "the results differ"
assert float(two) > 3 * float(one)
PYTHON
