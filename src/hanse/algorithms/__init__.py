"""Federated computations: one file each, both halves together (:class:`hanse.kinds.Algorithm`).

A file without a leading underscore is an algorithm that a run can choose; the others are parts of them: what
is agreed on before, how it is evaluated. A file has ``ALGORITHM``, its class. ``NEEDS_DATA = False``
marks one that touches no data,
``NEEDS_MODEL = False`` one that reads rows as they are (:class:`hanse.kinds.Source`) and learns no
model; all others run after the preparation and learn a model of :mod:`hanse.models`. A file may have
``ingredients(options)``, further modules of the node's half that depend on the run's options, and
``averages(options)``, whether a node's weight decides what it counts for (True where it has none).
"""

from __future__ import annotations

import importlib

from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.messages import Record
from hanse.registry import find, names
from hanse.stages import Stages

AUTOMATIC = ("auto", "model_aggregation")  # the second is mllabiome's word for it


def resolve(config: RunConfig) -> str:
    """The name of the algorithm that a configuration means. Raises ``ConfigError`` where the
    algorithm and the model do not fit."""
    chosen = config.federated_strategy
    if chosen in AUTOMATIC:
        return str(find("models", config.model_name).ALGORITHM)
    module = find("algorithms", chosen)
    if getattr(module, "NEEDS_DATA", True) and getattr(module, "NEEDS_MODEL", True):
        fitting = getattr(find("models", config.model_name), "ALGORITHMS", None)
        fitting = fitting or (find("models", config.model_name).ALGORITHM,)
        if chosen not in fitting:
            raise ConfigError(f"{config.model_name} does not learn by {chosen}; it learns by {', '.join(fitting)}")
    return chosen


def needs_data(config: RunConfig) -> bool:
    """Whether the run touches data at all."""
    return bool(getattr(find("algorithms", resolve(config)), "NEEDS_DATA", True))


def needs_model(config: RunConfig) -> bool:
    """Whether the run learns a model, from prepared rows."""
    return needs_data(config) and bool(getattr(find("algorithms", resolve(config)), "NEEDS_MODEL", True))


def files(config: RunConfig) -> tuple[str, ...]:
    """The files of this folder that the run uses, in the order of its stages."""
    return ("_preparation", resolve(config)) if needs_model(config) else (resolve(config),)


def ingredients(config: RunConfig) -> tuple[str, ...]:
    """Further modules of the node's half that the run's options ask for."""
    module = find("algorithms", resolve(config))
    return tuple(module.ingredients(config.model_options)) if hasattr(module, "ingredients") else ()


def build(config: RunConfig, start: Record | None = None) -> Stages:
    """The algorithm of a run, its stages in turn. ``start``: the model that the training goes on from
    (coordinator); nodes get it with their first task, as any other parameters."""
    settings = config.to_json()
    if needs_model(config):
        find("models", config.model_name)  # an unknown model is an error before anything is asked
        module = find("algorithms", resolve(config))
        if config.max_weight_share < 1 and hasattr(module, "averages") and not module.averages(config.model_options):
            raise ConfigError(
                f"{config.model_name} does not average what the sites learn, so max_weight_share has "
                "nothing to bound; leave it out"
            )
    stages = [importlib.import_module(f"hanse.algorithms.{name}").ALGORITHM() for name in files(config)]
    if start is not None:
        from hanse.algorithms._continued import Continued

        stages[-1] = Continued(stages[-1], start)
    return Stages(stages, settings)


def continuing(config: RunConfig, start: Record) -> RunConfig:
    """The configuration of a run that trains the model ``start`` further: with its columns, where it
    names none. Raises ``ConfigError`` where the two do not fit."""
    from hanse.algorithms import _continued

    if not needs_model(config):
        raise ConfigError(f"{resolve(config)} learns no model; leave initial_model out")
    return _continued.settings(config, start)


__all__ = ["build", "continuing", "files", "ingredients", "names", "needs_data", "needs_model", "resolve"]
