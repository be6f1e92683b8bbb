"""Whether what a node sent was counted: its own audit log, the signed evidence of the run, and the coordinator's proof.

The digests are the node's own, out of its audit log; the roots stand in the evidence, which the coordinator signed. The
proof only leads from the one to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hanse.errors import Tampered, WireError
from hanse.evidence.archive import unpack
from hanse.evidence.sealed import unsealed
from hanse.messages import Json, loads
from hanse.receipts import climbed, leaf
from hanse.store.audit import Entry


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Of one node, by step.

    Args:
        counted: what it sent is in what the coordinator committed to.
        left_out: it answered, and was not counted: the reason in the record.
        unsaid: it answered, and the record says neither that it was counted nor why not.
        problems: step to what does not fit.
        apart_s: the most by which this node dates a reply before or after all of its step, by the coordinator's record.
    """

    node: str
    counted: tuple[int, ...]
    left_out: Mapping[int, str]
    unsaid: Mapping[int, str]
    problems: Mapping[int, str]
    apart_s: float

    @property
    def sound(self) -> bool:
        """Whether the record accounts for all that this node answered."""
        return not self.problems and not self.unsaid


Reply = tuple[int, int, str, str]  # step, exchange, op, digest


def included(evidence: bytes, proof: Json, entries: Iterable[Entry]) -> Inclusion:
    """Checks a proof.

    Args:
        evidence: the file, of which :func:`hanse.evidence.verify` found nothing wrong.
        proof: ``{run, node, steps: [{step, root, of, place, salt, sent, way}]}``.
        entries: the node's audit log.

    Raises:
        Tampered: the evidence was changed. WireError: the proof is none, or of another run.
    """
    files = unpack(evidence)
    manifest = unsealed(files)
    run = str(manifest["run"])
    node, shown = _read(proof, run)
    own = _Answered.of(entries, run)
    counted, left_out, problems = [], {}, {}
    records = {int(record["step"]): record for record in map(_record, files["rounds.jsonl"].splitlines())}
    taken: set[Reply] = set()
    for step, record in sorted(records.items()):
        if node in record["failures"] and step in own.steps:
            left_out[step] = str(record["failures"][node])
        if record["status"] != "ok" or node not in record["participants"]:
            continue
        try:
            taken |= _check(node, record, shown.get(step), own.replies)
            counted.append(step)
        except Tampered as error:
            problems[step] = error.message
    over = str(records[max(records)]["failures"].get(node, "")) if records else ""  # what came too late for any step
    unsaid = {}
    said = {*counted, *left_out, *problems, *(step for step, *_ in taken)}  # also of an earlier step, later
    for step in sorted(own.steps - said):
        if step in records and records[step]["status"] != "ok":
            left_out[step] = "the step failed, so nothing of it was counted"
        elif over and step in records and node in records[step]["asked"] and own.latest == step:
            left_out[step] = over
        elif step in records:
            unsaid[step] = "the record of the step neither counts this node nor says why not"
        elif step > max(records, default=-1) and manifest["state"] != "completed":
            left_out[step] = f"the evidence was made before the step was over, and the run was {manifest['state']}"
        else:
            unsaid[step] = "there is no record of the step"
    apart = max((_outside(time, records[step]) for step, time in own.dated if step in records), default=0.0)
    return Inclusion(node, tuple(counted), left_out, unsaid, problems, apart)


def _outside(time: float, record: Mapping[str, Json]) -> float:
    """By how many seconds a time lies before or after a step."""
    began, ended = (datetime.fromisoformat(record[name]).timestamp() for name in ("started", "ended"))
    return max(0.0, began - time, time - ended)


def _read(proof: Json, run: str) -> tuple[str, dict[int, Mapping[str, Json]]]:
    """The node, and what is shown by step."""
    if not isinstance(proof, Mapping) or proof.get("run") != run:
        raise WireError(f"this is no proof of inclusion for run {run}")
    try:
        shown = {int(one["step"]): one for one in proof["steps"]}
        return str(proof["node"]), shown
    except (KeyError, TypeError, ValueError, AttributeError):
        raise WireError("the proof of inclusion cannot be read; fetch it again: hanse run inclusion") from None


def _record(line: bytes) -> Mapping[str, Json]:
    record: Mapping[str, Json] = loads(line.decode())
    return record


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a node sent in a run, by its own audit log; ``dated``: the step and the time of each reply."""

    replies: frozenset[Reply]
    steps: frozenset[int]
    dated: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, entries: Iterable[Entry], run: str) -> _Answered:
        replies: set[Reply] = set()
        dated = []
        for entry in entries:
            said = entry.detail
            if entry.action != "task.answered" or entry.subject != run:
                continue
            step = int(said["step"])
            dated.append((step, datetime.fromisoformat(entry.time).timestamp()))
            replies.add((step, int(said["exchange"]), str(said["op"]), str(said["reply"])))
        return cls(frozenset(replies), frozenset(step for step, _ in dated), tuple(dated))

    @property
    def latest(self) -> int:
        """The last step that it answered."""
        return max(self.steps, default=-1)


def _check(
    node: str, record: Mapping[str, Json], one: Mapping[str, Json] | None, own: frozenset[Reply]
) -> frozenset[Reply]:
    """The replies that are counted."""
    if one is None:
        raise Tampered("the record counts this node, and the proof does not show how")
    committed = record.get("receipts") or {}
    try:
        replies = frozenset((int(s), int(e), str(op), str(digest)) for s, e, op, digest in one["sent"])
        reached = climbed(leaf(one["salt"], node, one["sent"]), one["place"], one["of"], one["way"])
    except (KeyError, TypeError, ValueError):
        raise Tampered("the proof cannot be read") from None
    if not replies or not replies <= own:
        raise Tampered("it counts a reply that this node's audit log does not have")
    if not reached or (reached, one["of"]) != (committed.get("root"), committed.get("of")):
        raise Tampered("the proof does not lead to what the coordinator committed to")
    return replies
