#!/usr/bin/env bash
# onnxmltools writes XGBoost models of some objectives as ONNX graphs that answer something else, without a word.
#
# Versions: onnxmltools 1.16.0, skl2onnx 1.20.0, onnx 1.23.2, onnxruntime 1.32.0, xgboost-cpu 3.2.0, numpy 2.4.6.
# Behaviour: convert_xgboost takes a Booster of any objective. It appends the transformation of the margin for
#   binary:logistic, multi:softprob, count:poisson, reg:gamma and reg:tweedie; for others it appends none, or takes the
#   model for a classifier:
#     survival:cox, survival:aft   a binary classifier with two "probabilities"; hazard ratio and time are nowhere (whether
#                    all covers of the trees are whole numbers decides if a model counts as a classifier)
#     reg:logistic   the margin, shifted, where the model predicts a number between 0 and 1
#     binary:hinge   the margin, where the model predicts 0 or 1
#   and of several outputs of reg:quantileerror or reg:squarederror, all trees go to the first output; the others are 0.
#   onnx's checker and onnxruntime accept all of these graphs.
# Seen: as above; binary:logistic, count:poisson and reg:squarederror (one output) equal XGBoost to 1e-4.
# Fails if any of this changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check \
  onnxmltools==1.16.0 skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.32.0 xgboost-cpu==3.2.0 numpy==2.4.6
env/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import xgboost as xgb
from onnxmltools.convert.common.data_types import FloatTensorType

onnxruntime.set_default_logger_severity(4)
rng = np.random.default_rng(0)
x = rng.normal(size=(400, 4)).astype(np.float32)
level = x[:, 0] + x[:, 1] ** 2
high, time = (level > 1).astype(float), np.exp(-level / 3) * rng.exponential(size=400) + 0.01
died = rng.random(400) < 0.7


def both(objective, target, **settings):
    """What XGBoost predicts, its margin, and the outputs of the graph."""
    data = xgb.DMatrix(x, target)
    if objective == "survival:aft":
        data.set_float_info("label_lower_bound", time)
        data.set_float_info("label_upper_bound", np.where(died, time, np.inf))
    booster = xgb.train({"objective": objective, "max_depth": 3, **settings}, data, 10)
    graph = onnxmltools.convert_xgboost(booster, initial_types=[("x", FloatTensorType([None, 4]))])
    onnx.checker.check_model(graph)
    answer = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"x": x})
    data = xgb.DMatrix(x)
    return booster.predict(data), booster.predict(data, output_margin=True), answer


for objective, target in (
    ("binary:logistic", high),
    ("count:poisson", rng.poisson(np.exp(level / 3))),
    ("reg:squarederror", level),
):
    predicted, _, answer = both(objective, target)
    apart = np.abs(predicted - answer[-1][:, -1]).max()
    print(f"{objective:17} equal, to {apart:.1g}")
    assert apart < 1e-4

for objective, target in (("survival:cox", np.where(died, time, -time)), ("survival:aft", time)):
    predicted, _, answer = both(objective, target)
    print(f"{objective:17} predicted {predicted[:3]}, graph {[a.shape for a in answer]}: {answer[-1][:3].tolist()}")
    assert len(answer) == 2 and answer[0].dtype == np.int64 and answer[1].shape == (400, 2)
    assert np.allclose(answer[1].sum(axis=1), 1)
    assert min(np.abs(predicted - answer[1][:, k]).max() for k in (0, 1)) > 0.5

for objective, target in (("reg:logistic", 1 / (1 + np.exp(-level))), ("binary:hinge", high)):
    predicted, margin, answer = both(objective, target)
    told = answer[-1].ravel()
    print(f"{objective:17} predicted {predicted[:3]}, margin {margin[:3]}, graph {told[:3]}")
    assert np.abs(told - predicted).max() > 0.5
    assert (told - margin).std() < 1e-4  # the margin, all but for what is added to each

for objective, target, settings in (
    ("reg:quantileerror", level, {"quantile_alpha": [0.1, 0.9]}),
    ("reg:squarederror", np.c_[level, 10 + x[:, 2]], {}),
):
    predicted, _, answer = both(objective, target, **settings)
    print(f"{objective:17} of two outputs: {predicted[0]}, graph {answer[-1][0]}")
    assert answer[-1].shape == predicted.shape == (400, 2)
    assert not answer[-1][:, 1].any() and predicted[:, 1].std() > 0.1
PYTHON
