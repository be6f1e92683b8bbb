"""Who is asked to train: one file each, with ``choose(situation) -> Choice`` (:class:`hanse.choice.Situation`).

A file may have ``unfit(config)``, a sentence that says why a run cannot use it, or "".
"""

from __future__ import annotations

from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.registry import find

DEFAULT = "uniform"


def check(config: RunConfig) -> None:
    """Raises ``ConfigError`` where the run's selection is unknown, or does not fit the run."""
    chosen = find("selection", config.selection)
    if config.fraction == 1 and config.selection != DEFAULT:
        raise ConfigError(
            f"selection is {config.selection}, but fraction is 1: every node is asked and nothing is selected; "
            "give a fraction below 1, or leave selection out"
        )
    why = chosen.unfit(config) if hasattr(chosen, "unfit") else ""
    if why:
        raise ConfigError(f"selection {config.selection} does not fit this run: {why}")
