"""``hanse coordinator study``: who takes part in what, on the coordinator's machine."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.coordinator.cli_parts import database_option, home_option, opened
from hanse.terminal import line, table

if TYPE_CHECKING:
    from hanse.store import Store
    from hanse.store.studies import Study, StudyBounds

_people = click.option("--person", "people", multiple=True, help="Name of an account; may be repeated.")
_nodes = click.option("--node", "nodes", multiple=True, help="Id of a node; may be repeated.")
_purpose = click.option("--purpose", default=None, help="What for; runs of it that say no purpose have this one.")
_BOUNDS = (
    click.option("--ends", type=click.DateTime(), help="Nothing is proposed from then on (UTC), as 2027-12-31."),
    click.option("--epsilon", type=float, help="What its runs may promise together; each has to promise some then."),
    click.option("--delta", type=float, help="The same for delta; 0.0001 where only --epsilon is given."),
)


def _bounded(command: Callable[..., None]) -> Callable[..., None]:
    """Gives ``command`` these options as ``bounds``."""

    @functools.wraps(command)
    def read(ends: datetime | None, epsilon: float | None, delta: float | None, **rest: Any) -> None:
        from hanse.store.studies import StudyBounds

        end = None if ends is None else ends.replace(tzinfo=UTC).timestamp()
        command(bounds=StudyBounds(end, epsilon, delta), **rest)

    for option in reversed(_BOUNDS):
        read = option(read)
    return read


@click.group()
def study() -> None:
    """Studies: each with its people, nodes and runs."""


@study.command()
@click.argument("name")
@_purpose
@_people
@_nodes
@_bounded
@home_option
@database_option
def add(
    name: str,
    purpose: str | None,
    people: tuple[str, ...],
    nodes: tuple[str, ...],
    bounds: StudyBounds,
    home: Path,
    database: str,
) -> None:
    """Begin the study NAME. Its nodes are asked and seen by their studies alone from now on."""
    with opened(home, database) as store:
        _say(store, store.studies.make(name, purpose or "", people, nodes, bounds, actor="command line"))


@study.command()
@click.argument("name")
@_purpose
@_people
@_nodes
@_bounded
@click.option("--remove-person", "gone_people", multiple=True, help="Takes one out; may be repeated.")
@click.option("--remove-node", "gone_nodes", multiple=True, help="Takes one out; may be repeated.")
@home_option
@database_option
def change(
    name: str,
    purpose: str | None,
    people: tuple[str, ...],
    nodes: tuple[str, ...],
    bounds: StudyBounds,
    gone_people: tuple[str, ...],
    gone_nodes: tuple[str, ...],
    home: Path,
    database: str,
) -> None:
    """Add people and nodes to the study NAME, take some out, or give it another purpose, end or bound."""
    with opened(home, database) as store:
        now = store.studies.get(name)
        people_left = [one for one in (*now.people.values(), *people) if one not in gone_people]
        nodes_left = [one for one in (*now.nodes, *nodes) if one not in gone_nodes]
        _say(store, store.studies.change(name, purpose, people_left, nodes_left, bounds, actor="command line"))


@study.command()
@click.argument("name")
@home_option
@database_option
def close(name: str, home: Path, database: str) -> None:
    """Nothing is proposed in the study NAME from now on."""
    with opened(home, database) as store:
        _say(store, store.studies.close(name, actor="command line"))


@study.command("list")
@home_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_studies(home: Path, database: str, as_json: bool) -> None:
    """List studies."""
    from hanse.coordinator.study_budget import shown

    with opened(home, database) as store:
        found = [shown(store, one) for one in store.studies.list()]
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(
            table(("study", "purpose", "people", "nodes", "runs", "spent", "state"), [_row(one) for one in found])
        )


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    people, nodes = ", ".join(one["people"]), ", ".join(one["nodes"])
    return one["name"], one["purpose"][:60], people, nodes, str(one["runs"]), _spent(one), _state(one)


def _spent(one: Mapping[str, Any]) -> str:
    """What its runs have promised together, of how much, in words."""
    exact = one["spent"]["exact_runs"]
    beside = f"{exact} of them without noise" if exact else ""
    if one["most_epsilon"] is None:
        return beside or "-"
    told = f"epsilon {one['spent']['epsilon']:g} of {one['most_epsilon']:g}"
    return f"{told}, {beside}" if beside else told


def _state(one: Mapping[str, Any]) -> str:
    """``closed``, ``open``, ``open until`` or ``ended`` and when."""
    state, ends = str(one["state"]), one["ends"]
    if state == "closed" or ends is None:
        return state
    return f"{'open until' if state == 'open' else state} {ends[:16]}"


def _say(store: Store, one: Study) -> None:
    from hanse.coordinator.study_budget import shown

    def told(names: Iterable[str]) -> str:
        return ", ".join(sorted(names)) or "nobody"

    now = shown(store, one)
    state = "" if (said := _state(now)) == "open" else f", {said}"
    budget = "" if one.most_epsilon is None else f"; {_spent(now)}"
    click.echo(line(f"study {one.name}{state}: {told(one.people.values())}; nodes: {told(one.nodes)}{budget}"))
