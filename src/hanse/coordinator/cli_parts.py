"""What the commands of ``hanse coordinator`` have in common: where the coordinator is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hanse.store import Store

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HANSE_HOME",
    default=Path("hanse-coordinator"),
    show_default=True,
    help="Folder of the coordinator: database, models, audit, keys. (HANSE_HOME)",
)
database_option = click.option(
    "--database",
    envvar="HANSE_DATABASE",
    default="",
    help="Database URL; without, SQLite in the home. (HANSE_DATABASE)",
)


def opened(home: Path, database: str) -> Store:
    """The store of the coordinator; to be closed.

    Raises ``NotFound`` where none was ever started there: an account that is made in another folder opens nothing;
    ``ConfigError`` as :func:`hanse.home.check`.
    """
    from hanse import home as homes
    from hanse.coordinator.server import open_store
    from hanse.errors import NotFound
    from hanse.store.store import FILE

    if not database and not (home / FILE).exists():
        homes.check(home, "coordinator")
        raise NotFound(
            f"there is no coordinator in {home}: run this in the folder where hanse coordinator start was run, or "
            "name its home with --home"
        )
    return open_store(home, database)
