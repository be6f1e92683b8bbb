"""A policy engine that is another process: asked over HTTP, by the routes that FLOPY-NET documents.

``POLICY_ENGINE_URL`` names it. Who takes part is ``POST /check/client_eligibility``, what is sent to whom
``/check/model_sharing``, all else the general check ``/api/v1/check``. Beside the fields that FLOPY-NET documents
(``client_id``, ``model_size_mb``) goes all that the coordinator knows, in ``asked``; an engine that knows only the
document's fields decides by these.

Nothing counts as a yes but ``{"allowed": true}``. An engine that does not answer, or answers something else, is asked
again a few times; then what was asked has to wait (:class:`hanse.errors.NotNow`), and nothing is done meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from hanse.cedar.policies import Ruling
from hanse.coordinator.governance import to_wire
from hanse.coordinator.listening import LOOPBACK
from hanse.errors import ConfigError, NotNow, WireError
from hanse.facts import Participation, RunFacts
from hanse.messages import Json, loads

_MIB = 1024 * 1024
_LARGEST = 1 << 20  # of an answer
_PAUSE_S = 0.2  # before it is asked again; doubled each time


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address is not the one that the operator trusts."""

    def redirect_request(self, *_: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class PolicyEngine:
    """The engine at an address.

    Args:
        url: ``http://HOST:PORT`` on this machine, else ``https://HOST:PORT``.
        token: shown to it; "" where it asks for none.
        timeout_s: of one attempt.
        attempts: before what was asked has to wait.
        authority: file of the certificate that signs its own (PEM); "" for those that this machine trusts.

    Raises:
        ConfigError: the address is none, or the token would travel readable.
    """

    url: str
    token: str = ""
    timeout_s: float = 2.0
    attempts: int = 3
    authority: str = ""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"POLICY_ENGINE_URL is {self.url!r}; expected https://HOST:PORT")
        if parts.username or parts.password:
            raise ConfigError("POLICY_ENGINE_URL holds a password; give a token in POLICY_AUTH_TOKEN")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ConfigError(
                f"POLICY_ENGINE_URL is {self.url!r}: what decides would travel so that others can change it; use https "
                "(http is for an engine on this machine)"
            )

    async def decide(self, action: str, person: str, facts: RunFacts) -> Ruling:
        path, body = _question(action, person, facts)
        wrong, pause = "", _PAUSE_S
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(pause)
                pause *= 2
            try:
                return _ruling(await asyncio.to_thread(self._post, path, body))
            except (OSError, http.client.HTTPException, WireError) as error:
                wrong = error.message if isinstance(error, WireError) else str(error) or type(error).__name__
        raise NotNow(
            f"the policy engine gave no answer ({' '.join(wrong.split())[:200]}), and without it nothing is done"
        )

    def _post(self, path: str, body: dict[str, Json]) -> Json:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url.rstrip("/") + path, json.dumps(body).encode(), headers, method="POST")
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), urllib.request.ProxyHandler({})]
        if self.url.startswith("https"):
            handlers.append(urllib.request.HTTPSHandler(context=_context(self.authority)))
        with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as answer:
            raw = answer.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise WireError("its answer has over 1 MB")
        return loads(raw)


@functools.lru_cache(8)
def _context(authority: str) -> ssl.SSLContext:
    """Made once: reading the certificates that this machine trusts takes longer than a question."""
    return ssl.create_default_context(cafile=authority or None)


def _question(action: str, person: str, facts: RunFacts) -> tuple[str, dict[str, Json]]:
    asked: dict[str, Json] = {"asked": to_wire(action, person, facts)}
    if isinstance(facts, Participation):
        failures: dict[str, Json] = {"recent_failure_count": facts.failures}
        about: dict[str, Json] = {"client_id": facts.node, "active_clients": facts.nodes, **failures, **asked}
        if action == "share_model":
            return "/check/model_sharing", {**about, "model_size_mb": facts.bytes / _MIB}
        return "/check/client_eligibility", about
    return "/api/v1/check", {"policy_type": action, "context": {}, **asked}


def _ruling(answer: Json) -> Ruling:
    allowed = answer.get("allowed") if isinstance(answer, dict) else None
    if allowed is not True and allowed is not False:
        raise WireError("it did not say whether it is allowed")
    by = answer.get("by") or answer.get("violations") or ()
    names = tuple(str(name)[:100] for name in by[:20]) if isinstance(by, list) else ()
    reason = "" if allowed else str(answer.get("reason") or "the policy engine says no")[:1000]
    return Ruling(allowed, names, reason, str(answer.get("policy_version", ""))[:40])
