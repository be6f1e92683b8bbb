"""How a node joins: its key stays here; a one-time token buys a certificate for it.

The token pins the coordinator's authority by SHA-256. Nothing is believed that this authority did not
sign, and over HTTPS the token's secret is shown only to a server that either it or a public authority
vouches for.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hanse.addresses import renamed
from hanse.errors import HanseError, NodeLost, NotAuthenticated, WireError, from_code
from hanse.identity import JoinToken, NodeIdentity, check_authority, check_node_id, create_key, csr, save_identity
from hanse.messages import loads
from hanse.proxies import said
from hanse.transports import enrol, enrols
from hanse.trust import trusted

ENROL, AUTHORITY = "/api/nodes/enrol", "/api/authority"
_SECONDS = 30.0
_MOST_BYTES = 1 << 20


def join(
    home: Path, token: JoinToken, node_id: str, address: str = "", say: Callable[[str], None] = lambda text: None
) -> NodeIdentity:
    """Makes the key, gets the certificate and keeps both in ``home``.

    Args:
        address: where the node calls, as this machine calls it; "": as the token says. A way on which nodes can join,
            such as a folder, is asked there, and the coordinator's HTTPS address is not needed.
        say: told what is waited for.

    Raises:
        NotAuthenticated: the coordinator is not the one of the token, or does not know the token.
        NodeLost: it cannot be reached.
    """
    check_node_id(node_id)
    key = create_key(home)
    asked = {"token": token.secret, "csr": csr(key, node_id).decode(), "node_id": node_id}
    if address and enrols(address):
        answer = enrol(address, asked, token.ca_sha256, say)
    else:
        answer = _by_https(token, asked)
    answer = renamed(answer)
    fields = [answer.get(name) for name in ("certificate", "ca", "node_id", "address")]
    if not all(isinstance(value, str) for value in fields):
        raise WireError("the coordinator's answer lacks certificate, ca, node_id or address")
    certificate, ca, named, told = map(str, fields)
    if named != node_id:
        raise NotAuthenticated(f"asked to be {node_id!r}, the coordinator answered to {named[:80]!r}")
    where = address or told or token.address
    identity = NodeIdentity(node_id, key, certificate.encode(), check_authority(ca.encode(), token.ca_sha256), where)
    save_identity(home, identity)
    return identity


def _by_https(token: JoinToken, asked: dict[str, str]) -> dict[str, Any]:
    base = token.url.rstrip("/")
    try:
        return _post(base + ENROL, asked, trusted(base))
    except ssl.SSLCertVerificationError:
        pem = check_authority(_authority(base), token.ca_sha256)
        try:
            return _post(base + ENROL, asked, ssl.create_default_context(cadata=pem.decode()))
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message
            raise NotAuthenticated(f"the coordinator's certificate does not fit {base}: {reason}") from None


def _authority(base: str) -> bytes:
    """The coordinator's authority, from whoever answers: the caller compares it with the token."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    return _open(urllib.request.Request(base + AUTHORITY), anyone)


def _post(url: str, asked: dict[str, str], context: ssl.SSLContext) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    answer = loads(_open(request, context))
    if not isinstance(answer, dict):
        raise WireError("the coordinator's answer is not an object; is this the right address?")
    return answer


def _open(request: urllib.request.Request, context: ssl.SSLContext) -> bytes:
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context), _NoRedirect()]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS) as answer:
            raw: bytes = answer.read(_MOST_BYTES)
            return raw
    except urllib.error.HTTPError as error:
        raise _refusal(error) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise error.reason from None
        raise NodeLost(
            f"{request.host} cannot be reached ({error.reason}); is the coordinator running?{said(request.full_url)}"
        ) from None
    except (OSError, ValueError) as error:
        raise NodeLost(f"{request.host} does not answer as a coordinator does ({type(error).__name__})") from None


def _refusal(error: urllib.error.HTTPError) -> HanseError:
    """The coordinator's own error where it sent one."""
    try:
        said = loads(error.read(_MOST_BYTES))
        inner = said["error"] if isinstance(said.get("error"), dict) else said
        return from_code(str(inner["code"]), str(inner["message"])[:500])
    except (WireError, KeyError, TypeError, AttributeError, OSError):
        return NotAuthenticated(f"the coordinator refused this node (HTTP {error.code})")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The secret goes where the token says, and nowhere else."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None
