"""``hanse bootstrap``: a folder with an experiment in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hanse.experiment.cli_propose import gathered, setting_options


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--url", default="", help="The coordinator's address. Default: that of hanse login.")
@setting_options
def bootstrap(folder: Path, url: str, **options: Any) -> None:
    """Write a project into FOLDER: main.py, which runs the experiment, and pyproject.toml, which says what it is.

    Name its nodes with --node. Nothing that is there is changed."""
    from hanse.experiment import bootstrap as files

    made, todo = files.bootstrap(folder, gathered(**options), url)
    for path in made:
        click.echo(path)
    click.echo(f"{f'{todo}, then: ' if todo else ''}python {made[0]}", err=True)
