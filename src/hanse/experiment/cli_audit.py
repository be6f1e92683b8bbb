"""``hanse audit verify``: checks the evidence of a run with nothing but the file."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def audit() -> None:
    """Check the evidence of a run, without any server."""


@audit.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--authority",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The authority that it should be of: its certificate (PEM; a node has authority.crt in its folder).",
)
@click.option("--model", type=click.Path(dir_okay=False, path_type=Path), help="The result, as fetched.")
@click.option(
    "--unsigned", multiple=True, metavar="NODE", help="A node without a key: its yes may be the coordinator's word."
)
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
def verify(file: Path, authority: Path | None, model: Path | None, unsigned: tuple[str, ...], as_json: bool) -> None:
    """Check signatures, hashes and the chain of the audit log in FILE; status 1 where something does not fit."""
    import dataclasses
    import json

    from hanse.errors import HanseError
    from hanse.evidence import verify as check
    from hanse.terminal import visible

    try:
        known, result = (_read(place) if place else None for place in (authority, model))
        found = check(_read(file), known, result, unsigned)
    except HanseError as error:
        click.echo(json.dumps({"ok": False, "problems": [error.message]}) if as_json else f"NOT sound: {error.message}")
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps({"ok": not found.problems, **dataclasses.asdict(found)}, indent=2, ensure_ascii=False))
    else:
        for problem in found.problems:
            click.echo(f"NOT sound: {visible(problem)}")
        for note in found.notes:
            click.echo(f"- {visible(note)}")
        verdict = "is NOT sound" if found.problems else "is sound"
        click.echo(
            f"The evidence of run {visible(found.run)} ({visible(found.state)}), of {found.made[:19]}, {verdict}."
        )
    if found.problems:
        raise SystemExit(1)


def _read(place: Path) -> bytes:
    from hanse.errors import ConfigError

    try:
        return place.read_bytes()
    except OSError as error:
        raise ConfigError(f"{place} cannot be read: {error.strerror or error}") from None
