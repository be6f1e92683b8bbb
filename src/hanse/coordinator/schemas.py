"""What the REST routes take. Unknown fields, wrong types and numbers that are none are errors."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from hanse.errors import ConfigError, TooLarge
from hanse.messages import loads

_LONG_BODY = 128 << 10

Count = Annotated[int, Field(ge=0, le=10**15)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Words = Annotated[str, Field(max_length=2000)]
Column = Annotated[str, Field(min_length=1, max_length=2000)]
Columns = Annotated[list[Column], Field(max_length=1_000_000)]


class Body(BaseModel):
    """A JSON object of these fields only, each of exactly its type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Registration(Body):
    """A node's summary of its data (mllabiome)."""

    client_id: Name
    num_samples: Count
    num_features: Count
    data_sparsity: Share
    class_distribution: dict[str, Count]
    feature_coverage: Share | None = None
    features: Columns | None = None
    metadata_columns: Columns | None = None
    target_columns: Columns | None = None
    sample_id_column: Column | None = None
    data_format: Words | None = None
    schema_version: Words | None = None
    capabilities: dict[str, Any] | None = None


class Heartbeat(Body):
    """What a node may say of itself when it says that it is there."""

    busy: bool | None = None
    session_id: str | None = None
    round: Count | None = None


class LoginCode(Body):
    """What a browser came back with from the OpenID provider."""

    code: Name


class DeviceLogin(Body):
    """Which login a command line waits for."""

    login: Name


class ConsentGiven(Body):
    """A data owner's decision about exactly the code that ``code_hash`` names; without, about what is proposed."""

    client_id: Name
    decision: Literal["accept", "reject"]
    code_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    reason: Words = ""


class Reason(Body):
    """Why a run is cancelled, paused or resumed; told to all who see the run."""

    reason: Words = ""


class Capabilities(Body):
    """What a node can do, by its own word (FLOPY-NET)."""

    model_types: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=1000)] | None = None
    compute_power: Literal["cpu", "gpu"] | None = None
    data_samples: Count | None = None
    memory_gb: Annotated[float, Field(ge=0, le=1e6)] | None = None
    network_bandwidth: Annotated[str, Field(max_length=100)] | None = None


class FlopyRegistration(Body):
    """A node that registers as FLOPY-NET has it."""

    client_id: Name
    ip_address: Words | None = None  # a hint at most; the connection says where it comes from
    capabilities: Capabilities = Capabilities()


class NewJoinToken(Body):
    """A token by which one node can join once: for which node, which owner, for how many seconds."""

    node: Name | None = None
    owner: Words | None = None
    valid_s: Annotated[float, Field(gt=0, le=366 * 86_400)] = 86_400.0


class Enrolment(Body):
    """A join token's secret, with the certificate request (PEM) of the node that joins."""

    token: Annotated[str, Field(max_length=200)]
    node_id: Name
    csr: Annotated[str, Field(max_length=64 << 10)]


class NewAccount(Body):
    """A person or program, its role, and the nodes that a data owner decides for."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    role: Literal["operator", "data_owner", "data_scientist"]
    nodes: list[Name] = []


Moment = Annotated[AwareDatetime, Field(strict=False)]  # as text, in ISO 8601 with its zone


class NewStudy(Body):
    """A study: its name and purpose, names of accounts, ids of nodes; when it ends, and what its runs may promise of
    epsilon and delta together."""

    name: Name
    purpose: Annotated[str, Field(max_length=4000)] = ""
    people: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=10_000)] = []
    nodes: Annotated[list[Name], Field(max_length=100_000)] = []
    ends: Moment | None = None
    most_epsilon: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    most_delta: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None


class StudyChange(Body):
    """What of a study is another from now on; null: as it is."""

    purpose: Annotated[str, Field(max_length=4000)] | None = None
    people: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=10_000)] | None = None
    nodes: Annotated[list[Name], Field(max_length=100_000)] | None = None
    ends: Moment | None = None
    most_epsilon: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    most_delta: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None


class NodeLink(Body):
    """The node that a data owner shall decide for."""

    node: Name


class Invalid(ConfigError):
    """A body whose fields are wrong; ``details`` says which."""

    def __init__(self, details: list[dict[str, str]]) -> None:
        self.details = details
        super().__init__("; ".join(f"{d['field']}: {d['message']}" for d in details[:5]) or "the body is wrong")


_Body = TypeVar("_Body", bound=Body)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; ``{}`` where there is none. Raises ``WireError``, ``ConfigError``."""
    raw = await request.body()
    if not raw:
        return {}
    # a long one beside the event loop, which has others to answer
    value = await asyncio.to_thread(loads, raw) if len(raw) > _LONG_BODY else loads(raw)
    if not isinstance(value, dict):
        raise ConfigError(f"the body is a JSON {type(value).__name__}; expected an object")
    return value


async def read(request: Request, model: type[_Body]) -> _Body:
    """The body as ``model``."""
    return checked(await read_object(request), model)


def checked(raw: dict[str, Any], model: type[_Body]) -> _Body:
    """The fields as ``model``. Raises ``Invalid``."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise Invalid(
            [{"field": ".".join(str(p) for p in e["loc"]) or "body", "message": str(e["msg"])} for e in error.errors()]
        ) from None


def documented(model: type[Body]) -> dict[str, Any]:
    """For ``openapi_extra``: the body that a route takes."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    return {"requestBody": {"content": {"application/json": {"schema": _inlined(schema, parts)}}}}


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    """The schema without references, which would point out of place inside an OpenAPI document."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(parts[schema["$ref"].rsplit("/", 1)[1]], parts)
        return {k: _inlined(v, parts) for k, v in schema.items()}
    return [_inlined(v, parts) for v in schema] if isinstance(schema, list) else schema


def check_length(received: int, limit: int) -> None:
    """Raises ``TooLarge`` where ``received`` bytes are over ``limit``."""
    if received > limit:
        raise TooLarge(f"the body is over the limit of {limit} bytes")
