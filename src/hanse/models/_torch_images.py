"""Networks of plain layers for images, computed with the channels of a pixel beside each other in memory.

PyTorch calls that order *channels last*. Its pooling, and much else between convolutions, takes one number at a time
where images lie channel by channel, and as many as a processor's registers hold where they lie by pixel: a small
network is trained in two thirds of the time. Its convolutions add in another order then, so the last digits differ.

A layer that asks for one order (``view``) fails in the other. So only what consists of PyTorch's own plain layers is
computed so, and of a plan's own those that say that any order will do, by ``channels_last = True`` in their class.

Pooling the largest is done before a ReLU that stands before it, which gives the same bits: the largest of what is cut
off at zero is the largest, cut off, and where all of a window is cut off no gradient passes either. There is a quarter
left to cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hanse.messages import Array

_SAYS = "channels_last"
_PLAIN = (
    *("Conv2d", "Linear", "Flatten", "Identity"),
    *("MaxPool2d", "AvgPool2d", "AdaptiveMaxPool2d", "AdaptiveAvgPool2d"),
    *("BatchNorm1d", "BatchNorm2d", "GroupNorm", "Dropout", "Dropout2d"),
    *("ReLU", "Tanh", "Sigmoid", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus"),
)


def layers(torch: Any, module: Any, plan: Mapping[str, Any]) -> list[Any] | None:
    """The layers of a network for images, in the order in which they are computed; None where an order of images in
    memory is asked for, or may be."""
    nn = torch.nn
    if "training_data" in plan:  # whose batches lie as they like
        return None
    found, plain = list(_leaves(nn, module)), {getattr(nn, name) for name in _PLAIN}
    if not any(isinstance(part, nn.Conv2d) for part in module.modules()):
        return None
    if not all((type(layer) in plain and not watched(layer)) or _any_order(layer) for layer in found):
        return None
    for place in range(len(found) - 1):
        first, second = found[place : place + 2]
        if type(first) is nn.ReLU and type(second) is nn.MaxPool2d and not second.return_indices:
            found[place : place + 2] = second, first
    return found


def lasting(torch: Any, module: Any, plan: Mapping[str, Any]) -> bool:
    """Whether one that has such layers is after a training, but for its parameters and buffers, what it was before, and
    draws no random numbers: then another site can train it, as if it had been built for that site. To build a small
    network takes a twelfth of the time of a training with five steps."""
    nn = torch.nn
    plain = {nn.Sequential, *(getattr(nn, name) for name in _PLAIN if not name.startswith("Dropout"))}
    own = {"loss", "optimizer", "sent"} & {*plan}
    types = {tensor.dtype for tensor in module.state_dict().values()} - {torch.float32, torch.int64}
    return not own and not types and all(type(part) in plain for part in module.modules())


def by_pixel(images: Array) -> Array:
    """(n, height, width, channels) as PyTorch's (n, channels, height, width), where they lie."""
    return np.ascontiguousarray(images).transpose(0, 3, 1, 2)


def by_channel(images: Array) -> Array:
    """The same, each channel by itself. Of images with one channel both orders are the same bytes, and NumPy leaves the
    strides of the other, by which PyTorch chooses."""
    n, height, width, channels = images.shape
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(-1).reshape(n, channels, height, width)


def _leaves(nn: Any, module: Any) -> Iterator[Any]:
    if type(module) is nn.Sequential and not watched(module):
        for part in module:
            yield from _leaves(nn, part)
    else:
        yield module


def watched(module: Any) -> bool:
    """Whether hooks hang on this part of a network or on its own parameters, or its ``forward`` is this object's own:
    what computes layers in another way would pass them by."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    own = any(p._backward_hooks or p._post_accumulate_grad_hooks for p in module.parameters(recurse=False))
    return bool(hooks) or own or "forward" in vars(module)


def _any_order(module: Any) -> bool:
    return getattr(type(module), _SAYS, False) is True
