"""``hanse probe``: what a round costs in a federation."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import click

from hanse.experiment.cli_parts import connected, json_option, listed

if TYPE_CHECKING:
    from hanse.experiment.connection import Connection
    from hanse.rounds import Step


@click.command()
@click.option("--rounds", default=20, show_default=True, help="How many.")
@click.option("--bytes", "size", default=1024, show_default=True, help="Of the model that goes to and fro.")
@click.option("--node", "asked", multiple=True, help="Ask this node; repeatable. Default: all.")
@json_option
@connected
def probe(here: Connection, rounds: int, size: int, asked: tuple[str, ...], as_json: bool) -> None:
    """Measure what a round costs in this federation. Touches no data, but needs consent as any run."""
    from hanse.experiment.configuring import configure
    from hanse.experiment.proposal import Experiment

    settings: dict[str, Any] = {
        "federated_strategy": "probe",
        "num_rounds": rounds,
        "model_options": {"bytes": size},
        "name": "probe",
        "purpose": "Measure the time of a round; no data is touched.",
    }
    if asked:
        settings["expected_client_ids"] = list(asked)
    experiment = Experiment(here, configure(settings)).propose()
    experiment.wait(progress=not as_json)
    listed(timings(here.rounds(experiment.run_id)), as_json)


def timings(steps: list[Step]) -> list[dict[str, Any]]:
    """Seconds per round: of the federation, then of each node from its ask to its answer."""
    done = [s for s in steps if s.status == "ok" and s.round is not None]
    found = {"all": [s.seconds for s in done]}
    for node in sorted({n for s in done for n in s.participants}):
        found[node] = [float(s.participants[node].get("seconds") or 0.0) for s in done if node in s.participants]
    return [
        {
            "node": node,
            "rounds": len(values),
            "median s": round(statistics.median(values), 6),
            "fastest s": round(min(values), 6),
            "slowest s": round(max(values), 6),
        }
        for node, values in found.items()
        if values
    ]
