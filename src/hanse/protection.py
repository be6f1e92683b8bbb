"""What differential privacy a run has, or why it cannot have any: its configuration, its algorithm, its gather and the
number of its nodes together. What cannot be protected is refused before an owner is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hanse import algorithms, gathering
from hanse.config import RunConfig
from hanse.errors import ConfigError, HanseError
from hanse.gather import Gather
from hanse.kinds import Combine
from hanse.messages import Json
from hanse.privacy import guarantee
from hanse.privacy.guarantee import CENTRAL, DISTRIBUTED, LOCAL, Guarantee, range_of
from hanse.privacy.release import grid_of
from hanse.registry import find
from hanse.table import ColumnKind


def of(config: RunConfig, nodes: int) -> Guarantee | None:
    """What the run promises; None where it proposes nothing of the kind.

    Args:
        config: settled.
        nodes: that take part; 0: nobody knows yet.

    Raises:
        ConfigError: it proposes what cannot be kept, with the reason.
    """
    if config.privacy is None:
        return None
    privacy, unit = guarantee.settled(config.privacy), algorithms.unit(config)
    if why := _unfit(config, privacy, unit):
        raise ConfigError(f"this run cannot be differentially private: {why}")
    fewest = nodes
    if privacy["mode"] == DISTRIBUTED:
        fewest = _gather(config).fewest(config.to_json(), nodes) if nodes else 1 + privacy["colluding"]
    return guarantee.of(privacy, unit, algorithms.releases(config), fewest, *algorithms.noised_steps(config))


def words(config: RunConfig, nodes: int) -> str:
    """What the run promises, in sentences; "" where it promises nothing, or another release means it otherwise."""
    try:
        promised = of(algorithms.settled(config), nodes) if config.privacy is not None else None
    except HanseError:
        return ""
    return promised.words() if promised is not None else ""


def gathers(
    made: Mapping[Combine, Gather], promised: Guarantee | None, secret: Callable[[], bytes], run: str, bundle: str
) -> Mapping[Combine, Gather]:
    """The gathers of a run as its coordinator uses them: with its noise in sums, where it is the one to add it."""
    if promised is None or promised.mode != CENTRAL:
        return made
    from hanse.privacy.central import NoisedGather, key_of  # of a coordinator alone, and of few runs

    key = key_of(secret(), run, bundle)
    return {
        combine: NoisedGather(gather, promised, key) if combine is Combine.SUM else gather
        for combine, gather in made.items()
    }


def check(config: RunConfig, kinds: Mapping[str, str], rows: Mapping[str, float]) -> None:
    """Raises ``ConfigError`` where a run that is to be differentially private cannot be.

    Args:
        kinds: of the aligned columns, the target among them.
        rows: node to the most rows that it declared.
    """
    promised = of(config, len(rows))
    if promised is None or config.privacy is None:
        return
    if algorithms.needs_model(config):
        for name, kind in kinds.items():
            if kind not in (ColumnKind.CATEGORICAL, ColumnKind.IMAGE, ColumnKind.BOOLEAN):
                range_of(config.privacy, name)
    if promised.mode == DISTRIBUTED and rows:
        from hanse.privacy.fixed_point import finest

        grid = grid_of(promised, promised.clip)
        if grid < finest(config.to_json(), sum(max(1.0, n) for n in rows.values())):
            raise ConfigError(
                f"privacy: numbers of this run are multiples of {grid:g}, which is finer than a secure sum of so many "
                "rows keeps; set secure_range lower, or clip higher"
            )


def _unfit(config: RunConfig, privacy: Mapping[str, Json], unit: str) -> str:
    name = algorithms.resolve(config)
    if config.plan is not None:
        rows, sites = (", ".join(algorithms.of_unit(each)) for each in (guarantee.ROW, guarantee.SITE))
        return (
            "no epsilon holds for a training plan: it trains by code of its own, which need not bound what one row "
            "changes, and which runs in the process that would clip its update and add noise, so it could leave both "
            "out. Take a model of Hanse's own: each row is hidden by "
            f"{rows}, each site as a whole by {sites}"
        )
    if not unit:
        fitting = algorithms.fitting(config.model_name)
        found = [name for name in algorithms.of_unit(guarantee.ROW, guarantee.SITE) if name in fitting]
        able = ", ".join(found) or f"none that {config.model_name} learns by"
        return (
            f"what {name} tells of its rows has no bound that one row, or one site, can change it by, so no noise "
            f"would be enough; algorithms that have one are {able}"
        )
    if config.test_fraction > 0:
        return (
            "metrics of held-out rows are exact sums of them; leave test_fraction at 0 and evaluate the result on rows "
            "of your own"
        )
    if unit == guarantee.ROW and config.transforms:
        return "a transform could change what one row was bounded to; leave transforms out"
    if config.max_weight_share < 1:
        return "every site counts the same in it, so max_weight_share has nothing to bound; leave it out"
    shown = algorithms.combines(config) - {Combine.SUM, Combine.AGREE}
    if privacy["mode"] != LOCAL and shown:
        return (
            f"in mode {privacy['mode']} everything must add up, and this run combines by {', '.join(sorted(shown))} "
            "too; set mode to local"
        )
    if privacy["mode"] == DISTRIBUTED and not getattr(_gather(config), "HIDES", False):
        return (
            "in mode distributed the noise of one node is too little by itself, so its answers must not be seen: "
            "set gathering to secure, or mode to local"
        )
    return ""


def _gather(config: RunConfig) -> Any:
    gathering.check(config, 0)
    return find("gathering", config.gathering)
