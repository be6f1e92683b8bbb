"""A data owner's decision, signed with the key that the node enrolled with, so that anybody can check it later.

The text that is signed names the node, the run, the hash that was read, who proposed it, what was decided, by whom,
when and until when. Who holds the federation's authority (a certificate) needs nothing else to check it: no
coordinator, no network. It proves that the node's key made it; who of its institution typed the command stands in
``actor``, by the node's own word.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from cryptography import x509

from hanse.errors import NotAuthenticated, WireError
from hanse.identity import read_certificate
from hanse.messages import Json, dumps, loads
from hanse.signing import Signer, made_by

_FORM = "hanse decision 1"  # what is signed begins with it, so that it is never taken for another text
_MAX_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class SignedDecision:
    """What a node said, word for word. Times are ISO, UTC.

    Args:
        decision: ``accept``, or ``reject``, also of what was accepted before.
        sha256: the hash of the bundle.
        until: when an approval ends by itself; "" for a no.
        second: who approved beside ``actor``, where the owner's settings ask for two; "" else.
    """

    node: str
    run: str
    sha256: str
    proposer: str
    decision: str
    actor: str
    reason: str
    time: str
    until: str
    second: str = ""

    @property
    def text(self) -> str:
        """What is signed: canonical JSON."""
        return dumps({"form": _FORM, **{field.name: getattr(self, field.name) for field in fields(self)}})

    @classmethod
    def read(cls, text: str) -> SignedDecision:
        """Reverse of ``text``. Raises ``WireError``."""
        found = loads(text)
        names = {field.name for field in fields(cls)}
        if not isinstance(found, Mapping) or set(found) != {"form", *names} or found["form"] != _FORM:
            raise WireError(f"a signed decision has the form {_FORM!r} and {', '.join(sorted(names))}")
        if not all(isinstance(value, str) for value in found.values()):
            raise WireError("a signed decision is made of texts")
        return cls(**{name: found[name] for name in names})


def signed(decision: SignedDecision, signer: Signer) -> dict[str, Json]:
    """The proof that travels and is kept: ``{text, signature, certificate}``, the signature in base64."""
    made = base64.b64encode(signer.sign(decision.text.encode())).decode()
    return {"text": decision.text, "signature": made, "certificate": signer.certificate}


def proven(proof: Json, authority: bytes) -> SignedDecision:
    """The decision that a proof proves.

    Args:
        proof: as :func:`signed` made it.
        authority: the certificate (PEM) of the authority that the federation's nodes joined.

    Raises:
        WireError: it is no proof.
        NotAuthenticated: it does not prove what it says: another authority, node, key or time.
    """
    if not isinstance(proof, Mapping) or set(proof) != {"text", "signature", "certificate"}:
        raise WireError("the proof of a decision has text, signature and certificate")
    text, signature, certificate = (proof[name] for name in ("text", "signature", "certificate"))
    if not all(isinstance(part, str) and len(part) <= _MAX_BYTES for part in (text, signature, certificate)):
        raise WireError("the parts of a decision's proof are texts of at most 64 kB")
    said = SignedDecision.read(text)
    try:
        made = base64.b64decode(signature, validate=True)
        time = datetime.fromisoformat(said.time)
        owner = read_certificate(certificate.encode())
        found = x509.load_pem_x509_certificate(certificate.encode())
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except Exception:  # what the library says of damaged certificates has no common base
        raise NotAuthenticated("the decision's certificate is not one of this federation's authority") from None
    if owner.node_id != said.node:
        raise NotAuthenticated(f"a decision of {said.node!r} is signed by {owner.node_id!r}")
    if time.tzinfo is None or not found.not_valid_before_utc <= time <= found.not_valid_after_utc:
        raise NotAuthenticated(
            f"the decision of {said.node!r} is dated {said.time}, when its certificate did not count"
        )
    if base64.b64encode(made).decode() != signature or not made_by(certificate, text.encode(), made):
        raise NotAuthenticated(f"the signature under the decision of {said.node!r} does not fit its text")
    return said
