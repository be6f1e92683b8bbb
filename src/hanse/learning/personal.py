"""Layers of a site's own: what strategies that keep a part of the model at each site have in common."""

from __future__ import annotations

import numpy as np

from hanse.config import RunConfig
from hanse.errors import NodeFailed
from hanse.learning.local import Named, Said, Visit
from hanse.messages import Array, Json
from hanse.settings import Setting, texts
from hanse.training import Arrays, Learned

OWN_LAYERS = Setting(
    [], "parameters that stay at each site: by name, or all whose names begin with one and a dot", texts()
)
_OWN = "own"


def unfit(config: RunConfig) -> str:
    """Why a run cannot be proposed: it names no layer."""
    chosen = config.ingredient_settings["own_layers"]
    return "" if chosen else "own_layers names no parameter that stays at the sites; give some, such as the last layer"


def own_names(visit: Visit) -> frozenset[str]:
    """The parameters that stay at each site. Raises ``NodeFailed`` for a name that fits none, or where all would."""
    chosen: list[Json] = visit.settings["own_layers"]
    fits = {layer: {n for n in visit.common if n == layer or n.startswith(f"{layer}.")} for layer in chosen}
    found = frozenset().union(*fits.values())
    wrong = sorted(layer for layer, names in fits.items() if not names)
    if wrong or len(found) == len(visit.common):
        what = f"{', '.join(wrong)}, which fits none" if wrong else "all of them"
        raise NodeFailed(f"own_layers names {what}; the model's parameters are {', '.join(list(visit.common)[:20])}")
    return found


def own_model(visit: Visit) -> Arrays:
    """The federation's parameters with this site's own layers in them."""
    return {**visit.common, **visit.memory.get(_OWN, {})}


def told(visit: Visit, learned: Learned) -> Said:
    """Nothing of the own layers leaves: their change is zero, and what they are now stays in this site's memory."""
    own = own_names(visit)
    nothing: dict[str, Array] = {name: np.zeros_like(visit.common[name]) for name in own}
    memory: Named = {_OWN: {name: learned.parameters[name] for name in own}}
    return Said(nothing, kept=memory)
