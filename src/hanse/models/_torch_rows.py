"""The gradients of single rows of a PyTorch module, each of bounded length, and their sum.

``torch.func.vmap`` of ``grad`` computes those of a block of rows at once; a block is as many as some 64 MB hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array
from hanse.privacy import clipping

_HELD = 1 << 24  # numbers of a block's gradients


def clipped_gradients(
    torch: Any, module: Any, loss_of: Callable[[Any, Any], Any], X: Any, y: Any, bound: float
) -> dict[str, Array]:
    """By parameter the sum over rows of g min(1, bound / ‖g‖), float64, with ‖g‖ over all parameters together.

    Args:
        loss_of: the loss of a batch from its output and targets; here of batches of one.
        X, y: of n rows, from 0.

    Raises:
        ConfigError: rows of a batch are not apart from each other in the module (batch normalisation, counters).
    """
    if list(module.buffers()):
        raise ConfigError(
            "this module has running values, such as those of batch normalisation, into which rows go together; take "
            "one without, as with group normalisation"
        )
    learned = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    total = {name: np.zeros(tuple(p.shape)) for name, p in module.named_parameters()}
    size = sum(p.numel() for p in learned.values())
    block = max(1, _HELD // max(1, size))

    def one(w: Any, x: Any, target: Any) -> Any:
        return loss_of(torch.func.functional_call(module, w, (x[None],)), target[None])

    gradients = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0), randomness="different")
    for low in range(0, len(y), block):
        found = gradients(learned, X[low : low + block], y[low : low + block])
        squares = sum(g.double().flatten(1).square().sum(1) for g in found.values())
        lengths = torch.sqrt(squares).numpy()
        scale = torch.from_numpy(clipping.factors(lengths, bound))
        fine = torch.from_numpy(np.isfinite(lengths))
        for name, g in found.items():
            kept = torch.where(fine.reshape(-1, *[1] * (g.ndim - 1)), g.double(), 0.0)
            total[name] += torch.tensordot(scale, kept, 1).numpy()
    return total
