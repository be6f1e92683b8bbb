#!/usr/bin/env bash
# Categories of a pandas frame whose names are not ASCII are read as other ones, or as none, by XGBoost 3.1 to 3.3.
#
# Version: xgboost-cpu 3.2.0 (3.1.0 to 3.3.0 alike; 3.4.0 reads them rightly), pandas 2.3.3, Python 3.11.
# Behaviour: the names of categories are handed over as UTF-8 bytes with lengths in characters, so that every name after
#   the first one outside ASCII is cut at the wrong place. A model learns of "a", "ü", "b"; a frame that holds "b" alone
#   "is not in the training set". With "u" in the place of "ü" the same model predicts it.
# Seen: an error with "ü", 0.98 with "u".
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check xgboost-cpu==3.2.0 pandas==2.3.3
env/bin/python -W ignore - <<'PYTHON'
import pandas as pd
import xgboost


def predicted(name):
    """The probability of "b", where the other categories are "a" and this one; None where it is not known."""
    train = pd.DataFrame({"x": pd.Categorical(["a", name, "b"] * 50, categories=["a", name, "b"])})
    rows = xgboost.DMatrix(train, (train.x == "b").astype(int), enable_categorical=True)
    model = xgboost.train({"objective": "binary:logistic", "max_cat_to_onehot": 1, "nthread": 1}, rows, 20)
    asked = pd.DataFrame({"x": pd.Categorical(["b"], categories=["b"])})
    try:
        return float(model.predict(xgboost.DMatrix(asked, enable_categorical=True))[0])
    except xgboost.core.XGBoostError as error:
        assert "not in the training set" in str(error), error
        return None


plain, umlaut = predicted("u"), predicted("ü")
print(f"xgboost {xgboost.__version__}: b beside u {plain:.3f}, b beside ü {umlaut}")
assert plain > 0.9 and umlaut is None
PYTHON
