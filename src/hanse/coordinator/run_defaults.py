"""What the operator wants of a run that does not say otherwise: ``--run-default``, and FLOPY-NET's variables.

A run's own settings come first, then these, then Hanse's defaults. They are for runs that learn a model; a strategy or
a share of the nodes that does not fit what a run learns is left out, and the run's proposer is told. A minimum of nodes
and a protection are never left out: a run that they do not fit is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hanse import algorithms
from hanse.config import RunConfig, of_ingredients
from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.registry import names, settings
from hanse.settings import Setting, settings_of, truth, unknown

# FLOPY-NET's variables, and the settings of a run that each of them means
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "MIN_CLIENTS": ("min_available_nodes", "min_fit_nodes", "min_completed"),
    "MAX_ROUNDS": ("num_rounds",),
    "AGGREGATION_STRATEGY": ("federated_strategy",),
    "CLIENT_FRACTION": ("fraction",),
    "LOCAL_EPOCHS": ("local_epochs",),
    "BATCH_SIZE": ("batch_size",),
}
_OPTION = "--run-default"
_FIRST = ("model_name", "federated_strategy")
_PRIVACY = {"privacy": "local", "test_fraction": 0.0}  # metrics of held-out rows would be exact sums of them
_KEPT = frozenset({*VARIABLES["MIN_CLIENTS"], *_PRIVACY})  # what is not left out where it does not fit: that is refused


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """``given``: where each default stands (a variable, an option), and the settings that it means."""

    given: tuple[tuple[str, Mapping[str, Json]], ...] = ()

    @staticmethod
    def read(options: Iterable[str], environment: Mapping[str, str]) -> RunDefaults:
        """From ``NAME=VALUE`` of the command line, and from variables; an option counts more than a variable.

        >>> RunDefaults.read(["fraction=0.5"], {"MIN_CLIENTS": "3", "CLIENT_FRACTION": "0.8"}).values["fraction"]
        0.5

        Raises:
            ConfigError: a value does not fit, or there is no such setting or strategy.
        """
        found: dict[str, Mapping[str, Json]] = {}
        for entry in options:
            name, equals, value = entry.partition("=")
            if not equals:
                raise ConfigError(f"{_OPTION} {entry!r} has no =; write {_OPTION} NAME=VALUE")
            where = f"{_OPTION} {name}"
            found[where] = {name: _known(name).read(where, value)}
        taken = {name for own in found.values() for name in own}
        for variable, meant in VARIABLES.items():
            value = environment.get(variable, "").strip()
            if value and not taken & {*meant}:
                found[variable] = {name: _known(name).read(variable, value) for name in meant}
        # what is learned and how, before what fits only that
        if truth("DIFFERENTIAL_PRIVACY", environment.get("DIFFERENTIAL_PRIVACY", "")) and "privacy" not in taken:
            found["DIFFERENTIAL_PRIVACY"] = _PRIVACY
        made = RunDefaults(tuple(sorted(found.items(), key=lambda pair: not {*_FIRST} & {*pair[1]})))
        strategy = made.values.get("federated_strategy")
        if strategy is not None and strategy not in (*algorithms.AUTOMATIC, *names("algorithms")):
            raise ConfigError(
                f"there is no strategy {strategy!r} (federated_strategy, AGGREGATION_STRATEGY); expected one of "
                f"{', '.join(names('algorithms'))}"
            )
        return made

    @property
    def values(self) -> dict[str, Json]:
        """All of them, by the name of the setting."""
        return {name: value for _, own in self.given for name, value in own.items()}

    def applied(self, raw: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
        """The settings of a run with these where it says nothing, and a sentence for each that does not fit it.
        Raises ``ConfigError`` where the run's own are wrong."""
        config, said = dict(raw), []
        if not self.given or not algorithms.needs_model(RunConfig.parse(raw)):
            return config, ()
        for where, own in self.given:
            decisive = {"privacy"} if "privacy" in own else {*own}  # no rows held out is what follows from it
            if decisive & {*raw}:
                continue
            tried = {**config, **own, **{name: raw[name] for name in own if name in raw}}
            if not {*own} <= _KEPT:
                try:
                    algorithms.settled(RunConfig.parse(tried))
                except ConfigError as error:
                    said.append(f"{where} of this coordinator does not fit this run and was left out: {error.message}")
                    continue
            config = tried
        return config, tuple(said)


def _known(name: str) -> Setting:
    core = settings_of(RunConfig)
    if name in core:
        return core[name]
    ingredients = of_ingredients()
    if name not in ingredients:
        raise unknown(name, [*core, *ingredients])
    folder, ingredient = ingredients[name][0]
    return settings(folder, ingredient)[name]


def served_at(environment: Mapping[str, str], http: str) -> str:
    """The address of the page and REST where the command line names none: FL_SERVER_HOST and FL_SERVER_PORT.

    >>> served_at({"FL_SERVER_PORT": "8080"}, "127.0.0.1:8000"), served_at({}, "127.0.0.1:8000")
    ('127.0.0.1:8080', '127.0.0.1:8000')
    >>> served_at({"FL_SERVER_HOST": "[::1]"}, "127.0.0.1:8000")
    '[::1]:8000'
    """
    host, _, port = http.rpartition(":")
    host = environment.get("FL_SERVER_HOST", "").strip() or host
    port = environment.get("FL_SERVER_PORT", "").strip() or port
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"FL_SERVER_PORT is {port!r}; expected a port from 0 to 65535")
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


__all__ = ["VARIABLES", "RunDefaults", "served_at"]
