"""Whether what a node sent was counted: its own audit log, the signed evidence of the run, and the coordinator's proof.

The digests are the node's own, out of its audit log; the roots stand in the evidence, which the coordinator signed. The
proof only leads from the one to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
        beyond: it was counted by the record; a reply was too large to be committed to.
        left_out: it answered, and was not counted: the reason in the record.
        problems: step to what does not fit.
    """

    node: str
    counted: tuple[int, ...]
    beyond: tuple[int, ...]
    left_out: Mapping[int, str]
    problems: Mapping[int, str]


def included(evidence: bytes, proof: Json, entries: Iterable[Entry]) -> Inclusion:
    """Checks a proof.

    Args:
        evidence: the file, of which :func:`hanse.evidence.verify` found nothing wrong.
        proof: ``{run, node, steps: [{step, root, of, place, salt, sent, way}], beyond}``.
        entries: the node's audit log.

    Raises:
        Tampered: the evidence was changed. WireError: the proof is none, or of another run.
    """
    files = unpack(evidence)
    run = str(unsealed(files)["run"])
    if not isinstance(proof, Mapping) or proof.get("run") != run:
        raise WireError(f"this is no proof of inclusion for run {run}")
    node, shown = str(proof.get("node")), {int(one["step"]): one for one in proof["steps"]}
    sent: dict[int, set[tuple[int, int, str, str]]] = {}
    for entry in entries:
        said = entry.detail
        if entry.action == "task.answered" and entry.subject == run and "reply" in said:
            own = (int(said["step"]), int(said["exchange"]), str(said["op"]), str(said["reply"]))
            sent.setdefault(own[0], set()).add(own)
    counted, beyond, left_out, problems = [], [], {}, {}
    everything = {one for some in sent.values() for one in some}
    for line in files["rounds.jsonl"].splitlines():
        record = loads(line.decode())
        step = int(record["step"])
        if node in record["failures"] and step in sent:
            left_out[step] = str(record["failures"][node])
        if record["status"] != "ok" or node not in record["participants"]:
            continue
        if step not in shown and step in (proof.get("beyond") or ()):
            beyond.append(step)
            continue
        try:
            _check(node, record, shown.get(step), everything)
            counted.append(step)
        except Tampered as error:
            problems[step] = error.message
    return Inclusion(node, tuple(counted), tuple(beyond), left_out, problems)


def _check(
    node: str, record: Mapping[str, Json], one: Mapping[str, Json] | None, own: set[tuple[int, int, str, str]]
) -> None:
    if one is None:
        raise Tampered("the record counts this node, and the proof does not show how")
    committed = record.get("receipts") or {}
    try:
        replies = {tuple(reply) for reply in one["sent"]}
        reached = climbed(leaf(one["salt"], node, one["sent"]), one["place"], one["of"], one["way"])
    except (KeyError, TypeError, ValueError):
        raise Tampered("the proof cannot be read") from None
    if not replies or not replies <= own:
        raise Tampered("it counts a reply that this node's audit log does not have")
    if not reached or (reached, one["of"]) != (committed.get("root"), committed.get("of")):
        raise Tampered("the proof does not lead to what the coordinator committed to")
