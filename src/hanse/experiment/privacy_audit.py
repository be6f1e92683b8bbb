"""The auditor: what known attacks get of a run as it is proposed, and of the same run without its protections.

Every attack of :mod:`hanse.attacks` is tried on rows that the auditor has: mock rows, or an owner's own, which stay in
this process. What an attack does not get is no proof that no attack does; what it gets is a proof that one can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hanse.attack import Attack, Finding, Scene
from hanse.attacks import attacks as known
from hanse.errors import ConfigError, HanseError
from hanse.experiment import drawing
from hanse.experiment.configuring import configure
from hanse.experiment.laboratory import FinishedModel, Laboratory, bare, proposed
from hanse.experiment.listing import Listing
from hanse.experiment.results import Result
from hanse.messages import Json
from hanse.registry import find
from hanse.table import Table

COLUMNS = ("attack", "without", "proposed", "chance", "epsilon_at_least")
_FEWEST = 60  # rows: fewer tell chance from nothing


class Audit(Listing):
    """A row for each attack: what it gets ``without`` protections, of the run as it is ``proposed``, and what who
    guesses has (``chance``). ``epsilon_at_least``: of the run as proposed, with 95 % confidence; it stays below what a
    run with noise promises (``claim``)."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], claim: float | None = None) -> None:
        super().__init__(rows, COLUMNS, notes=[f"{row['attack']}: {row['note']}" for row in rows if row["note"]])
        self.claim = claim

    def to_json(self) -> dict[str, Json]:
        """The rows with their measures, and the epsilon that was promised."""
        return {"attacks": [dict(row) for row in self], "claim": self.claim}

    def plot(self) -> Any:
        """A ``matplotlib.figure.Figure`` that belongs to no window. Raises ``ConfigError`` where matplotlib is not
        installed."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ConfigError("plot() needs matplotlib: pip install 'hanse[scientist]'") from None
        figure = Figure(figsize=(8, 1.2 + 0.75 * len(self)), layout="constrained")
        axes = figure.add_subplot()
        for line, row in enumerate(reversed(list(self))):
            for name, colour, at in (("without", drawing.RED, 0.18), ("proposed", drawing.TEAL, -0.18)):
                if row[name] is not None:
                    axes.barh(line + at, row[name], 0.32, color=colour, label=name if not line else None)
                    axes.text(row[name] + 0.01, line + at, f"{row[name]:.2f}", va="center", fontsize=8)
            axes.plot([row["chance"]] * 2, [line - 0.4, line + 0.4], color=drawing.GREY, linestyle="--", linewidth=1)
        axes.set_yticks(range(len(self)), [row["attack"].replace("_", " ") for row in reversed(list(self))])
        axes.set_xlim(0, 1.1)
        axes.set_xlabel("what the attack gets: 1 is everything, the dashed line a guess")
        axes.legend(*_legend(), fontsize=8, frameon=False, loc="lower right")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.set_title("What known attacks get", loc="left", fontsize=11, fontweight="bold")
        return figure


def audit(
    rows: Any,
    settings: Mapping[str, Any],
    sites: int = 4,
    seed: int = 0,
    attacks: Sequence[str] | None = None,
    policy: Mapping[str, Json] | None = None,
) -> Audit:
    """Tries attacks on a proposal.

    Args:
        rows: a frame, a mapping of columns or a Table, of at least 60 rows.
        settings: of the run, as of :meth:`hanse.experiment.federation.Federation.experiment`.
        sites: over so many simulated sites the rows are spread, at least 3.
        seed: who is in, and where.
        attacks: names; None: all of :mod:`hanse.attacks`.
        policy: of the owners of the sites of the run as proposed; by default as of a simulation, with the minimum of
            cells of a node.

    Raises:
        ConfigError: an unknown attack or setting, or too few rows or sites.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows = {"age": rng.uniform(20, 90, 200), "marker": rng.normal(size=200)}
    >>> rows["ill"] = np.where(rows["marker"] > 0, "yes", "no")
    >>> found = audit(rows, {"model": "logistic_regression", "target": "ill", "gathering": "secure"})
    >>> [(row["attack"], row["without"], row["proposed"]) for row in found][:2]
    [('differencing', 1.0, 0.0), ('gradient_inversion', 1.0, 0.0)]
    """
    table, given = Table.of(rows), proposed(settings)
    config = configure(given)
    if sites < 3 or table.rows < _FEWEST:
        raise ConfigError(f"{table.rows} rows at {sites} sites; expected at least {_FEWEST} rows, and 3 sites")
    open_policy = {"minimum_cell": 1, "minimum_samples": 1}
    without = Laboratory(table, bare(given), sites, seed, open_policy)
    protected = Laboratory(table, given, sites, seed, policy or {})
    claim = None if config.privacy is None else _claim(config.privacy)
    return Audit([_row(name, one, without, protected) for name, one in _chosen(attacks).items()], claim)


def audit_result(result: Result, members: Any, others: Any, attacks: Sequence[str] | None = None) -> Audit:
    """Tries attacks on a model that is there.

    Args:
        result: of a run.
        members: rows that it learned from.
        others: rows of the same kind that it did not learn from.
        attacks: names; None: all.
    """
    scene = FinishedModel(result, Table.of(members), Table.of(others))
    rows = [_row(name, one, None, scene) for name, one in _chosen(attacks).items()]
    return Audit(rows, None if result.privacy is None else result.privacy.epsilon)


def _chosen(wanted: Sequence[str] | None) -> dict[str, Attack]:
    if not wanted:
        return known()
    return {name: find("attacks", name).ATTACK for name in wanted}


def _claim(privacy: Any) -> float:
    from hanse.privacy.guarantee import settled

    return float(settled(privacy)["epsilon"])


def _row(name: str, attack: Attack, without: Scene | None, scene: Scene) -> dict[str, Any]:
    bare_finding, why_not = _tried(attack, without)
    finding, why = _tried(attack, scene)
    told = finding or bare_finding
    return {
        "attack": name,
        "without": None if bare_finding is None else bare_finding.number,
        "proposed": None if finding is None else finding.number,
        "chance": None if told is None else told.chance,
        "epsilon_at_least": None if finding is None else finding.epsilon,
        "measure": "" if told is None else told.measure,
        "note": why or why_not,
    }


def _tried(attack: Attack, scene: Scene | None) -> tuple[Finding | None, str]:
    if scene is None:
        return None, ""
    try:
        return attack(scene), ""
    except HanseError as error:
        return None, error.message


def _legend() -> tuple[list[Any], list[str]]:
    from matplotlib.patches import Patch

    return [Patch(color=drawing.RED), Patch(color=drawing.TEAL)], ["without protections", "as proposed"]
