"""What the federation's operator may set for a coordinator.

>>> CoordinatorSettings.read(["small_cell=3", "engine=native"]).small_cell
3
>>> CoordinatorSettings.read(["smal_cell=3"])
Traceback (most recent call last):
...
hanse.errors.ConfigError: there is no setting 'smal_cell' of a coordinator; did you mean 'small_cell'?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hanse import registry
from hanse.coordinator.http_service import HttpService
from hanse.coordinator.logins import Logins
from hanse.coordinator.oidc import Provider
from hanse.coordinator.policy_engine import PolicyEngine
from hanse.coordinator.run_defaults import RunDefaults
from hanse.errors import ConfigError
from hanse.settings import boolean, checked, declared, maybe, number, settings_of, text, texts, unknown, whole
from hanse.store import Store
from hanse.store.accounts import Role
from hanse.transports import Patience

_OF = "a coordinator"


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """All with defaults that are safe for a deployment.

    Args:
        patience: how long silence of a node means nothing; that of the transport, unless the operator sets it.
        run_defaults: what holds for a run that does not say otherwise.
        policy_engine: the engine at ``POLICY_ENGINE_URL``; None: there is none.
        network: the network controller at ``SDN_CONTROLLER_URL``; None: nothing is preferred.
        url, address: where people and nodes reach this coordinator, for join tokens.
    """

    expected_client_ids: tuple[str, ...] | None = declared(
        None, "the only node ids that may register or be asked, as by `--expect`; null: no such list", maybe(texts())
    )
    open_registration: bool = declared(
        False,
        "without such a list, any id may register by REST; else only ids that have enrolled, or that the operator "
        "linked to the account",
        boolean,
    )
    patience: Patience = field(default_factory=Patience)
    small_cell: int = declared(5, "class counts below this are not shown", whole(1))
    enrol_per_minute: int = declared(10, "attempts to enrol, per address", whole(1))
    body_bytes: int = declared(4 << 20, "largest body of a REST request", whole(1024))
    engine: str = declared("native", "what drives runs: a file of hanse.engines", text(), names="engines")
    failed_days: float = declared(
        30.0, "a run that failed keeps its last state so long, to be resumed; looked at when it starts", number(0, 3660)
    )
    models_days: float | None = declared(
        None,
        "so many days after a run has ended, only the best and the last version of its model are kept; looked at when "
        "it starts; null: all stay",
        maybe(number(0, 36_600)),
    )
    audit_days: float | None = declared(
        None,
        "lines of its audit log that are so many days old are removed when it starts, and a line says so; what is left "
        "can be verified as before. Fetch the evidence of runs first. null: all stay",
        maybe(number(1, 36_600)),
    )
    least_free_mb: int = declared(
        100, "megabytes that must be free where its home is, or it says that it is not ready", whole(0)
    )
    policy_file: str = declared(
        "",
        "policies in Cedar that must permit every run, node, step and look at a result: a file, or a folder of files "
        "*.cedar; empty: none",
        text(4096, empty=True),
    )
    policy_timeout_s: float = declared(
        2.0, "so long an attempt to ask the engine at POLICY_ENGINE_URL may take", number(0, 60, above=True)
    )
    policy_attempts: int = declared(
        3, "so often it is asked, before what was asked has to wait until it answers", whole(1, 20)
    )
    oidc_issuer: str = declared(
        "",
        "an OpenID provider by which people log in (`https://...`), beside API tokens; empty: none",
        text(2000, empty=True),
    )
    oidc_client_id: str = declared("", "how that provider calls this coordinator", text(500, empty=True))
    oidc_roles: tuple[str, ...] = declared(
        (), "`GROUP=ROLE` of its groups, the first that fits counts; who is in none of them does not get in", texts()
    )
    oidc_groups_claim: str = declared("groups", "the claim of its ID tokens that lists groups", text(200))
    oidc_ca: str = declared(
        "",
        "file of the certificate that signs the provider's (PEM); empty: those that this machine trusts",
        text(4096, empty=True),
    )
    oidc_hours: float = declared(
        8.0, "hours after which who logged in so has to log in again", number(0, 720, above=True)
    )
    oidc_secret: str = field(default="", repr=False)
    policy_engine: PolicyEngine | None = None
    network: HttpService | None = None
    run_defaults: RunDefaults = field(default_factory=RunDefaults)
    url: str = ""
    address: str = ""

    def oidc(self, store: Store) -> Logins | None:
        """Logins by the OpenID provider; None where none is set."""
        if not self.oidc_issuer:
            return None
        known = (self.oidc_issuer, self.oidc_client_id, self.oidc_secret, self.oidc_groups_claim, self.oidc_ca)
        return Logins(store, Provider(*known), _roles(self.oidc_roles), self.oidc_hours)

    @classmethod
    def read(
        cls, given: Iterable[str], environment: Mapping[str, str] | None = None, **more: Any
    ) -> CoordinatorSettings:
        """From ``NAME=VALUE`` as on a command line, and the variables of a policy engine and an OpenID provider;
        ``more`` are values of fields. Raises ``ConfigError`` for a name that there is not, or a value that does not
        fit."""
        known, found = settings_of(cls), {}
        for entry in given:
            name, equals, value = entry.partition("=")
            if not equals:
                raise ConfigError(f"--set {entry!r} has no =; write --set NAME=VALUE")
            if name not in known:
                raise unknown(name, known, of=_OF)
            found[name] = known[name].read(f"{name} of {_OF}", value)
        values = checked(found, known, of=_OF)
        if values["engine"] not in (engines := registry.names("engines")):
            raise ConfigError(f"engine is {values['engine']!r}; expected one of {', '.join(engines)}")
        environment = environment or {}
        if where := environment.get("POLICY_ENGINE_URL", "").strip():
            if values["policy_file"]:
                raise ConfigError(
                    "POLICY_ENGINE_URL and policy_file are both set; one of them decides: unset the other"
                )
            token, authority = (environment.get(n, "").strip() for n in ("POLICY_AUTH_TOKEN", "POLICY_ENGINE_CA"))
            asked = (token, values["policy_timeout_s"], authority)
            service = HttpService(where, "POLICY_ENGINE_URL", "POLICY_AUTH_TOKEN", *asked)
            more["policy_engine"] = PolicyEngine(service, values["policy_attempts"])
        more["oidc_secret"] = environment.get("OIDC_CLIENT_SECRET", "").strip()
        if values["oidc_issuer"] and not values["oidc_roles"]:
            raise ConfigError("oidc_issuer is set, and oidc_roles is not: nobody could log in; write GROUP=ROLE")
        values["oidc_roles"] = tuple(values["oidc_roles"])
        _roles(values["oidc_roles"])
        if where := environment.get("SDN_CONTROLLER_URL", "").strip():
            token, authority = (environment.get(f"SDN_CONTROLLER_{n}", "").strip() for n in ("TOKEN", "CA"))
            more["network"] = HttpService(where, "SDN_CONTROLLER_URL", "SDN_CONTROLLER_TOKEN", token, 5.0, authority)
        listed = values["expected_client_ids"]
        return cls(**{**values, "expected_client_ids": None if listed is None else tuple(listed), **more})


def _roles(given: Iterable[str]) -> dict[str, str]:
    """Group to role. Raises ``ConfigError``."""
    found: dict[str, str] = {}
    for entry in given:
        group, equals, role = entry.rpartition("=")
        if not equals or not group or role not in {*Role}:
            raise ConfigError(f"oidc_roles has {entry!r}; expected GROUP=ROLE with a role of {', '.join(Role)}")
        found.setdefault(group, role)
    return found
