"""What the coordinator signs of a run: a manifest that lists each file with its SHA-256, and the run's own names.

The key is that of the federation's authority, whose certificate every node pinned when it joined. What is signed begins
with words of its own, so it is never the body of a certificate.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping

from hanse.errors import HanseError, Tampered
from hanse.evidence.archive import pack
from hanse.messages import Json, dumps, loads
from hanse.signing import made_by

FORM = "hanse evidence 1"
MANIFEST, SIGNATURE, AUTHORITY = "manifest.json", "manifest.sig", "authority.crt"


def seal(about: Mapping[str, Json], files: Mapping[str, bytes], sign: Callable[[bytes], bytes]) -> bytes:
    """The file of evidence.

    Args:
        about: names of the run: ``{run, bundle, state, result, made}``.
        files: with ``authority.crt``.
        sign: signs in the authority's name (ECDSA with SHA-256, DER).
    """
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = dumps({"form": FORM, **about, "files": listed}).encode()
    signature = base64.b64encode(sign(manifest))
    return pack({**files, MANIFEST: manifest, SIGNATURE: signature})


def unsealed(files: Mapping[str, bytes]) -> dict[str, Json]:
    """The manifest of unpacked evidence, whose signature fits and whose files are all that there are. Says nothing of
    whose authority it is. Raises ``Tampered``."""
    for name in (MANIFEST, SIGNATURE, AUTHORITY):
        if name not in files:
            raise Tampered(f"the evidence has no {name}")
    raw, certificate = files[MANIFEST], files[AUTHORITY]
    try:
        signature = base64.b64decode(files[SIGNATURE], validate=True)
        fits = base64.b64encode(signature) == files[SIGNATURE] and made_by(certificate.decode(), raw, signature)
    except Exception:  # what the library says of damaged certificates has no common base
        fits = False
    if not fits:
        raise Tampered("the signature does not fit the manifest")
    try:
        manifest = loads(raw)
    except HanseError:
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("form") != FORM or not isinstance(manifest.get("files"), dict):
        raise Tampered(f"the manifest is not of the form {FORM!r}")
    listed = manifest["files"]
    if other := {*files} - {MANIFEST, SIGNATURE} ^ {*listed}:
        raise Tampered(f"the manifest and the files differ: {', '.join(sorted(other))}")
    for name, known in listed.items():
        if hashlib.sha256(files[name]).hexdigest() != known:
            raise Tampered(f"{name} is not what was signed")
    return manifest
