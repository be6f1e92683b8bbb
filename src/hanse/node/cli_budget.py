"""What was answered of each data set, and how much may be: ``hanse node budget``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hanse.errors import ConfigError, NotFound
from hanse.node.command import changed_settings, home_option, joined
from hanse.terminal import table

if TYPE_CHECKING:
    from hanse.node.spending import Spent

_LISTS = {"epsilon": "epsilon_budgets", "queries": "query_budgets", "cells": "cell_budgets"}


@click.command()
@home_option
@click.argument("dataset", required=False)
@click.option("--epsilon", type=float, help="Of this data set in a year, over all runs and people; 0: no limit.")
@click.option("--queries", type=int, help="So many asks of this data set are answered; 0: no limit.")
@click.option("--cells", type=int, help="So many numbers of it are told in statistics; 0: no limit.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def budget(
    home: Path, dataset: str | None, epsilon: float | None, queries: int | None, cells: int | None, as_json: bool
) -> None:
    """What was answered of each dataset, over all runs and people, and how much may be.

    With a DATASET and a number, sets its budget; a running node follows at once."""
    wanted = {"epsilon": epsilon, "queries": queries, "cells": cells}
    given = {name: value for name, value in wanted.items() if value is not None}
    if given:
        _set(joined(home), dataset, given)
        if not as_json:
            told = ", ".join(
                f"{name} {value:g}" if value else f"{name} without a limit" for name, value in given.items()
            )
            click.echo(f"budget of {dataset}: {told}")
    found = lines(joined(home), dataset)
    if as_json:
        click.echo(json.dumps([{"dataset": f.account, "ledger": f.ledger, "spent": f.spent} for f in found]))
        return
    click.echo(table(("dataset", "ledger", "spent"), [(f.account, f.ledger, f.said) for f in found]))


def _set(home: Path, dataset: str | None, given: dict[str, float]) -> None:
    from hanse.budgets import changed
    from hanse.node.catalogue import Catalogue
    from hanse.node.settings import NodeSettings

    names = [known.name for known in Catalogue(home).list()]
    if dataset is None:
        raise ConfigError("name the dataset whose budget this is; hanse node policy set changes that of all")
    if dataset not in names:
        raise NotFound(f"there is no dataset {dataset!r} here; there are {', '.join(names) or 'none'}")
    settings = NodeSettings.load(home)
    for name, value in given.items():
        if not value >= 0:
            raise ConfigError(f"a budget is a number of at least 0, not {value:g}")
        listed = changed(getattr(settings.policy, _LISTS[name]), dataset, value)
        settings = settings.with_value(_LISTS[name], json.dumps(listed))
    changed_settings(home, settings)


def lines(home: Path, dataset: str | None = None) -> list[Spent]:
    """The accounts of all datasets, or of one, as the owner's settings have them described."""
    from hanse.ledgers import ledgers
    from hanse.node.settings import NodeSettings
    from hanse.node.spending import Book

    book = Book(home, ledgers(NodeSettings.load(home).policy.to_json()))
    try:
        return book.lines(dataset)
    finally:
        book.close()
