"""What the data scientist's commands share: a connection, and output for people or for programs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import click


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command its connection as ``here``; None where it is told ``installed``, so that none is needed.

    Where it could be told so and no coordinator is known, it is taken for told."""

    @click.option("--url", help="The coordinator; else HANSE_URL or what hanse login saved.")
    @click.option("--ca", type=click.Path(dir_okay=False), help="Authority that signed its certificate (PEM).")
    @functools.wraps(command)
    def wrapped(*arguments: Any, url: str | None, ca: str | None, **options: Any) -> Any:
        from hanse.experiment import credentials
        from hanse.experiment.connection import Connection

        installed = options.pop("installed", None)
        if installed is False and not credentials.known(url):
            click.echo("no coordinator is known, so this is what is installed here", err=True)
            installed = True
        if installed:
            return command(None, *arguments, **options)
        here = Connection(credentials.resolve(url, None, ca))
        try:
            return command(here, *arguments, **options)
        finally:
            here.close()

    return wrapped


def rounds_of(done: int | None, planned: int | None, between: str) -> str:
    """How far a run is. An exact fit takes the steps that it needs, whatever rounds were asked for.

    >>> rounds_of(3, 10, "/"), rounds_of(29, 10, "/"), rounds_of(None, 10, " of ")
    ('3/10', '29', '0 of 10')
    """
    return f"{done}" if planned is None or (done or 0) > planned else f"{done or 0}{between}{planned}"


def when(text: str | None) -> str | None:
    """A time of a coordinator as people read it.

    >>> when("2026-12-01T00:06:29.500846+00:00")
    '2026-12-01 00:06 UTC'
    """
    return f"{text[:16].replace('T', ' ')} UTC" if text else None


json_option = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


def listed(
    value: Any, as_json: bool, columns: list[str] | None = None, empty: str = "nothing", notes: Sequence[str] = ()
) -> None:
    """Rows as a table with ``notes`` below it, or as JSON for programs."""
    from hanse.experiment.listing import Listing

    if as_json:
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        click.echo(repr(Listing(value, columns or (), empty, notes)))
