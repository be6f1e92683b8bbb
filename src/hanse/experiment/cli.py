"""The data scientist's commands: ``hanse login``, ``logout``, ``nodes``, ``events`` and ``run ...``.

Whatever the REST interface lets one do with runs, a command does too. With ``--json`` a command
prints JSON for programs. A proposal is made in :mod:`hanse.experiment.cli_propose`, where a run stands is in
:mod:`hanse.experiment.cli_runs`, what it left in :mod:`hanse.experiment.cli_fetch`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from hanse.experiment import cli_fetch, cli_propose, cli_runs
from hanse.experiment.cli_parts import connected, json_option, listed, when

if TYPE_CHECKING:
    from hanse.experiment.connection import Connection


@click.command()
@click.argument("url")
@click.option("--token", help="Your API token; asked for if it is not given (a command line can be seen by others).")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    help="Authority that signed the coordinator's certificate (PEM).",
)
@click.option(
    "--oidc", is_flag=True, help="Log in by your institution's OpenID provider: a code, typed in any browser."
)
def login(url: str, token: str | None, ca: str | None, oidc: bool) -> None:
    """Remember a coordinator's address and your token, after trying them."""
    from hanse import releases
    from hanse.experiment import credentials
    from hanse.experiment.connection import Connection

    url = credentials.checked(url)  # before a token is asked for
    if oidc:
        from hanse.experiment.device_login import device_login

        token = device_login(credentials.Credentials(url, "", ca or ""), click.echo)
    token = token or click.prompt("API token", hide_input=True)
    known = credentials.Credentials(url, credentials.sendable(token), ca or "")
    here = Connection(known)
    try:
        account = here.me()["account"]
    finally:
        here.close()
    place = credentials.save(known)
    if both := releases.differing(here.release, "the coordinator"):
        click.echo(f"{both[0].upper()}{both[1:]}.", err=True)
    click.echo(f"You are {account['name']} ({str(account['role']).replace('_', ' ')}) at {known.url}; saved in {place}")


@click.command()
def logout() -> None:
    """Forget what hanse login remembered, and end the session that a login at a provider began.

    An API token stays what it is: its operator rotates it."""
    from hanse.errors import HanseError
    from hanse.experiment import credentials
    from hanse.experiment.connection import Connection

    known = credentials.saved()
    if known is None:
        click.echo("Nobody is logged in here.")
        return
    here = Connection(known)
    try:
        said = "; the session is over" if here.call("DELETE", "/api/login/session")["ended"] else ""
    except HanseError as error:  # it cannot be asked: what is kept here goes all the same
        said = f"; the coordinator was not told ({error.message})"
    finally:
        here.close()
    credentials.path().unlink(missing_ok=True)
    click.echo(f"The token for {known.url} is no longer kept here{said}.")


@click.command()
@click.argument("node", default="")
@click.option("--datasets", is_flag=True, help="What they offer, instead.")
@json_option
@connected
def nodes(here: Connection, node: str, datasets: bool, as_json: bool) -> None:
    """Show the nodes of the federation, or one NODE with the columns of its datasets."""
    if node:
        from hanse.terminal import visible

        click.echo(visible(json.dumps(here.node(node), indent=2, ensure_ascii=False)))
        return
    rows = [dict(row) for row in (here.datasets() if datasets else here.nodes())]
    for row in rows if not as_json else ():
        if "last heartbeat" in row:
            row["last heartbeat"] = when(row["last heartbeat"])
    listed(rows, as_json, empty="no dataset is offered yet" if datasets else "no node has enrolled yet")


@click.command()
@click.option("--follow", is_flag=True, help="Stay, and show what happens from now on.")
@click.option("--since", default=0, help="Events after this number.")
@click.option("--run", "of", default="", help="Of this run only.")
@click.option("--limit", default=100, show_default=True)
@json_option
@connected
def events(here: Connection, follow: bool, since: int, of: str, limit: int, as_json: bool) -> None:
    """Show what happened in the federation: proposals, decisions, rounds, nodes that come and go."""
    from hanse.terminal import line

    for event in here.events(since, of, limit) if not follow else here.follow():
        if of and event.get("run") != of:
            continue
        told = json.dumps(event if as_json else event.get("detail") or {}, ensure_ascii=False)
        about = " ".join(str(event.get(n) or "-") for n in ("id", "time", "kind", "actor", "run", "node"))
        click.echo(told if as_json else line(f"{about} {told}"))


@click.group()
def run() -> None:
    """Propose, watch and fetch runs."""


for _command in (
    cli_propose.propose,
    cli_propose.analyze,
    cli_propose.settings,
    cli_runs.list_runs,
    cli_runs.show,
    cli_runs.preview,
    cli_runs.watch,
    cli_runs.consent,
    cli_runs.start,
    cli_runs.cancel,
    cli_runs.pause,
    cli_runs.resume,
    cli_fetch.models,
    cli_fetch.compare,
    cli_fetch.model,
    cli_fetch.card,
    cli_fetch.coefficients,
    cli_fetch.evidence,
    cli_fetch.inclusion,
    cli_fetch.bring_in,
    cli_fetch.rounds,
    cli_fetch.analytics,
    cli_fetch.measured,
):
    run.add_command(_command)
