"""Checks a run's evidence with nothing but the file, and the authority's certificate where one has it."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes

import hanse
from hanse.bundle import Bundle
from hanse.decisions import proven
from hanse.errors import ConfigError, HanseError, Tampered
from hanse.evidence import chain
from hanse.evidence.archive import unpack
from hanse.evidence.crate import METADATA
from hanse.evidence.sealed import AUTHORITY, unsealed
from hanse.messages import Json, loads
from hanse.signing import fingerprint


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Args:
        run, state, bundle, result, made: as the manifest says.
        authority: SHA-256 of the certificate of whoever signed, in hex.
        head: sequence number and hash of the last line of the audit log that is in the evidence.
        problems: what does not fit; empty: all does.
        notes: what fits, and what it rests on or leaves open, in sentences.
    """

    run: str
    state: str
    bundle: str
    result: str
    made: str
    authority: str
    head: tuple[int, str]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def verify(
    raw: bytes, authority: bytes | None = None, model: bytes | None = None, unsigned: Collection[str] = ()
) -> Verified:
    """Checks evidence.

    Args:
        raw: the file.
        authority: the certificate (PEM) of the authority that it should be of; None: whichever it is of.
        model: the run's result as it was fetched, to be compared; None: it is not.
        unsigned: nodes without a key, whose yes may rest on the coordinator's word.

    Raises:
        Tampered: the file was changed after it was signed, or is none. TooLarge.
    """
    files = unpack(raw)
    manifest = unsealed(files)
    certificate = files[AUTHORITY]
    own = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()
    problems: list[str] = []
    notes: list[str] = []
    if authority is not None and not _same(authority, certificate):
        problems.append(f"it is signed by the authority {own}, which is another than the expected one")
    elif authority is None:
        notes.append(f"signed by the authority {own}: compare it with the one that your node joined (--authority)")
    said = _Contents(files, manifest, unsigned)
    for look in (said.proposal, said.run, said.consents, said.audit, said.rounds, said.result, said.crate):
        try:
            notes += look()
        except (HanseError, KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(
                error.message if isinstance(error, HanseError) else f"what is there cannot be read: {error!r}"
            )
    if model is not None and (found := hashlib.sha256(model).hexdigest()) != manifest.get("result"):
        problems.append(f"the model has the SHA-256 {found}, the run's result {manifest.get('result')}")
    named = {name: str(manifest.get(name) or "") for name in ("run", "state", "bundle", "result", "made")}
    return Verified(**named, authority=own, head=said.head, problems=tuple(problems), notes=tuple(notes))


def _same(expected: bytes, shown: bytes) -> bool:
    """Whether both are of one key: an authority signs itself a new certificate now and then."""
    try:
        return fingerprint(expected) == fingerprint(shown)
    except ValueError:
        raise ConfigError("the authority that is expected is no certificate in PEM") from None


class _Contents:
    """The parts of evidence whose signature fits, each looked at by itself: notes, or ``Tampered``."""

    def __init__(self, files: Mapping[str, bytes], manifest: Mapping[str, Json], unsigned: Collection[str]) -> None:
        self._files, self._manifest, self._unsigned = files, manifest, unsigned
        self.head = (0, "")

    def _json(self, name: str) -> Json:
        return loads(self._files[name].decode())

    def _lines(self, name: str) -> list[dict[str, Json]]:
        return [cast(dict[str, Json], loads(line.decode())) for line in self._files[name].splitlines()]

    def proposal(self) -> list[str]:
        found = hashlib.sha256(self._files["proposal.json"]).hexdigest()
        if found != self._manifest["bundle"]:
            raise Tampered(f"the proposal has the SHA-256 {found}; the run's is {self._manifest['bundle']}")
        frozen, shown = Bundle(self._json("proposal.json")), self._files["preview.txt"].decode()
        if found not in shown.partition("\n")[0] or not shown.endswith(frozen.code_preview()):
            raise Tampered("the preview is of another proposal")
        if frozen.content["hanse"] != hanse.__version__:  # which may have said it in other words
            return [
                f"the proposal, with its code, is {found}; the preview has its code (for its settings see the proposal)"
            ]
        if shown != frozen.preview():
            raise Tampered("the preview says other settings than the proposal")
        return [f"the proposal, with its code, is {found}"]

    def run(self) -> list[str]:
        run = self._json("run.json")
        for name, own in (("run", "id"), ("bundle", "bundle_hash"), ("state", "state"), ("result", "result")):
            if (self._manifest[name] or "") != (run[own] or ""):
                raise Tampered(f"run.json says {own} {run[own]!r}, the manifest {self._manifest[name]!r}")
        content = self._json("proposal.json")
        if dict(run["config"]) != dict(content["config"]):
            raise Tampered("run.json has other settings than the proposal")
        return []

    def consents(self) -> list[str]:
        run, given = self._json("run.json"), self._json("consents.json")
        signed, unsigned, accepted, apart = [], [], set(), []
        for consent in given:
            node, decision = consent["node"], consent["decision"]
            if node not in run["nodes"]:
                raise Tampered(f"there is a decision of {node}, which was not asked")
            if consent["hash"] != run["bundle_hash"]:
                raise Tampered(f"the decision of {node} is about another proposal")
            if consent["proof"] is None:
                unsigned.append(node)
                if decision == "accept" and node not in self._unsigned:
                    raise Tampered(f"the yes of {node} is not signed; say that it has no key, if that is so")
            else:
                said = proven(consent["proof"], self._files[AUTHORITY])
                expected = (node, run["id"], run["bundle_hash"], run["proposer"], decision)
                if (said.node, said.run, said.sha256, said.proposer, said.decision) != expected:
                    raise Tampered(f"what {node} signed is not the decision that stands there")
                if run["ended"] and _time(said.time) > _time(run["ended"]) + _CLOCKS:
                    raise Tampered(f"{node} signed its decision after the run had ended")
                signed.append(node)
                if abs(off := _time(said.time) - _time(consent["time"])) > _SAME:
                    apart.append(
                        f"{node} dates its decision {said.time}, {abs(off)} {'after' if off > _NONE else 'before'} the "
                        "coordinator heard of it"
                    )
            if decision == "accept":
                accepted.add(node)
        went = run["started"] or self._manifest["result"] or self._lines("rounds.jsonl")
        if went and (missing := sorted({*run["nodes"]} - accepted)):
            raise Tampered(f"the run started, and {', '.join(missing)} did not agree")
        told = [f"decisions signed by their nodes: {', '.join(signed) or 'none'}"]
        if unsigned:
            told.append(f"decisions that rest on the coordinator's word alone: {', '.join(unsigned)}")
        told += apart
        for event in self._lines("events.jsonl"):
            if event["kind"] == "consent.withdrawn":
                by = "not signed"
                if proof := event["detail"].get("proof"):
                    said = proven(proof, self._files[AUTHORITY])
                    expected = (event["node"], run["id"], run["bundle_hash"], run["proposer"], "reject")
                    if (said.node, said.run, said.sha256, said.proposer, said.decision) != expected:
                        raise Tampered(f"what is signed is not that {event['node']} took its approval back")
                    by = "signed"
                told.append(f"{event['node']} took its approval back at {event['time']} ({by})")
        return told

    def audit(self) -> list[str]:
        run = str(self._manifest["run"])
        found = chain.checked(self._files["audit.jsonl"], run)
        self.head = found.head
        known = {(event["id"], event["kind"]) for event in self._lines("events.jsonl")}
        for entry in found.entries:
            if "event" in entry.detail and (entry.detail["event"], entry.action) not in known:
                raise Tampered(f"line {entry.seq} of the audit log reports an event that is not in events.jsonl")
        if not found.entries:
            return ["the audit log has no line about the run"]
        at, own = found.head
        return [f"{len(found.entries)} lines of the audit log follow from each other; the last is {at}, hash {own}"]

    def rounds(self) -> list[str]:
        run, steps = self._json("run.json"), self._lines("rounds.jsonl")
        for step in steps:
            if strangers := {*step["participants"], *step["failures"]} - {*run["nodes"]}:
                raise Tampered(f"step {step['step']} counts {', '.join(sorted(strangers))}, not asked for this run")
        done = [step["step"] for step in steps if step["status"] == "ok"]
        if done != list(range(len(done))):
            raise Tampered(f"of the steps 0 to {max(done)} some are missing")
        return [f"{len(done)} steps, each with who took part"]

    def result(self) -> list[str]:
        result, versions = self._manifest["result"], self._json("models.json")
        if result and result not in {version["sha"] for version in versions}:
            raise Tampered(f"the result {result} is none of the versions of the model")
        return [f"the result has the SHA-256 {result}"] if result else ["there is no result"]

    def crate(self) -> list[str]:
        graph = self._json(METADATA)["@graph"]
        said = {one["@id"]: one.get("sha256") for one in graph if one.get("@type") == "File"}
        for name, content in self._files.items():
            if name in said and said[name] not in (None, hashlib.sha256(content).hexdigest()):
                raise Tampered(f"the description of the crate has another SHA-256 of {name}")
        return []


_NONE, _SAME = datetime.timedelta(0), datetime.timedelta(minutes=1)  # between a decision and when it is heard of
_CLOCKS = datetime.timedelta(minutes=10)  # how far a node's clock may be ahead


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
