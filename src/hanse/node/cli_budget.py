"""What was answered of each data set, and how much may be: ``hanse node budget``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hanse.node.command import home_option, joined
from hanse.terminal import table

if TYPE_CHECKING:
    from hanse.node.spending import Spent


@click.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def budget(home: Path, as_json: bool) -> None:
    """What was answered of each dataset, over all runs and people, and how much may be."""
    found = lines(joined(home))
    if as_json:
        click.echo(json.dumps([{"dataset": f.account, "ledger": f.ledger, "spent": f.spent} for f in found]))
        return
    click.echo(table(("dataset", "ledger", "spent"), [(f.account, f.ledger, f.said) for f in found]))


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
