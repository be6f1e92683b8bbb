"""A small convolutional network in PyTorch, for images: two convolutions with pooling, and a hidden layer.

With c channels and h hidden neurons, on images of height x width x depth::

    conv 3x3 (c), ReLU, max 2x2, conv 3x3 (2c), ReLU, max 2x2, dense (h), ReLU, dense (outputs)

Its code is Hanse's own, so no owner has to allow a training plan for it. The nodes make the first parameters, the same
everywhere. LeCun et al. 1998, "Gradient-based learning applied to document recognition"; of the size that McMahan et
al. 2017 average, "Communication-efficient learning of deep networks from decentralized data".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanse.errors import ConfigError
from hanse.learning.fitting import task_fits
from hanse.learning.results import options_of, task_of
from hanse.messages import Array, Json, Record
from hanse.models import _torch
from hanse.models._torch import TorchModule
from hanse.settings import Setting, checked, maybe, whole, wholes
from hanse.task import NUMBER, PROBABILITIES, Task

NEEDS = "standardised"
LEARNS_BY = ("parameters", "row_gradients")
PREDICTS = (PROBABILITIES, NUMBER)
IMAGES = True
INITIALISED_BY = "nodes"
SETTINGS = {
    "input_shape": Setting([28, 28, 1], "height, width and depth of the images", wholes(1, 4096, 3)),
    "num_classes": Setting(None, "how many labels are expected; null: as many as there are", maybe(whole(2))),
    "channels": Setting(16, "of the first convolution; the second has twice as many", whole(1, 4096)),
    "hidden": Setting(64, "neurons of the hidden layer", whole(1, 100_000)),
}
_SOURCE = "from hanse.models.cnn import network as build"
_LEAST = 4  # pixels of height and width, of which two times pooling leaves one


def read(options: Mapping[str, Json]) -> dict[str, Json]:
    """All options. Raises ``ConfigError`` for the first that is wrong."""
    found = checked(options, SETTINGS, of="cnn")
    shape = found["input_shape"]
    if len(shape) != 3 or min(shape[:2]) < _LEAST:
        raise ConfigError(f"input_shape of cnn is {shape}; expected height and width of at least {_LEAST}, and depth")
    return found


def network(task: Task, options: Mapping[str, Json]) -> Any:
    """The module for a task, with its first parameters drawn from PyTorch's generator."""
    nn = _torch.library().nn
    (height, width, depth), channels, hidden = options["input_shape"], options["channels"], options["hidden"]
    if options["num_classes"] not in (None, len(task.classes)):
        raise ConfigError(f"num_classes of cnn is {options['num_classes']}, and the sites have {len(task.classes)}")

    class Sized(nn.Module):  # type: ignore[misc, name-defined]
        """Lets images of the right size pass."""

        channels_last = True

        def forward(self, x: Any) -> Any:
            if tuple(x.shape[1:]) != (depth, height, width):
                found = [x.shape[2], x.shape[3], x.shape[1]] if x.ndim == 4 else list(x.shape[1:])
                raise ConfigError(f"input_shape of cnn is {[height, width, depth]}, and the rows have {found}")
            return x

    return nn.Sequential(
        Sized(),
        nn.Conv2d(depth, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * (height // 4) * (width // 4), hidden),
        nn.ReLU(),
        nn.Linear(hidden, task.outputs),
    )


def build(task: Task, options: Mapping[str, Json]) -> TorchModule:
    task_fits("cnn", task, PREDICTS)
    return TorchModule(task, _SOURCE, read(options), "cnn")


def native(result: Record) -> Any:
    """The module in evaluation mode, on (n, depth, height, width) float32 in [0, 1]."""
    return _torch.native(result, build(task_of(result), options_of(result)))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    return _torch.predict(result, build(task_of(result), options_of(result)), X)
