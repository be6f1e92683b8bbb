"""How the change of each site lay to the step that came of all, in a round of averaging.

With Δ_k the change of site k, n_k its weight, N = Σ_k n_k and Δ what came of all of them::

    cosine_k   = ⟨Δ_k, Δ⟩ / (|Δ_k| |Δ|)                       1: into the same direction; below 0: against it
    left_out_k = |Δ - Δ_-k| / |Δ|                             how far the step would be elsewhere without k
               = n_k / (N - n_k) · |Δ_k - Δ| / |Δ|            as Δ_-k = (N Δ - n_k Δ_k) / (N - n_k)

over the parameters that are learned. The second costs no training without k, and is told where Δ is the mean by
weights. It is of one step: what a site was worth for the model in the end, nobody knows without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hanse.config import RunConfig
from hanse.kinds import Gathered
from hanse.messages import Array, Json
from hanse.registry import find
from hanse.settings import Setting

NAME, COSINE, LEFT_OUT = "tell_contributions", "cosine", "left_out"
TOLD = "contributions"  # among the metrics of a step
CONTRIBUTING = {
    NAME: Setting(
        False, "tell how each site's change lay to that of all, in every round; not with sums nobody sees into"
    )
}


def hidden(config: RunConfig) -> str:
    """Why a run cannot tell it; "" where it can, or need not."""
    if config.ingredient_settings.get(NAME) is not True:
        return ""
    if find("gathering", config.gathering).HIDES:
        return f"{NAME} looks at single changes, which {config.gathering} gathering hides; leave one of them out"
    return (
        f"{NAME} tells exact figures of single changes; leave privacy out, or it" if config.privacy is not None else ""
    )


def told(gathered: Gathered, step: Mapping[str, Array], prefix: str, mean: bool) -> dict[str, Json]:
    """Node to its numbers; None for what is not defined.

    Args:
        step: Δ, of the parameters that are learned. prefix: before their names in what sites sent.
        mean: whether Δ is the mean by weights.
    """
    products = gathered.products({f"{prefix}.{name}": array for name, array in step.items()})
    length, whole = math.sqrt(math.fsum(float((a.astype(float) ** 2).sum()) for a in step.values())), gathered.weight
    found: dict[str, Json] = {}
    for answer, (inner, square) in zip(gathered.answers, products, strict=True):
        if not answer.weight > 0:
            continue
        own, others = math.sqrt(square), whole - answer.weight
        cosine = inner / own / length if own and length else None
        off = math.sqrt(max(0.0, square - 2 * inner + length**2))
        numbers: dict[str, Json] = {COSINE: None if cosine is None else max(-1.0, min(1.0, cosine))}
        if mean:
            numbers[LEFT_OUT] = answer.weight / others * off / length if others > 0 and length else None
        found[answer.node] = numbers
    return found


def means(metrics: Sequence[Mapping[str, Json]], node: str) -> dict[str, float]:
    """Of a node's numbers over steps, by the metrics of these; {} where they were not told.

    >>> first, second = {"a": {"cosine": 0.5, "left_out": None}}, {"a": {"cosine": 1.0}}
    >>> means([{TOLD: first}, {}, {TOLD: second}], "a")
    {'cosine': 0.75}
    """
    found: dict[str, float] = {}
    for name in (COSINE, LEFT_OUT):
        said = [((step.get(TOLD) or {}).get(node) or {}).get(name) for step in metrics]
        seen = [float(value) for value in said if isinstance(value, (int, float)) and math.isfinite(value)]
        if seen:
            found[name] = math.fsum(seen) / len(seen)
    return found
