"""The library XGBoost, where it is installed, and the names of features that it accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hanse.errors import ConfigError


def library() -> Any:
    """The module. Raises ``ConfigError`` where it is not installed."""
    try:
        import xgboost
    except ImportError:
        raise ConfigError("XGBoost is not installed here; pip install 'hanse[xgboost]'") from None
    return xgboost


def plain_names(features: Sequence[str]) -> tuple[str, ...]:
    """Feature names that XGBoost accepts: their own, or f0, f1, ... for all if one holds ``[``,
    ``]`` or ``<``.

    >>> plain_names(["age", "g__[Ruminococcus]"]), plain_names(["age"])
    (('f0', 'f1'), ('age',))
    """
    barred = any(re.search(r"[\[\]<]", f) for f in features) or len(set(features)) < len(features)
    return tuple(f"f{i}" for i in range(len(features))) if barred else tuple(features)
