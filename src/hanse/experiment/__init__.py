"""What a data scientist imports: ``hanse.simulate``, ``hanse.connect``, experiments and results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hanse.experiment.connection import connect
    from hanse.experiment.experiment import Analysis, Experiment, Federation, Update
    from hanse.experiment.results import Result, load_result
    from hanse.experiment.simulation import simulate

_PLACES = {
    "connect": "connection",
    "Analysis": "experiment",
    "Experiment": "experiment",
    "Federation": "experiment",
    "Update": "experiment",
    "Result": "results",
    "load_result": "results",
    "simulate": "simulation",
}

__all__ = ["Analysis", "Experiment", "Federation", "Result", "Update", "connect", "load_result", "simulate"]


def __getattr__(name: str) -> Any:  # the command line lists its groups without loading all this
    if name in _PLACES:
        return getattr(importlib.import_module(f"hanse.experiment.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'hanse.experiment' has no attribute {name!r}")
