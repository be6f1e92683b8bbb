"""Hanse: federated learning and analytics. Institutions that may not pool their data learn from it
together."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["connect", "load_result", "simulate", "virtual_sites"]
_PLACES = {
    "connect": "door",
    "simulate": "door",
    "virtual_sites": "virtual",
    "load_result": "results",
    "Experiment": "proposal",
    "Federation": "federation",
    "Result": "results",
}


def __getattr__(name: str) -> Any:  # `import hanse` stays cheap: the parts load when they are used
    if name in _PLACES:
        return getattr(importlib.import_module(f"hanse.experiment.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'hanse' has no attribute {name!r}")
