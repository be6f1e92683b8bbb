"""``hanse privacy audit``: what known attacks get of a proposal, or of a finished model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hanse.experiment.cli_parts import json_option
from hanse.experiment.cli_propose import gathered, setting_options

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("rows", type=_file)
@setting_options
@click.option("--sites", default=4, show_default=True, help="Simulated sites over which the rows are spread.")
@click.option("--seed", default=0, show_default=True, help="Which rows are learned from, and where they are.")
@click.option("--attack", "attacks", multiple=True, help="Only this one; repeatable.")
@click.option("--result", type=_file, help="A finished model instead of a proposal; ROWS are those it learned from.")
@click.option("--others", type=_file, help="With --result: rows of the same kind that it did not learn from.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it, as PNG, SVG or PDF.")
@json_option
def audit(
    rows: Path,
    sites: int,
    seed: int,
    attacks: tuple[str, ...],
    result: Path | None,
    others: Path | None,
    picture: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Try known attacks on ROWS (CSV, TSV or Parquet): mock rows, or your own, which stay here.

    The settings are those of hanse run propose; --config takes the proposal that you were sent."""
    import json

    from hanse.errors import ConfigError
    from hanse.experiment import privacy_audit
    from hanse.experiment.results import load_result
    from hanse.readers import read

    if (result is None) != (others is None):
        raise ConfigError("--result and --others belong together: a model, and rows that it did not learn from")
    if result is None or others is None:
        found = privacy_audit.audit(read(rows), gathered(**options), sites, seed, attacks or None)
    else:
        found = privacy_audit.audit_result(load_result(result), read(rows), read(others), attacks or None)
    if picture is not None:
        found.plot().savefig(picture)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    click.echo(repr(found))
    for row in found:
        click.echo(f"{row['attack']}: {row['measure']}")
    if found.claim is not None:
        click.echo(f"the run promises epsilon {found.claim:g}")
