"""What the owner demands to be done to every contribution before it leaves, after what the run does itself
(``transforms``, as in ``["clip norm=0.5"]``; :mod:`hanse.transforms`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.registry import names
from hanse.rule import Decision
from hanse.settings import Setting

SETTINGS = {
    "transforms": Setting((), "done to every contribution before it leaves, such as 'clip norm=0.5'"),
}


@dataclass(frozen=True, slots=True)
class Transforms:
    policy: Mapping[str, Json]
    name: str = "transforms"
    reads: ClassVar = frozenset({"transforms"})

    def decide(self, facts: Facts) -> Decision:
        """
        >>> from types import SimpleNamespace
        >>> Transforms({"transforms": ("clamp norm=1",)}).decide(SimpleNamespace(transforms=())).reason
        'this node demands clamp before anything leaves, and there is no such transform here'
        """
        if not isinstance(facts.transforms, tuple):
            return Decision(False, self.name, "nobody knows what this run does to contributions before they leave")
        known = names("transforms") if self.policy["transforms"] else ()
        missing = [text for text in self.policy["transforms"] if not text.split() or text.split()[0] not in known]
        if not missing:
            return Decision(True, self.name)
        name = (missing[0].split() or ["a transform without a name"])[0]
        return Decision(
            False, self.name, f"this node demands {name} before anything leaves, and there is no such transform here"
        )


RULE = Transforms
