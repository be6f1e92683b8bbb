"""``hanse node dataset``: what the owner offers to the federation."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.errors import ConfigError, DataError
from hanse.node.command import ask_agent, home_option
from hanse.terminal import line, table

if TYPE_CHECKING:
    from hanse.node.dataset import Dataset
    from hanse.node.reading_process import ReadingProcess

_MOST = 12  # columns of one kind that are named


@click.group()
def dataset() -> None:
    """The datasets of this node."""


@dataset.command("add")
@home_option
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="By default made of the file's name.")
@click.option("--tags", default="", metavar="A,B", help="What runs look for.")
@click.option("--mock", type=click.Path(path_type=Path), help="A file that others may see in place of the data.")
@click.option("--schema", default="", metavar="COLUMN=KIND,...", help="Kinds to be enforced.")
@click.option("--target", metavar="COLUMN", help="Rows per class of it are in the summary that leaves.")
@click.option("--subject", metavar="COLUMN", default="", help="Says whose a row is: minimum and noise count persons.")
@click.option(
    "--separator", metavar="CHARACTER", help=r"Between a text file's cells, such as ';' or '\t' (CSV: a comma)."
)
@click.option("--decimal", metavar="SIGN", help="The decimal sign of a text file's numbers: a point, or ','.")
@click.option("--missing", metavar="A,B", help="Cells that mean nothing is there, besides the usual ones: -9,n/a")
def dataset_add(
    home: Path,
    path: Path,
    name: str | None,
    tags: str,
    mock: Path | None,
    schema: str,
    target: str | None,
    subject: str,
    separator: str | None,
    decimal: str | None,
    missing: str | None,
) -> None:
    """Register the file or folder at PATH."""
    from hanse.node.reading_process import ReadingProcess

    told = {"separator": "\t" if separator == r"\t" else separator, "decimal": decimal}
    options: dict[str, Any] = {name: sign for name, sign in told.items() if sign is not None}
    with ReadingProcess(home) as reading:
        from hanse.node.catalogue import Catalogue  # while the process starts
        from hanse.readers import missing_words

        if missing is not None:
            options["missing"] = [*missing_words(path), *_listed(missing)]
        catalogue = Catalogue(home, reading.describe)
        with _shown("reading") as note:
            added = catalogue.add(path, name, _listed(tags), _schema(schema), mock, options, subject=subject, note=note)
        try:
            _summarise(home, added, reading, target)
        except DataError:
            catalogue.remove(added.name)
            raise
    click.echo(f"{added.name}: {added.rows} rows, {len(added.schema)} columns, version {added.version[:12]}")
    for kind in dict.fromkeys(added.schema.values()):  # an owner sees what was taken for text
        names = [name for name, own in added.schema.items() if own == kind]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        click.echo(line(f"  {kind:<12} {', '.join(names[:_MOST])}{more}"))
    if added.subject:
        most = added.most_rows_of_subject
        click.echo(
            f"{added.subject} names {added.subjects} persons, of whom one has {most} rows: minimum counts times {most}"
        )


@dataset.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def dataset_list(home: Path, as_json: bool) -> None:
    """The datasets that are registered."""
    from hanse.node.catalogue import Catalogue

    rows = [(d.name, ",".join(d.tags), d.kind, d.rows, len(d.schema), d.version[:12]) for d in Catalogue(home).list()]
    head = ("name", "tags", "kind", "rows", "columns", "version")
    if as_json:
        click.echo(json.dumps([dict(zip(head, row, strict=True)) for row in rows]))
        return
    click.echo(table(head, rows))


@dataset.command("remove")
@home_option
@click.argument("name")
def dataset_remove(home: Path, name: str) -> None:
    """Forget a dataset; its file stays."""
    from hanse.node.catalogue import Catalogue
    from hanse.node.summaries import forget

    Catalogue(home).remove(name)
    forget(home)
    _tell(home)
    click.echo(f"{name} is not offered any more")


@dataset.command("refresh")
@home_option
@click.argument("name")
def dataset_refresh(home: Path, name: str) -> None:
    """Register what is in the file now; approvals for the former version end."""
    from hanse.node.reading_process import ReadingProcess

    with ReadingProcess(home) as reading:
        from hanse.node.catalogue import Catalogue  # while the process starts

        with _shown("reading") as note:
            found = Catalogue(home, reading.describe).refresh(name, note)
        _summarise(home, found, reading)
    click.echo(f"{found.name}: {found.rows} rows, version {found.version[:12]}")


@dataset.command("show")
@home_option
@click.argument("name")
def dataset_show(home: Path, name: str) -> None:
    """All that the coordinator gets to know of a dataset without a run; and, for you, what was answered of it."""
    from hanse.node.catalogue import Catalogue
    from hanse.node.cli_budget import lines
    from hanse.node.settings import NodeSettings
    from hanse.node.summaries import summaries

    found = Catalogue(home).get(name)
    count = NodeSettings.load(home).policy.minimum_count
    shown = {
        "dataset": found.public(count),
        "summary": summaries(home).get(name),
        "spent": {line.ledger: line.said for line in lines(home, name)},
    }
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def _shown(what: str) -> Iterator[Callable[[float], None]]:
    """Shows on the terminal how far something is, once it has taken a second."""
    begun, last, wide = time.monotonic(), 0.0, 0

    def note(done: float) -> None:
        nonlocal last, wide
        now = time.monotonic()
        if sys.stderr.isatty() and now - begun >= 1 and now - last >= 0.2:
            last = now
            left = (now - begun) / done * (1 - done) if done else 0.0
            text = f"{what}: {done:4.0%}, {left:.0f} s left"
            wide = max(wide, len(text))
            click.echo("\r" + text.ljust(wide), nl=False, err=True)

    try:
        yield note
    finally:
        if wide:
            click.echo("\r" + " " * wide + "\r", nl=False, err=True)


def _summarise(home: Path, changed: Dataset, reading: ReadingProcess, target: str | None = None) -> None:
    from hanse.node.summaries import summarise

    with _shown("summarising") as note:
        summarise(home, changed, target, note, reading.summary)
    _tell(home)


def _tell(home: Path) -> None:
    """Tells a running agent that the datasets have changed; the next greeting does, if none runs."""
    with contextlib.suppress(ConnectionError):
        ask_agent(home, "datasets")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _schema(text: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for part in _listed(text):
        column, equals, kind = part.rpartition("=")
        if not equals or not column:
            raise ConfigError(f"{part!r} in --schema; expected COLUMN=KIND, as in age=numeric")
        found[column] = kind
    return found or None
