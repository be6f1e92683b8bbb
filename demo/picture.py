"""The demo's picture: how the federation learned, and who would have learned what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.comparison import Row
from hanse.experiment.results import Result

INK, QUIET, LINE, US = "#1d2733", "#8796a5", "#e3e8ed", "#0b6e99"
COLOURS = ("#0b6e99", "#c2571a")


def draw(results: Mapping[str, Result], tables: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Saves the picture as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.labelcolor": INK,
                         "xtick.color": QUIET, "ytick.color": INK, "axes.edgecolor": LINE})  # fmt: skip
    figure, panels = plt.subplots(1, 1 + len(tables), figsize=(5.2 + 5.0 * len(tables), 4.6), layout="constrained")
    curves = panels[0]
    for (name, result), colour in zip(results.items(), COLOURS, strict=False):
        history = [h for h in result.history if h.get("auc") is not None]
        rounds = [h["round"] for h in history]
        curves.plot(rounds, [h["auc"] for h in history], color=colour, lw=2)
        low, high = zip(*(h["spread"].get("auc", (h["auc"], h["auc"])) for h in history), strict=True)
        curves.fill_between(rounds, low, high, color=colour, alpha=0.12, lw=0)
        curves.annotate(f" {name}", (rounds[-1], history[-1]["auc"]), color=colour, va="center", fontweight="bold")
    curves.set(title="AUC on held-out patients, by round", xlabel="round (band: from the worst to the best hospital)")
    curves.margins(x=0.02)
    curves.set_xlim(right=curves.get_xlim()[1] * 1.42)
    for panel, (name, rows) in zip(panels[1:], tables.items(), strict=True):
        labels = [r.what for r in rows][::-1]
        values = [r.auc for r in rows][::-1]
        colours = [US if what == "federated" else INK if what == "pooled" else "#c3ccd4" for what in labels]
        panel.barh(labels, values, color=colours, height=0.68)
        for at, value in enumerate(values):
            panel.annotate(f"{value:.3f}", (value, at), xytext=(4, 0), textcoords="offset points", va="center")
        panel.set(title=f"{name}: AUC, same patients for all", xlim=(0.5, 1.0))
        panel.tick_params(length=0)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y" if panel is curves else "x", color=LINE, lw=0.8)
        panel.set_axisbelow(True)
        panel.set_title(panel.get_title(), loc="left", fontsize=11, fontweight="bold")
    figure.savefig(path, dpi=130, facecolor="white")
    plt.close(figure)
