"""Statistics as a card: tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from hanse.experiment import drawing
from hanse.experiment.listing import Listing
from hanse.experiment.pictures import svg
from hanse.presentation import Picture

_MOST_PANELS = 12
_MOST_ROWS = 60  # of a table that is no overview: longer ones are for to_frame()


def page(
    nodes: Sequence[str],
    pictures: Sequence[tuple[str, Picture, bool]],
    columns: Listing,
    tables: Sequence[tuple[str, Listing]],
    notes: Sequence[str],
    simulated: bool,
) -> str:
    """The whole card.

    Args:
        pictures: title, description, and whether the column is one of dates.
        columns: one row per column.
        tables: of what is more than a number per column, each with its name.
    """
    panels = []
    if len(columns):
        panels.append(drawing.panel("Columns", "over all sites", columns._repr_html_(), wide=True))
    panels += [drawing.panel(title, one.caption, svg(one, dates)) for title, one, dates in pictures[:_MOST_PANELS]]
    drawn = {title for title, _, _ in pictures}
    for title, table in tables[: _MOST_PANELS - len(panels)]:
        if title not in drawn:
            more = f"the first {_MOST_ROWS} of {len(table)} rows" if len(table) > _MOST_ROWS else ""
            panels.append(drawing.panel(title, more, table[:_MOST_ROWS]._repr_html_(), wide=True))
    rows = [int(r["count"]) for r in columns if isinstance(r.get("count"), int)]
    tiles = {"sites": str(len(nodes))}
    if rows:
        tiles |= {"rows at most": f"{max(rows):,}", "columns": str(len({r["column"] for r in columns}))}
    return drawing.page(
        "Federated statistics", ", ".join(nodes), "simulation" if simulated else "", tiles, panels, notes
    )
