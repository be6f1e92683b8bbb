"""The demo's picture: how the federation learned, and who would have learned what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demo.comparison import Row
from hanse.experiment.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, LINE, US = "#1d2733", "#8796a5", "#e3e8ed", "#0b6e99"
COLOURS = ("#0b6e99", "#c2571a")


def heading(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", fontsize=11, fontweight="bold")


def draw(results: Mapping[str, Result], tables: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Saves the picture as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "xtick.color": QUIET,
            "ytick.color": INK,
            "axes.edgecolor": LINE,
        }
    )
    figure, panels = plt.subplots(1, 1 + len(tables), figsize=(5.2 + 5.0 * len(tables), 4.6), layout="constrained")
    curves = panels[0]
    last = max(h["round"] for result in results.values() for h in result.history)
    for (name, result), colour in zip(results.items(), COLOURS, strict=False):
        history = [h for h in result.history if h.get("auc") is not None]
        rounds = [h["round"] for h in history]
        curves.plot(rounds, [h["auc"] for h in history], color=colour, lw=2)
        low, high = zip(*(h["spread"].get("auc", (h["auc"], h["auc"])) for h in history), strict=True)
        curves.fill_between(rounds, low, high, color=colour, alpha=0.12, lw=0)
        above = 14 if rounds[-1] < last else 0  # beside its end another curve goes on
        end = (rounds[-1], history[-1]["auc"])
        curves.annotate(name, end, (4, above), textcoords="offset points", color=colour, va="center", fontweight="bold")
    heading(curves, "AUC on held-out patients, by round")
    curves.set(xlabel="round (band: from the worst to the best hospital)")
    curves.margins(x=0.02)
    curves.set(xlim=(0, last * 1.4), xticks=range(0, last + 1, max(1, last // 5)))
    for panel, (name, rows) in zip(panels[1:], tables.items(), strict=True):
        labels = [r.what for r in rows][::-1]
        values = [r.auc for r in rows][::-1]
        colours = [US if what == "federated" else INK if what == "pooled" else "#c3ccd4" for what in labels]
        panel.barh(labels, values, color=colours, height=0.68)
        for at, value in enumerate(values):
            panel.annotate(f"{value:.3f}", (value, at), xytext=(4, 0), textcoords="offset points", va="center")
        heading(panel, f"{name}: AUC on the same patients")
        panel.set(xlim=(0.5, 1.0))
        panel.tick_params(length=0)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y" if panel is curves else "x", color=LINE, lw=0.8)
        panel.set_axisbelow(True)
    figure.savefig(path, dpi=130, facecolor="white")
    plt.close(figure)
