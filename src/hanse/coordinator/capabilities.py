"""What a node's machine can do: as the node measured it, and as somebody said. What was measured counts."""

from __future__ import annotations

from collections.abc import Mapping

from hanse.messages import Json
from hanse.store.nodes import Node

_DECLARED = "declared"  # where, in the stored capabilities of a node, that stands which was only said of it
_MEASURED = ("model_types", "cpus", "memory_mb", "gpu")


def of(node: Node) -> dict[str, Json]:
    """With FLOPY-NET's names; what was declared stands where nothing was measured."""
    return {**declared(node), **named(node.capabilities)}


def declared(node: Node) -> dict[str, Json]:
    """What was only said of the node, in a registration by REST."""
    found = node.capabilities.get(_DECLARED)
    return dict(found) if isinstance(found, Mapping) else {}


def named(measured: Mapping[str, Json]) -> dict[str, Json]:
    """What a node measured, and the same in FLOPY-NET's words.

    >>> named({"cpus": 4, "memory_mb": 2048, "gpu": False})
    {'cpus': 4, 'memory_mb': 2048, 'gpu': False, 'memory_gb': 2.0, 'compute_power': 'cpu'}
    """
    found = {name: measured[name] for name in _MEASURED if name in measured}
    memory, gpu = found.get("memory_mb"), found.get("gpu")
    if isinstance(memory, int):
        found["memory_gb"] = round(memory / 1024, 3)
    if isinstance(gpu, bool):
        found["compute_power"] = "gpu" if gpu else "cpu"
    return found


def told(node: Node | None, said: Mapping[str, Json] | None) -> dict[str, Json] | None:
    """What to store after somebody ``said`` something of a node by REST; None: nothing new."""
    if not said:
        return None
    before = {} if node is None else node.capabilities
    return {**before, _DECLARED: {**({} if node is None else declared(node)), **said}}


def measured(node: Node, found: Mapping[str, Json]) -> dict[str, Json]:
    """What to store after the node ``found`` this by itself."""
    kept = {name: value for name, value in node.capabilities.items() if name == _DECLARED}
    return {**{name: value for name, value in found.items() if name != _DECLARED}, **kept}


def contradicted(node: Node, said: Mapping[str, Json]) -> list[str]:
    """A sentence for each thing that was said of a node that measured something else."""
    found = named(node.capabilities)
    return [
        f"{name} is told as {value!r}; {found[name]!r}, which the node measured, stays"
        for name, value in said.items()
        if name in found and found[name] != value
    ]
