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
_rounds = click.option(
    "--rounds", default=1, show_default=True, help="Noised answers of one node, or steps inside them."
)
_sampling = click.option(
    "--sampling", default=1.0, show_default=True, help="Share of the units in a round, drawn secretly."
)


@privacy.command()
@click.option("--epsilon", default=1.0, show_default=True, help="Of all rounds together.")
@_delta
@_rounds
@_sampling
@json_option
def noise(epsilon: float, delta: float, rounds: int, sampling: float, as_json: bool) -> None:
    """How much noise one round needs, in multiples of what one unit can change (clip)."""
    from hanse.errors import ConfigError
    from hanse.privacy import concentrated, gaussian, sampled

    if rounds < 1 or not 0 < sampling <= 1:
        raise ConfigError(f"rounds is {rounds} and sampling {sampling}; expected at least 1, and a share in (0, 1]")
    if sampling < 1:
        each = sampled.multiplier_of(epsilon, delta, rounds, sampling)
        listed([{"noise": each, "of": "discrete noise on a sample, as runs have it"}], as_json)
        return
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
@_sampling
@json_option
def epsilon(noise: float, delta: float, rounds: int, sampling: float, as_json: bool) -> None:
    """What noise promises over all rounds, as each accountant finds it.

    Sampling counts only where nobody knows who was drawn; the fraction of a run's sites is no such sampling."""
    from hanse.privacy import accounting, concentrated, gaussian, sampled

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
    else:
        whole = {order: rounds * cost for order, cost in sampled.curve(sampling, noise).items()}
        found.append({"epsilon": sampled.epsilon_of(whole, delta), "accountant": "sampled, as runs count it"})
    listed(found, as_json)
