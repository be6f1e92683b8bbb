"""A PyTorch module on values as they are, such as the tokens of texts; a training plan as of ``torch_module``.

The module gets the columns in their order as float32, NaN where a value is missing, categories in one column each; what
stands for something else, such as a token's number, the plan turns into it (``x.long()``). With ``sent(module)`` the
plan says which parameters travel::

    from peft import LoraConfig, get_peft_model

    def build(task, options):
        return get_peft_model(language_model(task.outputs), LoraConfig(task_type="SEQ_CLS", r=8))

    def sent(module):
        return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanse.learning.results import options_of, task_of
from hanse.messages import Array, Json, Record
from hanse.models import _torch
from hanse.models._torch import TorchModule
from hanse.task import NUMBER, PROBABILITIES, Task

NEEDS = "raw"
LEARNS_BY = ("parameters",)
PREDICTS = (PROBABILITIES, NUMBER)
INITIALISED_BY = "nodes"


def build(task: Task, options: Mapping[str, Json]) -> TorchModule:
    """As of ``torch_module``."""
    return _torch.planned("torch_raw", task, options, PREDICTS)


def native(result: Record) -> Any:
    """The module in evaluation mode, on float32 rows as they are. **Executes the plan** of the result."""
    return _torch.native(result, build(task_of(result), options_of(result)))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`. **Executes the plan** of the result."""
    return _torch.predict(result, build(task_of(result), options_of(result)), X)
