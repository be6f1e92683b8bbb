"""How contributions come together: one file each (:class:`hanse.gather.Gather`).

A run names one gather for what adds up (``gathering``) and a fallback for what that one cannot combine
(``gathering_fallback``). What follows from both for the ways in which its algorithm combines stands in the
bundle, so owners read it and a node gathers no other way: ``{"sum": "plain", "merge": "plain"}``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.gather import Gather
from hanse.kinds import Combine
from hanse.messages import Json
from hanse.registry import find, settings
from hanse.settings import checked

PLAIN: Mapping[str, str] = {str(combine): "plain" for combine in Combine}


def settle(combines: Collection[Combine], wanted: str, fallback: str) -> dict[str, str]:
    """Way to combine to gather, for each of ``combines``.

    Args:
        wanted: a file of this folder, for all that it can combine.
        fallback: for the rest; empty: the rest is refused. What is told in words (AGREE) is gathered plainly.

    Raises:
        ConfigError: neither of them can combine something that the algorithm asks for.

    >>> settle({Combine.SUM, Combine.MERGE}, "plain", "")
    {'merge': 'plain', 'sum': 'plain'}
    """
    found = {}
    for combine in sorted(combines):
        if combine is Combine.AGREE:  # words, which everybody is told in the end
            found[str(combine)] = "plain"
            continue
        fitting = [name for name in (wanted, fallback) if name and combine in find("gathering", name).COMBINES]
        if not fitting:
            able = ", ".join(sorted(find("gathering", wanted).COMBINES))
            raise ConfigError(
                f"this run has contributions that combine by {combine}, and {wanted!r} gathers only {able}; take an "
                "algorithm whose contributions add up, or name a gathering_fallback, which the owners are shown"
            )
        found[str(combine)] = fitting[0]
    return found


def fallback(config: RunConfig) -> str:
    """For what the run's gather cannot combine: as it was set, else plain, but never where single contributions were
    to be hidden: that has to be asked for in words."""
    if config.gathering_fallback is not None:
        return config.gathering_fallback
    return "" if getattr(find("gathering", config.gathering), "HIDES", False) else "plain"


def check(config: RunConfig, nodes: int) -> None:
    """Raises ``ConfigError`` where the run's gather does not fit the run of so many nodes (0: nobody knows yet), by
    what its file says (``unfit``)."""
    chosen = find("gathering", config.gathering)
    why = chosen.unfit(config, nodes) if hasattr(chosen, "unfit") else ""
    if why:
        raise ConfigError(f"gathering {config.gathering} does not fit this run: {why}")


def build(names: Mapping[str, str], config: Mapping[str, Json] | None = None) -> dict[Combine, Gather]:
    """The gathers of a bundle (what :func:`settle` gave), made with their settings."""
    made: dict[str, Gather] = {}
    for name in names.values():
        if name not in made:
            known = settings("gathering", name)
            given = {key: value for key, value in (config or {}).items() if key in known}
            made[name] = find("gathering", name).GATHER(**checked(given, known))
    return {Combine(combine): made[name] for combine, name in names.items()}
