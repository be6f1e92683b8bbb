"""The policy engine as a process of its own, with the routes that FLOPY-NET documents; ``hanse policy serve``.

Three questions are FLOPY-NET's: whether a client may take part (``/check/client_eligibility``), whether a model may be
shared (``/check/model_sharing``), and anything else by a type of policy (``/check``). What they tell may be absent, so
a policy has to look first, and what no permit fits is refused. A coordinator of Hanse asks the same routes, and says in
``asked`` all that it knows: then the policies for coordinators decide (:mod:`hanse.coordinator.governance`).

Every answer is a line in the audit log, and so is what clients log.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

import hanse
from hanse.cedar.files import PolicyFiles
from hanse.cedar.policies import Ruling
from hanse.cedar.vocabulary import Vocabulary
from hanse.coordinator.beside import bearer, refusal
from hanse.coordinator.governance import VOCABULARY as COORDINATOR
from hanse.coordinator.governance import from_wire
from hanse.coordinator.guard import Guard
from hanse.coordinator.schemas import read_object
from hanse.errors import ConfigError, HanseError
from hanse.facts import now
from hanse.messages import Json
from hanse.store.audit import AuditLog

_BODY = 1 << 20
_SHOWN = 200  # characters of a name in the audit
_ELIGIBILITY, _SHARING, _CHECK = "client_eligibility", "model_sharing", "check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What clients and servers of FLOPY-NET tell of a question; all but the time, which is this process's, may be
    absent.

    Args:
        client_id: whom it is about.
        client_reputation, client_trust_score, client_performance_score, privacy_risk_score, threat_score,
            anomaly_score: from 0 to 1, as whoever asks computes them.
        active_clients, recent_failure_count: counted by whoever asks.
        cpu_usage: per cent.
        model_size_mb: of 1024 x 1024 bytes.
        data_type: of what would be sent, such as ``raw_data`` or ``gradients``.
    """

    time: datetime
    client_id: str | None = None
    client_reputation: float | None = None
    client_trust_score: float | None = None
    client_performance_score: float | None = None
    privacy_risk_score: float | None = None
    threat_score: float | None = None
    anomaly_score: float | None = None
    active_clients: int | None = None
    recent_failure_count: int | None = None
    cpu_usage: float | None = None
    model_size_mb: float | None = None
    data_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTold(Told):
    """The same of a general check. ``policy_type``: what FLOPY-NET calls the kind of policy that is asked for."""

    policy_type: str


VOCABULARY = Vocabulary({_ELIGIBILITY: Told, _SHARING: Told, _CHECK: CheckTold, **COORDINATOR.facts})


class PolicyService:
    """Answers questions by the policies of a file or a folder.

    Args:
        audit: has a line of every answer, and of what is logged.
        token: that whoever asks has to show; "" where nobody has to.
    """

    def __init__(self, files: PolicyFiles, audit: AuditLog, token: str = "") -> None:
        self._files, self._audit, self._token = files, audit, token

    def app(self) -> FastAPI:
        """Its web application."""
        app = FastAPI(title="Hanse policy engine", version=hanse.__version__, docs_url=None, redoc_url=None)
        app.get("/health")(self.health)
        guarded: dict[str, Any] = {"dependencies": [Depends(bearer(self._token, "the policy engine"))]}
        app.post(f"/check/{_ELIGIBILITY}", **guarded)(self.client_eligibility)
        app.post(f"/check/{_SHARING}", **guarded)(self.model_sharing)
        for path in ("/check", "/api/v1/check"):
            app.post(path, **guarded)(self.check)
        app.post("/log/training_event", **guarded)(self.log)
        app.add_exception_handler(HanseError, _refused)
        app.add_middleware(Guard, limit=_BODY)
        return app

    async def health(self) -> JSONResponse:
        """Whether policies can be asked, and which version of them."""
        try:
            policies = self._files.current()
        except HanseError as error:
            return JSONResponse({"status": "unhealthy", "reason": error.message}, 503)
        return JSONResponse({"status": "healthy", "policies": len(policies.policies), "version": policies.version})

    async def client_eligibility(self, request: Request) -> JSONResponse:
        """Whether a client may take part."""
        return self._answer(_ELIGIBILITY, await read_object(request))

    async def model_sharing(self, request: Request) -> JSONResponse:
        """Whether a model may be shared with a client."""
        return self._answer(_SHARING, await read_object(request))

    async def check(self, request: Request) -> JSONResponse:
        """The general check: ``{policy_type, context}``."""
        body = await read_object(request)
        kind, context = body.get("policy_type", body.get("type")), body.get("context", {})
        if not isinstance(kind, str) or not isinstance(context, dict):
            raise ConfigError("a check has a policy_type (text) and a context (object)")
        asked = {"asked": body["asked"]} if "asked" in body else {}
        return self._answer(_CHECK, {**context, "policy_type": kind, **asked})

    async def log(self, request: Request) -> JSONResponse:
        """Writes an event of a training into the audit log, where it cannot be changed unnoticed."""
        body = await read_object(request)
        who = str(body.get("client_id") or body.get("component") or "unknown")[:_SHOWN]
        detail = {
            str(name)[:_SHOWN]: value if isinstance(value, (str, bool)) else str(value) for name, value in body.items()
        }
        kind = str(body.get("event_type", ""))[:_SHOWN]
        entry = await asyncio.to_thread(self._audit.append, who, "training.event", kind, detail, sync=True)
        return JSONResponse({"logged": True, "entry": entry.seq}, 201)

    def _answer(self, action: str, body: Mapping[str, Json]) -> JSONResponse:
        policies = self._files.current()
        facts: Any = None
        if "asked" in body:
            action, person, facts = from_wire(body["asked"])
        else:
            person, facts = str(body.get("client_id", ""))[:_SHOWN], _told(action, body)
        try:
            said = policies.decide(action, person, str(getattr(facts, "run", ""))[:_SHOWN], facts)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            said = Ruling(
                False, (), f"what is asked is not of its type ({error}), which counts as a no", policies.version
            )
        detail: dict[str, Json] = {"allowed": said.allowed, "by": ", ".join(said.by), "reason": said.reason}
        self._audit.append(person or "unknown", f"policy.{action}", "", {**detail, "version": said.version}, sync=False)
        names = sorted(policy.name for policy in policies.policies.values())
        return JSONResponse(
            {
                "allowed": said.allowed,
                "reason": said.reason or f"permitted by {', '.join(said.by)}",
                "by": list(said.by),
                "policies_checked": names,
                "violations": [] if said.allowed else list(said.by),
                "policy_version": said.version,
            }
        )


def _told(action: str, body: Mapping[str, Json]) -> Told:
    kind = CheckTold if action == _CHECK else Told
    known = {field.name for field in dataclasses.fields(kind)} - {"time"}
    return kind(time=now(), **{name: value for name, value in body.items() if name in known})


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """In both vocabularies: FLOPY-NET's clients read ``allowed``."""
    assert isinstance(error, HanseError)
    return refusal(error, allowed=False, reason=error.message)


def service(path: Path, home: Path, token: str = "") -> PolicyService:
    """With the policies of ``path`` and an audit log in ``home``. Raises ``ConfigError`` where they cannot be read."""
    files = PolicyFiles(path, VOCABULARY)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return PolicyService(files, AuditLog(home / "audit.jsonl"), token)
