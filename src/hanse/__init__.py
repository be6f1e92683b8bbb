"""Hanse: federated learning and analytics. Institutions that may not pool their data learn from it
together."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["connect", "load_result", "simulate"]


def __getattr__(name: str) -> Any:  # `import hanse` stays cheap: the parts load when they are used
    if name in ("connect", "simulate", "load_result", "Experiment", "Federation", "Result"):
        from hanse import experiment

        return getattr(experiment, name)
    raise AttributeError(f"module 'hanse' has no attribute {name!r}")
