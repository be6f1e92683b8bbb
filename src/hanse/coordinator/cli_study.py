"""``hanse coordinator study``: who takes part in what, on the coordinator's machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hanse.coordinator.cli_parts import database_option, home_option, opened
from hanse.terminal import line, table

if TYPE_CHECKING:
    from hanse.store.studies import Study

_people = click.option("--person", "people", multiple=True, help="Name of an account; may be repeated.")
_nodes = click.option("--node", "nodes", multiple=True, help="Id of a node; may be repeated.")
_purpose = click.option("--purpose", default=None, help="What for; runs of it that say no purpose have this one.")


@click.group()
def study() -> None:
    """Studies: each with its people, nodes and runs."""


@study.command()
@click.argument("name")
@_purpose
@_people
@_nodes
@home_option
@database_option
def add(
    name: str, purpose: str | None, people: tuple[str, ...], nodes: tuple[str, ...], home: Path, database: str
) -> None:
    """Begin the study NAME. Its nodes are asked and seen by their studies alone from now on."""
    with opened(home, database) as store:
        _say(store.studies.make(name, purpose or "", people, nodes, actor="command line"))


@study.command()
@click.argument("name")
@_purpose
@_people
@_nodes
@click.option("--remove-person", "gone_people", multiple=True, help="Takes one out; may be repeated.")
@click.option("--remove-node", "gone_nodes", multiple=True, help="Takes one out; may be repeated.")
@home_option
@database_option
def change(
    name: str,
    purpose: str | None,
    people: tuple[str, ...],
    nodes: tuple[str, ...],
    gone_people: tuple[str, ...],
    gone_nodes: tuple[str, ...],
    home: Path,
    database: str,
) -> None:
    """Add people and nodes to the study NAME, take some out, or give it another purpose."""
    with opened(home, database) as store:
        now = store.studies.get(name)
        people_left = [one for one in (*now.people.values(), *people) if one not in gone_people]
        nodes_left = [one for one in (*now.nodes, *nodes) if one not in gone_nodes]
        _say(store.studies.change(name, purpose, people_left, nodes_left, actor="command line"))


@study.command()
@click.argument("name")
@home_option
@database_option
def close(name: str, home: Path, database: str) -> None:
    """Nothing is proposed in the study NAME from now on."""
    with opened(home, database) as store:
        _say(store.studies.close(name, actor="command line"))


@study.command("list")
@home_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_studies(home: Path, database: str, as_json: bool) -> None:
    """List studies."""
    with opened(home, database) as store:
        found = store.studies.list()
    if as_json:
        click.echo(json.dumps([one.public() for one in found]))
    else:
        click.echo(table(("study", "purpose", "people", "nodes", "state"), [_row(one) for one in found]))


def _row(one: Study) -> tuple[str, ...]:
    people, nodes = ", ".join(sorted(one.people.values())), ", ".join(one.nodes)
    return one.name, one.purpose[:60], people, nodes, "open" if one.closed is None else "closed"


def _say(one: Study) -> None:
    def told(names: Iterable[str]) -> str:
        return ", ".join(sorted(names)) or "nobody"

    state = "" if one.closed is None else ", closed"
    click.echo(line(f"study {one.name}{state}: {told(one.people.values())}; nodes: {told(one.nodes)}"))
