"""``hanse flower``: a Flower app under the approvals of data owners."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.experiment.cli_parts import connected

if TYPE_CHECKING:
    from hanse.experiment.connection import Connection
    from hanse.experiment.flower_app import FlowerExperiment

_FOLDER = click.argument("folder", type=click.Path(path_type=Path))
_OPTIONS = (
    click.option("--run-config", default="", help="Settings of the app, such as 'num-server-rounds=5 name=\"x\"'."),
    click.option("--tag", "tags", multiple=True, help="A dataset takes part if it carries it; repeatable."),
    click.option("--node", "nodes", multiple=True, help="Ask this node; repeatable. Default: all that fit."),
    click.option("--purpose", default="", help="What for; the data owners read it."),
    click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any setting of a run; repeatable."),
)


@click.group()
def flower() -> None:
    """Run a Flower app under the approvals of data owners."""


def _proposal(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _app(
    here: Connection, folder: Path, run_config: str, tags: Any, nodes: Any, purpose: str, more: Any
) -> FlowerExperiment:
    from hanse.experiment.cli_propose import gathered
    from hanse.experiment.flower_app import FlowerExperiment

    given = _given(run_config)
    settings = gathered(tags=tags, asked=nodes, purpose=purpose or None, more=more)
    return FlowerExperiment.of(here, folder, given, settings)


def _given(run_config: str) -> dict[str, Any]:
    """As ``flwr run`` reads it, but that nothing is passed over. Raises ``ConfigError``."""
    import re
    import tomllib

    from hanse.errors import ConfigError

    entry = re.compile(r"[^\s=]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|\S+)")
    if rest := entry.sub("", run_config).strip():
        raise ConfigError(f"{rest!r} of --run-config is no NAME=VALUE")
    try:
        return tomllib.loads("\n".join(entry.findall(run_config)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"--run-config {run_config!r} is not TOML: {error}") from None


@flower.command()
@_FOLDER
@_proposal
@connected
def propose(here: Connection, folder: Path, **options: Any) -> None:
    """Propose the app in FOLDER to the data owners. Prints the id of the run."""
    click.echo(_app(here, folder, **options).propose().run_id)


@flower.command()
@_FOLDER
@click.option("--id", "run_id", default="", help="Of a run that was proposed; without, it is proposed now.")
@_proposal
@connected
def run(here: Connection, folder: Path, run_id: str, **options: Any) -> None:
    """Run the app in FOLDER: its ServerApp here, its ClientApp where the data is, once all owners have agreed."""
    from hanse.experiment.flower_app import FlowerExperiment

    made = FlowerExperiment.resumed(here, folder, run_id) if run_id else _app(here, folder, **options)
    made.run()
    click.echo(made.run_id)
