"""The regression table of an exact fit, as the page shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hanse import coefficients
from hanse.errors import DataError, NotFound
from hanse.messages import Record

LARGEST = 8 << 20  # bytes of a Hessian; above, decomposing its Hessian here would keep others waiting
TOO_LARGE = "the regression table of so many columns is made where it is wanted: result.coefficients() in Python"


def shown(result: Record, level: float = 0.95) -> dict[str, Any]:
    """The terms of a result, with their ratios where the coefficients are logarithms.

    Args:
        result: of a run that learned a model.
        level: of the confidence intervals, in (0, 1).

    Returns:
        ``terms``: as :class:`hanse.coefficients.Term`, where the effect is a ratio with ``ratio``, ``ratio_low`` and
        ``ratio_high``; none where the model was not fitted exactly. ``effect``: ``odds_ratio``, ``rate_ratio``,
        ``hazard_ratio`` or "". ``level``. ``why``: why there are no terms. ``basis``: how many rows it is of. Infinite
        numbers are None, as JSON has none.

    Raises:
        NotFound: the table is so large that it is not made here.
    """
    if "fit.hessian" in result.arrays and result.arrays["fit.hessian"].nbytes > LARGEST:
        raise NotFound(TOO_LARGE)
    told: dict[str, Any] = {"terms": [], "effect": "", "level": level, "why": "", "basis": coefficients.basis(result)}
    try:
        terms = coefficients.of(result, level)
    except NotFound as error:
        return told | {"why": error.message}
    rows = [asdict(term) for term in terms]
    try:
        told["effect"] = effect = coefficients.effect(result)
    except DataError:  # a linear model's coefficients are no logarithms
        pass
    else:
        for row, one in zip(rows, coefficients.ratios(terms, effect), strict=True):
            row |= {"ratio": one[effect], "ratio_low": one["low"], "ratio_high": one["high"]}
    return told | {"terms": [_finite(row) for row in rows]}


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
