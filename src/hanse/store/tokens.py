"""Secrets for people and nodes: shown once, kept only as SHA-256.

A token has 192 random bits, so a plain hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

PREFIX = "hanse_"
_TOKEN = re.compile(r"hanse_[A-Za-z0-9_-]{32}")


def make() -> str:
    """A new token: ``hanse_`` and 32 URL-safe characters."""
    return PREFIX + secrets.token_urlsafe(24)


def digest(token: str) -> str:
    """What is stored of a token: its SHA-256 in hexadecimal. Tokens are long and random, so no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_token(value: object) -> bool:
    """Whether this has the form of a token; anything else is not even looked up."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def same(first: str, second: str) -> bool:
    """Compares digests in constant time."""
    return hmac.compare_digest(first.encode(), second.encode())
