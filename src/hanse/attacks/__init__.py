"""Known attacks on privacy, for the auditor (``hanse privacy audit``): one file each; the folder is the registry.

A file has ``ATTACK``, a function of a :class:`hanse.attack.Scene` to a :class:`hanse.attack.Finding`. None of it is
part of a run.
"""

from __future__ import annotations

from hanse.attack import Attack
from hanse.registry import find, names


def attacks() -> dict[str, Attack]:
    """All of the folder, by name."""
    return {name: find("attacks", name).ATTACK for name in names("attacks")}


__all__ = ["attacks"]
