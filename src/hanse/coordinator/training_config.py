"""FLOPY-NET's training configuration, in the settings of a run.

The document prints one object of four groups (``training_config``, ``model_config``, ``privacy_config``,
``network_config``). Each of its entries becomes the setting that means the same; an entry that nothing here can honour
is accepted with a sentence where the run is as safe without it, and refused where it is not. Settings of a run may
stand beside the groups, and count where both say something; but for protections, of which the two must say the same.

>>> settings, said = translated({"training_config": {"algorithm": "fedavg", "max_rounds": 50}, "target_column": "ill"})
>>> settings
{'federated_strategy': 'fedavg', 'num_rounds': 50, 'target_column': 'ill'}
>>> translated({"training_config": {"epochs": 5}})
Traceback (most recent call last):
...
hanse.errors.ConfigError: training_config has no 'epochs'; it has algorithm, batch_size, client_fraction, \
convergence_threshold, learning_rate, local_epochs, max_rounds, min_clients, timeout_seconds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hanse import registry
from hanse.errors import ConfigError
from hanse.messages import Json

Said = list[str]
_TRAINING = {
    "algorithm": ("federated_strategy",),
    "min_clients": ("min_available_nodes", "min_fit_nodes", "min_completed"),
    "max_rounds": ("num_rounds",),
    "client_fraction": ("fraction",),
    "local_epochs": ("local_epochs",),
    "learning_rate": ("learning_rate",),
    "batch_size": ("batch_size",),
    "timeout_seconds": ("round_deadline_s",),
    "convergence_threshold": (),
}
_MODEL = ("architecture", "input_shape", "num_classes", "compression", "versioning")
_PRIVACY = (
    "differential_privacy",
    "epsilon",
    "delta",
    "secure_aggregation",
    "gradient_clipping",
    "max_grad_norm",
)
_NETWORK = ("sdn_integration", "traffic_prioritization", "bandwidth_allocation", "qos_enabled")


def translated(raw: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """The settings of a run, and a sentence for each entry that changes nothing.

    Raises:
        ConfigError: a group is no object, or has an entry that the document has not.
    """
    found: dict[str, Json] = {}
    said: Said = []
    for name, (known, read) in _GROUPS.items():
        if name in raw:
            own = read(_group(name, raw[name], known), said)
            for setting in (*own,) if name == "privacy_config" else ():
                if setting in raw and raw[setting] != own[setting]:
                    raise ConfigError(
                        f"{name} asks for {setting} = {own[setting]!r}, and beside it stands {setting} = "
                        f"{raw[setting]!r}; leave one of them out"
                    )
            found |= own
    return {**found, **{name: value for name, value in raw.items() if name not in _GROUPS}}, tuple(said)


def _group(name: str, value: Json, known: tuple[str, ...]) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r}; expected an object")
    for entry in value:
        if entry not in known:
            raise ConfigError(f"{name} has no {entry!r}; it has {', '.join(sorted(known))}")
    return value


def _training(group: Mapping[str, Json], said: Said) -> dict[str, Json]:
    if "convergence_threshold" in group:
        said.append(
            "convergence_threshold ends no run here: GET /api/analytics/session/ID?tolerance=... says whether it has "
            "converged, and all its rounds are trained"
        )
    return {setting: value for entry, value in group.items() for setting in _TRAINING[entry]}


def _model(group: Mapping[str, Json], said: Said) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if "architecture" in group:
        found["model_name"] = group["architecture"]
    known = registry.settings("models", found["model_name"]) if found.get("model_name") in _models() else {}
    options = {name: group[name] for name in ("input_shape", "num_classes") if name in group and name in known}
    if options:
        found["model_options"] = options
    if left := [name for name in ("input_shape", "num_classes") if name in group and name not in options]:
        said.append(f"{' and '.join(left)}: the sites' data say that")
    if _switch("model_config", group, "compression"):
        said.append("compression: parameters travel as they are; compressed they would hardly be smaller")
    if "versioning" in group:
        found["keep_models"] = _switch("model_config", group, "versioning")
    return found


def _privacy(group: Mapping[str, Json], said: Said) -> dict[str, Json]:
    for switch, entries in (("differential_privacy", ("epsilon", "delta")), ("gradient_clipping", ("max_grad_norm",))):
        if switch not in group and (given := [entry for entry in entries if entry in group]):
            raise ConfigError(
                f"privacy_config has {' and '.join(given)}, and does not say whether it wants {switch}, without which "
                f"they protect nobody; set {switch} to true or false"
            )
    found: dict[str, Json] = {}
    clipped = _switch("privacy_config", group, "gradient_clipping")
    if clipped:
        said.append("gradient_clipping bounds each node's whole update by max_grad_norm, over all its arrays together")
    if _switch("privacy_config", group, "differential_privacy"):
        promised = {name: group[name] for name in ("epsilon", "delta") if name in group}
        clip = {"clip": group["max_grad_norm"]} if clipped and "max_grad_norm" in group else {}
        found |= {"privacy": {"mode": "local", **promised, **clip}, "test_fraction": 0.0}
        said.append(
            "differential_privacy holds for the whole run: each node adds the noise of all planned rounds, and no rows "
            "are held out, whose metrics would be exact sums of them"
        )
    elif clipped:
        found["transforms"] = [{"name": "clip", "norm": group.get("max_grad_norm", 1.0)}]
    if _switch("privacy_config", group, "secure_aggregation"):
        found["gathering"] = "secure"
    return found


def _network(group: Mapping[str, Json], said: Said) -> dict[str, Json]:
    wanted = [name for name in _NETWORK if name in group and group[name] not in (False, "none", "")]
    for name in wanted:
        if name != "bandwidth_allocation":
            _switch("network_config", group, name)
    if wanted:
        said.append(
            f"{', '.join(wanted)}: no setting of a run; large transfers of every run are preferred where the "
            "coordinator has a network controller (SDN_CONTROLLER_URL), and nowhere else"
        )
    return {}


def _switch(name: str, group: Mapping[str, Json], entry: str) -> bool:
    value = group.get(entry, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{entry} of {name} is {value!r}; expected true or false")
    return value


def _models() -> tuple[str, ...]:
    return registry.names("models")


_GROUPS: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, Json], Said], dict[str, Any]]]] = {
    "training_config": (tuple(_TRAINING), _training),
    "model_config": (_MODEL, _model),
    "privacy_config": (_PRIVACY, _privacy),
    "network_config": (_NETWORK, _network),
}
