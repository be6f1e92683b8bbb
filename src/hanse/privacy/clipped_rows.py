"""Sums of gradients of which each row has a bounded part, of models made of dense layers.

The gradient of row i at the weights of a layer is the product of what goes in and of the error that comes back,
a_i δ_iᵀ, and δ_i at its intercepts, so its length over all layers follows without making it ::

    ‖g_i‖² = Σ_l ‖δ_{l,i}‖² (‖a_{l,i}‖² + 1),      Σ_i s_i g_i = (Σ_i s_i a_{l,i} δ_{l,i}ᵀ, Σ_i s_i δ_{l,i})_l

with s_i = min(1, C / ‖g_i‖). Without intercepts the 1 is not there.

References: Goodfellow 2015, "Efficient per-example gradient computations"; Abadi et al. 2016, "Deep learning with
differential privacy", algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.messages import Array
from hanse.privacy import clipping


def clipped_sums(
    inputs: Sequence[Array], errors: Sequence[Array], bound: float, intercepts: bool = True
) -> list[tuple[Array, Array]]:
    """Of each layer the sum at its weights, (in, out), and at its intercepts, (out,), zeros where there are none. One
    row more or less changes all of them together by at most ``bound`` (L2 norm).

    Args:
        inputs: a of each layer, (n, in).
        errors: δ of each layer, (n, out): the derivative of a row's loss by what the layer gives.
        bound: C.

    >>> clipped_sums([np.array([[3.0]])], [np.array([[4.0]])], 1.0, intercepts=False)
    [(array([[1.]]), array([0.]))]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = sum(
            np.square(e).sum(1) * (np.square(a).sum(1) + float(intercepts)) for a, e in zip(inputs, errors, strict=True)
        )
        lengths = np.sqrt(squares)
    scale, fine = clipping.factors(np.asarray(lengths), bound)[:, None], np.isfinite(lengths)[:, None]
    found = []
    for a, e in zip(inputs, errors, strict=True):
        scaled = scale * np.where(fine, e, 0.0)
        free = scaled.sum(0) if intercepts else np.zeros(e.shape[1])
        found.append((np.where(fine, a, 0.0).T @ scaled, free))
    return found


def clipped_linear(
    parameters: Mapping[str, Array], X: Array, errors: Array, bound: float, intercept: bool = True
) -> dict[str, Array]:
    """The same of a linear model, whose parameters are ``coef``, (k, f) or (f,), and ``intercept``, (k,).

    Args:
        X: (n, f).
        errors: (n, k), the derivative of a row's loss by its scores.
    """
    [(weights, free)] = clipped_sums([X], [errors], bound, intercept)
    return {"coef": weights.T.reshape(np.shape(parameters["coef"])), "intercept": free}
