"""``hanse policy``: try policies before they count, begin with those that Hanse ships, serve them to others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hanse.errors import Conflict

if TYPE_CHECKING:
    from hanse.cedar.vocabulary import Vocabulary

_PLACES = ("node", "coordinator", "service")
_at = click.option(
    "--at",
    "place",
    type=click.Choice(_PLACES),
    default="node",
    show_default=True,
    help="Where the policies decide: at a node, at a coordinator, or in `hanse policy serve`.",
)


@click.group()
def policy() -> None:
    """Policies in Cedar: try them, begin with those that are shipped, serve them."""


@policy.command()
@click.argument("policies", type=click.Path(path_type=Path))
@click.argument("cases", type=click.Path(path_type=Path))
@_at
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def test(policies: Path, cases: Path, place: str, as_json: bool) -> None:
    """Say what POLICIES (a file or a folder) decide in a table of CASES (YAML, JSON or CSV).

    The exit status is 1 where a case is not decided as the table says."""
    from hanse.cedar.cases import outcomes, read_cases
    from hanse.cedar.files import read
    from hanse.terminal import line

    vocabulary = _vocabulary(place)
    found = read(policies, vocabulary)
    said = list(outcomes(found, read_cases(cases, vocabulary)))
    wrong = [one for one in said if one.wrong]
    idle = sorted({p.name for p in found.policies.values()} - {name for one in said for name in one.by})
    if as_json:
        rows = [{"case": one.case.name, "by": list(one.by), "wrong": one.wrong} for one in said]
        click.echo(json.dumps({"version": found.version, "cases": rows, "without_a_case": idle}))
    else:
        for one in wrong:
            click.echo(line(f"WRONG {one.case.name}: {one.wrong}"))
        if idle:
            click.echo(f"no case is decided by {', '.join(idle)}", err=True)
        count = len(found.policies)
        click.echo(
            f"{len(said) - len(wrong)} of {len(said)} cases as expected; {count} policies, version {found.version}"
        )
    if wrong:
        raise SystemExit(1)


@policy.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_at
def copy(folder: Path, place: str) -> None:
    """Copy the policies that Hanse ships, with their cases, into FOLDER, to be changed there."""
    import shutil

    from hanse import cedar

    shipped = Path(cedar.__file__).parent / "shipped" / place
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} has files already; name a folder that is new or empty")
    shutil.copytree(shipped, folder, dirs_exist_ok=True)
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    click.echo(f"{folder}: {names}. Change them, then: hanse policy test --at {place} {folder} {folder / 'cases.yaml'}")


@policy.command()
@click.argument("policies", type=click.Path(path_type=Path), envvar="HANSE_POLICIES")
@click.option(
    "--http", envvar="HANSE_HTTP", default="127.0.0.1:5000", show_default=True, help="Where to serve. (HANSE_HTTP)"
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HANSE_HOME",
    default=Path("hanse-policy"),
    show_default=True,
    help="Folder of its audit log. (HANSE_HOME)",
)
@click.option(
    "--tls-cert",
    envvar="HANSE_TLS_CERT",
    default="",
    help="Certificate for HTTPS (PEM); needed where it is not loopback. (HANSE_TLS_CERT)",
)
@click.option("--tls-key", envvar="HANSE_TLS_KEY", default="", help="Its key (PEM). (HANSE_TLS_KEY)")
def serve(policies: Path, http: str, home: Path, tls_cert: str, tls_key: str) -> None:
    """Answer questions by POLICIES, over the routes that FLOPY-NET documents, until SIGTERM or Ctrl-C.

    HANSE_POLICIES may name them. Whoever asks shows the token in POLICY_AUTH_TOKEN; without one it serves this machine
    alone."""
    import os

    from hanse.coordinator import beside
    from hanse.coordinator.policy_service import service

    token = os.environ.get("POLICY_AUTH_TOKEN", "").strip()
    danger = "anybody could ask, and change what is answered"
    beside.check(http, token, "POLICY_AUTH_TOKEN", tls_cert, tls_key, danger)
    app = service(policies, home, token).app()
    beside.serve(app, http, tls_cert, tls_key, "policy engine", lambda at: click.echo(f"policies are served at {at}"))


def _vocabulary(place: str) -> Vocabulary:
    if place == "node":
        from hanse.policy.policy_file import VOCABULARY as at_node

        return at_node
    if place == "coordinator":
        from hanse.coordinator.governance import VOCABULARY as at_coordinator

        return at_coordinator
    from hanse.coordinator.policy_service import VOCABULARY as served

    return served
