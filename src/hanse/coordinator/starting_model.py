"""The model that a run goes on from."""

from __future__ import annotations

from hanse.config import RunConfig
from hanse.errors import NotFound
from hanse.messages import Record
from hanse.store import Store


def starting_model(store: Store, config: RunConfig, of: str | None = None) -> Record | None:
    """What ``initial_model`` names; None: the run begins anew. Only a model version counts, not any stored
    record. Blocks.

    Args:
        of: only of a run that this account proposed; None: of anybody's.

    Raises:
        NotFound: there is no such model version, or none of that account.
    """
    sha = config.initial_model
    if sha is None:
        return None
    versions = store.models.named(sha)
    if not any(of is None or store.runs.get(v.run).proposer == of for v in versions):
        whose = "" if of is None else f" among the runs of {of}"
        raise NotFound(f"there is no model version {sha[:12]}…{whose}; hanse run models RUN lists those of a run")
    return store.blobs.get(sha)
