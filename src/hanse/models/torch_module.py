'''A PyTorch module, given as a training plan: source text that the data owners read before they agree.

The plan (setting ``plan``: ``{"source": ..., "name": ...}``) is plain Python with a function
``build(task, options)`` that returns the module. Its output is scores: (n,) or (n, 1) for binary (logits)
and regression, (n, k) logits for k classes. It may define ``loss(output, y)`` (y float32, or int64 class
indices for more than two classes) and ``optimizer(module, learning_rate)``; otherwise these are the
task's usual loss, and plain SGD. ``model_options`` go to ``build`` as they are.

>>> PLAN = """
... from torch import nn
... def build(task, options):
...     return nn.Sequential(nn.Linear(len(task.features), options["width"]), nn.ReLU(),
...                          nn.Linear(options["width"], task.outputs))
... """

The plan is executed where it trains, in a node's worker, and where its author loads the result;
never at the coordinator, so the first parameters come from the nodes (the run's seed makes them the
same everywhere). Whether plans are allowed at all is the gate's decision. How it is trained stands in
:mod:`hanse.models._torch`.
'''

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanse.learning.results import options_of, task_of
from hanse.messages import Array, Json, Record
from hanse.models import _torch
from hanse.models._torch import TorchModule
from hanse.task import NUMBER, PROBABILITIES, Task

NEEDS = "standardised"
LEARNS_BY = ("parameters",)
PREDICTS = (PROBABILITIES, NUMBER)
IMAGES = True
INITIALISED_BY = "nodes"


def build(task: Task, options: Mapping[str, Json]) -> TorchModule:
    """``options["plan"]`` is the training plan; all others are for the plan's own ``build``."""
    return _torch.planned("torch_module", task, options, PREDICTS)


def native(result: Record) -> Any:
    """The module in evaluation mode, on float32 design matrices. **Executes the plan** of the result: load
    only results whose plan you know. A regression's output is in the target's own units."""
    return _torch.native(result, build(task_of(result), options_of(result)))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`. **Executes the plan** of the result."""
    return _torch.predict(result, build(task_of(result), options_of(result)), X)
