"""A message of one node to another, through somebody who must neither read nor change it: AES-128-GCM.

The cipher is that of NIST SP 800-38D. A key seals **one** message, so the nonce can be zero: keys are derived for each
session and direction (:func:`hanse.privacy.agreement.derive`). ``context`` is not sent; it must be the same at both
ends.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

EXTRA_BYTES = 16  # of the tag
_NONCE = bytes(12)


def seal(key: bytes, text: bytes, context: bytes) -> bytes:
    """``text`` as only who has the key reads it, and nobody changes it; 16 bytes longer.

    >>> unseal(b"k" * 16, seal(b"k" * 16, b"a share", b"session 1"), b"session 1")
    b'a share'
    """
    return AESGCM(key).encrypt(_NONCE, text, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes | None:
    """What was sealed with this key in this context; None where it was anything else."""
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, context)
    except (InvalidTag, ValueError):
        return None
