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
import http.client
from collections.abc import Sequence
from dataclasses import dataclass

from hanse.cedar.policies import Ruling
from hanse.coordinator.governance import to_wire
from hanse.coordinator.http_service import HttpService
from hanse.errors import NotNow, WireError
from hanse.facts import Participation, RunFacts
from hanse.messages import Json

_MIB = 1024 * 1024
_PAUSE_S = 0.2  # before it is asked again; doubled each time


@dataclass(frozen=True, slots=True)
class PolicyEngine:
    """The engine at an address.

    Args:
        service: where it is.
        attempts: before what was asked has to wait.
    """

    service: HttpService
    attempts: int = 3

    async def decide(self, action: str, person: str, asked: Sequence[RunFacts]) -> list[Ruling]:
        return [await self._decided(action, person, facts) for facts in asked]

    def reads(self, *actions: str) -> None:
        """It does not say."""

    async def _decided(self, action: str, person: str, facts: RunFacts) -> Ruling:
        path, body = _question(action, person, facts)
        wrong, pause = "", _PAUSE_S
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(pause)
                pause *= 2
            try:
                return _ruling(await asyncio.to_thread(self.service.call, "POST", path, body))
            except (OSError, http.client.HTTPException, WireError) as error:
                wrong = error.message if isinstance(error, WireError) else str(error) or type(error).__name__
        raise NotNow(
            f"the policy engine gave no answer ({' '.join(wrong.split())[:200]}), and without it nothing is done"
        )


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
