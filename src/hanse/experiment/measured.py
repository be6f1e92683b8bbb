"""What was measured of a model when it had been learned (:mod:`hanse.measures`), as rows for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hanse.errors import ConfigError
from hanse.experiment.listing import Listing
from hanse.experiment.metric_names import FIRST, LOWER_IS_BETTER
from hanse.messages import Json

Measured = Mapping[str, Json]  # what each measure tells, by its name
FEW = "each site keeps back those of fewer held-out rows, or of fewer of a class, than its owner's minimum_cell"
_ABOUT = ("column", "group", "rows", "sites")  # of a group, besides its metrics


def groups(measured: Measured) -> Listing:
    """A row for each group of held-out rows that any site told."""
    told: Mapping[str, Any] = measured.get("groups") or {}
    notes = [f"{told['more']} further groups are not told"] if told.get("more") else []
    if told.get("silent"):
        notes.append(f"no site tells a group of {', '.join(told['silent'])}: {FEW}")
    elif told:
        notes.append(f"groups that are not here, and sites that do not tell them: {FEW}")
    rows = list(told.get("groups", []))
    metrics = [name for row in rows for name in sorted(row, key=_place) if name not in _ABOUT]
    empty = "no metrics by group; set measures=['groups'] and group_by of a run"
    return Listing(rows, [*_ABOUT, *dict.fromkeys(metrics)], empty, notes)


def _place(metric: str) -> int:
    return FIRST.index(metric) if metric in FIRST else len(FIRST)


def matrix(measured: Measured, metric: str = "") -> Listing:
    """A row for each model, a column for each site: a metric of the model on the site's held-out rows.

    Args:
        metric: of those that the task has; "": the last that is better the higher it is, else the first with a value.

    Raises:
        ConfigError: there is no such metric.
    """
    told: Mapping[str, Any] = measured.get("cross_site") or {}
    if not told:
        return Listing([], empty="no cross-site matrix; set measures=['cross_site'] of a run")
    chosen = metric or first(told["metrics"], told["cells"])
    if chosen not in told["metrics"]:
        raise ConfigError(f"there is no metric {chosen!r} in this matrix; there are {', '.join(told['metrics'])}")
    rows: dict[str, dict[str, Any]] = {model: {"model of": model} for model in told["models"]}
    for cell in told["cells"]:
        rows[cell["model"]][cell["site"]] = cell[chosen]
    notes = [f"{', '.join(told['few'])}: too few held-out rows to be told"] if told.get("few") else []
    return Listing(list(rows.values()), notes=[f"{chosen} on the held-out rows of each site", *notes])


def first(metrics: Sequence[str], cells: Sequence[Mapping[str, Json]]) -> str:
    """The metric to show: of those with any value, the last that is better the higher it is."""
    known = [name for name in metrics if any(cell.get(name) is not None for cell in cells)]
    return next((name for name in reversed(known) if name not in LOWER_IS_BETTER), known[0] if known else metrics[0])
