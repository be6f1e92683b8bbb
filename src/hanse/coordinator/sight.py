"""What an account may see: runs and nodes, by its role and its studies.

An operator sees all. A data owner sees the runs that ask an own node, and the nodes that are in no study, or in one
with an own node. A data scientist sees the runs of no study, those of own studies and own ones, and the nodes that are
in no study, or in an own one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hanse.store.accounts import Role, UserAccount
from hanse.store.runs import StoredRun
from hanse.store.studies import Study


@dataclass(frozen=True, slots=True)
class Sight:
    """Of one account, at one moment.

    Args:
        studies: those that it sees (:meth:`hanse.store.studies.Studies.of`); ``all_studies``: all that there are.
    """

    account: UserAccount
    studies: Sequence[Study]
    all_studies: Sequence[Study]

    @property
    def all_runs(self) -> bool:
        """Whether it sees all runs, so that nobody need look at each."""
        return self.account.role is Role.OPERATOR or (self.account.role is not Role.DATA_OWNER and not self.all_studies)

    def run(self, run: StoredRun) -> bool:
        """Whether it may see this one."""
        if self.account.role is Role.OPERATOR:
            return True
        if self.account.role is Role.DATA_OWNER:
            return bool(set(self.account.nodes) & set(run.nodes))
        study = run.config.get("study") or ""
        return not study or run.proposer == self.account.name or any(one.name == study for one in self.studies)

    def node(self, node: str) -> bool:
        """Whether it may see this one."""
        if self.account.role is Role.OPERATOR or node in self.account.nodes:
            return True
        of_it = [study.name for study in self.all_studies if node in study.nodes and study.closed is None]
        return not of_it or any(study.name in of_it for study in self.studies)
