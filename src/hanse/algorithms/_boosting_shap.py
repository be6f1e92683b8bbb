"""What each feature adds to the predictions of boosted trees, over the rows of all sites: mean |SHAP| and mean SHAP.

After the last tree the sites are asked once more. Each computes the SHAP values (:mod:`hanse.boosting.shap`) of some of
its training rows and sends their sums, which are whole numbers. Which rows is drawn by what they hold, so they are the
same ones for every way to divide the rows over sites, and so are the sums. A mean over drawn rows stands for that over
all rows within its standard error, which is told.

Reference: Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for trees", Nature
Machine Intelligence 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from hanse.algorithms._agreement import least
from hanse.algorithms._boosting_rows import Observed
from hanse.boosting import scales, shap
from hanse.boosting.trees import Trees
from hanse.codec import ArrayOf
from hanse.errors import DataError
from hanse.kinds import Combine, Contribution, Gathered, Shapes
from hanse.learning.sampling import drawn
from hanse.messages import Array, Json, Record
from hanse.rough import some

_PerFeature = Annotated[Array, ArrayOf("int64", "outputs", "features")]


@dataclass(frozen=True, slots=True)
class Explain:
    """What a node is asked.

    Args:
        trees, base: of the model.
        share: of its training rows that are explained.
        unit: the exponent of that of sums.
    """

    trees: Trees
    base: Annotated[Array, ArrayOf("float32", "outputs")]
    share: float
    unit: int


@dataclass(frozen=True, slots=True)
class Explained:
    """Sums over ``rows`` rows of all sites (:func:`hanse.boosting.shap.sums`) but those that ``withheld`` theirs, since
    they were fewer than they tell something of, and those that were ``lost`` (how many)."""

    rows: int
    lost: int
    withheld: tuple[str, ...]
    share: float
    unit: int
    size: _PerFeature
    signed: _PerFeature
    squares: _PerFeature


def shapes(outputs: int, features: int) -> Shapes:
    """Of what a node sends."""
    of = ("int64", (outputs, features))
    return {"explained": ("int64", (1,)), "shap_size": of, "shap": of, "shap_squares": of}


def fault(arrays: Mapping[str, Array]) -> str:
    """What is wrong with the sums of one site; "" if nothing is: no value is larger than 2^30 units."""
    rows, size, signed, squares = (np.asarray(arrays[n]) for n in ("explained", "shap_size", "shap", "shap_squares"))
    most = float(rows[0]) * 2.0**scales.BITS
    if (size < np.abs(signed)).any() or (squares < 0).any() or max(size.max(), squares.max()) > most:
        return "its sums of SHAP values are none that its rows can have with these trees"
    return ""


def answer(ask: Explain, model: Any, rows: Observed) -> Contribution:
    """The node's half: nothing of rows that are fewer than its owner tells something of."""
    site, train = rows.site, rows.targets.train
    if ask.share < 1:
        train = train[drawn(rows.row_keys(), ask.share, int(site.config["seed"]), "explained")]
    withheld = 0 < len(train) < least(site)
    train = train[:0] if withheld else train
    wrong = model.fault(ask.trees)
    if wrong:
        raise DataError(f"the trees that are to be explained are not usable: {wrong}")
    X = np.column_stack(list(rows.drawn_columns(train)))
    found = shap.sums(shap.values(ask.trees, model.objective.margin(ask.base), X), ask.unit)
    site.progress()
    arrays = {"explained": np.array([len(train)], np.int64), **found}
    return Contribution(Record({"withheld": True} if withheld else {}, arrays), combine=Combine.SUM)


def told(ask: Explain, gathered: Gathered) -> Explained:
    """What all sites sent."""
    found = gathered.sum()
    withheld = tuple(answer.node for answer in gathered.answers if answer.data.get("withheld"))
    own = (np.asarray(found[name]) for name in ("shap_size", "shap", "shap_squares"))
    lost = len(gathered.nodes) - len(gathered.answers)
    return Explained(int(found["explained"][0]), lost, withheld, ask.share, ask.unit, *own)


def lacking(explained: Explained) -> list[str]:
    """Whose rows are not in it, a sentence each."""
    found = []
    if explained.withheld:
        at = some(explained.withheld)
        found.append(f"SHAP values are not of the rows at {at}, which are fewer than their owners tell something of")
    if explained.lost:
        found.append(f"SHAP values are not of the rows of {explained.lost} of the sites; failures say why")
    return found


def table(explained: Explained, features: Sequence[str], outputs: Sequence[str]) -> list[dict[str, Json]]:
    """``{feature, output, mean_abs, error, mean, rank}`` of each feature and output, the largest mean |SHAP| first; in
    margins. ``error``: the standard error of ``mean_abs``, 0 where all rows were explained. ``output``: the class that
    the margin is of, where there are classes."""
    if not explained.rows:
        return []
    n, unit = explained.rows, explained.unit
    size, signed = (np.ldexp(part.astype(np.float64), unit) / n for part in (explained.size, explained.signed))
    square = np.ldexp(explained.squares.astype(np.float64), 2 * unit + scales.BITS) / n
    error = np.sqrt(np.maximum(square - size**2, 0) / n) if explained.share < 1 else np.zeros_like(size)
    order = np.argsort(-size.ravel(), kind="stable")
    found: list[dict[str, Json]] = []
    for rank, place in enumerate(order.tolist(), 1):
        k, i = divmod(place, size.shape[1])
        own: dict[str, Json] = {"output": outputs[k]} if outputs else {}
        numbers = {"mean_abs": float(size[k, i]), "error": float(error[k, i]), "mean": float(signed[k, i])}
        found.append({"feature": features[i], **own, **numbers, "rank": rank})
    return found
