"""What the sites have in common, before anything is proposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from hanse.experiment.listing import Listing
from hanse.messages import Json


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the sites have in common, before anything is proposed.

    Args:
        features: what the run would use, in order.
        union, intersection: columns that any site has, and that all have.
        filled: node to the share of the features that it lacks, in [0, 1].
        warnings: for people.
        sites: one row per node: dataset, rows, columns.
    """

    features: Sequence[str]
    union: Sequence[str] = ()
    intersection: Sequence[str] = ()
    filled: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    sites: Sequence[Mapping[str, Json]] = ()

    def __repr__(self) -> str:
        lines = [
            f"{len(self.features)} features; {len(self.intersection)} columns at all sites, {len(self.union)} at any"
        ]
        lines += [repr(self._listing())] if self.sites else []
        return "\n".join([*lines, *(f"! {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        names = ", ".join(f"<code>{escape(f)}</code>" for f in list(self.features)[:60])
        more = f" and {len(self.features) - 60} more" if len(self.features) > 60 else ""
        warnings = "".join(f"<p>⚠ {escape(w)}</p>" for w in self.warnings)
        return (
            f"<p><b>{len(self.features)} features</b>: {names}{more}</p>"
            f"<p>{len(self.intersection)} columns at all sites, {len(self.union)} at any</p>"
            f"{self._listing()._repr_html_()}{warnings}"
        )

    def _listing(self) -> Listing:
        return Listing([{**s, "filled": f"{self.filled.get(str(s.get('node')), 0.0):.0%}"} for s in self.sites])
