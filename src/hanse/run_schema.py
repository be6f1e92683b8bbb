"""What a run can be set to here: its settings, and the ingredients that they may name, with theirs."""

from __future__ import annotations

from hanse import algorithms, registry
from hanse.config import APART, RunConfig
from hanse.messages import Json


def run_schema() -> dict[str, Json]:
    """The settings of every run; the ingredients that they may name, by folder, with the settings of each
    (``apart``: where those of a folder stand, if not beside those of every run); and the algorithm that
    ``auto`` means, by model. Loads every ingredient that is installed."""
    return {
        "settings": RunConfig.describe(),
        "ingredients": {folder: registry.describe(folder) for folder in RunConfig.folders()},
        "apart": APART,
        "automatic": {name: algorithms.resolve(RunConfig(model_name=name)) for name in registry.names("models")},
    }
