"""What the owner has written in Cedar (``policy_file``: a file, or a folder of files ``*.cedar``) must permit a task,
and permit one person alone to approve a run; :mod:`hanse.cedar` says how policies decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hanse.cedar.files import PolicyFiles
from hanse.cedar.policies import Ruling
from hanse.cedar.vocabulary import Vocabulary
from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision
from hanse.settings import Setting, text

SETTINGS = {
    "policy_file": Setting(
        "",
        "policies in Cedar that must permit every task besides: a file, or a folder of files *.cedar; from the node's "
        "folder where the path is not absolute; empty: none",
        text(4096, empty=True),
    ),
}
ACTION = "answer"  # a task of a run; the only thing that a node is asked to do
ALONE = "approve_alone"  # one person approves a run, or nobody does: a standing approval, a standing policy
VOCABULARY = Vocabulary({ACTION: Facts, ALONE: Facts})


class PolicyFile:
    """The rule. Raises ``ConfigError`` where the policies cannot be read."""

    name = "policy_file"
    decides_by: Callable[[], str]  # the version of the policies as they are now, where there are any; raises as decide

    def __init__(self, policy: Mapping[str, Json]) -> None:
        self._policy = policy
        self._files: PolicyFiles | None = None
        self._told: tuple[Ruling, Decision] | None = None
        self.approve_alone: Callable[[Facts], Decision] | None = None
        if where := policy.get("policy_file"):
            self._files = files = PolicyFiles(Path(policy.get("home", ""), where), VOCABULARY)
            self.approve_alone = self._alone
            self.decides_by = lambda: files.current().version

    @property
    def reads(self) -> frozenset[str]:
        """The facts that the policies name as they are now. Raises as :meth:`decide` does."""
        return self._files.current().reads(ACTION) | {"proposer", "run"} if self._files is not None else frozenset()

    def decide(self, facts: Facts) -> Decision:
        """Raises ``NotNow`` where the policies were changed and cannot be read."""
        if self._files is None:
            return Decision(self._policy["policy_file"] == "", self.name)
        said = self._files.current().decide(ACTION, facts.proposer, facts.run, facts)
        if self._told is None or self._told[0] is not said:  # of one run nearly all are the same
            by = f"{', '.join(said.by) or 'no policy'} of version {said.version}"
            self._told = said, Decision(said.allowed, self.name, said.reason, by=by)
        return self._told[1]

    def _alone(self, facts: Facts) -> Decision:
        """Whether one person may approve. Raises as :meth:`decide` does."""
        assert self._files is not None
        said = self._files.current().decide(ALONE, facts.proposer, facts.run, facts)
        return Decision(said.allowed, self.name, said.reason, by=", ".join(said.by))


RULE = PolicyFile
