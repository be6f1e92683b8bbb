"""The evidence of a run, as one signed file that can be checked without any server.

The file is a zip of plain files, described as an RO-Crate (:mod:`hanse.evidence.crate`), listed with their SHA-256 in a
manifest that the federation's authority signs (:mod:`hanse.evidence.sealed`), and packed in the one way in which it
could be packed (:mod:`hanse.evidence.archive`). What the coordinator's signature cannot vouch for, since it is the
coordinator's own, is bound otherwise: the decisions of owners by their nodes' signatures (:mod:`hanse.decisions`), the
code by the hash in these, the audit log by its chain (:mod:`hanse.evidence.chain`).
"""

from hanse.evidence.sealed import seal
from hanse.evidence.verified import Verified, verify

__all__ = ["Verified", "seal", "verify"]
