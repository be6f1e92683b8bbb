"""Models that were learned elsewhere, so that a run here can go on from them.

What comes in is a file of Hanse (of ``hanse run model``, or of ``Result.save``): plain arrays and JSON, so nothing in
it can run. It is held against what a run needs of a model, and kept as the result of a session that took place
elsewhere, which has neither nodes nor steps nor code here. Whether it fits a run is said when that is proposed.
"""

from __future__ import annotations

from hanse.errors import ConfigError
from hanse.learning import rows as preparation
from hanse.messages import Json, Record, load
from hanse.registry import names
from hanse.store import Store
from hanse.store.models import ModelVersion

_SAYS = "it was learned elsewhere and brought in; all that is here of it is its model"


def bring_in(store: Store, raw: bytes, account: str) -> tuple[ModelVersion, bool]:
    """The model's version, and whether it is new: the same again of the same account gives the one that there is.
    Blocks.

    Raises:
        WireError: ``raw`` is damaged, or no record at all.
        ConfigError: it is a record, but no model that a run learned.
    """
    record = checked(load(raw))
    sha = store.blobs.put(record)
    for version in store.models.named(sha):
        if store.runs.get(version.run).proposer == account:
            return version, False
    run = store.runs.bring_in(_config(record), proposer=account, sha=sha, reason=_SAYS)
    return store.models.add(run.id, sha), True


def checked(record: Record) -> Record:
    """The model in what was brought in. Raises ``ConfigError`` where there is none that can be understood."""
    try:
        if "hanse_result" in record.data:
            record = Record(record.data["model"], record.arrays)
        if record.data["model_name"] not in names("models"):
            raise ConfigError(f"there is no model {str(record.data['model_name'])[:60]!r} here")
        if not isinstance(record.data["algorithm"], str) or not any(n.startswith("model.") for n in record.arrays):
            raise ValueError
        preparation.Agreed.of(preparation.unpack(record))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError("this is no model that a run of Hanse learned; fetch one with hanse run model") from None
    return record


def _config(record: Record) -> dict[str, Json]:
    """What is known of how it was learned."""
    data = record.data
    return {
        "name": "brought in",
        "model_name": data["model_name"],
        "federated_strategy": data["algorithm"],
        "target_column": data["prepared"]["target"],
        "task_type": data["prepared"]["task"]["kind"],
        "feature_strategy": "intersection",
        "features": [column["name"] for column in data["prepared"]["columns"]],
    }
