"""What differential privacy runs must promise here: none, some (``require_differential_privacy``), at most so much
epsilon and delta (``max_epsilon_per_run``, ``max_delta_per_run``), for rows and not only for sites (``privacy_unit``),
by each node alone (``privacy_mode``). A run may promise more, never less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision
from hanse.settings import Setting, number, one_of

SETTINGS = {
    "require_differential_privacy": Setting(
        False, "whether only runs are answered that are differentially private; what touches no data is"
    ),
    "max_epsilon_per_run": Setting(0.0, "the largest epsilon that a run may promise; 0: any", number(0, 1000)),
    "max_delta_per_run": Setting(0.0, "the largest delta that a run may promise; 0: any", number(0, 0.1)),
    "privacy_unit": Setting(
        "any",
        "whose part must stay hidden: that of single rows, of the site as a whole, or any",
        one_of("any", "row", "site"),
    ),
    "privacy_mode": Setting(
        "any",
        "who is trusted: local: nobody, noise is added here; distributed: secure sums too; any: the coordinator too",
        one_of("any", "distributed", "local"),
    ),
}


_UP_TO = {"local": ("local",), "distributed": ("local", "distributed"), "row": ("row",), "site": ("site",)}


@dataclass(frozen=True, slots=True)
class DifferentialPrivacy:
    policy: Mapping[str, Json]
    name: str = "differential_privacy"
    reads: ClassVar = frozenset({"needs_data", "privacy"})

    def decide(self, facts: Facts) -> Decision:
        """
        >>> from types import SimpleNamespace
        >>> policy = {name: setting.default for name, setting in SETTINGS.items()}
        >>> facts = SimpleNamespace(needs_data=True, privacy=None)
        >>> DifferentialPrivacy({**policy, "max_epsilon_per_run": 2.0}).decide(facts).reason
        'this run is not differentially private, which its owner wants here (privacy of the run)'
        """
        promised, policy = facts.privacy, self.policy
        wanted = {name: policy[name] for name in SETTINGS}
        if promised is None:
            bounds = wanted["max_epsilon_per_run"] or wanted["max_delta_per_run"]
            if facts.needs_data is False or not (wanted["require_differential_privacy"] is not False or bounds):
                return Decision(True, self.name)
            return self._no(
                "this run is not differentially private, which its owner wants here (privacy of the run)",
                "max_epsilon_per_run 0" if bounds else "require_differential_privacy false",
            )
        for what, most in (("epsilon", wanted["max_epsilon_per_run"]), ("delta", wanted["max_delta_per_run"])):
            if most and not promised[what] <= most:
                return self._no(
                    f"this run promises {what} {promised[what]:g}, and the owner of this node allows at most {most:g} "
                    "for one run",
                    f"max_{what}_per_run {promised[what]:g}",
                )
        for what in ("unit", "mode"):
            owner = wanted[f"privacy_{what}"]
            if owner != "any" and promised[what] not in _UP_TO[owner]:
                return self._no(
                    f"this run is private by {what} {promised[what]}, and the owner of this node wants {owner}",
                    f"privacy_{what} any",
                )
        return Decision(True, self.name)

    def _no(self, reason: str, remedy: str) -> Decision:
        return Decision(False, self.name, reason, remedy)


RULE = DifferentialPrivacy
