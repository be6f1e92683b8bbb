"""What the data scientist's commands share: a connection, and output for people or for programs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import click


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command its connection as ``here``; None where it is told ``installed``, so that none is needed."""

    @click.option("--url", help="The coordinator; else HANSE_URL or what hanse login saved.")
    @click.option("--ca", type=click.Path(dir_okay=False), help="Authority that signed its certificate (PEM).")
    @functools.wraps(command)
    def wrapped(*arguments: Any, url: str | None, ca: str | None, **options: Any) -> Any:
        from hanse.experiment import credentials
        from hanse.experiment.connection import Connection

        if options.pop("installed", False):
            return command(None, *arguments, **options)
        here = Connection(credentials.resolve(url, None, ca))
        try:
            return command(here, *arguments, **options)
        finally:
            here.close()

    return wrapped


json_option = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


def listed(value: Any, as_json: bool, columns: list[str] | None = None, empty: str = "nothing") -> None:
    """Rows as a table, or as JSON for programs."""
    from hanse.experiment.listing import Listing

    if as_json:
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        click.echo(repr(Listing(value, columns or (), empty)))
