"""``hanse privacy``: how much noise a promise takes, what some noise is worth, and what attacks get."""

from __future__ import annotations

from typing import Any

import click

from hanse.experiment.cli_parts import json_option, listed
from hanse.experiment.cli_privacy_audit import audit


@click.group()
def privacy() -> None:
    """Plan differential privacy: what noise a promise takes, and what noise promises. Audit a run by known attacks."""


privacy.add_command(audit)


_delta = click.option("--delta", default=1e-5, show_default=True, help="Of all rounds together.")
_rounds = click.option("--rounds", default=1, show_default=True, help="Noised answers of one node.")


@privacy.command()
@click.option("--epsilon", default=1.0, show_default=True, help="Of all rounds together.")
@_delta
@_rounds
@json_option
def noise(epsilon: float, delta: float, rounds: int, as_json: bool) -> None:
    """How much noise one round needs, in multiples of what one unit can change (clip)."""
    from hanse.errors import ConfigError
    from hanse.privacy import concentrated, gaussian

    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; expected at least 1")
    each = concentrated.rho_of(epsilon, delta) / rounds
    found = [
        {"noise": concentrated.sigma_of(each), "of": "discrete noise, as runs have it"},
        {"noise": rounds**0.5 / gaussian.mu_of(epsilon, delta), "of": "continuous noise, the least that there is"},
    ]
    listed(found, as_json)


@privacy.command()
@click.option("--noise", required=True, type=float, help="Its standard deviation over what one unit can change.")
@_delta
@_rounds
@click.option("--sampling", default=1.0, show_default=True, help="Share of the units in a round, drawn secretly.")
@json_option
def epsilon(noise: float, delta: float, rounds: int, sampling: float, as_json: bool) -> None:
    """What noise promises over all rounds, as each accountant finds it.

    Sampling counts only where nobody knows who was drawn; the fraction of a run's sites is no such sampling."""
    from hanse.privacy import accounting, concentrated, gaussian

    found: list[dict[str, Any]] = [
        {"epsilon": accounting.epsilon_of(noise, rounds, delta, sampling, by), "accountant": by}
        for by in accounting.ACCOUNTANTS
    ]
    if sampling == 1:
        rho = rounds * concentrated.rho_of_noise(1.0, noise)
        found += [
            {"epsilon": gaussian.epsilon_of(rounds**0.5 / noise, delta), "accountant": "exact, of continuous noise"},
            {"epsilon": concentrated.epsilon_of(rho, delta), "accountant": "concentrated, as runs count it"},
        ]
    listed(found, as_json)
