"""What the sites of a run have in common: its features, and what is odd about their columns and labels.

The same for a proposal at a coordinator, for a look at the sites before, and for a simulation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from hanse import algorithms, comparison, features
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.registry import find
from hanse.summary import CLASSES
from hanse.table import ColumnKind, label_values
from hanse.task import PROBABILITIES

Labels = Mapping[str, Mapping[str, Sequence[str]]]  # target to node to the labels that it told
_NO_NUMBERS = (ColumnKind.CATEGORICAL, ColumnKind.BOOLEAN)


def of(config: RunConfig, schemas: features.Schemas, labels: Labels, metadata: Collection[str] = ()) -> dict[str, Json]:
    """The alignment of a run, as its bundle holds it, with a sentence for each thing that is odd.

    Args:
        schemas: node to the columns of its dataset and their kinds.
        labels: of each target.
        metadata: columns that are features only where the run names them.

    Raises:
        ConfigError: as :func:`hanse.features.align` and :func:`hanse.features.survey`.
    """
    if not algorithms.needs_data(config):
        return {"features": [], "kinds": {}}
    if algorithms.whole(config):
        seen, known = features.union_and_intersection(schemas)[0], features.survey(schemas)
        kinds = {name: known.kinds.get(name, ColumnKind.CATEGORICAL.value) for name in seen}  # of different kinds too
        return dataclasses.replace(known, features=tuple(seen), kinds=kinds).to_json()
    if not algorithms.needs_model(config) or not config.target_column:
        return features.survey(schemas, config.features).to_json()
    config = algorithms.with_task(config)  # whose target may stand in several columns
    barred = set(metadata) - set(config.features or ())
    if config.sample_id_column is not None:
        barred.add(config.sample_id_column)
    found = features.align(
        schemas,
        config.feature_strategy,
        targets=config.targets,
        weight=config.weight_column,
        not_features=sorted(barred),
        only=config.features,
        sample_id=config.sample_id,
        fill=config.union_fill,
    )
    apart = [(name, told) for name, told in labels.items() if _of_classes(config, told)]
    odd = [said for name, told in apart for said in comparison.labels(told, name)]
    return dataclasses.replace(found, warnings=(*found.warnings, *odd)).to_json()


def check_target(config: RunConfig) -> None:
    """Raises ``ConfigError`` where a model is to be learned and no column is named that it predicts."""
    if algorithms.needs_model(config) and not config.target_column:
        raise ConfigError("name the column to be predicted (target_column); hanse run analyze lists the columns")


def check_labels(config: RunConfig, labels: Labels) -> None:
    """Raises ``ConfigError`` where sites that tell labels apart share none (:func:`hanse.comparison.shared`)."""
    if config.target_column and algorithms.needs_model(config):
        for name, told in labels.items():
            if _of_classes(config, told):
                comparison.shared(told, name)


def _of_classes(config: RunConfig, told: Mapping[str, Sequence[str]]) -> bool:
    """Whether the labels of a target are classes. Numbers of which there are more than classes, or of which some site
    tells none as it may have as many, are a quantity where the sites have yet to settle it; they look again then."""
    settling, all_of_them = find("tasks", config.task_type).TASK, {label for own in told.values() for label in own}
    if hasattr(settling, "predicts"):
        return bool(settling.predicts == PROBABILITIES)
    numbers = label_values(sorted(all_of_them)).dtype.kind != "U"
    return not (numbers and (len(all_of_them) > CLASSES or not all(told.values())))


def check_numbers(config: RunConfig, schemas: features.Schemas) -> None:
    """Raises ``ConfigError`` where what the task takes as a number (:attr:`hanse.task.Learnable.moments`) is none by
    the columns that sites declare: they would find it out after their owners agreed."""
    if not config.target_column or not algorithms.needs_model(config):
        return
    numbers = int(getattr(find("tasks", config.task_type).TASK, "moments", 0))
    for name in config.targets[:numbers]:
        others = sorted(node for node, columns in schemas.items() if columns.get(name) in _NO_NUMBERS)
        if others:
            raise ConfigError(
                f"the target is {name!r}, of which {config.task_type} takes numbers, and it is text or true/false at "
                f"{', '.join(others)}; is it the right column? Classes take task_type auto, and a model of classes"
            )


def check_measures(config: RunConfig, schemas: features.Schemas) -> None:
    """Raises ``ConfigError`` where the columns do not allow what is to be measured of the model."""
    if not config.measures:
        return
    settled = algorithms.settled(config)
    kinds = {
        node: {clean: str(schema[name]) for clean, name in features.canonical(schema).items()}
        for node, schema in schemas.items()
    }
    for name in settled.measures:
        module = find("measures", name)
        if hasattr(module, "unfit_columns") and (why := module.unfit_columns(settled, kinds)):
            raise ConfigError(why)
